//! The process below which the command runs. It lives a little longer than that.
//!
//! * Its end is the end of the command and of all that the command has left behind: that is what
//!   the disks are kept for.
//! * Contained, it is the first process of a PID namespace: when it is killed, with its keeper or
//!   alone, the kernel kills all in there, whoever it runs as, frozen or not.
//! * Not contained, it kills the command and all below it when the keeper or the run is gone, also
//!   where it was stopped itself; when it is killed, the kernel kills the command, and the keeper or
//!   the run the rest. A timer in the kernel kills it when the time of the locks is over: it may be
//!   frozen.
//!
//! The command is started when it is told to, which is after the disks are locked. It prints
//! nothing.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread::Builder;
use std::time::Duration;

use disklease::__cli::{Deadman, OwnerProcess, SignalFd, SignalMask, mount_proc};
use disklease::die_with_this_thread;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitStatus, getppid, kill_process, set_parent_process_death_signal,
};
use rustix::thread::set_no_new_privs;

use super::control::{Message, hear, say};
use super::offspring::{self, Left, adopt, end_all, living, name_of, reap};
use super::pid_file;
use super::term::Term;
use crate::exit::Failure;

/// How often it is looked what is below.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same while something is just being started.
const FIRST_LOOKS: Duration = Duration::from_millis(100);

/// How long what a command leaves behind may take to end by itself, as the rest of a pipe does.
const SETTLING: Duration = Duration::from_millis(200);
const SETTLING_LOOK: Duration = Duration::from_millis(5);

/// Not for people: the keeper starts it, with the control socket as its standard input.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// It is the first process of a PID namespace
    #[arg(long)]
    pub(crate) is_init: bool,
    /// Set-user-id programs gain no rights in it
    #[arg(long)]
    pub(crate) refuses_privileges: bool,
    /// It ends when nothing is left below it
    #[arg(long)]
    pub(crate) follow: bool,
    /// It goes on with the process that this file names
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

impl Args {
    pub(crate) fn to_words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        for (is_set, word) in [
            (self.is_init, "--is-init"),
            (self.refuses_privileges, "--refuses-privileges"),
            (self.follow, "--follow"),
        ] {
            words.extend(is_set.then(|| word.into()));
        }
        if let Some(file) = &self.pid_file {
            words.extend(["--pid-file".into(), file.into()]);
        }
        words.push("--".into());
        words.extend(self.command.iter().cloned());
        words
    }
}

/// The guardian, from its start to its end.
pub(crate) fn guard(args: &Args) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::unavailable(format_args!("the guardian: {error}"));
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mask = SignalMask::block_all().map_err(failed)?;
    let signals = SignalFd::new(&[Signal::CHILD, Signal::TERM, Signal::CONT]).map_err(failed)?;
    let _ = rustix::thread::set_name(c"disklease-guard");
    let keeper = getppid();
    // Where it has to act itself, it must be woken should it be stopped.
    let tie = if args.is_init {
        Signal::KILL
    } else {
        Signal::CONT
    };
    set_parent_process_death_signal(Some(tie)).map_err(|errno| failed(errno.into()))?;
    adopt().map_err(failed)?;
    if args.is_init
        && let Err(error) = mount_proc()
    {
        let number = error.raw_os_error().unwrap_or_default();
        let _ = say(&control, &Message::NotContained(number));
        return Ok(ExitCode::SUCCESS);
    }
    let _ = say(&control, &Message::Ready);
    // Nobody says more to it before, but that it is not wanted any more.
    let input = loop {
        match hear(&control) {
            Some(Message::Deadlines(told)) => heed_deadlines(told).map_err(failed)?,
            Some(Message::Start(input)) => break input,
            _ => return Ok(ExitCode::SUCCESS),
        }
    };
    let guardian = Guardian {
        args,
        control,
        signals,
        keeper,
    };
    if guardian.is_alone() {
        return Ok(ExitCode::SUCCESS);
    }
    if args.refuses_privileges {
        // For this thread, and whatever it starts.
        set_no_new_privs(true).map_err(|errno| failed(errno.into()))?;
    }
    let told = match start(&args.command, input, mask) {
        Ok(command) => {
            let _ = say(&guardian.control, &Message::Started);
            guardian.see_to_the_end(command)
        }
        Err(error) => Some(Message::NotStarted(
            error.raw_os_error().unwrap_or_default(),
        )),
    };
    end_all(|lasting| {
        let process = lasting.process;
        let error = lasting.error.map_or(0, Errno::raw_os_error);
        let message = Message::Lasting(number_of(process), error, name_of(process));
        let _ = say(&guardian.control, &message);
    });
    // To nobody, if the run is gone.
    if let Some(told) = told {
        let _ = say(&guardian.control, &told);
    }
    Ok(ExitCode::SUCCESS)
}

/// Has the kernel kill this process when the time is over of which it is told there. By a thread of
/// its own: the other waits for processes, and cannot listen meanwhile.
fn heed_deadlines(told: OwnedFd) -> io::Result<()> {
    let deadman = Deadman::new().map_err(|error| io::Error::from_raw_os_error(error.0))?;
    let mut term = Term::new(deadman);
    let heed = move || {
        while let Some(said) = hear(&told) {
            if !term.heed(&said, &told) {
                std::process::exit(1);
            }
        }
        // The timer stays as it is.
        loop {
            std::thread::park();
            let _ = &term;
        }
    };
    let thread = Builder::new().name("dl-deadman".to_owned()).spawn(heed)?;
    drop(thread);
    Ok(())
}

/// Starts the command. It is not waited for by its handle: all ends are taken in alike.
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

