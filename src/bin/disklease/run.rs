//! `disklease run`: a command that runs only while its disks are locked.

mod child;
mod control;
mod guardian;
mod offspring;
mod signals;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use disklease::format::HostName;
use disklease::lockspace::JoinProgress;
use disklease::timing::{FireTimeout, IoTimeout};
use disklease::{
    Access, AcquireError, FailureAction, Helper, HostId, LeaseDirectory, LockGuard, LockManager,
    LockRequest, Lockspace, Owner, PaxosManager, WaitLimit, Watchdog,
};

use crate::exit::Failure;
use crate::output::complain;
use child::{Child, Event};
use signals::Signals;

pub(crate) use guardian::{Args as GuardianArgs, guard};

/// The name of the hidden command that stands between a run and its command.
pub(crate) const GUARDIAN: &str = "__guardian";

/// Lock disks, run a command, and give the disks back when it ends
///
/// Ends with the command's own exit code, or 128 and the signal's number if a signal ended it; 127
/// if there is no such command, 126 if it cannot be started. SIGTERM and SIGINT are passed on to
/// the command. Processes that it leaves behind when it ends are killed before its disks are given
/// back; so are it and all below it when this command is killed (but for what has left the session, if
/// the guardian that stands between is killed at the same time).
///
/// Should the locks be lost, the command is sent SIGTERM, and SIGKILL if it has not ended when the
/// grace is over: 40 s later where the fire timeout is 60 s or more, else half of that, 15 s at most.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory with the lockspace, which `disklease init` makes, and the leases
    #[arg(long, value_name = "DIR")]
    lease_dir: PathBuf,
    /// This host's number, 1 to 2000: no other process on any host may use it
    #[arg(long, value_name = "N")]
    host_id: u64,
    /// This host's name [default: the machine's name and the beginning of its boot id]
    #[arg(long, value_name = "NAME")]
    host_name: Option<String>,
    /// How long one read or write may take, 1 to 255 s: all other times follow from it
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    io_timeout: u64,
    /// How long after the loss of its locks a holder may still need to be stopped, 1 to 600 s
    ///
    /// All hosts of the lease directory must have the same; with sanlock hosts it is 60.
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    fire_timeout: u64,
    /// What stops the command if nothing else does: none (nothing), wdmd, or a device such as
    /// /dev/watchdog1. The last two reset this host
    #[arg(long, value_name = "none|wdmd|DEVICE")]
    watchdog: WatchdogArg,
    /// Wait this long for disks that are held, instead of giving up at once
    #[arg(long, value_name = "SECS")]
    wait: Option<u64>,
    /// A disk to lock: its absolute path, the same on every host. May be given several times
    #[arg(long = "disk", value_name = "PATH", required = true)]
    disks: Vec<PathBuf>,
    /// What to do should the locks be lost: `poweroff`, `ignore`, or the path of a program to run
    ///
    /// A program that is run has the grace for what it does, and no longer than the command lives:
    /// whatever of the command is left then is killed. With `ignore` nothing is: the command may write to disks that others have taken.
    #[arg(long, value_name = "ACTION", default_value = "poweroff", value_parser = OnLockFailure::parse)]
    on_lock_failure: OnLockFailure,
    /// An argument for the program that is run then. May be given several times
    #[arg(long = "helper-arg", value_name = "ARG", allow_hyphen_values = true)]
    helper_argv: Vec<OsString>,
    /// The name by which other hosts see the holder [default: the command's file name]
    #[arg(long, value_name = "NAME")]
    guest: Option<String>,
    /// Where this host keeps its life locks [default: /run/disklease, or below `XDG_RUNTIME_DIR`]
    ///
    /// A file there is locked for as long as the command or a child of it lives, so that the next
    /// run with this host id need not wait. It must be local to this host, and empty after a boot.
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What stops a command that may not write any longer, when nothing nearer has.
#[derive(Clone, Debug)]
struct WatchdogArg(Watchdog);

impl FromStr for WatchdogArg {
    type Err = &'static str;

