//! The status of a lease directory for people.

use std::fmt::Write as _;

use disklease::inspect::{HeldDisk, Holding, HostStatus, LeaseDirectoryStatus, LocalRenewal};

use crate::output::{Shown, shown_path, table, utc, uuid};

pub(crate) fn of(status: &LeaseDirectoryStatus) -> String {
    let mut text = format!(
        "{}: lease directory, {}\n",
        shown_path(&status.path),
        status.geometry
    );
    match status.lockspace_id {
        Some(id) => {
            let _ = writeln!(text, "lockspace id {id}");
        }
        None => text.push_str("the lockspace has no id\n"),
    }
    if !status.is_direct {
        text.push_str("read through the page cache: what other hosts wrote may not be seen\n");
    }
    text.push('\n');
    if status.hosts.is_empty() {
        text.push_str("no host id was ever used\n");
    } else {
        let rows: Vec<[String; 6]> = status.hosts.iter().map(host).collect();
        let head = ["HOST", "NAME", "STATE", "GENERATION", "IO TIMEOUT", "PID"];
        text.push_str(&table("", head, &rows));
    }
    text.push('\n');
    let files = status.lease_files;
    if status.held.is_empty() {
        let _ = writeln!(text, "no disk is held; lease files: {files}");
    } else {
        let rows: Vec<[String; 8]> = status.held.iter().map(disk).collect();
        let head = [
            "LEASE FILE",
            "HOST",
            "ACCESS",
            "GENERATION",
            "VERSION",
            "GUEST",
            "PID",
            "SINCE",
        ];
        text.push_str(&table("", head, &rows));
        let _ = writeln!(text, "holders: {}; lease files: {files}", status.held.len());
    }
    for host in &status.hosts {
        if let Some(error) = host.damage {
            let _ = writeln!(text, "DAMAGED: the lockspace: {error}");
        }
    }
    for problem in &status.problems {
        let _ = writeln!(text, "DAMAGED: {problem}");
    }
    text
}

/// What is known of the life of a host.
fn state(host: &HostStatus) -> String {
    if host.damage.is_some() {
        return "unknown (damaged)".to_owned();
    }
    let silent = host
        .silent_for
        .map(|time| format!("not seen to renew for {} s", time.as_secs()));
    let known: Vec<String> = silent
        .into_iter()
        .chain(host.local.as_ref().map(local))
        .collect();
    let name = host.state.name();
    if known.is_empty() {
        name.to_owned()
    } else {
        format!("{name}: {}", known.join("; "))
    }
}

fn local(renewal: &LocalRenewal) -> String {
    let mut text = format!("renewed {} s ago", renewal.ago.as_secs());
    if renewal.missed > 0 {
        let _ = write!(text, ", missed since: {}", renewal.missed);
    }
    match renewal.lost_in {
        Some(time) => {
            let _ = write!(text, ", lost in {} s", time.as_secs());
        }
        None => text.push_str(", lost"),
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

fn disk(disk: &HeldDisk) -> [String; 8] {
    let unknown = || "-".to_owned();
    let (guest, pid, since) = match &disk.note {
        Some(note) => {
            let mut guest = Shown(&note.guest_name).to_string();
            if let Some(id) = &note.guest_uuid {
                let _ = write!(guest, " {}", uuid(id));
            }
            (guest, note.pid.to_string(), utc(note.acquired_unix_secs))
        }
        None => (unknown(), unknown(), unknown()),
    };
    [
        Shown(&disk.lease_file).to_string(),
        format!("{} {}", disk.host_id, disk.host_name),
        match disk.holding {
            Holding::Shared => "shared",
            _ => "exclusive",
        }
        .to_owned(),
        disk.generation.to_string(),
        disk.version.to_string(),
        guest,
        pid,
        since,
    ]
}
