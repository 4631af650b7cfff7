//! The processes below this one: adopted when their parents end, and ended before their disks are
//! given back.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, pidfd_open,
    pidfd_send_signal, set_child_subreaper, test_kill_process, wait, waitid,
};

use super::control::Name;
use crate::output::complain;

/// How often those that have been killed are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// After so many looks, in a second and a half, it is said which there are.
const TELL: u32 = 40;
/// Up to so many looks they are looked for less and less often.
const PATIENCE: u32 = 500;

/// So many generations of processes that each start the next one and end are not missed.
const LOOKS: u32 = 5;

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

/// A process that is killed and does not end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasting {
    pub(crate) process: Pid,
    /// Why it cannot be killed; `None` if it was.
    pub(crate) error: Option<Errno>,
}

/// Kills all processes below this one, and comes back when the last of them has ended. One that
/// hangs in the kernel is waited for, and `tell` is told of it: what it does there may yet reach a
/// disk.
#[expect(clippy::disallowed_methods, reason = "it waits for processes")]
pub(crate) fn end_all(mut tell: impl FnMut(Lasting)) {
    let mut looks = 0_u32;
    while reap(|_, _| {}) == Left::Some {
        // Not children alone: what is below one that hangs becomes nobody's child before that ends.
        for below in descendants() {
            let killed = signal(below, Some(Signal::KILL));
            if looks == TELL {
                tell(Lasting {
                    process: below.process,
                    // One that runs as somebody else, by a set-user-id program.
                    error: killed.err(),
                });
            }
        }
        sleep(LOOK_INTERVAL.saturating_mul(looks.clamp(1, PATIENCE)));
        looks = looks.saturating_add(1);
    }
}

/// [`end_all`] for `disklease run` itself.
pub(crate) fn end_all_and_say() {
    end_all(|lasting| {
        let name = name_of(lasting.process);
        complain_of(
            lasting.process.as_raw_nonzero().get(),
            lasting.error,
            &name.shown(),
        );
    });
}

/// A process that was killed is there still.
pub(crate) fn complain_of(process: i32, error: Option<Errno>, name: &str) {
    match error {
        Some(error) => complain(&format_args!(
            "process {process} ({name}) cannot be killed: {error}; the disks are kept until it ends"
        )),
        None => complain(&format_args!(
            "process {process} ({name}) was killed and does not end: the disks are kept until it does"
        )),
    }
}

/// A process below this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Below {
    pub(crate) process: Pid,
    parent: Pid,
    is_zombie: bool,
}

/// Sends it a signal, if it is the one still that was seen; `None` only asks whether it may be.
pub(crate) fn signal(below: Below, signal: Option<Signal>) -> rustix::io::Result<()> {
    // Only the numbers of our own children stay their own until we reap them.
    let process = match pidfd_open(below.process, PidfdFlags::empty()) {
        Ok(process) => process,
        // It has ended.
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    match stat_now(below.process) {
        Some(now) if now.parent == below.parent => {}
        // It has ended, or has another parent by now: for the next look.
        _ => return Ok(()),
    }
    let sent = match signal {
        Some(signal) => pidfd_send_signal(process, signal),
        None => test_kill_process(below.process),
    };
    match sent {
        Err(Errno::SRCH) => Ok(()),
        sent => sent,
    }
}

/// Whether a process has ended, or its main thread has, as `/proc` shows it.
pub(super) fn has_ended(process: Pid) -> bool {
    stat_now(process).is_some_and(|stat| stat.is_zombie)
}

/// What a process is called.
pub(crate) fn name_of(process: Pid) -> Name {
    let name = fs::read_to_string(format!("/proc/{process}/comm"));
    Name::of(name.unwrap_or_default().trim_end())
}

/// Those of them that have not ended.
///
/// `/proc` is read process by process. A daemon that is started meanwhile, by one that ends meanwhile, is
/// missed in such a look, and is a child of ours in the next.
pub(crate) fn living() -> Vec<Below> {
    let mut looks = 0_u32;
    loop {
        let mut found = descendants();
        found.retain(|below| !below.is_zombie);
        looks = looks.saturating_add(1);
        if !found.is_empty() || looks >= LOOKS || !has_children() {
            return found;
        }
    }
}

/// Whether the kernel knows of a child of ours whose end was not taken in.
fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, look), Err(Errno::CHILD))
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
    let (parent, is_zombie) = parent_of(&stat)?;
    Some(Below {
        process,
        parent,
        is_zombie,
    })
}

/// The parent in a line of `/proc/PID/stat`, and whether the process has ended. The second field,
/// the program's name, can hold anything.
fn parent_of(stat: &str) -> Option<(Pid, bool)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok().and_then(Pid::from_raw)?;
    Some((parent, is_zombie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_whatever_the_program_is_called() {
        let parent = |stat| {
            let found = parent_of(stat);
            found.map(|(pid, is_zombie)| (pid.as_raw_nonzero().get(), is_zombie))
        };
        assert_eq!(parent("12 (sh) S 7 12 12 0"), Some((7, false)));
        assert_eq!(parent("12 (a) R 1 (b) Z 7 12"), Some((7, true)));
        assert_eq!(parent("12 (sh"), None);
        assert_eq!(parent("12 (sh) S"), None);
    }
}
