//! `disklease run`: a command that runs only while its disks are locked.

mod child;
pub(crate) mod control;
pub(crate) mod deadlines;
mod guardian;
mod keeper;
mod offspring;
mod pid_file;
mod privileges;
pub(crate) mod term;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use disklease::__cli::leave_no_proof;
use disklease::{LockGuard, LockManager as _, LossReason, PaxosManager};
use rustix::process::Signal;

use crate::exit::Failure;
use crate::landing::Landing;
use crate::output::complain;
use crate::session::{self, Plan, not_locked};
use crate::signals::{Phase, Signals};
use child::{Child, Event};
use control::Message;
use deadlines::{Deadlines, Ends};

pub(crate) use guardian::{Args as GuardianArgs, guard};
pub(crate) use keeper::{Args as KeeperArgs, keep};

/// The names of the hidden commands that stand between a run and its command.
pub(crate) const KEEPER: &str = "__keeper";
pub(crate) const GUARDIAN: &str = "__guardian";

/// The exit code of a run whose command has succeeded and has left behind what had to be killed.
const LEFT_BEHIND: u8 = 70;

/// The exit code of a run whose command was killed.
const KILLED: u8 = 137;

/// Lock disks, run a command, and give the disks back when it ends
///
/// Ends with the command's own exit code, or 128 and the signal's number if a signal ended it; 127
/// if there is no such command, 126 if it cannot be started. SIGTERM, SIGINT, SIGHUP and SIGQUIT are
/// passed on to the command. Processes that it leaves behind when it ends are named and killed before
/// its disks are given back, and the exit code is 70 then if it would be 0. When this command is
/// killed, so are its command and all below it.
///
/// Should the locks be lost, the command is sent SIGTERM, and SIGKILL if it has not ended when the
/// grace is over: 40 s later where the fire timeout is 60 s or more, else half of that, 15 s at most.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: session::Args,
    /// What holds all that the command starts, so that it can be ended for certain
    ///
    /// `pidns` is a PID namespace of its own, with its own /proc, in which the command is not process
    /// 1; it takes the rights of root. `none` goes by who is whose child: what the command has started
    /// may then outlive this program should that, its keeper and its guardian be killed at once, and so
    /// may a process that runs as another user or was frozen; the next run with this host id after a kill
    /// waits until that cannot hold locks any more. `auto` is the first where it can be had.
    #[arg(
        long,
        value_enum,
        value_name = "auto|pidns|none",
        default_value = "auto"
    )]
    contain: Containment,
    /// What to do about a process of the command that may not be sent signals
    ///
    /// With `refuse` set-user-id programs, sudo say, gain no rights, unless this program may send signals
    /// to all users, and a process that is out of reach all the same ends the command. `ignore` only says
    /// it. With a PID namespace there is no such process.
    #[arg(
        long,
        value_enum,
        value_name = "refuse|ignore",
        default_value = "refuse"
    )]
    unkillable: Unkillable,
    /// The command becomes a daemon and leaves the daemon's process id in this file, which must not
    /// exist yet: its disks are kept until that process ends
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// The command leaves behind what it was started for: its disks are kept until the last process
    /// below it has ended
    #[arg(long, conflicts_with = "pid_file")]
    follow: bool,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What holds all that a command starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Containment {
    Auto,
    Pidns,
    None,
}

/// What to do about a process that may not be sent signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Unkillable {
    Refuse,
    Ignore,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let program = args.command.first().map(Path::new);
    let program = program.and_then(Path::file_name).unwrap_or_default();
    let plan = Plan::of(&args.session, &program.to_string_lossy())?;
    // A number from an earlier life could by now be that of another process.
    if let Some(file) = &args.pid_file
        && file.symlink_metadata().is_ok()
    {
        let file = crate::output::shown_path(file);
        return Err(Failure::usage(format_args!(
            "the pid file {file} exists already: remove it if no process uses it"
        )));
    }
    let (tell, told) = mpsc::channel();
    let passed_on = tell.clone();
    let pass_on = move |signal| drop(passed_on.send(Event::Signal(signal)));
    let signals = Signals::watch(plan.has_watchdog(), pass_on)?;
    let landing = Arc::new(plan.landing());
    let lockspace = plan.join(&signals, !landing.ends_with_process());
    let lockspace = lockspace.map_err(|error| signals.cause(error))?;
    signals.enter(Phase::Locking);
    let manager = PaxosManager::new(lockspace.clone(), plan.directory());
    let manager = manager.map_err(Failure::unavailable)?;
    let start = Start {
        args,
        plan: &plan,
        manager: &manager,
        signals: &signals,
        landing,
    };
    let ended = start.lock_and_run(&tell, &told);
    drop(manager);
    // Also when nothing was locked: otherwise others would wait for this host id.
    if let Err(error) = lockspace.leave() {
        complain(&error);
    }
    ended
}