/// How it has ended, as far as is known.
type End = Option<WaitStatus>;

/// The run or the keeper is gone.
struct Gone;

impl Guardian<'_> {
    /// Until the command has ended and what it was started for; gives what to tell then.
    fn see_to_the_end(&self, command: Pid) -> Option<Message> {
        let mut end = self.wait_for(&Target::Child(command)).ok()?;
        let mut of_another = None;
        if has_succeeded(end) {
            if let Some(file) = &self.args.pid_file {
                match pid_file::read(file) {
                    Ok(process) => {
                        let pid = process.pid().cast_signed();
                        end = self.wait_for(&Target::Below(process)).ok()?;
                        of_another = end.is_none().then_some(pid);
                    }
                    Err(named) => drop(say(&self.control, &Message::NotFollowed(named))),
                }
            } else if self.args.follow {
                self.wait_for(&Target::All).ok()?;
            }
        }
        self.tell_of_leftovers(end);
        Some(of_another.map_or_else(|| told(end), Message::Ended))
    }

    fn wait_for(&self, target: &Target) -> Result<End, Gone> {
        let mut end = None;
        let mut looks = 0_u32;
        let mut unkillable = Vec::new();
        loop {
            // Before its end is taken in, which comes no later than this is seen.
            let mut has_ended = matches!(target, Target::Below(process) if process.has_ended());
            let left = reap(|pid, status| match target {
                Target::Child(child) if *child == pid => {
                    (end, has_ended) = (Some(status), true);
                }
                Target::Below(process) if process.pid() == number_of(pid).unsigned_abs() => {
                    end = Some(status);
                }
                _ => {}
            });
            has_ended |= left == Left::None;
            if has_ended {
                return Ok(end);
            }
            // The kernel kills all in a namespace, whoever it runs as.
            if !self.args.is_init {
                self.look_for_unkillable(&mut unkillable);
            }
            looks = looks.saturating_add(1);
            let interval = if looks < 20 {
                FIRST_LOOKS
            } else {
                LOOK_INTERVAL
            };
            self.wait_a_while(target, (!self.args.is_init).then_some(interval))?;
        }
    }

    /// Until something happens, or for so long.
    fn wait_a_while(&self, target: &Target, limit: Option<Duration>) -> Result<(), Gone> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut fds = vec![
            PollFd::new(&self.control, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        if let Target::Below(process) = target {
            fds.push(PollFd::new(process, PollFlags::IN));
        }
        let _ = poll(&mut fds, limit.as_ref());
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (said, signalled) = (is_ready(0), is_ready(1));
        while signalled && let Some(number) = self.signals.next() {
            if number == Signal::TERM.as_raw() {
                self.pass_on(target, Signal::TERM);
            }
        }
        if self.is_alone() {
            return Err(Gone);
        }
        if said {
            match hear(&self.control) {
                Some(Message::Signal(number)) => {
                    if let Some(signal) = Signal::from_named_raw(number) {
                        self.pass_on(target, signal);
                    }
                }
                Some(_) => {}
                None => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Whether the keeper is gone. One outside of the namespace has no number here, and the kernel
    /// does not let us live without it.
    fn is_alone(&self) -> bool {
        getppid() != self.keeper
    }

    fn look_for_unkillable(&self, known: &mut Vec<Pid>) {
        for below in living() {
            if let Err(error) = offspring::signal(below, None)
                && !known.contains(&below.process)
            {
                let process = below.process;
                known.push(process);
                let (number, name) = (number_of(process), name_of(process));
                let message = Message::Unkillable(number, error.raw_os_error(), name);
                let _ = say(&self.control, &message);
            }
        }
    }

    /// Says what it was not sent to.
    fn pass_on(&self, target: &Target, signal: Signal) {
        let not_sent = |process: Pid, error: i32| {
            let message = Message::NotSent(number_of(process), error, name_of(process));
            let _ = say(&self.control, &message);
        };
        match target {
            // It is not reaped, so the number is its own.
            Target::Child(child) => {
                if let Err(error) = kill_process(*child, signal) {
                    not_sent(*child, error.raw_os_error());
                }
            }
            Target::Below(process) => {
                let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
                if let (Err(error), Some(pid)) = (process.send(signal), pid) {
                    not_sent(pid, error.0);
                }
            }
            Target::All => {
                for below in living() {
                    if let Err(error) = offspring::signal(below, Some(signal)) {
                        not_sent(below.process, error.raw_os_error());
                    }
                }
            }
        }
    }

    /// Names what the command has left behind. What is just ending is none of that.
    #[expect(clippy::disallowed_methods, reason = "it waits for processes")]
    fn tell_of_leftovers(&self, end: End) {
        let was_killed = end.is_some_and(|status| status.terminating_signal().is_some());
        let mut left = living();
        let mut waited = Duration::ZERO;
        while !left.is_empty() && !was_killed && waited < SETTLING {
            std::thread::sleep(SETTLING_LOOK);
            waited = waited.saturating_add(SETTLING_LOOK);
            reap(|_, _| {});
            left = living();
        }
        for below in left {
            let name = name_of(below.process);
            let message = Message::LeftBehind(number_of(below.process), name);
            let _ = say(&self.control, &message);
        }
    }
}

fn has_succeeded(end: End) -> bool {
    end.is_some_and(|status| status.exit_status() == Some(0))
}

fn told(end: End) -> Message {
    let Some(status) = end else {
        return Message::Exited(0);
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Message::Exited(code),
        (None, signal) => Message::Killed(signal.unwrap_or_default()),
    }
}

fn number_of(process: Pid) -> i32 {
    process.as_raw_nonzero().get()
}
