//! The process below which the command runs. The guardian lives a little longer than the command.
//!
//! * The guardian ends when the command and all processes that the command has left behind have ended:
//!   until then the disks are kept.
//! * Contained, it is the first process of a PID namespace: when it is killed, with its keeper or
//!   alone, the kernel kills all processes in the namespace, whoever they run as, frozen or not.
//! * Not contained, it kills the command and all below it when the keeper or the run is gone, also
//!   where it was stopped itself; when it is killed, the kernel kills the command, and the keeper or
//!   the run the rest. A timer in the kernel kills it when the time of the locks has expired: it may be
//!   frozen.
//!
//! It starts the command when the run says so, which is after the disks are locked. It prints nothing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::thread::Builder;
use std::time::Duration;

use disklease::__cli::{Deadman, OwnerProcess, SignalFd, SignalMask, mount_proc};
use disklease::die_with_this_thread;
use rustix::process::{
    Pid, Signal, WaitStatus, getppid, kill_process, set_parent_process_death_signal,
};
use rustix::thread::set_no_new_privs;

use super::pid_file;
use crate::control::{Kind, Message, os_error, poll_any, receive, receive_with_fd, send, set_up};
use crate::deadlines::Term;
use crate::offspring::{self, adopt, end_all, living, reap};

/// The name of the hidden command.
pub(crate) const NAME: &str = "__guardian";

/// How often the processes below are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The same while something is just being started.
const FIRST_CHECKS: Duration = Duration::from_millis(100);

/// How long what a command leaves behind may take to end by itself, as the rest of a pipe does.
const ENDING: Duration = Duration::from_millis(200);
const ENDING_CHECK: Duration = Duration::from_millis(5);

/// Not for people: the keeper starts it, with the control socket as its standard input.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// The guardian is the first process of a PID namespace
    #[arg(long)]
    pub(crate) is_init: bool,
    /// Set-user-id programs gain no rights
    #[arg(long)]
    pub(crate) refuses_privileges: bool,
    #[command(flatten)]
    pub(crate) job: Job,
}

/// What is to be run, and what it leaves behind.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Job {
    /// The command becomes a daemon and leaves the daemon's process id in this file, which must not
    /// exist yet: its disks are kept until that process ends
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// The command leaves behind what it was started for: its disks are kept until the last process
    /// below it has ended
    #[arg(long, conflicts_with = "pid_file")]
    pub(crate) follow: bool,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

impl Args {
    pub(crate) fn to_words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        words.extend(self.is_init.then(|| "--is-init".into()));
        words.extend((self.refuses_privileges).then(|| "--refuses-privileges".into()));
        words.extend(self.job.follow.then(|| "--follow".into()));
        if let Some(file) = &self.job.pid_file {
            words.extend(["--pid-file".into(), file.into()]);
        }
        words.push("--".into());
        words.extend(self.job.command.iter().cloned());
        words
    }
}

/// The guardian, from its start to its end.
pub(crate) fn guard(args: &Args) -> io::Result<()> {
    let (control, mask) = set_up(c"disklease-guard")?;
    let signals = SignalFd::new(&[Signal::CHILD, Signal::TERM, Signal::CONT])?;
    let keeper = getppid();
    // A guardian that has to act itself must be woken should it be stopped.
    let tie = if args.is_init {
        Signal::KILL
    } else {
        Signal::CONT
    };
    set_parent_process_death_signal(Some(tie))?;
    adopt()?;
    if args.is_init
        && let Err(error) = mount_proc()
    {
        let _ = send(&control, Message::failed(Kind::NotContained, &error));
        return Ok(());
    }
    let _ = send(&control, Kind::Ready);
    // Nothing else comes first, but the end of a run that needs no guardian any more.
    let input = loop {
        match receive_with_fd(&control) {
            Some((said, Some(socket))) if said.kind == Kind::Deadlines => heed_deadlines(socket)?,
            Some((said, Some(input))) if said.kind == Kind::Start => break input,
            _ => return Ok(()),
        }
    };
    let guardian = Guardian {
        args,
        control,
        signals,
        keeper,
    };
    if guardian.is_alone() {
        return Ok(());
    }
    if args.refuses_privileges {
        // For this thread, and whatever it starts.
        set_no_new_privs(true)?;
    }
    let outcome = match start(&args.job.command, input, mask) {
        Ok(command) => guardian.see_to_the_end(command),
        Err(error) => Ok(Message::failed(Kind::NotStarted, &error)),
    };
    end_all(|process, error| guardian.tell_about(Kind::Lasting, process, error));
    // Nothing receives the outcome if the run is gone.
    if let Ok(outcome) = outcome {
        let _ = send(&guardian.control, outcome);
    }
    Ok(())
}

