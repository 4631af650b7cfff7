//! What the lockspace knows of a host watchdog, and what can go wrong with one.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::world::{OsError, Timestamp};

/// A fence that resets this host, should its holders still be there at the end of F.
///
/// Made while a lockspace is joined, which proves that it works here; armed only while there are
/// holders. Not armed, it has nothing open and cannot reset anybody.
///
/// A process that ends while it is armed has not said that its holders are gone: **the host is
/// reset then**. So has a value that is dropped while armed.
pub trait HostWatchdog: Send + fmt::Debug {
    /// Holders are there from now on: unless [`extend`](Self::extend)ed, the host is reset at the
    /// latest F after `expires_at`. To be called before a guard is handed out. When it is armed
    /// already, this is an extension that is waited for.
    ///
    /// May take two seconds.
    ///
    /// # Errors
    ///
    /// The host is not protected: no guard may be handed out. It may be reset all the same, at the
    /// end of that time, unless [`disarm`](Self::disarm)ed.
    fn arm(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError>;

    /// A renewal was good. When it is not armed, nothing is done.
    ///
    /// Takes half a second at most; nearly always some microseconds.
    ///
    /// To be called with the same time again when leases are lost and holders are left: a watchdog
    /// whose clock stands still in suspend is told the right time so.
    ///
    /// # Errors
    ///
    /// The watchdog does not work any more, and the host is likely to be reset soon, for it was not
    /// told that nobody holds anything. Each later call tries again; the first one that is good
    /// says that the protection is back.
    fn extend(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError>;

    /// No holder is left. When it is not armed, nothing is done.
    ///
    /// May take two seconds.
    ///
    /// # Errors
    ///
    /// The host may be reset though nobody holds anything. May be called again.
    fn disarm(&mut self) -> Result<(), WatchdogError>;
}

/// What is wrong with the watchdog of this host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchdogError {
    /// No wdmd answers at the socket.
    #[error("wdmd cannot be reached at {socket:?}: {error}; start it, or choose another watchdog")]
    WdmdUnreachable {
        /// Where it should listen.
        socket: PathBuf,
        /// Why.
        error: OsError,
    },
    /// wdmd has ended, or has ended the connection.
    #[error(
        "wdmd at {socket:?} has closed the connection: start it again, or this host may be reset as if its holders had not renewed"
    )]
    WdmdGone {
        /// Where it listened.
        socket: PathBuf,
    },
    /// The connection to wdmd does not work.
    #[error("the connection to wdmd at {socket:?} has failed: {error}")]
    WdmdFailed {
        /// Where it listens.
        socket: PathBuf,
        /// Why.
        error: OsError,
    },
    /// wdmd is there and does not answer.
    #[error(
        "wdmd at {socket:?} has not answered for {silent:?}: if it hangs, it does not feed the watchdog device either, and this host is reset"
    )]
    WdmdSilent {
        /// Where it listens.
        socket: PathBuf,
        /// For how long it was waited for.
        silent: Duration,
    },
    /// What listens there does not speak wdmd's protocol.
    #[error(
        "what listens at {socket:?} is not wdmd, or damaged: it answered command {command}, which nobody has asked"
    )]
    WdmdNonsense {
        /// Where it listens.
        socket: PathBuf,
        /// The command in its answer.
        command: u32,
    },
    /// wdmd has no device, or none with this fire timeout.
    #[error(
        "wdmd at {socket:?} cannot open a watchdog device with a fire timeout of {fire_timeout:?}: see its log, and `wdmd --probe`"
    )]
    WdmdWithoutDevice {
        /// Where it listens.
        socket: PathBuf,
        /// What it was asked for.
        fire_timeout: Duration,
    },
    /// wdmd uses its device with another fire timeout.
    #[error(
        "wdmd at {socket:?} has a fire timeout of {theirs:?}, the lockspace one of {ours:?}: the lockspace must be joined with that of wdmd, on all hosts"
    )]
    WdmdFireTimeout {
        /// Where it listens.
        socket: PathBuf,
        /// Its fire timeout.
        theirs: Duration,
        /// The lockspace's.
        ours: Duration,
    },
    /// wdmd would reset this host though all is well: it wants to hear of a renewal longer before
    /// the leases expire than one is sure to come.
    #[error(
        "wdmd at {socket:?} would reset this host though all is well: it looks every {test_interval:?}, and an io timeout of {io_timeout:?} leaves {spare:?} from the next renewal to the loss; use an io timeout of {needed:?} or more"
    )]
    WdmdTooCoarse {
        /// Where it listens.
        socket: PathBuf,
        /// How often it looks, and how long before the expiry it gives up.
        test_interval: Duration,
        /// N.
        io_timeout: Duration,
        /// What is left of 8N when the next renewal is due.
        spare: Duration,
        /// The smallest N that goes with it.
        needed: Duration,
    },
    /// The device cannot be opened.
    #[error("the watchdog device {path:?} cannot be opened: {error}")]
    DeviceUnusable {
        /// The device.
        path: PathBuf,
        /// Why.
        error: OsError,
    },
    /// Somebody else has the device; it can be open once only. That may be a child that this process has
    /// forked while it held locks: its copy of the descriptor keeps the device open until it ends or runs
    /// another program.
    #[error(
        "the watchdog device {path:?} is in use by another program: wdmd, watchdogd, or systemd with RuntimeWatchdogSec; or by a child that this process has forked while it was open; use wdmd, or a device of its own"
    )]
    DeviceBusy {
        /// The device.
        path: PathBuf,
    },
    /// It counts already. Whoever opened and closed it now would stop it.
    #[error(
        "the watchdog device {path:?} (\"{identity}\") counts already: another program uses it (wdmd, watchdogd, systemd with RuntimeWatchdogSec), or the one that used it was killed, and this host is reset soon; use wdmd, or a device of its own"
    )]
    DeviceCounts {
        /// The device.
        path: PathBuf,
        /// What it calls itself.
        identity: String,
    },
    /// It is something else than a watchdog.
    #[error("{path:?} is not a watchdog device: {error}")]
    NotAWatchdog {
        /// What was opened.
        path: PathBuf,
        /// What it says to a watchdog's question.
        error: OsError,
    },
    /// The device lacks what is needed of it.
    #[error("the watchdog device {path:?} (\"{identity}\") cannot be used: {lack}")]
    DeviceLacks {
        /// The device.
        path: PathBuf,
        /// What it calls itself.
        identity: String,
        /// What it lacks.
        lack: DeviceLack,
    },
    /// The device does not take the timeout.
    #[error(
        "the watchdog device {path:?} (\"{identity}\") has a timeout of {got:?} when asked for {asked:?}; from {at_least:?} to {at_most:?} would go with the fire timeout of the lockspace"
    )]
    DeviceTimeout {
        /// The device.
        path: PathBuf,
        /// What it calls itself.
        identity: String,
        /// What it was asked for.
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
        "a fire timeout of {fire_timeout:?} is too short for the watchdog device {path:?}, which would reset a healthy host that is busy: {needed:?} are needed"
    )]
    DeviceTooCoarse {
        /// The device.
        path: PathBuf,
        /// The lockspace's fire timeout.
        fire_timeout: Duration,
        /// The shortest that goes.
        needed: Duration,
    },
    /// The device does not take what is written to it.
    #[error(
        "the watchdog device {path:?} cannot be fed: {error}; this host is reset soon, if that lasts"
    )]
    DeviceNotFed {
        /// The device.
        path: PathBuf,
        /// Why.
        error: OsError,
    },
    /// The thread that feeds the device has died, or cannot be started.
    #[error(
        "the watchdog device {path:?} is not fed any more, for the thread that does it has died: this host is reset soon"
    )]
    FeederDied {
        /// The device.
        path: PathBuf,
    },
    /// The system refuses a thread to feed the device.
    #[error("no thread can be started to feed the watchdog device {path:?}: {error}")]
    NoFeeder {
        /// The device.
        path: PathBuf,
        /// Why.
        error: OsError,
    },
}

/// What a watchdog device lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceLack {
    /// It stops when it is closed, also by the death of who holds it open.
    #[error("it has no magic close, so the death of this process would stop it")]
    MagicClose,
    /// It cannot be stopped once it was opened.
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
