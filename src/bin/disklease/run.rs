//! `disklease run`: a command that runs only while its disks are locked.

mod child;
mod guardian;
mod keeper;
mod pid_file;
mod privileges;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use disklease::__cli::leave_no_proof;
use disklease::{LockGuard, PaxosManager};
use rustix::process::Signal;

use crate::control::{Kind, Message};
use crate::exit::{self, Failure, KILLED};
use crate::logging::complain;
use crate::offspring::{end_all_and_say, tell_of_lasting};
use crate::output::shown_path;
use crate::session::{self, Event, Session, is_lost, release, tell_loss};
use crate::signals::Phase;
use child::{Child, Containment, not_guarded};

pub(crate) use guardian::{Args as GuardianArgs, Job, NAME as GUARDIAN, guard};
pub(crate) use keeper::{NAME as KEEPER, keep};

/// The exit code of a run whose command has succeeded and has left behind what had to be killed.
const LEFT_BEHIND: u8 = 70;

/// Lock disks, run a command, and give the disks back when it ends
///
/// Ends with the command's own exit code, or 128 and the signal's number if a signal ended it; 127
/// if there is no such command, 126 if it cannot be started. SIGTERM, SIGINT, SIGHUP and SIGQUIT are
/// passed on to the command. Processes that it leaves behind when it ends are named and killed before
/// its disks are given back, and the exit code is 70 then if it would be 0. When this command is
/// killed, so are its command and all below it.
///
/// Should the locks be lost, the command is sent SIGTERM, and SIGKILL if it has not ended by the
/// end of the grace: 40 s later where the fire timeout is 60 s or more, else half of that, 15 s at most.
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
    /// waits until that cannot hold locks any more. `auto` is the first where that is available.
    #[arg(long, value_enum, value_name = "auto|pidns|none")]
    #[arg(default_value = "auto")]
    contain: Containment,
    /// What to do about a process of the command that may not be sent signals
    ///
    /// With `refuse` set-user-id programs, sudo say, gain no rights, unless this program may send signals
    /// to all users, and a process that is out of reach all the same ends the command. `ignore` only says
    /// it. With a PID namespace there is no such process.
    #[arg(long, value_enum, value_name = "refuse|ignore")]
    #[arg(default_value = "refuse")]
    unkillable: Unkillable,
    #[command(flatten)]
    job: Job,
}

/// What to do about a process that may not be sent signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Unkillable {
    Refuse,
    Ignore,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // A number from an earlier run could by now be that of another process.
    if let Some(file) = &args.job.pid_file
        && file.symlink_metadata().is_ok()
    {
        return Err(Failure::usage(format_args!(
            "the pid file {} exists already: remove it if no process uses it",
            shown_path(file)
        )));
    }
    let program = args.job.command.first().map(Path::new);
    let program = program.and_then(Path::file_name).unwrap_or_default();
    let program = program.to_string_lossy();
    let session = Session::start(&args.session, &program, "the command was started")?;
    let for_others = !session.landing.ends_with_process();
    session.as_member(for_others, |manager| lock_and_run(args, &session, manager))
}

fn lock_and_run(
    args: &Args,
    session: &Session<'_>,
    manager: &PaxosManager,
) -> Result<ExitCode, Failure> {
    let guardian = GuardianArgs {
        is_init: false,
        refuses_privileges: args.unkillable == Unkillable::Refuse,
        job: args.job.clone(),
    };
    let child = Child::prepare(guardian, args.contain)?;
    if !child.is_contained {
        // What the command starts may go on when all of us are killed at once, and may have closed the
        // descriptor that shows that it runs.
        leave_no_proof(manager.lockspace());
    }
    let keepers = session.keepers();
    if session.is_fenced() {
        keepers.set(&child.keepers);
    }
    let guard = session.lock(manager, child.guardian, &keepers, end_all_and_say)?;
    let armed = keepers.arm(manager.lockspace()).map_err(not_guarded);
    let ended = armed.and_then(|_deadlines| {
        child.listen(session).map_err(not_guarded)?;
        session.signals.pass_on()?;
        run_command(args, &child, session, &guard)
    });
    session.signals.enter(Phase::Locking);
    // The guardian ends by itself then, and all that it guards. If the guardian was killed, this process ends what
    // was guarded: nothing is given back while any of that may still write.
    drop(child);
    session.landing.wait(end_all_and_say);
    release(guard);
    ended
}

