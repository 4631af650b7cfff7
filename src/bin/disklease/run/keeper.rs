//! The process between `disklease run` and the guardian of its command. Where the keeper ends, guardian and
//! command end too.
//!
//! The run sends the keeper a deadline for the command with each renewal. Without such news the keeper kills
//! the guardian and all below it. A keeper that is stopped or frozen may not get to do that:
//!
//! * Where the guardian is the first process of a PID namespace, a timer in the kernel kills the
//!   keeper itself a little later, as the kernel does when `disklease run` ends; the kernel kills the
//!   guardian with the keeper, and with the guardian all in the namespace. The first process of a
//!   namespace can have no such timer: that is why there are two processes.
//! * Without a namespace the guardian has that timer, and the command ends with the guardian. The keeper
//!   is to live, for nothing else would kill the processes that are left below a guardian that was frozen
//!   and killed. So its timer and the end of `disklease run` wake a keeper that is stopped, and it checks
//!   once a second whether the run lives.
//!
//! The keeper has one thread, and prints nothing.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use disklease::__cli::{Deadman, OwnerProcess, SignalMask, new_pid_namespace};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::guardian;
use crate::control::{
    Kind, Message, beside, os_error, poll_any, receive, receive_with_fd, send, set_up,
};
use crate::deadlines::Term;
use crate::offspring::{adopt, end_all, has_ended};

/// The name of the hidden command. `disklease run` starts it, with the control socket as its standard input and
/// the options of the guardian.
pub(crate) const NAME: &str = "__keeper";

/// How often the keeper checks whether the run lives.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The keeper, from its start to its end.
pub(crate) fn keep(args: &guardian::Args) -> io::Result<()> {
    let (control, mask) = set_up(c"disklease-keep")?;
    // Nothing else comes first, but the end of a run that needs no keeper any more.
    if let Some((said, Some(theirs))) = receive_with_fd(&control)
        && said.kind == Kind::Guard
    {
        let run = getppid();
        match start(args, theirs, mask) {
            Ok((term, guardian)) => watch(&control, run, term, &guardian),
            Err(refusal) => drop(send(&control, refusal)),
        }
    }
    Ok(())
}

/// Starts the guardian.
fn start(
    args: &guardian::Args,
    control: OwnedFd,
    mask: SignalMask,
) -> Result<(Term, OwnerProcess), Message> {
    let deadman = if args.is_init {
        Deadman::new()
    } else {
        // Until now the end of the run was to kill the keeper.
        set_parent_process_death_signal(Some(Signal::CONT)).map_err(io::Error::from)?;
        Deadman::that_wakes()
    };
    let term = Term::new(deadman.map_err(os_error)?);
    adopt()?;
    if args.is_init {
        let contained = new_pid_namespace();
        contained.map_err(|error| Message::failed(Kind::NotContained, &error))?;
    }
    let mut guardian = beside("disklease-guardian", control);
    guardian.arg(guardian::NAME).args(args.to_words());
    let guardian = mask.restore_in(&mut guardian).spawn()?;
    let guardian = OwnerProcess::open(guardian.id()).map_err(os_error)?;
    Ok((term, guardian))
}

/// Until the guardian has ended, or the run has, or the time of both has expired.
fn watch(control: &OwnedFd, run: Option<Pid>, mut term: Term, guardian: &OwnerProcess) {
    let pid = guardian.pid().cast_signed();
    let _ = send(control, Message::with(Kind::Guardian, pid));
    // The run is gone also where a thread of it hangs in the kernel and keeps its end of the socket open.
    let is_alone = || getppid() != run || run.is_some_and(has_ended);
    while !guardian.has_ended() && !is_alone() {
        let left = term.left().unwrap_or(CHECK_INTERVAL);
        if left.is_zero() {
            break;
        }
        let fds = [control.as_fd(), guardian.as_fd()];
        let [said, _] = poll_any(fds, Some(left.min(CHECK_INTERVAL)));
        if said {
            match receive(control) {
                Some(said) => drop(term.heed(&said, control)),
                None => break,
            }
        }
    }
    end_all(|process, error| {
        let _ = send(control, Message::about(Kind::Lasting, process, error));
    });
}
