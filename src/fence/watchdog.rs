//! What the lockspace knows of a host watchdog, and what can go wrong with one.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::world::{OsError, Timestamp};

/// A fence that resets this host, should its holders still be there at the end of F.
///
/// Made while a lockspace is joined, which proves that it works here; armed only while there are
/// holders. Not armed, it has nothing open and cannot reset anybody.
///
/// A process that ends while its watchdog is armed has not said that its holders are gone: **the host
/// is reset then**. So has a value that is dropped while armed.
pub trait HostWatchdog: Send + fmt::Debug {
    /// Holders are there from now on: unless [`extend`](Self::extend)ed, the host is reset at the
    /// latest F after `expires_at`. To be called before a guard is handed out. When the watchdog is
    /// armed already, this is an extension that is waited for.
    ///
    /// May take two seconds.
    ///
    /// # Errors
    ///
    /// The host is not protected: no guard may be handed out. It may be reset all the same, at the
    /// end of that time, unless [`disarm`](Self::disarm)ed.
    fn arm(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError>;

    /// A renewal was good. Does nothing while not armed.
    ///
    /// Takes half a second at most; nearly always some microseconds.
    ///
    /// To be called with the same time again when leases are lost and holders are left: a watchdog
    /// whose clock stands still in suspend learns the right time so.
    ///
    /// # Errors
    ///
    /// The watchdog does not work any more, and the host is likely to be reset soon, for the watchdog
    /// was not notified that nobody holds anything. Each later call tries again; the first one that is
    /// good says that the protection is back.
    fn extend(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError>;

    /// No holder is left. Does nothing while not armed.
    ///
    /// May take two seconds.
    ///
    /// # Errors
    ///
    /// The host may be reset though nobody holds anything. May be called again.
    fn disarm(&mut self) -> Result<(), WatchdogError>;
}

/// What is wrong with the watchdog of this host: which one, and [what](Self::kind).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogError {
    watchdog: &'static str,
    path: PathBuf,
    identity: Option<String>,
    kind: WatchdogErrorKind,
}

impl WatchdogError {
    /// Of the wdmd that listens at `socket`.
    pub(super) fn of_wdmd(socket: &Path, kind: WatchdogErrorKind) -> Self {
        Self::of("wdmd at", socket, None, kind)
    }

    /// Of the device at `path`, which calls itself `identity`, as far as that is known.
    pub(crate) fn of_device(
        path: &Path,
        identity: Option<String>,
        kind: WatchdogErrorKind,
    ) -> Self {
        Self::of("the watchdog device", path, identity, kind)
    }

    fn of(
        watchdog: &'static str,
        path: &Path,
        identity: Option<String>,
        kind: WatchdogErrorKind,
    ) -> Self {
        let path = path.to_owned();
        Self {
            watchdog,
            path,
            identity,
            kind,
        }
    }

    /// The device, or the socket of wdmd.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong.
    #[must_use]
    pub const fn kind(&self) -> &WatchdogErrorKind {
        &self.kind
    }
}

impl fmt::Display for WatchdogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.watchdog, self.path)?;
        if let Some(identity) = &self.identity {
            write!(f, " ({identity:?})")?;
        }
        write!(f, " {}", self.kind)
    }
}

impl Error for WatchdogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

