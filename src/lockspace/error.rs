//! Joining and leaving a lockspace.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::loss::LossReason;
use crate::delta_lease::{ClaimError, DeltaReleaseError, DeltaSectorError, PutBack};
use crate::disk::OpenError;
use crate::fence::WatchdogError;
use crate::format::{FormatError, Generation, Geometry, HostId, LockspaceId, NameBytes, NameError};
use crate::libvirt::MISSING_HINT;
use crate::timing::TimingError;
use crate::world::{OsError, ReadError, WriteError};

/// Why a lockspace was not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// A configured time is out of its limits.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The default host name could not be made; give one.
    #[error("this machine's name makes no host name: {0}; configure one")]
    HostName(NameError),
    /// Which boot of this machine it is cannot be told.
    #[error("the boot id of this machine cannot be read: {0}")]
    BootId(io::Error),
    /// The kernel gives no timer that would kill this process should it stand still with a lock.
    #[error(
        "the deadman timer cannot be made: {0}; raise the limit of pending signals (RLIMIT_SIGPENDING), or switch it off by name"
    )]
    Deadman(OsError),
    /// This is process 1 of its PID namespace, which the kernel lets no timer of its own kill.
    #[error(
        "this is process 1 of its container, which no deadman timer can kill: start it below an init (docker run --init), or switch the deadman timer off by name"
    )]
    DeadmanOfInit,
    /// There is no file or device of that name.
    #[error("there is no lockspace {path:?}: {MISSING_HINT}")]
    Missing {
        /// The file or device.
        path: PathBuf,
    },
    /// The file or device could not be opened.
    #[error("the lockspace cannot be opened: {0}")]
    Open(OpenError),
    /// This process has joined the lockspace already.
    #[error(
        "this process has joined the lockspace {path:?} already, as host {as_host}: use that join, or leave it first"
    )]
    AlreadyJoined {
        /// The file or device.
        path: PathBuf,
        /// The host id of the join that there is.
        as_host: HostId,
    },
    /// I/O of an earlier join of this process has not ended. A new life could be overwritten by it.
    #[error("I/O of an earlier join of {path:?} has not ended: wait until the storage answers")]
    IoInFlight {
        /// The file or device.
        path: PathBuf,
    },
    /// The file or device ends before the lockspace does.
    #[error(
        "{path:?} is too short for a lockspace: {needed} bytes are needed from byte {offset} on, {available} are there"
    )]
    TooShort {
        /// The file or device.
        path: PathBuf,
        /// Where the lockspace should begin.
        offset: u64,
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        available: u64,
    },
    /// The storage does not give the lockspace.
    #[error("the lockspace at byte {offset} of {path:?} cannot be read: {error}")]
    Unreadable {
        /// The file or device.
        path: PathBuf,
        /// Where the read began.
        offset: u64,
        /// Why.
        error: ReadError,
    },
    /// There are zeros where it should begin: nobody has initialised it, or not to the end; or its
    /// beginning was wiped, and to initialise it anew would take the host ids of those that use it.
    #[error(
        "{path:?} holds no lockspace at byte {offset}, where there are zeros: initialise it, if no host uses it"
    )]
    NotInitialised {
        /// The file or device.
        path: PathBuf,
        /// Where it should be.
        offset: u64,
    },
    /// There is something else than a lockspace.
    #[error("{path:?} holds no lockspace at byte {offset}: {error}")]
    NotALockspace {
        /// The file or device.
        path: PathBuf,
        /// Where it should be.
        offset: u64,
        /// What is there.
        error: FormatError,
    },
    /// It is a lockspace, but damaged.
    #[error("the lockspace in {path:?} is damaged at byte {offset}: {error}")]
    Damaged {
        /// The file or device.
        path: PathBuf,
        /// Where the damaged sector begins.
        offset: u64,
        /// What is wrong.
        error: FormatError,
    },
    /// It is a lockspace of another name.
    #[error("{path:?} holds the lockspace \"{found}\", not \"{expected}\"")]
    Foreign {
        /// The file or device.
        path: PathBuf,
        /// The name that was expected.
        expected: NameBytes,
        /// The name that is there.
        found: NameBytes,
    },
    /// It is a lockspace of another id than the one that was asked for, or of none.
    #[error(
        "{path:?} is {}, not the lockspace {expected}: is the right share mounted? `disklease status` shows the id of a lockspace",
        LockspaceId::said(*found)
    )]
    OtherLockspace {
        /// The file or device.
        path: PathBuf,
        /// The id that was asked for.
        expected: LockspaceId,
        /// The id that is there, if there is a good one.
        found: Option<LockspaceId>,
    },
    /// The offset is in the middle of a sector.
    #[error(
        "no lockspace can begin at byte {offset} of {path:?}: it must be a multiple of {needed} bytes"
    )]
    Misaligned {
        /// The file or device.
        path: PathBuf,
        /// Where the lockspace should begin.
        offset: u64,
        /// What the offset must be a multiple of, in bytes.
        needed: u32,
    },
    /// The device takes only I/O of larger sectors than those of the lockspace.
    #[error(
        "{path:?} takes I/O of {needed} bytes only, but its lockspace has {geometry}: initialise it with larger sectors"
    )]
    SectorsTooSmall {
        /// The file or device.
        path: PathBuf,
        /// What the lockspace has.
        geometry: Geometry,
        /// What the device needs, in bytes.
        needed: u32,
    },
    /// The lockspace has no sector for this host id.
    #[error("host id {host_id} is too large: the lockspace has {geometry}")]
    HostIdTooLarge {
        /// The id.
        host_id: HostId,
        /// What the lockspace has.
        geometry: Geometry,
    },
    /// A live host of the lockspace goes by another fire timeout: it would take leases over at
    /// another time than this host expects. Or it would count as dead by now, but its sector was
    /// damaged meanwhile.
    #[error(
        "host {other} of {path:?} has a fire timeout of {theirs:?}, this host one of {ours:?}: all hosts of a lockspace must have the same"
    )]
    FireTimeoutDiffers {
        /// The file or device.
        path: PathBuf,
        /// The other host.
        other: HostId,
        /// Its fire timeout.
        theirs: Duration,
        /// This host's.
        ours: Duration,
    },
    /// The host id was won, and lost again before the join was done.
    #[error("host id {host_id} of {path:?} was lost while it was being joined: {reason}")]
    Lost {
        /// The file or device.
        path: PathBuf,
        /// The id.
        host_id: HostId,
        /// Why.
        reason: LossReason,
    },
    /// Another host owns the host id.
    #[error(
        "host id {host_id} of {path:?} is in use by host \"{owner}\" (generation {generation}): give each process that joins an id of its own"
    )]
    HostIdInUse {
        /// The file or device.
        path: PathBuf,
        /// The id.
        host_id: HostId,
        /// Who owns it.
        owner: NameBytes,
        /// Which life of it.
        generation: Generation,
    },
    /// After the host id was claimed its sector was cleared or put back.
    #[error("{path:?}: {found}; try again when nobody does that any more")]
    PutBack {
        /// The file or device.
        path: PathBuf,
        /// What the sector shows.
        found: PutBack,
    },
    /// Another process of this machine has joined with this host id, or what one of them has started
    /// lives on.
    #[error(
        "host id {host_id} of {path:?} is in use on this machine{}, which holds {lock:?}, or by what it has started: end that, or give each process that joins an id of its own",
        pid.map_or_else(|| " by another process".to_owned(), |pid| format!(" by process {pid}"))
    )]
    HostIdInUseHere {
        /// The file or device.
        path: PathBuf,
        /// The id.
        host_id: HostId,
        /// The file of the process lock.
        lock: PathBuf,
        /// Which process took the lock, in its own count, if that is known.
        pid: Option<u32>,
    },
    /// Another host that was given the same host id and the same name claims or renews it.
    #[error(
        "host id {host_id} of {path:?} is being claimed or renewed by another host with the same name \"{owner}\" (generation {generation}): give each machine a host id and a host name of its own"
    )]
    HostIdOfTwin {
        /// The file or device.
        path: PathBuf,
        /// The id.
        host_id: HostId,
        /// The name that both have.
        owner: NameBytes,
        /// Its generation.
        generation: Generation,
    },
    /// The host id could not be written.
    #[error("host id {host_id} of {path:?} cannot be claimed at byte {offset}: {error}")]
    Unwritable {
        /// The file or device.
        path: PathBuf,
        /// The id.
        host_id: HostId,
        /// Where its sector begins.
        offset: u64,
        /// Why.
        error: WriteError,
    },
    /// The storage is too slow for the io timeout that stands in the sector.
    #[error(
        "the storage of {path:?} is too slow to claim host id {host_id}: it took {took:?} where {limit:?} are allowed; try again, or use a longer io timeout"
    )]
    TooSlow {
        /// The file or device.
        path: PathBuf,
        /// The id.
        host_id: HostId,
        /// How long reading and writing its sector took.
        took: Duration,
        /// How long it may take.
        limit: Duration,
    },
    /// The generation of the host id cannot be raised any more.
    #[error("the generation of host id {host_id} of {path:?} is used up: use another id")]
    GenerationsUsedUp {
        /// The file or device.
        path: PathBuf,
        /// The id.
        host_id: HostId,
    },
    /// There is no such watchdog here, or it does not go with these times.
    #[error(transparent)]
    Watchdog(#[from] WatchdogError),
    /// The kernel gives no random numbers, by which this join is told from all others.
    #[error("the kernel gives no random numbers: {0}")]
    Random(OsError),
    /// The system refuses a thread.
    #[error("no thread can be started: {error}")]
    Threads {
        /// Why.
        error: io::Error,
    },
}

