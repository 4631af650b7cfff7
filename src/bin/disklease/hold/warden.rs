//! The process beside `disklease hold` that ends the held process when its time is over.
//!
//! It is told of each renewal as a keeper is. It outlives `disklease hold`: it asks the held process
//! to end when that is gone, and kills it at the end of the grace without news. Should it be stopped,
//! a timer in the kernel wakes it then, and so does the end of `disklease hold`. Until the process has
//! ended it keeps the life lock, by the descriptor that it inherits: no other run of this host id is
//! let in early.
//!
//! It has one thread, and prints nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use disklease::__cli::{Deadman, OwnerProcess, SignalMask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::exit::Failure;
use crate::run::control::{Message, hear, say};
use crate::run::term::Term;

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
pub(crate) fn ward(args: &Args) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::unavailable(format_args!("the warden: {error}"));
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    SignalMask::block_all().map_err(failed)?;
    let _ = rustix::thread::set_name(c"disklease-ward");
    match Warden::of(args.pid) {
        Ok(mut warden) => {
            let _ = say(&control, &Message::Ready);
            warden.watch(&control);
        }
        Err(error) => drop(say(&control, &Message::NotKept(error))),
    }
    Ok(ExitCode::SUCCESS)
}

struct Warden {
    process: OwnerProcess,
    term: Term,
}

impl Warden {
    /// # Errors
    ///
    /// The number of what the kernel refuses.
    fn of(pid: u32) -> Result<Self, i32> {
        let process = OwnerProcess::open(pid).map_err(disklease::OsError::errno)?;
        set_parent_process_death_signal(Some(Signal::CONT)).map_err(Errno::raw_os_error)?;
        let deadman = Deadman::that_wakes().map_err(disklease::OsError::errno)?;
        Ok(Self {
            process,
            term: Term::new(deadman),
        })
    }

    fn watch(&mut self, control: &OwnedFd) {
        let mut is_told = true;
        while !self.process.has_ended() {
            let mut left = self.term.left();
            if left.is_some_and(|left| left.is_zero()) {
                let _ = self.process.send(Signal::KILL);
                left = Some(KILL_INTERVAL);
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = vec![PollFd::new(&self.process, PollFlags::IN)];
            if is_told {
                fds.push(PollFd::new(control, PollFlags::IN));
            }
            let _ = poll(&mut fds, timeout.as_ref());
            if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
                is_told = self.hear(control);
                // Nothing was locked yet.
                if !is_told && self.term.left().is_none() {
                    return;
                }
            }
        }
    }

    /// `false` when nobody says anything any more.
    fn hear(&mut self, control: &OwnedFd) -> bool {
        match hear(control) {
            // The process is not held any more.
            Some(Message::Released) => self.term.is_over(),
            Some(said) => drop(self.term.heed(&said, control)),
            None => {
                // `disklease hold` was killed: there is time to end well until the grace is over.
                if self.term.left().is_some() {
                    let _ = self.process.send(Signal::TERM);
                }
                return false;
            }
        }
        true
    }
}
