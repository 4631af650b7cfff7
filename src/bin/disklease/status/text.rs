//! The status of a lease directory for people.

use std::fmt::Write as _;

use disklease::inspect::{HeldDisk, Holding, HostStatus, LeaseDirectoryStatus, LocalRenewal};

use crate::output::{NOT_DIRECT, Shown, shown_path, table, utc, uuid};

pub(crate) fn of(status: &LeaseDirectoryStatus) -> String {
    let path = shown_path(&status.path);
    let mut text = format!("{path}: lease directory, {}\n", status.geometry);
    let _ = match status.lockspace_id {
        Some(id) => writeln!(text, "lockspace id {id}"),
        None => writeln!(text, "the lockspace has no id"),
    };
    if !status.is_direct {
        text.push_str(NOT_DIRECT);
    }
    text.push('\n');
    if status.hosts.is_empty() {
        text.push_str("no host id was ever used\n");
    } else {
        let rows: Vec<_> = status.hosts.iter().map(host).collect();
        let head = "HOST|NAME|STATE|GENERATION|IO TIMEOUT|PID";
        text.push_str(&table("", head, &rows));
    }
    text.push('\n');
    if status.held.is_empty() {
        text.push_str("no disk is held");
    } else {
        let rows: Vec<_> = status.held.iter().map(disk).collect();
        let head = "LEASE FILE|HOST|ACCESS|GENERATION|VERSION|GUEST|PID|SINCE";
        text.push_str(&table("", head, &rows));
        let _ = write!(text, "holders: {}", status.held.len());
    }
    let _ = writeln!(text, "; lease files: {}", status.lease_files);
    for error in status.hosts.iter().filter_map(|host| host.damage) {
        let _ = writeln!(text, "DAMAGED: the lockspace: {error}");
    }
    for problem in &status.problems {
        let _ = writeln!(text, "DAMAGED: {problem}");
    }
    text
}

fn host(host: &HostStatus) -> [String; 6] {
    let pid = host.note.as_ref().map(|note| note.pid.to_string());
    [
        host.host_id.to_string(),
        host.host_name.to_string(),
        state(host),
        host.generation.to_string(),
        format!("{} s", host.io_timeout.as_secs()),
        pid.unwrap_or_else(|| "-".to_owned()),
    ]
}

/// Whether a host is alive, and what is known of its renewals.
fn state(host: &HostStatus) -> String {
    if host.damage.is_some() {
        return "unknown (damaged)".to_owned();
    }
    let silent = host
        .silent_for
        .map(|time| format!("not seen to renew for {} s", time.as_secs()));
    let known = silent.into_iter().chain(host.local.as_ref().map(local));
    let known = known.collect::<Vec<_>>().join("; ");
    let separator = if known.is_empty() { "" } else { ": " };
    format!("{}{separator}{known}", host.state.name())
}

fn local(renewal: &LocalRenewal) -> String {
    let mut text = format!("renewed {} s ago", renewal.ago.as_secs());
    if renewal.missed > 0 {
        let _ = write!(text, ", missed since: {}", renewal.missed);
    }
    let _ = match renewal.lost_in {
        Some(time) => write!(text, ", lost in {} s", time.as_secs()),
        None => write!(text, ", lost"),
    };
    text
}

fn disk(disk: &HeldDisk) -> [String; 8] {
    let [guest, pid, since] = match &disk.note {
        Some(note) => {
            let mut guest = Shown(&note.guest_name).to_string();
            if let Some(id) = &note.guest_uuid {
                let _ = write!(guest, " {}", uuid(id));
            }
            [guest, note.pid.to_string(), utc(note.acquired_unix_secs)]
        }
        None => ["-"; 3].map(str::to_owned),
    };
    [
        Shown(&disk.lease_file).to_string(),
        format!("{} {}", disk.host_id, disk.host_name),
        access(disk).to_owned(),
        disk.generation.to_string(),
        disk.version.to_string(),
        guest,
        pid,
        since,
    ]
}

pub(super) const fn access(disk: &HeldDisk) -> &'static str {
    match disk.holding {
        Holding::Shared => "shared",
        _ => "exclusive",
    }
}
