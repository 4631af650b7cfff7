//! Acquiring locks.

use std::path::PathBuf;

use super::directory::DirectoryError;
use super::fault::{LeaseFault, host_in_generation};
use super::lock_error::LockError;
use crate::delta_lease::DeltaSectorError;
use crate::fence::WatchdogError;
use crate::format::{Generation, HostId, LeaseVersion, LockspaceName};
use crate::host::{LossReason, NotReserved};
use crate::libvirt::CreateError;
use crate::lockspace::Lockspace;
use crate::paxos_lease::{self, Holder, VersionChange};
use crate::world::OsError;

/// Why nothing was locked.
pub type AcquireError = LockError<AcquireErrorKind>;

/// What went wrong with an acquire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireErrorKind {
    /// Another host has it.
    #[error("is held by {0}")]
    Held(Holder),
    /// Other hosts have it in shared mode.
    #[error(
        "is held in shared mode by {}: release it there first",
        list_of_hosts(hosts)
    )]
    HeldShared {
        /// Their host ids and generations.
        hosts: Vec<(HostId, Generation)>,
    },
    /// The caller did not want to wait any longer.
    #[error("was not locked: the wait for it was cancelled")]
    Cancelled,
    /// Another guard of this process has it, or is just acquiring it.
    #[error("is held by another guard of this process: release that one first")]
    HeldHere,
    /// An acquire or release of this process failed half-way; what it left on the disk is reconciled in the
    /// background.
    #[error(
        "has a pending cleanup after an I/O error of this host: try again when the storage answers"
    )]
    CleanupPending,
    /// Other hosts wanted it too, all the time.
    #[error("could not be won against other hosts in {rounds} rounds: try again")]
    Contended {
        /// How many.
        rounds: u32,
    },
    /// The owner's own lease cannot be read or is damaged, so it is not known whether the owner lives.
    #[error(
        "is held by host {owner}, and whether that host is alive is not known: {error}; try again when its sector can be read"
    )]
    OwnerUnreadable {
        /// Who has it.
        owner: HostId,
        /// What is wrong with its sector in the lockspace.
        #[source]
        error: DeltaSectorError,
    },
    /// The lease names as its owner, this host or another, a generation that its host id has not reached in
    /// this lockspace. So nothing is known of the owner: it may run, and renew in a lockspace that was
    /// replaced by this one.
    #[error(
        "is owned by host {host_id} in generation {on_lease}, but in the lockspace that host id is only at generation {in_lockspace}: the lockspace was initialised anew; initialise the lease too, when no guest uses it"
    )]
    FromTheFuture {
        /// The owner.
        host_id: HostId,
        /// What the lease says.
        on_lease: Generation,
        /// What the lockspace says.
        in_lockspace: Generation,
    },
    /// Another host with this host's id and name has it.
    #[error(
        "was taken by another host with this host's id {host_id} and name (generation {generation}): give each machine a host id and a name of its own; if every machine has, leave the lockspace and join it again"
    )]
    HeldByTwin {
        /// The id of both.
        host_id: HostId,
        /// The generation of both.
        generation: Generation,
    },
    /// Something is wrong with the lease itself.
    #[error("cannot be locked: its lease {0}")]
    Lease(#[from] LeaseFault),
    /// Another host has had it since the version that is required. To go on with the guest would ruin its disk; the guest can be
    /// started from its disk as it is now.
    #[error(
        "is not at the version that the state of the guest requires: its lease is {0}; the guest must not go on from where it was, only start anew"
    )]
    VersionConflict(VersionChange),
    /// It was offered, but not handed over by that offer: its holder gave it back otherwise, or died.
    /// The guest may have run on after it was copied.
    #[error(
        "was not handed over by this offer{} for version {version}: the guest that was received must not run",
        by.map_or_else(String::new, |by| format!(" of {}", host_in_generation(by)))
    )]
    NotHandedOver {
        /// The version of the offer.
        version: LeaseVersion,
        /// Who made the offer.
        by: Option<(HostId, Generation)>,
    },
    /// What is asked for is not what was suspended or offered.
    #[error(
        "differs: the request must name all locks of the state or the offer, and no others, or no lock at all"
    )]
    OtherLocks,
    /// The state says of it no version, as it was held in shared mode: nothing tells whether another host has
    /// used it since.
    #[error("has no version in the state: it cannot be resumed, only acquired")]
    VersionUnknown,
    /// The lease does not exist and could not be created, or what it needs beside it.
    #[error("cannot be locked: {0}")]
    Create(#[from] CreateError),
    /// This host's own lease is lost; the lockspace must be left and joined anew.
    #[error("{}", lockspace_lost(reason.as_ref()))]
    LockspaceLost {
        /// Why, as far as it is known already.
        reason: Option<LossReason>,
    },
    /// A lease was lost again before all were acquired, though this host's own lease is good.
    #[error("the locks were lost again before all were acquired: {reason}; try again")]
    Lost {
        /// Why.
        reason: LossReason,
    },
    /// The path that was joined does not name the lockspace any more: it was removed or replaced.
    /// Hosts that have joined what is there now do not see this one, nor it them.
    #[error(
        "the lockspace {path:?} was removed or replaced since it was joined: leave it and join again"
    )]
    LockspaceReplaced {
        /// The path.
        path: PathBuf,
    },
    /// The lease directory is not the one of the lockspace any more: it is not mounted, or another one
    /// is mounted in its place.
    #[error(
        "nothing is locked in a lease directory that is not known to be that of the lockspace: {0}"
    )]
    Directory(#[from] DirectoryError),
    /// The lease is of a lockspace that this manager has not joined.
    #[error(
        "the lease is of lockspace \"{asked_for}\", this manager has joined \"{joined}\": use a manager that has joined the lease's lockspace"
    )]
    OtherLockspace {
        /// The lease's lockspace.
        asked_for: LockspaceName,
        /// The manager's.
        joined: LockspaceName,
    },
    /// The manager was made without a lease directory, where the leases of disks are.
    #[error(
        "the lease of {disk:?} is in no lease directory: this manager was made without one; name one when it is made, or ask for the lease by its file"
    )]
    NoLeaseDirectory {
        /// The disk.
        disk: PathBuf,
    },
    /// A path is relative, or holds a zero byte. What it names would depend on who asks.
    #[error(
        "{path:?} is no absolute path: a disk is known by the same absolute path on every host"
    )]
    PathNotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// A path has `//`, `.`, `..` or a slash at its end. The disk would have another lease under each
    /// spelling, and a guest under each.
    #[error(
        "{path:?} is not in normal form: each spelling of a path has a lease of its own, so that two guests could run on one disk. If it is the same disk, name it {normal:?}, for its guest and on every host"
    )]
    PathNotNormal {
        /// The path.
        path: PathBuf,
        /// The same in normal form. Another file where a symbolic link comes before a `..`.
        normal: PathBuf,
    },
    /// The request names something twice.
    #[error("{path:?} is named twice in one request: name it once")]
    NamedTwice {
        /// The path.
        path: PathBuf,
    },
    /// The request names nothing.
    #[error("the request names no disk and no lease")]
    NothingToLock,
    /// The process that is to own the locks is not there, or cannot be watched.
    #[error("process {pid}, which is to own the locks, cannot be watched: {error}; has it ended?")]
    OwnerGone {
        /// Its number.
        pid: u32,
        /// Why.
        error: OsError,
    },
    /// The process that is to own the locks may not be sent signals by this one, which could not stop
    /// it when they are lost.
    #[error(
        "process {pid}, which is to own the locks, cannot be stopped by this one ({error}): run both as the same user, or give this one CAP_KILL"
    )]
    OwnerOutOfReach {
        /// Its number.
        pid: u32,
        /// Why.
        error: OsError,
    },
    /// The program that is to be run when the locks are lost cannot be run.
    #[error("the helper {program:?}, to be run when the locks are lost, cannot be: {error}")]
    Helper {
        /// The program.
        program: PathBuf,
        /// Why: it is not there, it is no program, or its path is not absolute.
        error: OsError,
    },
    /// Another process is to pause or restart its guest by itself when the locks are lost, and
    /// nothing would notify it.
    #[error(
        "another process is not notified of a lost lock: name a helper or a callback that pauses or restarts its guest"
    )]
    NoMeans,
    /// A loss is to be ignored, and the host watchdog of this lockspace would not.
    #[error(
        "a lost lock cannot be ignored where a host watchdog is in force: join without one, or choose what is to be done"
    )]
    IgnoredWithWatchdog,
    /// The host watchdog does not work, and nothing is locked without it.
    #[error("nothing is locked without the host watchdog that was chosen: {0}")]
    Unprotected(#[from] WatchdogError),
    /// The system refuses a thread that is needed to watch the owner.
    #[error(
        "no thread is available to watch the owner of the locks: {error}; raise the limit of processes (RLIMIT_NPROC, pids.max)"
    )]
    Threads {
        /// Why.
        error: OsError,
    },
    /// The system refuses a descriptor for the guard's events.
    #[error(
        "no event descriptor is available: {error}; raise the limit of open files (RLIMIT_NOFILE)"
    )]
    EventFd {
        /// Why.
        error: OsError,
    },
}

