//! The process between `disklease run` and the guardian of its command. Its end is the end of both
//! of these.
//!
//! It is told of each renewal until when the command may live. Without such news it kills the
//! guardian and all below it, and a little later a timer in the kernel kills the keeper itself:
//! also where `disklease run` hangs in the kernel, is stopped or is frozen, and where the keeper
//! is. The kernel kills the guardian with the keeper, and with the guardian, where that is the first
//! process of a PID namespace, all in there. The first process of a namespace has no such timer:
//! that is why there are two.
//!
//! It has one thread, and prints nothing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use disklease::__cli::{Deadman, OwnerProcess, SignalMask, Timestamp, clock, new_pid_namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::control::{Message, hear, say};
use super::guardian;
use super::offspring::{adopt, end_all, name_of};
use crate::exit::Failure;

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
    deadman: Deadman,
    guardian: OwnerProcess,
}

fn start(args: &Args, control: OwnedFd, mask: SignalMask) -> Result<Kept, Message> {
    let number = |error: &io::Error| error.raw_os_error().unwrap_or_default();
    let not_kept = |error: &io::Error| Message::NotKept(number(error));
    let deadman = Deadman::new().map_err(|error| Message::NotKept(error.0))?;
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
    let guardian = guardian.map_err(|error| Message::NotKept(error.0))?;
    Ok(Kept { deadman, guardian })
}

impl Kept {
    /// Until the guardian has ended, or the run has, or the time of both is over.
    fn watch(&self, control: &OwnedFd) {
        let pid = i32::try_from(self.guardian.pid()).unwrap_or_default();
        let _ = say(control, &Message::Guardian(pid));
        let mut kill_at = None;
        let mut last: Option<Timestamp> = None;
        while !self.guardian.has_ended() {
            let left = kill_at.map(|at: Timestamp| at.since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [
                PollFd::new(control, PollFlags::IN),
                PollFd::new(&self.guardian, PollFlags::IN),
            ];
            let _ = poll(&mut fds, timeout.as_ref());
            if fds.first().is_none_or(|fd| fd.revents().is_empty()) {
                continue;
            }
            match hear(control) {
                Some(Message::Deadline {
                    kill_at: at,
                    die_at,
                }) if last.is_none() => {
                    kill_at = Some(self.arm(at, die_at));
                    let _ = say(control, &Message::Armed);
                }
                // Never later than what was told before.
                Some(Message::LastDeadline {
                    kill_at: at,
                    die_at,
                }) if kill_at.is_none_or(|before| Timestamp::from_nanos(at) < before) => {
                    last = Some(self.arm(at, die_at));
                    kill_at = last;
                    let _ = say(control, &Message::Armed);
                }
                Some(Message::LastDeadline { .. }) => last = kill_at,
                // After the last one it is armed as it is.
                Some(Message::Deadline { .. }) => drop(say(control, &Message::Armed)),
                Some(_) => {}
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

    /// Gives when to kill.
    fn arm(&self, kill_at: u64, die_at: u64) -> Timestamp {
        match self.deadman.arm(Timestamp::from_nanos(die_at)) {
            Ok(()) => Timestamp::from_nanos(kill_at),
            // What there is no timer for is not kept alive.
            Err(_) => clock::now(),
        }
    }
}

/// The words of the keeper's command line.
pub(crate) fn words(guardian: &guardian::Args) -> Vec<OsString> {
    let mut words = vec![OsString::from(super::KEEPER)];
    words.extend(guardian.to_words());
    words
}
