//! Why leases are lost.

use crate::delta_lease::HostIdLoss;
use crate::format::{Generation, HostId, LeaseVersion, ResourceName};
use crate::world::OsError;

/// Why all leases of a member host were lost, or those of one guard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// No renewal was good for 8N: the storage failed, or this process or host stood still.
    #[error(
        "the host's lease was not renewed in time: the storage of the lockspace failed, or this process or host stood still; the log says which renewals failed"
    )]
    NotRenewed,
    /// This host's sector in the lockspace is not this host's any more.
    #[error(transparent)]
    HostIdLost(Box<HostIdLoss>),
    /// A thread of this library has died, the one that renews or one that watches the files. This is a
    /// bug in this library.
    #[error("a thread of the lockspace has died: report this as a bug of disklease")]
    ThreadDied,
    /// The disk names another owner of the lease, though this host's own lease is good.
    #[error("lease \"{resource}\" was taken: it is at version {version}, owned by {}", owned_by(*owner))]
    LeaseTaken {
        /// What the lease protects.
        resource: ResourceName,
        /// The version found.
        version: LeaseVersion,
        /// The owner found; `None` when the lease is free.
        owner: Option<(HostId, Generation)>,
    },
    /// The lease on its disk is not what this host wrote any more: it was initialised anew, restored to
    /// an older state, cut off or overwritten.
    #[error(
        "the lease on its disk was initialised anew, restored to an older state, cut short or overwritten (the log names it): find out who wrote to it"
    )]
    LeaseOverwritten,
    /// The path of the lease names another file or none: other hosts do not see this lease.
    #[error(
        "the lease file was removed or replaced (the log names it): find out who changed the lease directory"
    )]
    LeaseReplaced,
    /// The path of the lockspace names another file or none: other hosts do not see this host.
    #[error(
        "the lockspace's file was removed or replaced: find out who changed the lease directory"
    )]
    LockspaceReplaced,
    /// The lockspace was left.
    #[error("the lockspace was left")]
    Left,
    /// The process that held the lock has ended, and the lock was given back.
    #[error("the process that held the lock has ended")]
    OwnerEnded,
    /// The kernel does not take a new time for the deadman timer, which would kill a healthy process
    /// so: it does so soon, unless a process that may set the timer again leaves the lockspace.
    #[error("the deadman timer of this process cannot be moved on, and kills it soon: {0}")]
    DeadmanUnset(#[source] OsError),
}

fn owned_by(owner: Option<(HostId, Generation)>) -> String {
    owner.map_or_else(
        || "nobody".to_owned(),
        |(host, generation)| format!("host {host} (generation {generation})"),
    )
}