fn lockspace_lost(reason: Option<&LossReason>) -> String {
    match reason {
        Some(LossReason::Left) => "the lockspace was left: join again".to_owned(),
        Some(reason) => format!("the lockspace is lost ({reason}): leave it and join again"),
        None => "the lockspace is lost: leave it and join again".to_owned(),
    }
}

fn list_of_hosts(hosts: &[(HostId, Generation)]) -> String {
    let hosts: Vec<_> = hosts.iter().copied().map(host_in_generation).collect();
    hosts.join(", ")
}

impl AcquireError {
    /// Whether somebody else has it: another host, in whatever mode, or another guard of this
    /// process.
    #[must_use]
    pub fn is_held(&self) -> bool {
        use AcquireErrorKind as K;
        matches!(self.kind(), K::Held(_) | K::HeldShared { .. } | K::HeldHere)
    }

    /// Whether another try may well succeed though nobody holds it: also where a directory or a file was
    /// removed by hand while the lease was made or acquired, which the next try makes again.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        use AcquireErrorKind as K;
        use LeaseFault as F;
        match self.kind() {
            K::Contended { .. } | K::CleanupPending => true,
            K::Create(error) => error.is_of_missing_name(),
            K::Lease(fault) => matches!(
                fault,
                F::Replaced
                    | F::BeingCreated { .. }
                    | F::MayBeHeld { .. }
                    | F::SecondLink { .. }
                    | F::PutBack { .. }
                    | F::Taken { .. }
            ),
            _ => false,
        }
    }

    /// What is wrong with the lease, where something is.
    #[must_use]
    pub fn fault(&self) -> Option<&LeaseFault> {
        match self.kind() {
            AcquireErrorKind::Lease(fault) => Some(fault),
            _ => None,
        }
    }

    /// Who holds it, if another host does and it is known.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match self.kind() {
            AcquireErrorKind::Held(holder) => Some(holder),
            _ => None,
        }
    }
}

