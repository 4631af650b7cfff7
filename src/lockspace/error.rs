//! Why a lockspace was not joined, or not left.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use crate::delta_lease::{ClaimError, DeltaReleaseError, DeltaSectorError, DeltaSectorErrorKind};
use crate::fence::WatchdogError;
use crate::format::{
    FormatError, FormatErrorKind, Geometry, HostId, LockspaceId, NameBytes, NameError,
};
use crate::host::LossReason;
use crate::libvirt::MISSING_HINT;
use crate::runtime::disk::{OpenError, OpenErrorKind};
use crate::timing::TimingError;
use crate::world::{OsError, ReadError};

/// A lockspace that was not joined, and why.
#[derive(Debug)]
pub struct JoinError {
    path: PathBuf,
    host_id: HostId,
    kind: JoinErrorKind,
}

impl JoinError {
    pub(super) fn new(path: &Path, host_id: HostId, kind: JoinErrorKind) -> Self {
        let path = path.to_owned();
        Self {
            path,
            host_id,
            kind,
        }
    }

    /// The file or device of the lockspace.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The host id that was asked for.
    #[must_use]
    pub const fn host_id(&self) -> HostId {
        self.host_id
    }

    /// Why.
    #[must_use]
    pub const fn kind(&self) -> &JoinErrorKind {
        &self.kind
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            host_id,
            kind,
        } = self;
        write!(
            f,
            "{path:?} cannot be joined with host id {host_id}: {kind}"
        )
    }
}

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

/// Why a lockspace was not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinErrorKind {
    /// A configured time is out of its limits.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The default host name could not be made; give one.
    #[error("this machine's name makes no host name: {0}; configure one")]
    HostName(#[source] NameError),
    /// Which boot of this machine it is is not known.
    #[error("the boot id of this machine cannot be read: {0}")]
    BootId(#[source] io::Error),
    /// The kernel gives no timer that would kill this process should it stand still with a lock.
    #[error(
        "the deadman timer cannot be made: {0}; raise the limit of pending signals (RLIMIT_SIGPENDING), or, in a program of your own, join with `LockspaceOptions::without_deadman`"
    )]
    Deadman(#[source] OsError),
    /// This is process 1 of its PID namespace, which the kernel lets no timer of its own kill.
    #[error(
        "this is process 1 of its container, which no deadman timer can kill: start it below an init (docker run --init), or, in a program of your own, join with `LockspaceOptions::without_deadman`"
    )]
    DeadmanOfInit,
    /// There is no file or device of that name.
    #[error("it does not exist: {MISSING_HINT}")]
    Missing,
    /// The file or device could not be opened.
    #[error("it cannot be opened: {0}")]
    Open(#[source] OpenError),
    /// This process has joined the lockspace already.
    #[error(
        "this process has joined it already, as host {as_host}: use that `Lockspace`, or leave it first"
    )]
    AlreadyJoined {
        /// The host id under which this process has joined.
        as_host: HostId,
    },
    /// I/O of an earlier generation of this process has not completed, and could be written over a new one.
    #[error(
        "I/O of an earlier generation of this process has not completed: wait until the storage answers"
    )]
    IoInFlight,
    /// The file or device ends before the lockspace does.
    #[error(
        "it is too short for a lockspace: {needed} bytes are needed from byte {offset} on, {available} are there; was it cut short, or is it another file?"
    )]
    TooShort {
        /// Where the lockspace should start.
        offset: u64,
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        available: u64,
    },
    /// The storage does not give the lockspace.
    #[error("byte {offset} cannot be read: {error}; try again when the storage answers")]
    Unreadable {
        /// Where the read started.
        offset: u64,
        /// Why.
        #[source]
        error: ReadError,
    },
    /// There are zeros where it should start: nobody has initialised it, or not to the end; or its
    /// start was wiped, and to initialise it anew would take the host ids of those that use it.
    #[error(
        "there is no lockspace at byte {offset}, but zeros: initialise it (`disklease init` for a lease directory), if no host uses it"
    )]
    NotInitialised {
        /// Where it should be.
        offset: u64,
    },
    /// There is something else than a lockspace.
    #[error(
        "there is no lockspace at byte {offset}: {error}; `disklease dump` shows what is there"
    )]
    NotALockspace {
        /// Where it should be.
        offset: u64,
        /// What is there.
        #[source]
        error: FormatError,
    },
    /// It is a lockspace, but damaged.
    #[error(
        "the lockspace is damaged at byte {offset}: {error}; initialise it anew when no host uses it"
    )]
    Damaged {
        /// Where the damaged sector starts.
        offset: u64,
        /// What is wrong.
        #[source]
        error: FormatError,
    },
    /// It is a lockspace of another name.
    #[error("there is the lockspace \"{found}\", not \"{expected}\"")]
    Foreign {
        /// The name that was expected.
        expected: NameBytes,
        /// The name that is there.
        found: NameBytes,
    },
    /// It is a lockspace of another id than the one that was asked for, or of none.
    #[error(
        "it is {}, not the lockspace {expected}: is the right share mounted? `disklease status` shows the id of a lockspace",
        LockspaceId::said(*found)
    )]
    OtherLockspace {
        /// The id that was asked for.
        expected: LockspaceId,
        /// The id that is there, if there is a good one.
        found: Option<LockspaceId>,
    },
    /// The offset is in the middle of a sector.
    #[error("no lockspace can start at byte {offset}: it must be a multiple of {needed} bytes")]
    Misaligned {
        /// Where the lockspace should start.
        offset: u64,
        /// What the offset must be a multiple of, in bytes.
        needed: u32,
    },
    /// The device takes only I/O of larger sectors than those of the lockspace.
    #[error(
        "it takes I/O of {needed} bytes only, but its lockspace has {geometry}: initialise it with larger sectors"
    )]
    SectorsTooSmall {
        /// What the lockspace has.
        geometry: Geometry,
        /// What the device needs, in bytes.
        needed: u32,
    },
    /// The lockspace has no sector for this host id.
    #[error("the host id is too large: the lockspace has {geometry}; join with host id 1 to {}",
        geometry.max_hosts())]
    HostIdTooLarge {
        /// What the lockspace has.
        geometry: Geometry,
    },
    /// A live host of the lockspace goes by another fire timeout: it would take leases over at
    /// another time than this host expects. Or it would count as dead by now, but its sector was
    /// damaged meanwhile.
    #[error(
        "host {other} has a fire timeout of {} s, this host one of {} s: all hosts of a lockspace must have the same; join with that of the other hosts (`disklease run --fire-timeout`)",
        theirs.as_secs(),
        ours.as_secs()
    )]
    FireTimeoutDiffers {
        /// The other host.
        other: HostId,
        /// Its fire timeout.
        theirs: Duration,
        /// This host's.
        ours: Duration,
    },
    /// The host id was won, and lost again before the join was done.
    #[error("the host id was lost again before the join was done: {0}; try again")]
    Lost(#[source] LossReason),
    /// The host id is another's, or could not be written.
    #[error(transparent)]
    Claim(ClaimError),
    /// Another process of this machine has joined with this host id, or what one of them has started
    /// still runs.
    #[error(
        "the host id is in use on this machine{}, which holds {lock:?}, or by what it has started: end that, or give each process that joins an id of its own",
        pid.map_or_else(|| " by another process".to_owned(), |pid| format!(" by process {pid}"))
    )]
    HostIdInUseHere {
        /// The file of the process lock.
        lock: PathBuf,
        /// Which process took the lock, in its own count, if that is known.
        pid: Option<u32>,
    },
    /// There is no such watchdog here, or it does not go with these times.
    #[error(transparent)]
    Watchdog(#[from] WatchdogError),
    /// The kernel gives no random numbers, which distinguish this join from all others.
    #[error("the kernel gives no random numbers: {0}")]
    Random(#[source] OsError),
    /// The system refuses a thread.
    #[error("no thread can be started: {0}; raise the limit of processes (RLIMIT_NPROC, pids.max)")]
    Threads(#[source] io::Error),
}

impl From<OpenError> for JoinErrorKind {
    fn from(error: OpenError) -> Self {
        match error.kind() {
            OpenErrorKind::NotFound => Self::Missing,
            _ => Self::Open(error),
        }
    }
}

impl From<DeltaSectorError> for JoinErrorKind {
    fn from(sector: DeltaSectorError) -> Self {
        let offset = sector.offset;
        match *sector.kind() {
            DeltaSectorErrorKind::Read(error) => Self::Unreadable { offset, error },
            DeltaSectorErrorKind::Format(error) => match *error.kind() {
                FormatErrorKind::LockspaceName { expected, found } => {
                    Self::Foreign { expected, found }
                }
                _ => Self::Damaged { offset, error },
            },
            DeltaSectorErrorKind::Write(_) => Self::Claim(sector.into()),
        }
    }
}

impl From<ClaimError> for JoinErrorKind {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Sector(sector) => sector.into(),
            error => Self::Claim(error),
        }
    }
}

