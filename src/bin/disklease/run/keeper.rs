//! The process between `disklease run` and the guardian of its command. Its end is the end of both
//! of these.
//!
//! It is told of each renewal until when the command may live. Without such news it kills the
//! guardian and all below it. It may not get to do that, where it is stopped or frozen:
//!
//! * Where the guardian is the first process of a PID namespace, a timer in the kernel kills the
//!   keeper itself a little later, as the kernel does when `disklease run` ends; it kills the guardian
//!   with the keeper, and with the guardian all in there. The first process of a namespace can have
//!   no such timer: that is why there are two.
//! * Without a namespace the guardian has that timer, and the command ends with it. The keeper is to
//!   live, for nobody else would be there to kill what is left below a guardian that was frozen and
//!   killed: it is woken by its timer and by the end of `disklease run`, should it be stopped, and
//!   looks once a second whether that lives.
//!
//! It has one thread, and prints nothing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use disklease::__cli::{Deadman, OwnerProcess, SignalMask, new_pid_namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::control::{Message, hear, say};
use super::guardian;
use super::offspring::{adopt, end_all, has_ended, name_of};
use super::term::Term;
use crate::exit::Failure;

/// How often it is looked whether the run lives.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Not for people: `disklease run` starts it, with the control socket as its standard input.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    guardian: guardian::Args,
}

/// The keeper, from its start to its end.
pub(crate) fn keep(args: &Args) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::unavailable(format_args!("the keeper: {error}"));
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mask = SignalMask::block_all().map_err(failed)?;
    let _ = rustix::thread::set_name(c"disklease-keep");
    // Nobody says more to it before, but that it is not wanted any more.
    if let Some(Message::Guard(theirs)) = hear(&control) {
        match start(args, theirs, mask) {
            Ok(kept) => kept.watch(&control),
            Err(refusal) => drop(say(&control, &refusal)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Kept {
    term: Term,
    /// The run.
    run: Option<Pid>,
    guardian: OwnerProcess,
}

fn start(args: &Args, control: OwnedFd, mask: SignalMask) -> Result<Kept, Message> {
    let number = |error: &io::Error| error.raw_os_error().unwrap_or_default();
    let not_kept = |error: &io::Error| Message::NotKept(number(error));
    let run = getppid();
    let deadman = if args.guardian.is_init {
        Deadman::new()
    } else {
        // Until now it was to be killed.
        set_parent_process_death_signal(Some(Signal::CONT))
            .map_err(|errno| Message::NotKept(errno.raw_os_error()))?;
        Deadman::that_wakes()
    };
    let deadman = deadman.map_err(|error| Message::NotKept(error.errno()))?;
    adopt().map_err(|error| not_kept(&error))?;
    if args.guardian.is_init {
        new_pid_namespace().map_err(|error| Message::NotContained(number(&error)))?;
    }
    // This very program, though another may have taken its place by now.
    let mut guardian = Command::new("/proc/self/exe");
    guardian
        .arg0("disklease-guardian")
        .arg(super::GUARDIAN)
        .args(args.guardian.to_words())
        .stdin(control);
    let guardian = mask.restore_in(&mut guardian).spawn();
    let guardian = guardian.map_err(|error| not_kept(&error))?;
    let guardian = OwnerProcess::open(guardian.id());
    let guardian = guardian.map_err(|error| Message::NotKept(error.errno()))?;
    Ok(Kept {
        term: Term::new(deadman),
        run,
        guardian,
    })
}

impl Kept {
    /// Until the guardian has ended, or the run has, or the time of both is over.
    fn watch(mut self, control: &OwnedFd) {
        let pid = i32::try_from(self.guardian.pid()).unwrap_or_default();
        let _ = say(control, &Message::Guardian(pid));
        while !self.guardian.has_ended() && !self.is_alone() {
            let left = self.term.left().unwrap_or(LOOK_INTERVAL);
            if left.is_zero() {
                break;
            }
            let timeout = Timespec::try_from(left.min(LOOK_INTERVAL)).ok();
            let mut fds = [
                PollFd::new(control, PollFlags::IN),
                PollFd::new(&self.guardian, PollFlags::IN),
            ];
            let _ = poll(&mut fds, timeout.as_ref());
            if fds.first().is_none_or(|fd| fd.revents().is_empty()) {
                continue;
            }
            match hear(control) {
                Some(said) => drop(self.term.heed(&said, control)),
                None => break,
            }
        }
        end_all(|lasting| {
            let process = lasting.process;
            let error = lasting.error.map_or(0, rustix::io::Errno::raw_os_error);
            let pid = Pid::as_raw(Some(process));
            let _ = say(control, &Message::Lasting(pid, error, name_of(process)));
        });
    }

    /// Whether the run is gone, be it that a thread of it hangs in the kernel and keeps its end of the
    /// socket open.
    fn is_alone(&self) -> bool {
        getppid() != self.run || self.run.is_some_and(has_ended)
    }
}

/// The words of the keeper's command line.
pub(crate) fn words(guardian: &guardian::Args) -> Vec<OsString> {
    let mut words = vec![OsString::from(super::KEEPER)];
    words.extend(guardian.to_words());
    words
}