/// Has the kernel kill this process at the deadline that comes over `socket`. A thread of its own receives there: the
/// other thread waits for processes, and cannot receive meanwhile.
fn heed_deadlines(socket: OwnedFd) -> io::Result<()> {
    let deadman = Deadman::new().map_err(os_error)?;
    let mut term = Term::new(deadman);
    let heed = move || {
        while let Some(said) = receive(&socket) {
            if !term.heed(&said, &socket) {
                std::process::exit(1);
            }
        }
        // The timer stays as it is.
        loop {
            std::thread::park();
            let _ = &term;
        }
    };
    let thread = Builder::new().name("dl-deadman".to_owned());
    thread.spawn(heed).map(drop)
}

/// Starts the command. Nothing waits for the command by its handle: all children are reaped alike.
fn start(command: &[OsString], input: OwnedFd, mask: SignalMask) -> io::Result<Pid> {
    let (program, args) = command.split_first().unzip();
    let mut command = Command::new(program.cloned().unwrap_or_default());
    command.args(args.unwrap_or_default()).stdin(input);
    // The main thread, which lives as long as the process.
    let child = die_with_this_thread(mask.restore_in(&mut command)).spawn()?;
    Ok(Pid::from_child(&child))
}

struct Guardian<'a> {
    args: &'a Args,
    control: OwnedFd,
    signals: SignalFd,
    keeper: Option<Pid>,
}

/// Whose end is waited for.
enum Target {
    /// That of our child.
    Child(Pid),
    /// That of a process below us.
    Below(OwnerProcess),
    /// Those of all below us.
    All,
}

/// How the process has ended, as far as is known.
type End = Option<WaitStatus>;

/// The run or the keeper is gone.
struct Gone;

