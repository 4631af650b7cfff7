//! Giving locks back, and reading whether they are still held.

use super::fault::LeaseFault;
use super::lock_error::LockError;
use crate::format::{LeaseVersion, ResourceName};
use crate::lockspace::LossReason;
use crate::paxos_lease;

/// Why a lock was not given back on the disk. In this process it is given up all the same.
pub type ReleaseError = LockError<ReleaseErrorKind>;

/// Why a lock could not be confirmed.
pub type VerifyError = LockError<VerifyErrorKind>;

/// What went wrong with a release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseErrorKind {
    /// The storage failed. Tried again in the background for as long as the lockspace is joined;
    /// until then the lease looks held to everybody.
    #[error(
        "was not given back: its lease {0}; it has a pending cleanup, which is tried again in the background"
    )]
    Lease(#[from] LeaseFault),
    /// The lock was not this host's any more. Either another host took the lease, and nothing was written; or the
    /// lease shows an older record of this host's own, and is marked as released.
    #[error(
        "is not this host's any more: its lease is at version {version}, last written by host {writer}; if the guest still runs, stop it"
    )]
    NotOurs {
        /// The version found.
        version: LeaseVersion,
        /// Which host wrote it last.
        writer: u64,
    },
    /// What this host wrote to the lease is not there any more. Nothing was written: what is there now
    /// may be in use.
    #[error(
        "was not given back: its lease was initialised anew or restored to an older state while this host held it, and is at version {version}; nothing was written to it; if the guest still runs, stop it"
    )]
    NotThere {
        /// The version found.
        version: LeaseVersion,
    },
    /// The lockspace was lost before. Nothing was written: other hosts go by this host's own lease
    /// now.
    #[error("was not given back: the lockspace is lost; if the guest still runs, stop it")]
    LockspaceLost,
}

impl ReleaseErrorKind {
    pub(in crate::manager) fn of_algorithm(error: paxos_lease::GiveBackError) -> Self {
        use paxos_lease::GiveBackError as E;
        match error {
            E::Lease(error) => Self::Lease(LeaseFault::of_io(error)),
            E::NotOurs { version, writer } => Self::NotOurs { version, writer },
            E::NotThere { version } => Self::NotThere { version },
            E::WriteInFlight => Self::Lease(LeaseFault::WriteInFlight),
            E::LockspaceLost => Self::LockspaceLost,
        }
    }
}

/// What went wrong with the check whether a lock is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// The storage does not tell. The lock may still be held.
    #[error("may still be held, but its lease {0}")]
    Unconfirmed(#[source] LeaseFault),
    /// The lease is not what this host wrote any more: another host took it, or it was cut off, overwritten,
    /// initialised anew, restored to an older state, removed or replaced. The guard is lost.
    #[error("is not held any more, and its guest must stop: its lease {0}")]
    NotHeld(#[source] LeaseFault),
    /// The guard was lost before.
    #[error("the locks are lost: {0}")]
    Lost(LossReason),
}

impl VerifyErrorKind {
    pub(in crate::manager) fn of_algorithm(error: paxos_lease::VerifyError) -> Self {
        use paxos_lease::VerifyError as E;
        match error {
            E::Lease(error) => Self::Unconfirmed(LeaseFault::of_io(error)),
            E::NotThere(error) => Self::NotHeld(LeaseFault::of_io(error)),
            E::PutBack { version } => Self::NotHeld(LeaseFault::PutBack { version }),
            E::NotOurs { version, owner } => Self::NotHeld(LeaseFault::Taken { version, owner }),
        }
    }
}

impl VerifyError {
    /// What is wrong with the lease, where something is.
    #[must_use]
    pub fn fault(&self) -> Option<&LeaseFault> {
        match self.kind() {
            VerifyErrorKind::Unconfirmed(fault) | VerifyErrorKind::NotHeld(fault) => Some(fault),
            VerifyErrorKind::Lost(_) => None,
        }
    }

    /// What this means for the guard of the lease of `resource`, if it is certain.
    pub(in crate::manager) fn loss(&self, resource: ResourceName) -> Option<LossReason> {
        match *self.kind() {
            VerifyErrorKind::Unconfirmed(_) | VerifyErrorKind::Lost(_) => None,
            VerifyErrorKind::NotHeld(LeaseFault::Taken { version, owner }) => {
                Some(LossReason::LeaseTaken {
                    resource,
                    version,
                    owner,
                })
            }
            VerifyErrorKind::NotHeld(LeaseFault::Replaced) => Some(LossReason::LeaseReplaced),
            VerifyErrorKind::NotHeld(_) => Some(LossReason::LeaseOverwritten),
        }
    }
}