impl JoinError {
    pub(super) fn of_open(error: OpenError) -> Self {
        match error {
            OpenError::NotFound { path } => Self::Missing { path },
            error => Self::Open(error),
        }
    }

    pub(crate) fn of_sector(error: DeltaSectorError, path: &Path) -> Self {
        let path = path.to_owned();
        match error {
            DeltaSectorError::Read { offset, error, .. } => Self::Unreadable {
                path,
                offset,
                error,
            },
            DeltaSectorError::Format {
                error:
                    FormatError::LockspaceName {
                        expected, found, ..
                    },
                ..
            } => Self::Foreign {
                path,
                expected,
                found,
            },
            DeltaSectorError::Format { offset, error, .. } => Self::Damaged {
                path,
                offset,
                error,
            },
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is the end of that error")]
    pub(crate) fn of_claim(error: ClaimError, path: &Path) -> Self {
        let owned = path.to_owned();
        match error {
            ClaimError::Sector(error) => Self::of_sector(error, path),
            ClaimError::InUse {
                host_id,
                owner,
                generation,
            } => Self::HostIdInUse {
                path: owned,
                host_id,
                owner,
                generation,
            },
            ClaimError::PutBack(found) => Self::PutBack { path: owned, found },
            ClaimError::Twin {
                host_id,
                owner,
                generation,
            } => Self::HostIdOfTwin {
                path: owned,
                host_id,
                owner,
                generation,
            },
            ClaimError::Write {
                host_id,
                offset,
                error,
            } => Self::Unwritable {
                path: owned,
                host_id,
                offset,
                error,
            },
            ClaimError::TooSlow {
                host_id,
                took,
                limit,
            } => Self::TooSlow {
                path: owned,
                host_id,
                took,
                limit,
            },
            ClaimError::GenerationsUsedUp { host_id } => Self::GenerationsUsedUp {
                path: owned,
                host_id,
            },
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
    #[error("the lockspace was left, but {0}; others wait until it has been silent for 8N + F")]
    NotFreed(DeltaReleaseError),
    /// I/O of ours has not ended, so the host id was not freed: others wait for it as for a dead
    /// host's, and this process cannot join the lockspace again before the I/O has ended.
    #[error(
        "the lockspace was left, but I/O of this host has not ended and may still reach the disk; others wait until it has been silent for 8N + F"
    )]
    IoInFlight,
    /// The renewal thread had died, and the host id with it; or it hangs.
    #[error(
        "the lockspace was left, but its renewal thread had died or does not end: others wait until the host id has been silent for 8N + F"
    )]
    RenewalThreadDied,
}
