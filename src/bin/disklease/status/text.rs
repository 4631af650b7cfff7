//! The status of a lease directory for people.

use std::fmt::Write as _;

use disklease::inspect::{HeldDisk, Holding, HostStatus, LeaseDirectoryStatus};

use crate::output::{Shown, shown_path, table, utc, uuid};

pub(crate) fn of(status: &LeaseDirectoryStatus) -> String {
    let mut text = format!(
        "{}: lease directory, {}\n",
        shown_path(&status.path),
        status.geometry
    );
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

fn host(host: &HostStatus) -> [String; 6] {
    let state = match (host.damage, host.seen.silent_for()) {
        (Some(_), _) => "unknown (damaged)".to_owned(),
        (None, Some(time)) => {
            let (name, secs) = (host.seen.name(), time.as_secs());
            format!("{name}: not seen to renew for {secs} s")
        }
        (None, None) => host.seen.name().to_owned(),
    };
    let pid = host.note.as_ref().map(|note| note.pid.to_string());
    [
        host.host_id.to_string(),
        host.host_name.to_string(),
        state,
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