/// What a run begins with.
struct Start<'a> {
    args: &'a Args,
    plan: &'a Plan<'a>,
    manager: &'a PaxosManager,
    signals: &'a Signals,
    landing: Arc<Landing>,
}

impl Start<'_> {
    fn lock_and_run(
        &self,
        tell: &mpsc::Sender<Event>,
        told: &mpsc::Receiver<Event>,
    ) -> Result<ExitCode, Failure> {
        let Self {
            args,
            plan,
            manager,
            signals,
            ref landing,
        } = *self;
        let guardian = guardian::Args {
            is_init: false,
            refuses_privileges: args.unkillable == Unkillable::Refuse,
            follow: args.follow,
            pid_file: args.pid_file.clone(),
            command: args.command.clone(),
        };
        let child = Child::prepare(guardian, args.contain)?;
        if !child.is_contained() {
            // What the command starts may live on when all of us are killed at once, and may have closed
            // what shows that it lives.
            leave_no_proof(manager.lockspace());
        }
        let ends = Ends::of(plan.timing());
        let (lost, keepers) = (tell.clone(), child.keepers().to_vec());
        let is_fenced = plan.is_fenced();
        let request = plan.request(child.guardian(), signals.cancel(), move |reason| {
            if is_fenced {
                ends.tell_last(&keepers);
            }
            // Nobody listens any more once the command has ended.
            let _ = lost.send(Event::Lost(reason));
        });
        let landed = Arc::clone(landing);
        let request = request.on_owner_end(move || landed.wait(offspring::end_all_and_say));
        let guard = manager.acquire(request);
        let guard = guard.map_err(|error| signals.cause(not_locked(error)))?;
        let keeping =
            is_fenced.then(|| Deadlines::start(manager.lockspace(), child.keepers(), ends));
        let ended = match keeping.transpose() {
            Ok(_deadlines) => child
                .listen(tell)
                .and_then(|()| signals.pass_on())
                .and_then(|()| {
                    Job {
                        args,
                        child: &child,
                    }
                    .run(&guard, told)
                }),
            Err(error) => Err(not_kept(&error)),
        };
        signals.enter(Phase::Locking);
        // The guardian ends by itself then, and all that it guards. If it was killed, what it guarded
        // is ours to end: nothing is given back while any of it may still write.
        drop(child);
        landing.wait(offspring::end_all_and_say);
        if let Err(error) = guard.release() {
            complain(&error);
        }
        ended
    }
}

fn not_kept(error: &io::Error) -> Failure {
    Failure::unavailable(format_args!("the command cannot be guarded: {error}"))
}

/// The command, from its start to its end.
struct Job<'a> {
    args: &'a Args,
    child: &'a Child,
}

