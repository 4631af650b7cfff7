//! The processes below this one: adopted when their parents end, and ended before their disks are
//! given back.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use disklease::__cli::{OwnerProcess, escaped};
use disklease::OsError;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait,
    waitid,
};

use crate::logging::complain;

/// How often processes that have been killed are searched for.
const SCAN_INTERVAL: Duration = Duration::from_millis(2);
/// After so many scans, in a second and a half, the operator is notified of those that are left.
const NOTIFY: u32 = 40;
/// Up to so many scans the interval grows.
const PATIENCE: u32 = 500;

/// So many scans miss no process of as many generations that each start the next generation and end.
const SCANS: u32 = 5;

/// From now on a process below this one whose parent ends becomes a child of this one.
pub(crate) fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Reaps the children that have ended, and calls `on_end` for each. Whether there are children left.
pub(crate) fn reap(mut on_end: impl FnMut(Pid, WaitStatus)) -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => on_end(pid, status),
            Ok(None) => return true,
            Err(Errno::INTR) => {}
            // ECHILD, and there is no other.
            Err(_) => return false,
        }
    }
}

/// Kills all processes below this one, and returns when the last of them has ended. A process that
/// hangs in the kernel is waited for: what the process does there may yet reach a disk. `notify` is called with such a
/// process, and with the number of the error with which the process cannot be killed, or 0 if it was killed.
#[expect(clippy::disallowed_methods, reason = "it waits for processes")]
pub(crate) fn end_all(mut notify: impl FnMut(Pid, i32)) {
    let mut scans = 0_u32;
    while reap(|_, _| {}) {
        // Not children alone: what is below a process that hangs becomes a child of this process only when the other ends.
        for below in descendants() {
            let killed = signal(below, Some(Signal::KILL));
            if scans == NOTIFY {
                // A process that runs as another user, by a set-user-id program, cannot be killed.
                let error = killed.err().map_or(0, OsError::errno);
                notify(below.process, error);
            }
        }
        sleep(SCAN_INTERVAL.saturating_mul(scans.clamp(1, PATIENCE)));
        scans = scans.saturating_add(1);
    }
}

/// [`end_all`] for `disklease run` itself.
pub(crate) fn end_all_and_say() {
    end_all(|process, error| {
        let process = described(number_of(process), &name_of(process));
        tell_of_lasting(&process, error);
    });
}

/// Tells the operator of a process that was killed and is still there, or cannot be killed, for this error.
pub(crate) fn tell_of_lasting(process: &str, error: i32) {
    if error == 0 {
        complain!("{process} was killed and does not end: the disks are kept until it does");
    } else {
        let error = io::Error::from_raw_os_error(error);
        complain!("{process} cannot be killed: {error}; the disks are kept until it ends");
    }
}

/// A process for people: its number and its name.
pub(crate) fn described(number: i32, name: &str) -> String {
    format!("process {number} ({})", escaped(name))
}

/// What a process is called.
pub(crate) fn name_of(process: Pid) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm"));
    name.unwrap_or_default().trim_end().to_owned()
}

/// A process below this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Below {
    pub(crate) process: Pid,
    parent: Pid,
    is_zombie: bool,
}

/// Sends a process a signal, if the number still names the process that was seen; `None` only asks whether the signal may be sent.
pub(crate) fn signal(below: Below, signal: Option<Signal>) -> Result<(), OsError> {
    // Only the numbers of our own children stay their own until we reap them.
    let process = match OwnerProcess::open(number_of(below.process).unsigned_abs()) {
        Ok(process) => process,
        // The process has ended.
        Err(error) if error.errno() == Errno::SRCH.raw_os_error() => return Ok(()),
        Err(error) => return Err(error),
    };
    match (stat_now(below.process), signal) {
        (Some(now), Some(signal)) if now.parent == below.parent => process.send(signal).map(drop),
        (Some(now), None) if now.parent == below.parent => process.check_reach(),
        // The process has ended, or has another parent by now: for the next scan.
        _ => Ok(()),
    }
}

pub(crate) fn number_of(process: Pid) -> i32 {
    process.as_raw_nonzero().get()
}

/// Whether a process has ended, or its main thread has, as `/proc` shows it.
pub(crate) fn has_ended(process: Pid) -> bool {
    stat_now(process).is_some_and(|stat| stat.is_zombie)
}

/// The processes below this one that have not ended.
///
/// A scan reads `/proc` process by process, so the scan misses a daemon that is started meanwhile by a process that ends
/// meanwhile; the next scan finds the daemon as a child of this process.
pub(crate) fn living() -> Vec<Below> {
    let mut scans = 0_u32;
    loop {
        let mut found = descendants();
        found.retain(|below| !below.is_zombie);
        scans = scans.saturating_add(1);
        if !found.is_empty() || scans >= SCANS || !has_children() {
            return found;
        }
    }
}

/// Whether the kernel knows of a child of ours that was not reaped.
fn has_children() -> bool {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, peek), Err(Errno::CHILD))
}

/// The processes below this one, as far as `/proc` shows them; parents before their children.
fn descendants() -> Vec<Below> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut others: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let process = name.to_str()?.parse().ok().and_then(Pid::from_raw)?;
            stat_now(process)
        })
        .collect();
    let mut found = Vec::new();
    let mut generation = vec![getpid()];
    while !generation.is_empty() {
        let is_next = |below: &Below| generation.contains(&below.parent);
        let (next, rest): (Vec<_>, _) = others.into_iter().partition(is_next);
        others = rest;
        generation = next.iter().map(|below| below.process).collect();
        found.extend(next);
    }
    found
}

fn stat_now(process: Pid) -> Option<Below> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    read_stat(process, &stat)
}

/// What a line of `/proc/PID/stat` says. The second field, the program's name, can hold anything.
fn read_stat(process: Pid, stat: &str) -> Option<Below> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Below {
        process,
        is_zombie: matches!(fields.next()?, "Z" | "X"),
        parent: fields.next()?.parse().ok().and_then(Pid::from_raw)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_whatever_the_program_is_called() {
        let parent = |stat| {
            let found = read_stat(getpid(), stat);
            found.map(|below| (number_of(below.parent), below.is_zombie))
        };
        assert_eq!(parent("12 (sh) S 7 12 12 0"), Some((7, false)));
        assert_eq!(parent("12 (a) R 1 (b) Z 7 12"), Some((7, true)));
        assert_eq!(parent("12 (sh"), None);
        assert_eq!(parent("12 (sh) S"), None);
    }
}
