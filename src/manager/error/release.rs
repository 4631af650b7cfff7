//! Giving locks back, and looking whether they are still held.

use std::path::{Path, PathBuf};

use super::super::guard::Locked;
use super::LeaseFault;
use crate::format::{Generation, HostId, LeaseVersion};
use crate::lockspace::LossReason;
use crate::paxos_lease;

/// Why a lock was not given back on the disk. In this process it is given up all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The storage failed. Tried again in the background for as long as the lockspace is joined;
    /// until then the lease looks held to everybody.
    #[error(
        "{locked}: the lease in {path:?} {fault}; its release is tried again in the background"
    )]
    Lease {
        /// What was locked.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// What went wrong.
        fault: LeaseFault,
    },
    /// It was not ours any more: somebody took it. Nothing was written.
    #[error(
        "{locked} was not ours any more: its lease in {path:?} is at version {version}, last written by host {writer}"
    )]
    NotOurs {
        /// What was locked.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// The version found.
        version: LeaseVersion,
        /// Which host wrote it last.
        writer: u64,
    },
    /// What this host wrote to the lease is not there any more. Nothing was written: what is there now
    /// may be in use.
    #[error(
        "{locked} was not given back: the lease in {path:?} {fault}; nothing was written to it"
    )]
    NotThere {
        /// What was locked.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// What is there.
        fault: LeaseFault,
    },
    /// The lockspace was lost before. Nothing was written: other hosts go by this host's own lease
    /// now.
    #[error("{locked} was not given back: the lockspace was lost before")]
    LockspaceLost {
        /// What was locked.
        locked: Locked,
    },
}

impl ReleaseError {
    pub(crate) fn of_algorithm(
        error: paxos_lease::GiveBackError,
        locked: &Locked,
        path: &Path,
    ) -> Self {
        use paxos_lease::GiveBackError as E;
        let (locked, path) = (locked.clone(), path.to_owned());
        match error {
            E::Lease(error) => Self::Lease {
                locked,
                path,
                fault: LeaseFault::of_io(error),
            },
            E::NotOurs { version, writer } => Self::NotOurs {
                locked,
                path,
                version,
                writer,
            },
            E::NotThere { version } => Self::NotThere {
                locked,
                path,
                fault: LeaseFault::PutBack { version },
            },
            E::WriteInFlight => Self::Lease {
                locked,
                path,
                fault: LeaseFault::WriteInFlight,
            },
            E::LockspaceLost => Self::LockspaceLost { locked },
        }
    }
}

/// Why a lock could not be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The storage does not tell. The lock may still be held.
    #[error("{locked}: the lease in {path:?} {fault}")]
    Lease {
        /// What was locked.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// What went wrong.
        fault: LeaseFault,
    },
    /// The lease is not what this host wrote any more: it was cut off, overwritten, initialised anew or
    /// put back to an older state. The guard is lost.
    #[error("{locked} is not held any more: the lease in {path:?} {fault}")]
    NotThere {
        /// What was locked.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// What is there.
        fault: LeaseFault,
    },
    /// The disk names another owner or another version. The guard is lost.
    #[error("{locked} is not ours any more: its lease in {path:?} is at version {version}, owned by {}", owner.map_or_else(|| "nobody".to_owned(), |(host, generation)| format!("host {host} (generation {generation})")))]
    NotOurs {
        /// What was locked.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// The version found.
        version: LeaseVersion,
        /// The owner found; `None` when the lease is free.
        owner: Option<(HostId, Generation)>,
    },
    /// The lease file was removed, or another one put in its place: other hosts do not see this
    /// lease. The guard is lost.
    #[error("{locked} is not ours any more: its lease file {path:?} was removed or replaced")]
    Replaced {
        /// What was locked.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
    },
    /// The guard was lost before.
    #[error("the locks are lost: {reason}")]
    Lost {
        /// Why.
        reason: LossReason,
    },
}

impl VerifyError {
    /// What this means for the guard, if it is certain.
    pub(crate) const fn loss(&self) -> Option<LossReason> {
        match self {
            Self::Lease { .. } | Self::Lost { .. } => None,
            Self::NotThere { .. } => Some(LossReason::LeaseOverwritten),
            Self::NotOurs { .. } => Some(LossReason::LeaseTaken),
            Self::Replaced { .. } => Some(LossReason::LeaseReplaced),
        }
    }

    pub(crate) fn of_algorithm(
        error: paxos_lease::VerifyError,
        locked: &Locked,
        path: &Path,
    ) -> Self {
        use paxos_lease::VerifyError as E;
        let (locked, path) = (locked.clone(), path.to_owned());
        match error {
            E::Lease(error) => Self::Lease {
                locked,
                path,
                fault: LeaseFault::of_io(error),
            },
            E::NotThere(error) => Self::NotThere {
                locked,
                path,
                fault: LeaseFault::of_io(error),
            },
            E::PutBack { version } => Self::NotThere {
                locked,
                path,
                fault: LeaseFault::PutBack { version },
            },
            E::NotOurs { version, owner } => Self::NotOurs {
                locked,
                path,
                version,
                owner,
            },
        }
    }
}
