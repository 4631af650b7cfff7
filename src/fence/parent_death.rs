//! A child that does not outlive the parent which holds its locks.

#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// The process that `command` starts is killed by the kernel when **the thread** that starts it
/// ends, however it ends: so start it from one that lives as long as the process, as the main
/// thread does.
///
/// Its own children are not killed by this, nor is it if it runs a program that is set-user-id or
/// has capabilities of its own.
pub fn die_with_this_thread(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let end_with_parent = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Had the parent ended before the call, nobody would be left to kill it for.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(rustix::io::Errno::SRCH))
        }
    };
    // SAFETY: between fork and exec it makes two system calls and compares two numbers; it takes no
    // lock and allocates nothing, nor do the errors it makes.
    unsafe { command.pre_exec(end_with_parent) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::fence::OwnerProcess;

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let starter = std::thread::spawn(|| {
            let mut sleep = Command::new("sleep");
            let child = die_with_this_thread(sleep.arg("60")).spawn().unwrap();
            assert!(!OwnerProcess::open(child.id()).unwrap().has_ended());
            child
        });
        let mut child = starter.join().unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()));
    }
}
