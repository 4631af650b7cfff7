//! What `run` and `hold` have in common: the options, the join, and the locks.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use disklease::__cli::check_disk_path;
use disklease::format::{HostName, LockspaceId};
use disklease::lockspace::JoinProgress;
use disklease::timing::{FireTimeout, IoTimeout, Timing};
use disklease::{
    Access, AcquireError, AcquireErrorKind, FailureAction, HelperProgram, HostId, LeaseDirectory,
    LockGuard, LockManager as _, LockRequest, Lockspace, LossReason, Owner, PaxosManager,
    WaitLimit, Watchdog,
};
use rustix::process::Signal;

use crate::control::{Message, receive};
use crate::deadlines::Keepers;
use crate::exit::{Failure, HELD};
use crate::landing::{Landing, wait_aloud};
use crate::logging::complain;
use crate::output::shown_path;
use crate::parse;
use crate::signals::{Phase, Signals};

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// The directory with the lockspace, which `disklease init` makes, and the leases
    #[arg(long, value_name = "DIR")]
    lease_dir: PathBuf,
    /// The id that the lockspace must have, as `disklease status` shows it: a host on which another
    /// share is mounted is refused then
    #[arg(long, value_name = "ID")]
    lockspace_id: Option<LockspaceId>,
    /// Only this host uses the lease directory: no warning where no other host sees its file system
    #[arg(long)]
    single_host: bool,
    /// A number for this run alone, 1 to 2000: while it lives no other run, hold, virtual machine monitor
    /// or sanlock daemon on any host may have it. Give each guest its own
    #[arg(long, value_name = "ID", value_parser = parse::host_id)]
    host_id: HostId,
    /// This host's name [default: the machine's name and the beginning of its boot id]
    #[arg(long, value_name = "NAME", value_parser = parse::host_name)]
    host_name: Option<HostName>,
    /// How long one read or write may take, 1 to 255 s: all other times follow from it
    #[arg(long, value_name = "SECS", default_value = "10")]
    #[arg(value_parser = parse::io_timeout)]
    io_timeout: IoTimeout,
    /// How long after the loss of its locks a host has to stop its holders, 1 to 600 s: other hosts take
    /// the disks over only then
    ///
    /// All hosts of the lease directory must have the same; with sanlock hosts it is 60.
    #[arg(long, value_name = "SECS", default_value = "60")]
    #[arg(value_parser = parse::fire_timeout)]
    fire_timeout: FireTimeout,
    /// What stops the command if nothing else does: none (nothing), wdmd, or a device such as
    /// /dev/watchdog1. The last two reset this host, also when this program is killed while it holds
    /// a disk. wdmd serves several runs of a host, a device serves one
    #[arg(long, value_name = "none|wdmd|DEVICE", value_parser = watchdog)]
    watchdog: Watchdog,
    /// Wait this long for disks that are held, instead of giving up at once
    #[arg(long, value_name = "SECS", value_parser = parse::secs)]
    wait: Option<Duration>,
    /// A disk to lock: its absolute path without `//`, `.`, `..` and links, the same on every host. May be
    /// given several times
    #[arg(long = "disk", value_name = "PATH", required = true)]
    #[arg(value_parser = PathBufValueParser::new().try_map(disk))]
    disks: Vec<PathBuf>,
    /// What to do should the locks be lost: `poweroff`, `ignore`, or the path of a program to run
    ///
    /// A program that is run has the grace for what it does, and no longer than the command lives:
    /// whatever of the command is left then is killed. With `ignore` nothing is: the command may write to disks that others have taken.
    #[arg(long, value_name = "ACTION", default_value = "poweroff")]
    #[arg(value_parser = on_lock_failure)]
    on_lock_failure: OnLockFailure,
    /// An argument for the program that is run then. May be given several times
    #[arg(long = "helper-arg", value_name = "ARG", allow_hyphen_values = true)]
    helper_argv: Vec<OsString>,
    /// The name by which other hosts see the holder [default: the command's file name]
    #[arg(long, value_name = "NAME")]
    guest: Option<String>,
    /// Where this host keeps its process locks [default: /run/disklease for root, else below
    /// `XDG_RUNTIME_DIR`; without that there are none, and each run after a kill waits]
    ///
    /// A file there is locked for as long as the command or a child of it lives, so that the next
    /// run with this host id need not wait. It must be local to this host, and empty after a boot.
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
}

/// What to do when the locks are lost.
#[derive(Clone, Debug)]
enum OnLockFailure {
    PowerOff,
    Ignore,
    Run(HelperProgram),
}

