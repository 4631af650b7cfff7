//! Why leases are lost.

use std::fmt;

use crate::delta_lease::RenewError;
use crate::world::OsError;

/// Why all leases of a join were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossReason {
    /// No renewal was good for 8N: the storage failed, or this process or host stood still.
    NotRenewed,
    /// Our sector in the lockspace is not ours any more.
    Overwritten(Box<RenewError>),
    /// A thread of ours has died, the one that renews or the one that watches the files. This is a
    /// bug in this library.
    ThreadDied,
    /// The disk names another owner of the lease, though this host's own lease is good.
    LeaseTaken,
    /// The lease on its disk is not what this host wrote any more: it was initialised anew, put back to
    /// an older state, cut off or overwritten.
    LeaseOverwritten,
    /// The path of the lease names another file or none: other hosts do not see this lease.
    LeaseReplaced,
    /// The path of the lockspace names another file or none: other hosts do not see this host.
    LockspaceReplaced,
    /// The lockspace was left.
    Left,
    /// The process that held the lock has ended, and the lock was given back.
    OwnerEnded,
    /// The kernel does not take a new time for the deadman timer, which would kill a healthy process
    /// so: it does soon, unless the lockspace is left by a process that may set it again.
    DeadmanUnset(OsError),
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRenewed => f.write_str("the host's lease was not renewed in time"),
            Self::Overwritten(error) => error.fmt(f),
            Self::ThreadDied => f.write_str("a thread of the lockspace has died"),
            Self::LeaseTaken => f.write_str("the lease was found to be another's"),
            Self::LeaseOverwritten => f.write_str(
                "the lease on its disk was initialised anew, put back to an older state or overwritten",
            ),
            Self::LeaseReplaced => f.write_str("the lease file was removed or replaced"),
            Self::LockspaceReplaced => f.write_str("the lockspace's file was removed or replaced"),
            Self::Left => f.write_str("the lockspace was left"),
            Self::OwnerEnded => f.write_str("the process that held the lock has ended"),
            Self::DeadmanUnset(error) => write!(
                f,
                "the deadman timer of this process cannot be moved on, and kills it soon: {error}"
            ),
        }
    }
}