    fn from_str(arg: &str) -> Result<Self, Self::Err> {
        match arg {
            "none" => Ok(Self(Watchdog::None)),
            "wdmd" => Ok(Self(Watchdog::Wdmd)),
            device if device.starts_with('/') => Ok(Self(Watchdog::Device(device.into()))),
            _ => Err("it is none, wdmd, or the absolute path of a watchdog device"),
        }
    }
}

/// What to do when the locks are lost.
#[derive(Clone, Debug)]
enum OnLockFailure {
    PowerOff,
    Ignore,
    Run(PathBuf),
}

impl OnLockFailure {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "poweroff" => Ok(Self::PowerOff),
            "ignore" => Ok(Self::Ignore),
            path if path.starts_with('/') => Ok(Self::Run(path.into())),
            _ => Err("it is poweroff, ignore, or the absolute path of a program".to_owned()),
        }
    }
}

/// The options, found to be possible ones.
struct Plan<'a> {
    args: &'a Args,
    host_id: HostId,
    host_name: Option<HostName>,
    io_timeout: Duration,
    fire_timeout: Duration,
    guest: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let plan = Plan::of(args)?;
    let (tell, told) = mpsc::channel();
    let signals = Signals::watch(tell.clone())?;
    let lockspace = plan.join()?;
    signals.joined(&lockspace);
    let manager = PaxosManager::new(lockspace.clone(), LeaseDirectory::new(&args.lease_dir))
        .map_err(Failure::unavailable)?;
    let ended = lock_and_run(&plan, &manager, &signals, tell, &told);
    drop(manager);
    // Also when nothing was locked: otherwise others would wait for this host id.
    if let Err(error) = lockspace.leave() {
        complain(&error);
    }
    signals.settle();
    ended
}

fn lock_and_run(
    plan: &Plan<'_>,
    manager: &PaxosManager,
    signals: &Signals,
    tell: mpsc::Sender<Event>,
    told: &mpsc::Receiver<Event>,
) -> Result<ExitCode, Failure> {
    let child = Child::prepare(&plan.args.command, tell.clone())?;
    let guard = plan.acquire(manager, child.guardian(), tell)?;
    signals.locked();
    let ended = run_command(&child, &guard, told);
    // The guardian ends by itself then, and all that it guards. If it was killed, what it guarded is
    // ours to end: nothing is given back while any of it may still write.
    drop(child);
    offspring::end_all();
    if let Err(error) = guard.release() {
        complain(&error);
    }
    ended
}

/// Runs the command from its start to its end.
fn run_command(
    child: &Child,
    guard: &LockGuard,
    told: &mpsc::Receiver<Event>,
) -> Result<ExitCode, Failure> {
    if !guard.is_held() {
        return Err(Failure::unavailable(
            "the locks were lost before the command was started",
        ));
    }
    child.start()?;
    let mut pid = 0;
    loop {
        // The threads that tell of signals and of the guardian live for as long as this does.
        match told.recv().unwrap_or(Event::Vanished) {
            Event::Signal(signal) => child.send(signal),
            Event::Started(process) => pid = process,
            Event::NotStarted(error) => return Err(child.not_started(error)),
            Event::Lost(reason) => {
                complain(&format_args!(
                    "THE LOCKS ARE LOST: {reason}. Process {pid} must not write any longer; other hosts may take its disks soon",
                ));
            }
            Event::Ended(code) => return Ok(ExitCode::from(code)),
            Event::Vanished => {
                return Err(Failure::new(
                    137,
                    "the guardian of the command was killed, and the command with it",
                ));
            }
        }
    }
}