/// What is wrong with a watchdog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchdogErrorKind {
    /// No wdmd answers at the socket.
    #[error("cannot be reached: {0}; start wdmd, or choose another watchdog")]
    Unreachable(#[source] OsError),
    /// wdmd has ended, or has ended the connection.
    #[error(
        "has closed the connection: start wdmd again, or this host may be reset as if its holders had not renewed"
    )]
    Gone,
    /// The connection to wdmd does not work.
    #[error("cannot be spoken with: {0}")]
    Failed(#[source] OsError),
    /// wdmd is there and does not answer in time.
    #[error(
        "does not answer: if wdmd hangs, it does not feed the watchdog device either, and this host is reset"
    )]
    Silent,
    /// What listens there does not speak wdmd's protocol.
    #[error("is not wdmd, or damaged: it answered command {command}, which was not sent")]
    Nonsense {
        /// The command in its answer.
        command: u32,
    },
    /// wdmd has no device, or none with this fire timeout.
    #[error(
        "cannot open a watchdog device with a fire timeout of {} s: see its log, and `wdmd --probe`",
        fire_timeout.as_secs()
    )]
    NoDevice {
        /// What wdmd was asked for.
        fire_timeout: Duration,
    },
    /// wdmd uses its device with another fire timeout.
    #[error(
        "has a fire timeout of {} s, the lockspace one of {} s: the lockspace must be joined with that of wdmd, on all hosts",
        theirs.as_secs(),
        ours.as_secs()
    )]
    OtherFireTimeout {
        /// Its fire timeout.
        theirs: Duration,
        /// The lockspace's.
        ours: Duration,
    },
    /// wdmd would reset this host though all is well: it must be notified of a renewal longer before
    /// the leases expire than one is sure to come.
    #[error(
        "would reset this host though all is well: wdmd checks every {} s, and an io timeout of {} s leaves {} s from the next renewal to the loss; use an io timeout of {} s or more",
        test_interval.as_secs(),
        io_timeout.as_secs(),
        spare.as_secs(),
        needed.as_secs()
    )]
    IoTimeoutTooShort {
        /// How often wdmd checks, and how long before the expiry it gives up.
        test_interval: Duration,
        /// N.
        io_timeout: Duration,
        /// What is left of 8N when the next renewal is due.
        spare: Duration,
        /// The smallest N that goes with it.
        needed: Duration,
    },
    /// The device cannot be opened.
    #[error("cannot be opened: {0}")]
    Unusable(#[source] OsError),
    /// Somebody else has the device; it can be open once only. That may be a child that this process has
    /// forked while it held locks: its copy of the descriptor keeps the device open until it ends or runs
    /// another program.
    #[error(
        "is in use by another program: wdmd, watchdogd, or systemd with RuntimeWatchdogSec; or by a child that this process has forked while it was open; use wdmd, or a device of its own"
    )]
    Busy,
    /// The device counts already. Whoever opened and closed it now would stop it.
    #[error(
        "counts already: another program uses it (wdmd, watchdogd, systemd with RuntimeWatchdogSec), or the one that used it was killed, and this host is reset soon; use wdmd, or a device of its own"
    )]
    CountsAlready,
    /// It is something else than a watchdog. The number is what it answers to a watchdog's question.
    #[error("is no watchdog device: {0}")]
    NotAWatchdog(#[source] OsError),
    /// The device lacks what is needed of it.
    #[error("cannot be used: {0}")]
    Lacks(DeviceLack),
    /// The device does not take the timeout.
    #[error(
        "has a timeout of {} s when asked for {} s; from {} to {} s would go with the fire timeout of the lockspace",
        got.as_secs(),
        asked.as_secs(),
        at_least.as_secs(),
        at_most.as_secs()
    )]
    OtherTimeout {
        /// What the device was asked for.
        asked: Duration,
        /// What it has then.
        got: Duration,
        /// The shortest that can be used.
        at_least: Duration,
        /// The longest that can be used.
        at_most: Duration,
    },
    /// The fire timeout is too short for a watchdog that this process feeds: it would reset the
    /// host when the processor is busy for a moment.
    #[error(
        "would reset a healthy host that is busy, for a fire timeout of {} s is too short: {} s are needed; use a longer one on all hosts, or wdmd",
        fire_timeout.as_secs(),
        needed.as_secs()
    )]
    FireTimeoutTooShort {
        /// The lockspace's fire timeout.
        fire_timeout: Duration,
        /// The shortest that goes.
        needed: Duration,
    },
    /// The device does not take what is written to it.
    #[error("cannot be fed: {0}; this host is reset soon, if that lasts")]
    NotFed(#[source] OsError),
    /// The thread that feeds the device has died.
    #[error("is not fed any more, for the thread that does it has died: this host is reset soon")]
    FeederDied,
    /// The system refuses a thread to feed the device.
    #[error("cannot be fed, for no thread can be started: {0}")]
    NoFeeder(#[source] OsError),
}

/// What a watchdog device lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceLack {
    /// The device stops when it is closed, also by the death of the process that has it open.
    #[error("it has no magic close, so the death of this process would stop it")]
    MagicClose,
    /// The device cannot be stopped once it was opened.
    #[error(
        "it cannot be stopped again (nowayout), so this host would be reset as soon as nobody holds a lock"
    )]
    Stop,
    /// Its timeout cannot be set.
    #[error("its timeout cannot be set")]
    Timeout,
    /// It cannot be fed.
    #[error("it takes no keepalive")]
    Keepalive,
}
