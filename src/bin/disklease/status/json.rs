//! The status of a lease directory as JSON. The fields are documented in `docs/command.md`.

use disklease::inspect::{HeldDisk, Holding, HostStatus, LeaseDirectoryStatus, LocalRenewal};
use serde_json::{Value, json};

use crate::json::{geometry, holder_note, host_note, name, path};

pub(crate) fn document(status: &LeaseDirectoryStatus) -> Value {
    json!({
        "document": "disklease status 1",
        "lease_dir": path(&status.path),
        "lockspace_id": status.lockspace_id.map(|id| id.to_string()),
        "geometry": geometry(status.geometry),
        "direct_io": status.is_direct,
        "watched_ms": u64::try_from(status.watched_for.as_millis()).unwrap_or(u64::MAX),
        "hosts": status.hosts.iter().map(host).collect::<Vec<_>>(),
        "lease_files": status.lease_files,
        "held": status.held.iter().map(|disk| held(status, disk)).collect::<Vec<_>>(),
        "problems": status.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn host(host: &HostStatus) -> Value {
    json!({
        "host_id": host.host_id.get(),
        "host_name": name(&host.host_name),
        "state": host.state.name(),
        "silent_secs": host.silent_for.map(|time| time.as_secs()),
        "local": host.local.as_ref().map(local),
        "generation": host.generation.get(),
        "timestamp": host.timestamp_secs,
        "io_timeout_secs": host.io_timeout.as_secs(),
        "note": host.note.as_ref().map(host_note),
        "error": host.damage.map(|error| error.to_string()),
    })
}

fn local(renewal: &LocalRenewal) -> Value {
    json!({
        "renewed_secs_ago": renewal.ago.as_secs(),
        "missed_renewals": renewal.missed,
        "lost_in_secs": renewal.lost_in.map(|time| time.as_secs()),
    })
}

fn held(status: &LeaseDirectoryStatus, disk: &HeldDisk) -> Value {
    json!({
        "lease_file": disk.lease_file,
        "access": match disk.holding {
            Holding::Shared => "shared",
            _ => "exclusive",
        },
        "host_id": disk.host_id.get(),
        "host_name": name(&disk.host_name),
        "host_state": status.host(disk.host_id).map(|host| host.state.name()),
        "generation": disk.generation.get(),
        "version": disk.version.get(),
        "note": disk.note.as_ref().map(holder_note),
    })
}