impl<'a> Plan<'a> {
    fn of(args: &'a Args) -> Result<Self, Failure> {
        let io_timeout = Duration::from_secs(args.io_timeout);
        IoTimeout::new(io_timeout).map_err(Failure::usage)?;
        let fire_timeout = Duration::from_secs(args.fire_timeout);
        FireTimeout::new(fire_timeout).map_err(Failure::usage)?;
        let host_name = match &args.host_name {
            Some(name) => Some(HostName::new(name).map_err(Failure::usage)?),
            None => None,
        };
        // A join takes long. What can be refused is refused before it.
        if let OnLockFailure::Run(program) = &args.on_lock_failure {
            Helper::new(program).check().map_err(Failure::usage)?;
        }
        for (at, disk) in args.disks.iter().enumerate() {
            if !disk.is_absolute() {
                let path = disk.clone();
                return Err(Failure::usage(AcquireError::PathNotAbsolute { path }));
            }
            if args.disks.iter().take(at).any(|earlier| earlier == disk) {
                let path = disk.clone();
                return Err(Failure::usage(AcquireError::NamedTwice { path }));
            }
        }
        let program = args
            .command
            .first()
            .map(Path::new)
            .and_then(Path::file_name);
        let program = program.unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            args,
            host_id: HostId::new(args.host_id).map_err(Failure::usage)?,
            host_name,
            io_timeout,
            fire_timeout,
            guest: args.guest.clone().unwrap_or(program),
        })
    }

    fn join(&self) -> Result<Lockspace, Failure> {
        let path = LeaseDirectory::new(&self.args.lease_dir).lockspace_path();
        let host_id = self.host_id;
        let mut options = Lockspace::options(self.args.watchdog.0.clone())
            .io_timeout(self.io_timeout)
            .fire_timeout(self.fire_timeout)
            .on_progress(move |progress| tell_progress(host_id, &progress));
        if let Some(name) = self.host_name {
            options = options.host_name(name);
        }
        if let Some(dir) = &self.args.runtime_dir {
            options = options.runtime_dir(dir);
        }
        options.join(path, host_id).map_err(Failure::unavailable)
    }

    fn acquire(
        &self,
        manager: &dyn LockManager,
        owner: u32,
        tell: mpsc::Sender<Event>,
    ) -> Result<LockGuard, Failure> {
        let wait = match self.args.wait {
            Some(secs) => WaitLimit::For(Duration::from_secs(secs)),
            None => WaitLimit::Try,
        };
        let helper = |program: &PathBuf| {
            let args = self.args.helper_argv.iter();
            args.fold(Helper::new(program), Helper::arg)
        };
        let action = match &self.args.on_lock_failure {
            OnLockFailure::PowerOff => FailureAction::PowerOff,
            OnLockFailure::Ignore => FailureAction::Ignore,
            OnLockFailure::Run(program) => FailureAction::Helper(helper(program)),
        };
        let request = LockRequest::new(Owner::process(&self.guest, owner))
            .wait(wait)
            .on_lock_failure(action)
            .on_owner_end(offspring::end_all)
            .on_lost(move |reason| {
                // Nobody listens any more once the command has ended.
                let _ = tell.send(Event::Lost(reason.to_string()));
            });
        let disks = self.args.disks.iter();
        let request = disks.fold(request, |request, disk| {
            request.disk(disk, Access::Exclusive)
        });
        manager.acquire(request).map_err(|error| match error {
            AcquireError::Held { .. }
            | AcquireError::HeldShared { .. }
            | AcquireError::Contended { .. } => Failure::held(error),
            AcquireError::PathNotAbsolute { .. } | AcquireError::Helper { .. } => {
                Failure::usage(error)
            }
            _ => Failure::unavailable(error),
        })
    }
}

fn tell_progress(host_id: HostId, progress: &JoinProgress) {
    // Rounded up: not to promise too much.
    let secs = |time: &Duration| time.as_secs().saturating_add(1);
    match progress {
        JoinProgress::WaitingForOwner {
            owner,
            generation,
            remaining,
        } => complain(&format_args!(
            "host id {host_id} is owned by \"{owner}\" (generation {generation}): waiting to see whether it still lives, up to {} s",
            secs(remaining)
        )),
        JoinProgress::Confirming { remaining } => complain(&format_args!(
            "claiming host id {host_id}, {} s",
            secs(remaining)
        )),
        JoinProgress::WaitingForHost {
            host_id,
            fire_timeout,
            remaining,
        } => complain(&format_args!(
            "host {host_id} has a fire timeout of {} s, not ours: waiting to see whether it still lives, up to {} s",
            fire_timeout.as_secs(),
            secs(remaining)
        )),
        _ => {}
    }
}