impl AcquireErrorKind {
    pub(in crate::manager) fn lockspace_lost(lockspace: &Lockspace) -> Self {
        Self::LockspaceLost {
            reason: lockspace.loss(),
        }
    }

    pub(in crate::manager) fn of_reservation(error: NotReserved) -> Self {
        match error {
            NotReserved::InUse => Self::HeldHere,
            NotReserved::CleanupPending => Self::CleanupPending,
            NotReserved::Left => Self::LockspaceLost {
                reason: Some(LossReason::Left),
            },
        }
    }

    pub(in crate::manager) fn of_algorithm(
        error: paxos_lease::AcquireError,
        lockspace: &Lockspace,
    ) -> Self {
        use paxos_lease::AcquireError as E;
        match error {
            E::Lease(error) => Self::Lease(LeaseFault::of_io(error)),
            E::Held(holder) => Self::Held(*holder),
            E::HeldShared { hosts } => Self::HeldShared { hosts },
            E::OwnerUnreadable { owner, error } => Self::OwnerUnreadable { owner, error },
            E::HeldByTwin {
                host_id,
                generation,
            } => Self::HeldByTwin {
                host_id,
                generation,
            },
            E::FromTheFuture {
                host_id,
                on_lease,
                in_lockspace,
            } => Self::FromTheFuture {
                host_id,
                on_lease,
                in_lockspace,
            },
            E::Contended { rounds } => Self::Contended { rounds },
            E::VersionChanged(change) => Self::VersionConflict(*change),
            E::NotHandedOver { version, by } => Self::NotHandedOver { version, by },
            E::NumbersUsedUp => Self::Lease(LeaseFault::NumbersUsedUp),
            E::WriteInFlight => Self::Lease(LeaseFault::WriteInFlight),
            E::LockspaceLost => Self::lockspace_lost(lockspace),
        }
    }
}