impl Guardian<'_> {
    /// Until the command has ended and what it was started for; gives the message about the end.
    fn see_to_the_end(&self, command: Pid) -> Result<Message, Gone> {
        let mut end = self.wait_for(&Target::Child(command))?;
        let mut of_another = None;
        if end.is_some_and(|status| status.exit_status() == Some(0)) {
            if let Some(file) = &self.args.job.pid_file {
                match pid_file::read(file) {
                    Ok(process) => {
                        let pid = process.pid().cast_signed();
                        end = self.wait_for(&Target::Below(process))?;
                        of_another = end.is_none().then_some(pid);
                    }
                    Err(named) => {
                        let _ = send(&self.control, Message::with(Kind::NotFollowed, named));
                    }
                }
            } else if self.args.job.follow {
                self.wait_for(&Target::All)?;
            }
        }
        let killed_by = end.and_then(WaitStatus::terminating_signal);
        self.tell_of_leftovers(killed_by.is_some());
        Ok(match (of_another, killed_by) {
            (Some(pid), _) => Message::with(Kind::Ended, pid),
            (None, Some(signal)) => Message::with(Kind::Killed, signal),
            (None, None) => {
                let code = end.and_then(WaitStatus::exit_status);
                Message::with(Kind::Exited, code.unwrap_or_default())
            }
        })
    }

    fn wait_for(&self, target: &Target) -> Result<End, Gone> {
        let mut end = None;
        let mut checks = 0_u32;
        let mut unkillable = Vec::new();
        loop {
            // Before the process is reaped: a process can be reaped no later than this shows its end.
            let mut has_ended = matches!(target, Target::Below(process) if process.has_ended());
            let is_left = reap(|pid, status| match target {
                Target::Child(child) if *child == pid => {
                    (end, has_ended) = (Some(status), true);
                }
                Target::Below(process) if pid_of(process) == Some(pid) => end = Some(status),
                _ => {}
            });
            if has_ended || !is_left {
                return Ok(end);
            }
            let mut limit = None;
            // The kernel kills all in a namespace, whoever it runs as.
            if !self.args.is_init {
                self.tell_of_unkillable(&mut unkillable);
                checks = checks.saturating_add(1);
                limit = Some(if checks < 20 {
                    FIRST_CHECKS
                } else {
                    CHECK_INTERVAL
                });
            }
            self.wait_a_while(target, limit)?;
        }
    }

    /// Until something happens, or for so long.
    fn wait_a_while(&self, target: &Target, limit: Option<Duration>) -> Result<(), Gone> {
        let (control, signals) = (self.control.as_fd(), self.signals.as_fd());
        let [said, signalled, _] = match target {
            Target::Below(process) => poll_any([control, signals, process.as_fd()], limit),
            Target::Child(_) | Target::All => poll_any([control, signals, signals], limit),
        };
        while signalled && let Some(number) = self.signals.next() {
            if number == Signal::TERM.as_raw() {
                self.pass_on(target, Signal::TERM);
            }
        }
        if self.is_alone() {
            return Err(Gone);
        }
        if said {
            let said = receive(&self.control).ok_or(Gone)?;
            if said.kind == Kind::Signal
                && let Some(signal) = Signal::from_named_raw(said.number())
            {
                self.pass_on(target, signal);
            }
        }
        Ok(())
    }

    /// Whether the keeper is gone. A keeper outside of the namespace has no number here, and the kernel
    /// ends this process with that keeper.
    fn is_alone(&self) -> bool {
        getppid() != self.keeper
    }

    /// Tells the run of a process, and an error number, 0 for none.
    fn tell_about(&self, kind: Kind, process: Pid, error: i32) {
        let _ = send(&self.control, Message::about(kind, process, error));
    }

    fn tell_of_unkillable(&self, known: &mut Vec<Pid>) {
        for below in living() {
            if let Err(error) = offspring::signal(below, None)
                && !known.contains(&below.process)
            {
                known.push(below.process);
                self.tell_about(Kind::Unkillable, below.process, error.errno());
            }
        }
    }

    /// Passes `signal` on, and notifies the run of each process to which it could not be sent.
    fn pass_on(&self, target: &Target, signal: Signal) {
        let not_sent = |process, error| self.tell_about(Kind::NotSent, process, error);
        match target {
            // The child is not reaped, so the number is its own.
            Target::Child(child) => {
                if let Err(error) = kill_process(*child, signal) {
                    not_sent(*child, error.raw_os_error());
                }
            }
            Target::Below(process) => {
                if let (Err(error), Some(pid)) = (process.send(signal), pid_of(process)) {
                    not_sent(pid, error.errno());
                }
            }
            Target::All => {
                for below in living() {
                    if let Err(error) = offspring::signal(below, Some(signal)) {
                        not_sent(below.process, error.errno());
                    }
                }
            }
        }
    }

    /// Names what the command has left behind. What is just ending is none of that.
    #[expect(clippy::disallowed_methods, reason = "it waits for processes")]
    fn tell_of_leftovers(&self, was_killed: bool) {
        let mut left = living();
        let mut waited = Duration::ZERO;
        while !left.is_empty() && !was_killed && waited < ENDING {
            std::thread::sleep(ENDING_CHECK);
            waited = waited.saturating_add(ENDING_CHECK);
            reap(|_, _| {});
            left = living();
        }
        for below in left {
            self.tell_about(Kind::LeftBehind, below.process, 0);
        }
    }
}

fn pid_of(process: &OwnerProcess) -> Option<Pid> {
    Pid::from_raw(process.pid().cast_signed())
}