fn on_lock_failure(text: &str) -> Result<OnLockFailure, parse::Refused> {
    match text {
        "poweroff" => Ok(OnLockFailure::PowerOff),
        "ignore" => Ok(OnLockFailure::Ignore),
        program if program.starts_with('/') => {
            let helper = HelperProgram::new(program);
            helper.check()?;
            Ok(OnLockFailure::Run(helper))
        }
        _ => Err("it is poweroff, ignore, or the absolute path of a program".into()),
    }
}

fn watchdog(text: &str) -> Result<Watchdog, &'static str> {
    match text {
        "none" => Ok(Watchdog::None),
        "wdmd" => Ok(Watchdog::Wdmd),
        device if device.starts_with('/') => Ok(Watchdog::Device(device.into())),
        _ => Err("it is none, wdmd, or the absolute path of a watchdog device"),
    }
}

fn disk(path: PathBuf) -> Result<PathBuf, AcquireError> {
    check_disk_path(&path).map(|()| path)
}

/// What happens while the locks are held.
#[derive(Debug)]
pub(crate) enum Event {
    /// We were sent this signal, which is the holder's.
    Signal(Signal),
    /// The locks are lost, for this reason.
    Lost(String),
    /// Keeper, guardian or warden has sent this.
    Message(Message),
    /// The held process has ended, or the guardian has, without a message on what became of the command.
    Ended,
    /// The warden of a held process has ended.
    WardenGone,
}

/// A run or a hold, from the moment on from which signals end it.
pub(crate) struct Session<'a> {
    args: &'a Args,
    /// The name by which other hosts see the holder.
    guest: &'a str,
    pub(crate) landing: Arc<Landing>,
    pub(crate) signals: Signals,
    pub(crate) sender: Sender<Event>,
    pub(crate) events: Receiver<Event>,
}

impl<'a> Session<'a> {
    /// From now on signals come here. A join takes long: what can be refused is refused before the join.
    /// `not_begun`: what a signal that comes first prevents.
    pub(crate) fn start(
        args: &'a Args,
        default_guest: &'a str,
        not_begun: &'static str,
    ) -> Result<Self, Failure> {
        for (at, disk) in args.disks.iter().enumerate() {
            if args.disks.iter().take(at).any(|earlier| earlier == disk) {
                let path = disk.clone();
                return Err(Failure::usage(AcquireErrorKind::NamedTwice { path }));
            }
        }
        let (sender, events) = channel();
        let passed_on = sender.clone();
        let pass_on = move |signal| drop(passed_on.send(Event::Signal(signal)));
        Ok(Self {
            args,
            guest: args.guest.as_deref().unwrap_or(default_guest),
            landing: Arc::new(Landing::of(&args.disks)),
            signals: Signals::watch(args.watchdog != Watchdog::None, not_begun, pass_on)?,
            sender,
            events,
        })
    }

    /// Joins the lockspace, does `work` as a member of it, and leaves it. `for_others`: the process that the locks are
    /// held for, or what that process writes, may outlive this program.
    pub(crate) fn as_member(
        &self,
        for_others: bool,
        work: impl FnOnce(&PaxosManager) -> Result<ExitCode, Failure>,
    ) -> Result<ExitCode, Failure> {
        let lockspace = self.join(for_others);
        let lockspace = lockspace.map_err(|error| self.signals.cause(error))?;
        self.signals.enter(Phase::Locking);
        let directory = LeaseDirectory::new(&self.args.lease_dir);
        let manager = PaxosManager::new(lockspace.clone(), directory)?;
        let ended = work(&manager);
        drop(manager);
        // Also when nothing was locked: otherwise others would wait for this host id.
        if let Err(error) = lockspace.leave() {
            complain!("{error}");
        }
        ended
    }

    fn join(&self, for_others: bool) -> Result<Lockspace, Failure> {
        let args = self.args;
        let host_id = args.host_id;
        let (sender, opened) = channel();
        let phase = self.signals.clone();
        let mut options = Lockspace::options(args.watchdog.clone())
            .io_timeout(args.io_timeout.as_duration())
            .fire_timeout(args.fire_timeout.as_duration())
            .on_progress(move |progress| {
                let _ = sender.send(());
                phase.enter(match progress {
                    JoinProgress::WaitingForOwner { .. } => Phase::WaitingForOwner,
                    _ => Phase::Joining,
                });
                tell_progress(host_id, &progress);
            });
        if let Some(name) = args.host_name {
            options = options.host_name(name);
        }
        if for_others {
            options = options.holds_for_others();
        }
        if args.single_host {
            options = options.single_host();
        }
        if let Some(id) = args.lockspace_id {
            options = options.lockspace_id(id);
        }
        if let Some(dir) = &args.runtime_dir {
            options = options.runtime_dir(dir);
        }
        // The storage may take as long as it likes to open a file: a server that has just started, say.
        let path = LeaseDirectory::new(&args.lease_dir).lockspace_path();
        let what = format!("opening {}", shown_path(&path));
        let thread = Builder::new().name("dl-opening".to_owned());
        thread.spawn(move || wait_aloud(what, &opened))?;
        self.signals.enter(Phase::Joining);
        Ok(options.join(path, host_id)?)
    }

