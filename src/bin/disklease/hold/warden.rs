//! The process beside `disklease hold` that ends the held process when its time has expired.
//!
//! The hold sends it a deadline with each renewal, as a run does to a keeper. The warden outlives
//! `disklease hold`: it asks the held process to end when the hold is gone, and kills it at the end of
//! the grace without news. Should the warden be stopped, a timer in the kernel wakes it then, and so
//! does the end of `disklease hold`. Until the process has ended the warden keeps the process lock, by
//! the descriptor that it inherits: no other run of this host id is let in early.
//!
//! It has one thread, and prints nothing.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use disklease::__cli::{Deadman, OwnerProcess};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::control::{Kind, os_error, poll_any, receive, send, set_up};
use crate::deadlines::Term;

/// The name of the hidden command.
pub(crate) const NAME: &str = "__warden";

/// How often a process is killed that does not end.
const KILL_INTERVAL: Duration = Duration::from_secs(1);

/// Not for people: `disklease hold` starts it, with the control socket as its standard input.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The held process
    #[arg(long, value_name = "PID")]
    pub(crate) pid: u32,
}

/// The warden, from its start to its end.
pub(crate) fn ward(args: &Args) -> io::Result<()> {
    let (control, _) = set_up(c"disklease-ward")?;
    match start(args.pid) {
        Ok((process, term)) => {
            let _ = send(&control, Kind::Ready);
            watch(&control, &process, term);
        }
        Err(error) => drop(send(&control, error)),
    }
    Ok(())
}

fn start(pid: u32) -> io::Result<(OwnerProcess, Term)> {
    let process = OwnerProcess::open(pid).map_err(os_error)?;
    set_parent_process_death_signal(Some(Signal::CONT))?;
    let deadman = Deadman::that_wakes().map_err(os_error)?;
    Ok((process, Term::new(deadman)))
}

fn watch(control: &OwnedFd, process: &OwnerProcess, mut term: Term) {
    let mut is_hold_there = true;
    while !process.has_ended() {
        let mut left = term.left();
        if left.is_some_and(|left| left.is_zero()) {
            let _ = process.send(Signal::KILL);
            left = Some(KILL_INTERVAL);
        }
        if !is_hold_there {
            poll_any([process.as_fd()], left);
            continue;
        }
        let [_, said] = poll_any([process.as_fd(), control.as_fd()], left);
        if !said {
            continue;
        }
        match receive(control) {
            // The process is not held any more.
            Some(said) if said.kind == Kind::Released => term.release(),
            Some(said) => drop(term.heed(&said, control)),
            // Nothing was locked yet.
            None if term.left().is_none() => return,
            // `disklease hold` was killed: there is time to end well until the grace has expired.
            None => {
                is_hold_there = false;
                let _ = process.send(Signal::TERM);
            }
        }
    }
}
