//! The status of a lease directory as JSON. The fields are documented in `docs/command.md`.

use std::time::Duration;

use disklease::inspect::{HeldDisk, HostStatus, LeaseDirectoryStatus};
use serde_json::{Value, json};

use super::text::access;
use crate::json::{geometry, holder_note, host_note, list, name, path, text};

pub(crate) fn document(status: &LeaseDirectoryStatus) -> Value {
    json!({
        "document": "disklease status 1",
        "lease_dir": path(&status.path),
        "lockspace_id": status.lockspace_id.as_ref().map(text),
        "geometry": geometry(status.geometry),
        "direct_io": status.is_direct,
        "watched_ms": u64::try_from(status.watched_for.as_millis()).unwrap_or(u64::MAX),
        "hosts": list(&status.hosts, host),
        "lease_files": status.lease_files,
        "held": list(&status.held, |disk| held(status, disk)),
        "problems": list(&status.problems, text),
    })
}

fn host(host: &HostStatus) -> Value {
    let secs = |time: Duration| time.as_secs();
    json!({
        "host_id": host.host_id.get(),
        "host_name": name(&host.host_name),
        "state": host.state.name(),
        "silent_secs": host.silent_for.map(secs),
        "local": host.local.as_ref().map(|renewal| json!({
            "renewed_secs_ago": secs(renewal.ago),
            "missed_renewals": renewal.missed,
            "lost_in_secs": renewal.lost_in.map(secs),
        })),
        "generation": host.generation.get(),
        "timestamp": host.timestamp_secs,
        "io_timeout_secs": secs(host.io_timeout),
        "note": host.note.as_ref().map(host_note),
        "error": host.damage.as_ref().map(text),
    })
}

fn held(status: &LeaseDirectoryStatus, disk: &HeldDisk) -> Value {
    json!({
        "lease_file": disk.lease_file,
        "access": access(disk),
        "host_id": disk.host_id.get(),
        "host_name": name(&disk.host_name),
        "host_state": status.host(disk.host_id).map(|host| host.state.name()),
        "generation": disk.generation.get(),
        "version": disk.version.get(),
        "note": disk.note.as_ref().map(holder_note),
    })
}