    /// The processes that are sent the deadlines of the holder; none so far.
    pub(crate) fn keepers(&self) -> Keepers {
        Keepers::new(Timing::new(self.args.io_timeout, self.args.fire_timeout))
    }

    /// Whether the holder is killed at the end of the grace.
    pub(crate) const fn is_fenced(&self) -> bool {
        !matches!(self.args.on_lock_failure, OnLockFailure::Ignore)
    }

    /// Locks the disks for process `owner`. Should the locks be lost, `keepers` are sent the last deadline. When the
    /// owner has ended, `end_rest` ends all else that may write to the disks before they are given back.
    pub(crate) fn lock(
        &self,
        manager: &PaxosManager,
        owner: u32,
        keepers: &Keepers,
        end_rest: fn(),
    ) -> Result<LockGuard, Failure> {
        let args = self.args;
        let action = match &args.on_lock_failure {
            OnLockFailure::PowerOff => FailureAction::PowerOff,
            OnLockFailure::Ignore => FailureAction::Ignore,
            OnLockFailure::Run(helper) => {
                let helper = args
                    .helper_argv
                    .iter()
                    .fold(helper.clone(), HelperProgram::arg);
                FailureAction::Helper(helper)
            }
        };
        let (lost, keepers) = (self.sender.clone(), keepers.clone());
        let landing = Arc::clone(&self.landing);
        let request = LockRequest::new(Owner::process(self.guest, owner))
            .wait(args.wait.map_or(WaitLimit::Try, WaitLimit::For))
            .cancel_by(&self.signals.cancel)
            .on_lock_failure(action)
            .on_lost(move |reason| {
                keepers.send_last();
                // Nothing receives events any more once the holder has ended.
                let _ = lost.send(Event::Lost(reason.to_string()));
            })
            .on_owner_end(move || landing.wait(end_rest));
        let disks = args.disks.iter();
        let request = disks.fold(request, |request, disk| {
            request.disk(disk, Access::Exclusive)
        });
        let guard = manager.acquire(request);
        guard.map_err(|error| self.signals.cause(not_locked(error)))
    }

    /// From now on each message from `socket` is an event, and `at_end` gives the last event when the other end is gone.
    pub(crate) fn listen(
        &self,
        socket: impl AsFd + Send + 'static,
        at_end: impl FnOnce() -> Option<Event> + Send + 'static,
    ) -> io::Result<()> {
        let sender = self.sender.clone();
        let listen = move || {
            while let Some(message) = receive(&socket) {
                // Nothing receives events any more if the session has ended.
                if sender.send(Event::Message(message)).is_err() {
                    return;
                }
            }
            if let Some(event) = at_end() {
                let _ = sender.send(event);
            }
        };
        let thread = Builder::new().name("dl-listen".to_owned());
        thread.spawn(listen).map(drop)
    }
}

/// Whether the locks were lost before their holder had ended.
pub(crate) fn is_lost(guard: &LockGuard) -> bool {
    !guard.is_held() && guard.loss() != Some(LossReason::OwnerEnded)
}

/// Notifies the operator of a loss; `who` is the holder.
pub(crate) fn tell_loss(reason: &str, who: &str) {
    complain!(
        "THE LOCKS ARE LOST: {reason}. {who} must not write any longer; other hosts may take the disks soon"
    );
}

/// Gives the disks back.
pub(crate) fn release(guard: LockGuard) {
    if let Err(error) = guard.release() {
        complain!("{error}");
    }
}

/// How a command ends that did not get its locks.
pub(crate) fn not_locked(error: AcquireError) -> Failure {
    use AcquireErrorKind as K;
    match error.kind() {
        K::Held(_) | K::HeldShared { .. } | K::Contended { .. } => Failure::new(HELD, error),
        K::PathNotAbsolute { .. } | K::PathNotNormal { .. } | K::Helper { .. } => {
            Failure::usage(error)
        }
        _ => Failure::unavailable(error),
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
        } => complain!(
            "host id {host_id} is owned by \"{owner}\" (generation {generation}): waiting to see whether it still lives, up to {} s",
            secs(remaining)
        ),
        JoinProgress::Confirming { remaining } => {
            complain!("claiming host id {host_id}, {} s", secs(remaining));
        }
        JoinProgress::WaitingForHost {
            host_id,
            fire_timeout,
            remaining,
        } => complain!(
            "host {host_id} has another fire timeout than this host, {} s: waiting to see whether it still lives, up to {} s",
            fire_timeout.as_secs(),
            secs(remaining)
        ),
        _ => {}
    }
}
