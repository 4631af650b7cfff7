//! The processes below this one: adopted when their parents end, and ended before their disks are
//! given back.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, pidfd_open, pidfd_send_signal,
    set_child_subreaper, wait,
};

use crate::output::complain;

/// How often those that have been killed are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// After so many looks they are looked for less often, and it is said that there are some.
const PATIENCE: u32 = 500;

/// From now on a process below this one whose parent ends becomes a child of this one.
pub(crate) fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Takes in the ends of children, and tells `heard` of each, until there is none that has ended.
pub(crate) fn reap(mut heard: impl FnMut(Pid, WaitStatus)) -> Left {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => heard(pid, status),
            Ok(None) => return Left::Some,
            Err(Errno::INTR) => {}
            // ECHILD, and there is no other.
            Err(_) => return Left::None,
        }
    }
}

/// Whether there are children left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Some,
    None,
}

/// Kills all processes below this one, and comes back when the last of them has ended. One that
/// hangs in the kernel is waited for: what it does there may yet reach a disk.
#[expect(clippy::disallowed_methods, reason = "it waits for processes")]
pub(crate) fn end_all() {
    let mut looks = 0_u32;
    while reap(|_, _| {}) == Left::Some {
        // Not children alone: what is below one that hangs becomes nobody's child before that ends.
        for below in descendants() {
            // One that has just ended, or runs as somebody else by a set-user-id program.
            if let Err(error) = kill(below)
                && looks == PATIENCE
            {
                let process = below.process;
                complain(&format_args!("process {process} cannot be killed: {error}"));
            }
        }
        if looks == PATIENCE {
            complain(
                &"processes that the command has left behind do not end; its disks are kept until they do",
            );
        }
        sleep(LOOK_INTERVAL.saturating_mul(looks.clamp(1, PATIENCE)));
        looks = looks.saturating_add(1);
    }
}

/// A process below this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Below {
    process: Pid,
    parent: Pid,
}

/// Kills it, if it is the one still that was seen.
fn kill(below: Below) -> rustix::io::Result<()> {
    // Only the numbers of our own children stay their own until we reap them.
    let process = pidfd_open(below.process, PidfdFlags::empty())?;
    match parent_now(below.process) {
        Some(parent) if parent == below.parent => pidfd_send_signal(process, Signal::KILL),
        // It has ended, or has another parent by now: for the next look.
        _ => Ok(()),
    }
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
            let parent = parent_now(process)?;
            Some(Below { process, parent })
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

fn parent_now(process: Pid) -> Option<Pid> {
    parent_of(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// The parent in a line of `/proc/PID/stat`. The second field, the program's name, can hold anything.
fn parent_of(stat: &str) -> Option<Pid> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
        .and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_whatever_the_program_is_called() {
        let parent = |stat| parent_of(stat).map(|pid| pid.as_raw_nonzero().get());
        assert_eq!(parent("12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (a) R 1 (b) S 7 12"), Some(7));
        assert_eq!(parent("12 (sh"), None);
        assert_eq!(parent("12 (sh) S"), None);
    }
}