/// Why a lockspace was not left, or not cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// Guards hold leases through it. Nothing was done.
    #[error("{leases} leases are held through the lockspace: release them first")]
    InUse {
        /// How many.
        leases: usize,
    },
    /// The host id was not freed: others wait for it as for a dead host's.
    #[error("{}", left_owned(path, *host_id, *free_after, error))]
    NotFreed {
        /// The file or device of the lockspace.
        path: PathBuf,
        /// The host id.
        host_id: HostId,
        /// How long the next join under this host id waits at most.
        free_after: Duration,
        /// Why.
        #[source]
        error: DeltaReleaseError,
    },
    /// I/O of ours has not completed, so the host id was not freed: others wait for it as for a dead
    /// host's, and this process cannot join the lockspace again before the I/O has completed.
    #[error("{}", left_owned(path, *host_id, *free_after, &IO_IN_FLIGHT))]
    IoInFlight {
        /// The file or device of the lockspace.
        path: PathBuf,
        /// The host id.
        host_id: HostId,
        /// How long the next join under this host id waits at most.
        free_after: Duration,
    },
    /// The renewal thread had died, and the host id with it; or it hangs.
    #[error("{}", left_owned(path, *host_id, *free_after, &RENEWAL_THREAD_DIED))]
    RenewalThreadDied {
        /// The file or device of the lockspace.
        path: PathBuf,
        /// The host id.
        host_id: HostId,
        /// How long the next join under this host id waits at most.
        free_after: Duration,
    },
}

const IO_IN_FLIGHT: &str =
    "its I/O has not completed and may still reach the disk, so the host id was not freed";
const RENEWAL_THREAD_DIED: &str =
    "the thread that renews has died or does not end, so the host id was not freed";

/// The text for a host id that was left owned on the disk.
fn left_owned(
    path: &Path,
    host_id: HostId,
    free_after: Duration,
    why: &dyn fmt::Display,
) -> String {
    format!(
        "the lockspace {path:?} was left as host {host_id}, but {why}; the next join under host id {host_id} waits, up to {} s",
        free_after
            .as_secs()
            .saturating_add(u64::from(free_after.subsec_nanos() != 0))
    )
}
