//! The process between `disklease run` and its command. It lives a little longer than either.
//!
//! * Its end is the end of the command and of all that the command has left behind: that is what
//!   the disks are kept for.
//! * When `disklease run` is gone, by `kill -9` say, it kills the command and all below it, also
//!   where it was stopped itself.
//! * When it is killed itself, the kernel kills the command, and `disklease run` the rest.
//!
//! The command is started when it is told to, which is after the disks are locked.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use disklease::die_with_this_thread;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitStatus, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::control::{Message, hear, say};
use super::offspring::{adopt, end_all, reap};
use crate::exit::Failure;

/// Not for people: `disklease run` starts it, with the control socket as its standard input.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// The guardian, from its start to its end.
pub(crate) fn guard(args: &Args) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::unavailable(format_args!("the guardian: {error}"));
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let signals = Signals::watch().map_err(failed)?;
    // Should it be stopped when the run ends, nobody else would be left to kill the command.
    set_parent_process_death_signal(Some(Signal::CONT)).map_err(|errno| failed(errno.into()))?;
    adopt().map_err(failed)?;
    // Nobody says more to it before, but that it is not wanted any more.
    let Some(Message::Start(input)) = hear(&control) else {
        return Ok(ExitCode::SUCCESS);
    };
    let command = match start(&args.command, input) {
        Ok(command) => command,
        Err(error) => {
            let number = error.raw_os_error().unwrap_or_default();
            let _ = say(&control, &Message::NotStarted(number));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let _ = say(&control, &Message::Started(command.as_raw_nonzero().get()));
    let ended = watch(&control, &signals, command);
    end_all();
    // To nobody, if the run is gone.
    if let Some(status) = ended {
        let _ = say(&control, &told(status));
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the command. It is not waited for by its handle: all ends are taken in alike.
fn start(command: &[OsString], input: OwnedFd) -> io::Result<Pid> {
    let (program, args) = command.split_first().unzip();
    let mut command = Command::new(program.cloned().unwrap_or_default());
    command.args(args.unwrap_or_default()).stdin(input);
    // The main thread, which lives as long as the process.
    let child = die_with_this_thread(&mut command).spawn()?;
    Ok(Pid::from_child(&child))
}

/// Until the command has ended, which gives its status, or the run is gone.
fn watch(control: &OwnedFd, signals: &Signals, command: Pid) -> Option<WaitStatus> {
    loop {
        let mut fds = [
            PollFd::new(control, PollFlags::IN),
            PollFd::new(&signals.child, PollFlags::IN),
            PollFd::new(&signals.term, PollFlags::IN),
        ];
        // Interrupted: then each is looked at all the same.
        let _ = poll(&mut fds, None);
        let [said, child, term] = fds.map(|fd| !fd.revents().is_empty());
        if child {
            drain(&signals.child);
            let mut ended = None;
            reap(|pid, status| {
                if pid == command {
                    ended = Some(status);
                }
            });
            if ended.is_some() {
                return ended;
            }
        }
        // It is not reaped, so the number is its own.
        if term {
            drain(&signals.term);
            let _ = kill_process(command, Signal::TERM);
        }
        if said {
            match hear(control) {
                Some(Message::Signal(number)) => {
                    if let Some(signal) = Signal::from_named_raw(number) {
                        let _ = kill_process(command, signal);
                    }
                }
                Some(_) => {}
                None => return None,
            }
        }
    }
}

fn told(status: WaitStatus) -> Message {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Message::Exited(code),
        (None, signal) => Message::Killed(signal.unwrap_or_default()),
    }
}

/// Signals, as descriptors.
struct Signals {
    child: UnixStream,
    term: UnixStream,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        let pipe = |signal| {
            let (heard, told) = UnixStream::pair()?;
            heard.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal, told)?;
            io::Result::Ok(heard)
        };
        // A terminal sends these to the command, too. What that does about them is its own affair.
        // What is ignored already stays so, for the command as well: `nohup` and shells see to that.
        let ignored = ignored_signals();
        for signal in [SIGINT, SIGQUIT, SIGHUP] {
            if ignored & 1_u64.wrapping_shl(signal.wrapping_sub(1).unsigned_abs()) != 0 {
                continue;
            }
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
        }
        Ok(Self {
            child: pipe(SIGCHLD)?,
            term: pipe(SIGTERM)?,
        })
    }
}

fn drain(mut pipe: &UnixStream) {
    let mut bytes = [0; 64];
    while matches!(pipe.read(&mut bytes), Ok(read) if read > 0) {}
}

/// The signals that this process was started to ignore: bit 0 is signal 1.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
