//! What `run` and `hold` have in common: the options, the join, and the locks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

use disklease::__cli::check_disk_path;
use disklease::format::{HostName, LockspaceId};
use disklease::lockspace::JoinProgress;
use disklease::timing::{FireTimeout, IoTimeout, Timing};
use disklease::{
    Access, AcquireError, CancelToken, FailureAction, Helper, HostId, LeaseDirectory, LockRequest,
    Lockspace, Owner, WaitLimit, Watchdog,
};

use crate::exit::Failure;
use crate::landing::Landing;
use crate::output::complain;
use crate::signals::{Phase, Signals};

/// How often it is said that the storage does not answer.
const STILL: Duration = Duration::from_secs(5);

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
    /// A disk to lock: its absolute path without `//`, `.`, `..` and links, the same on every host. May be
    /// given several times
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
pub(crate) struct Plan<'a> {
    args: &'a Args,
    host_id: HostId,
    host_name: Option<HostName>,
    timing: Timing,
    guest: String,
}

impl<'a> Plan<'a> {
    /// A join takes long. What can be refused is refused before it.
    pub(crate) fn of(args: &'a Args, default_guest: &str) -> Result<Self, Failure> {
        let io_timeout = IoTimeout::new(Duration::from_secs(args.io_timeout));
        let fire_timeout = FireTimeout::new(Duration::from_secs(args.fire_timeout));
        let host_name = args.host_name.as_deref().map(HostName::new).transpose();
        if let OnLockFailure::Run(program) = &args.on_lock_failure {
            Helper::new(program).check().map_err(Failure::usage)?;
        }
        for (at, disk) in args.disks.iter().enumerate() {
            let path = disk.clone();
            check_disk_path(disk).map_err(Failure::usage)?;
            if args.disks.iter().take(at).any(|earlier| earlier == disk) {
                return Err(Failure::usage(AcquireError::NamedTwice { path }));
            }
        }
        Ok(Self {
            args,
            host_id: HostId::new(args.host_id).map_err(Failure::usage)?,
            host_name: host_name.map_err(Failure::usage)?,
            timing: Timing::new(
                io_timeout.map_err(Failure::usage)?,
                fire_timeout.map_err(Failure::usage)?,
            ),
            guest: args
                .guest
                .clone()
                .unwrap_or_else(|| default_guest.to_owned()),
        })
    }

    pub(crate) const fn timing(&self) -> Timing {
        self.timing
    }

    pub(crate) fn directory(&self) -> LeaseDirectory {
        LeaseDirectory::new(&self.args.lease_dir)
    }

    /// Whether whoever holds is killed when the grace is over.
    pub(crate) const fn is_fenced(&self) -> bool {
        !matches!(self.args.on_lock_failure, OnLockFailure::Ignore)
    }

    pub(crate) const fn has_watchdog(&self) -> bool {
        !matches!(self.args.watchdog.0, Watchdog::None)
    }

    /// What is waited for before the disks are given back.
    pub(crate) fn landing(&self) -> Landing {
        Landing::of(&self.args.disks)
    }

    /// `for_others`: what the locks are held for, or what it writes, may outlive this program.
    pub(crate) fn join(&self, signals: &Signals, for_others: bool) -> Result<Lockspace, Failure> {
        let path = self.directory().lockspace_path();
        let host_id = self.host_id;
        let (heard, opened) = channel();
        let phase = signals.clone();
        let mut options = Lockspace::options(self.args.watchdog.0.clone())
            .io_timeout(self.timing.io())
            .fire_timeout(self.timing.fire_timeout().as_duration())
            .on_progress(move |progress| {
                let _ = heard.send(());
                phase.enter(match progress {
                    JoinProgress::WaitingForOwner { .. } => Phase::WaitingForOwner,
                    _ => Phase::Joining,
                });
                tell_progress(host_id, &progress);
            });
        if let Some(name) = self.host_name {
            options = options.host_name(name);
        }
        if for_others {
            options = options.holds_for_others();
        }
        if self.args.single_host {
            options = options.single_host();
        }
        if let Some(id) = self.args.lockspace_id {
            options = options.lockspace_id(id);
        }
        if let Some(dir) = &self.args.runtime_dir {
            options = options.runtime_dir(dir);
        }
        // The storage may take as long as it likes to open a file: a server that has just started, say.
        let shown = path.clone();
        let mut waited = 0_u64;
        let tell = move || {
            while opened.recv_timeout(STILL) == Err(RecvTimeoutError::Timeout) {
                waited = waited.saturating_add(STILL.as_secs());
                let path = crate::output::shown_path(&shown);
                complain(&format_args!("still opening {path} after {waited} s"));
            }
        };
        let told = Builder::new().name("dl-opening".to_owned()).spawn(tell);
        drop(told.map_err(Failure::unavailable)?);
        signals.enter(Phase::Joining);
        options.join(path, host_id).map_err(Failure::unavailable)
    }

    /// What is to be locked, on behalf of process `owner`. `lost` is called with the reason should
    /// the locks be lost.
    pub(crate) fn request(
        &self,
        owner: u32,
        cancel: &CancelToken,
        lost: impl FnOnce(String) + Send + 'static,
    ) -> LockRequest {
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
            .cancel_by(cancel)
            .on_lock_failure(action)
            .on_lost(move |reason| lost(reason.to_string()));
        let disks = self.args.disks.iter();
        disks.fold(request, |request, disk| {
            request.disk(disk, Access::Exclusive)
        })
    }
}

/// How a command ends that has not got its locks.
pub(crate) fn not_locked(error: AcquireError) -> Failure {
    match error {
        AcquireError::Held { .. }
        | AcquireError::HeldShared { .. }
        | AcquireError::Contended { .. } => Failure::held(error),
        AcquireError::PathNotAbsolute { .. }
        | AcquireError::PathNotNormal { .. }
        | AcquireError::Helper { .. } => Failure::usage(error),
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