impl Job<'_> {
    fn run(&self, guard: &LockGuard, told: &mpsc::Receiver<Event>) -> Result<ExitCode, Failure> {
        if !guard.is_held() {
            return Err(Failure::unavailable(
                "the locks were lost before the command was started",
            ));
        }
        self.child.start_command()?;
        let (mut is_left, mut is_told, mut is_known) = (false, false, true);
        let done = loop {
            // The threads that tell of signals and of the guardian live for as long as this does.
            match told.recv().unwrap_or(Event::Vanished) {
                Event::Signal(signal) => self.child.send(signal),
                Event::Lost(reason) => {
                    is_told = true;
                    self.tell_loss(&reason);
                }
                Event::Said(Message::NotStarted(error)) => {
                    return Err(self.child.not_started(error));
                }
                Event::Said(Message::Exited(code)) => break u8::try_from(code).unwrap_or(u8::MAX),
                Event::Said(Message::Ended(process)) => {
                    is_known = false;
                    complain(&end_of_another(process, guard));
                    break if is_lost(guard) { KILLED } else { 0 };
                }
                Event::Said(Message::Killed(signal)) => {
                    break u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX);
                }
                Event::Said(said) => is_left |= self.hear(&said),
                Event::Vanished => {
                    return Err(Failure::new(KILLED, end_of_the_guardian(guard)));
                }
            }
        };
        // A command that ends at once may be heard of first.
        if let (false, true, Some(reason)) = (is_told, is_lost(guard), guard.loss()) {
            self.tell_loss(&reason.to_string());
        }
        if done == KILLED && is_lost(guard) && is_known {
            complain(&end_of_the_guardian(guard));
        }
        let code = if done == 0 && is_left {
            LEFT_BEHIND
        } else {
            done
        };
        Ok(ExitCode::from(code))
    }

    fn tell_loss(&self, reason: &str) {
        complain(&format_args!(
            "THE LOCKS ARE LOST: {reason}. Process {} and all below it must not write any longer; other hosts may take the disks soon",
            self.child.guardian()
        ));
    }

    /// Says what it means. Whether it makes the run fail.
    fn hear(&self, said: &Message) -> bool {
        let refuses = self.args.unkillable == Unkillable::Refuse;
        let errno =
            |number: i32| (number != 0).then(|| rustix::io::Errno::from_raw_os_error(number));
        match said {
            Message::Lasting(process, error, name) => {
                offspring::complain_of(*process, errno(*error), &name.shown());
            }
            Message::Unkillable(process, error, name) => {
                let error = io::Error::from_raw_os_error(*error);
                let what = if refuses {
                    "the command is to end, and its disks are kept until all of it has ended"
                } else {
                    "it goes on should this program be killed"
                };
                complain(&format_args!(
                    "process {process} ({}) of the command may not be sent signals ({error}): {what}",
                    name.shown()
                ));
                if refuses {
                    self.child.send(Signal::TERM);
                }
                return refuses;
            }
            Message::NotSent(process, error, name) => {
                let error = io::Error::from_raw_os_error(*error);
                complain(&format_args!(
                    "process {process} ({}) of the command was NOT sent the signal: {error}; its disks are kept until it ends. End it as its own user or root",
                    name.shown()
                ));
            }
            Message::LeftBehind(process, name) => {
                complain(&format_args!(
                    "process {process} ({}) was left behind by the command and is killed: a command that becomes a daemon needs --pid-file or --follow",
                    name.shown()
                ));
                return true;
            }
            Message::NotFollowed(named) => {
                let file = self
                    .args
                    .pid_file
                    .as_deref()
                    .unwrap_or_else(|| Path::new(""));
                let file = crate::output::shown_path(file);
                match named {
                    0 => complain(&format_args!("the pid file {file} names no process")),
                    _ => complain(&format_args!(
                        "the pid file {file} names {named}, which is no process of the command"
                    )),
                }
                return true;
            }
            _ => {}
        }
        false
    }
}

/// Whether the locks were lost before their holder had ended.
pub(crate) fn is_lost(guard: &LockGuard) -> bool {
    !guard.is_held() && guard.loss() != Some(LossReason::OwnerEnded)
}

/// Of a daemon that is no child of the guardian.
fn end_of_another(process: i32, guard: &LockGuard) -> String {
    let counts = if is_lost(guard) {
        "the locks were lost, so it counts as killed"
    } else {
        "it counts as a success"
    };
    format!("process {process} has ended; how it did is known to its parent alone: {counts}")
}

fn end_of_the_guardian(guard: &LockGuard) -> &'static str {
    if is_lost(guard) {
        "THE LOCKS WERE LOST, and the command was killed at the end of its grace"
    } else {
        "the keeper or guardian of the command was killed, and the command with it"
    }
}