/// The command, from its start to its end.
fn run_command(
    args: &Args,
    child: &Child,
    session: &Session<'_>,
    guard: &LockGuard,
) -> Result<ExitCode, Failure> {
    if !guard.is_held() {
        return Err(Failure::unavailable(
            "the locks were lost before the command was started",
        ));
    }
    child.start_command()?;
    let holder = format!("Process {} and all below it", child.guardian);
    let (mut is_left, mut is_told, mut is_known) = (false, false, true);
    let done = loop {
        // The threads that send signals and the guardian's messages run for as long as this does.
        let said = match session.events.recv().unwrap_or(Event::Ended) {
            Event::Signal(signal) => {
                child.send(signal);
                continue;
            }
            Event::Lost(reason) => {
                is_told = true;
                tell_loss(&reason, &holder);
                continue;
            }
            Event::Message(said) => said,
            Event::Ended | Event::WardenGone => {
                return Err(Failure::new(KILLED, end_of_the_guardian(guard)));
            }
        };
        match said.kind {
            Kind::NotStarted => return Err(not_started(args, said.number())),
            Kind::Exited => break u8::try_from(said.number()).unwrap_or(u8::MAX),
            Kind::Killed => break exit::of_signal(said.number()),
            // A daemon that is no child of the guardian.
            Kind::Ended => {
                is_known = false;
                let (counts, code) = if is_lost(guard) {
                    ("the locks were lost, so it counts as killed", KILLED)
                } else {
                    ("it counts as a success", 0)
                };
                let process = said.number();
                complain!(
                    "process {process} has ended; how it did is known to its parent alone: {counts}"
                );
                break code;
            }
            _ => is_left |= tell_problem(args, child, &said),
        }
    };
    // The end of a command that ends at once may be notified before the loss.
    if let (false, true, Some(reason)) = (is_told, is_lost(guard), guard.loss()) {
        tell_loss(&reason.to_string(), &holder);
    }
    if done == KILLED && is_lost(guard) && is_known {
        complain!("{}", end_of_the_guardian(guard));
    }
    let code = if done == 0 && is_left {
        LEFT_BEHIND
    } else {
        done
    };
    Ok(ExitCode::from(code))
}

/// Notifies the operator of a problem with a process. Returns whether the problem makes the run fail.
fn tell_problem(args: &Args, child: &Child, said: &Message) -> bool {
    let refuses = args.unkillable == Unkillable::Refuse;
    let process = said.process();
    let error = io::Error::from_raw_os_error(said.errno());
    match said.kind {
        Kind::Lasting => tell_of_lasting(&process, said.errno()),
        Kind::Unkillable if refuses => {
            complain!(
                "{process} of the command may not be sent signals ({error}): the command is to end, and its disks are kept until all of it has ended"
            );
            child.send(Signal::TERM);
            return true;
        }
        Kind::Unkillable => complain!(
            "{process} of the command may not be sent signals ({error}): it goes on should this program be killed"
        ),
        Kind::NotSent => complain!(
            "{process} of the command was NOT sent the signal: {error}; its disks are kept until it ends. End it as its own user or root"
        ),
        Kind::LeftBehind => complain!(
            "{process} was left behind by the command and is killed: a command that becomes a daemon needs --pid-file or --follow"
        ),
        Kind::NotFollowed => {
            let file = args.job.pid_file.as_deref().map(shown_path);
            let file = file.unwrap_or_default();
            match said.number() {
                0 => complain!("the pid file {file} names no process"),
                named => complain!(
                    "the pid file {file} names {named}, which is no process of the command"
                ),
            }
        }
        _ => {}
    }
    matches!(said.kind, Kind::LeftBehind | Kind::NotFollowed)
}

fn not_started(args: &Args, error: i32) -> Failure {
    let error = io::Error::from_raw_os_error(error);
    let program = args.job.command.first().map(Path::new);
    let program = program.unwrap_or_else(|| Path::new("")).display();
    let code = match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    };
    Failure::new(code, format_args!("{program} cannot be started: {error}"))
}

fn end_of_the_guardian(guard: &LockGuard) -> &'static str {
    if is_lost(guard) {
        "THE LOCKS WERE LOST, and the command was killed at the end of its grace"
    } else {
        "the keeper or guardian of the command was killed, and the command with it"
    }
}
