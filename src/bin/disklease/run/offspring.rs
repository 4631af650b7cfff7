//! The processes below this one: adopted when their parents end, and ended before their disks are
//! given back.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
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
        // Only children: their numbers stay their own until they are reaped above. What they leave
        // behind are children the next time.
        for child in children() {
            // One that has just ended, or runs as somebody else by a set-user-id program.
            if let Err(error) = kill_process(child, Signal::KILL)
                && looks == PATIENCE
            {
                complain(&format_args!("process {child} cannot be killed: {error}"));
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

/// The children of this process, as far as `/proc` shows them.
fn children() -> Vec<Pid> {
    let me = getpid();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let pid = name.to_str()?.parse().ok().and_then(Pid::from_raw)?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            (parent_of(&stat)? == me).then_some(pid)
        })
        .collect()
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
