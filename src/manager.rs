//! What an embedder uses: ask a lock manager for a guard over a guest's disks, keep it while they
//! are open.
//!
//! [`LockManager`] is object safe. [`NopManager`] locks nothing; [`PaxosManager`] takes leases in a
//! [`Lockspace`](crate::Lockspace).

mod error;
mod failure;
mod guard;
mod handover;
mod lease;
mod new_lease;
mod nop;
mod paxos;
mod place;
mod repair;
mod request;
pub(crate) mod spelling;
mod state;

use std::fmt;
use std::str::FromStr;

pub use error::{AcquireError, DirectoryError, LeaseFault, ReleaseError, VerifyError};
pub use failure::{Callback, FailureAction, Helper, Means};
pub use guard::{LockEvent, LockGuard, LockInfo, Locked};
pub use handover::{
    Accepted, HandedOver, HandoverAnswer, HandoverError, HandoverToken, Offer, OfferError,
    TokenError, Verdict,
};
pub use nop::NopManager;
pub use paxos::PaxosManager;
pub use request::{Access, LeaseSpec, LockRequest, Owner, WaitLimit};
pub use state::{LockState, SuspendError, SuspendedLock};

/// Gives out locks on disks. Implemented by this crate, and by whoever wants to put something in
/// between.
pub trait LockManager: fmt::Debug + Send + Sync {
    /// Which kind of manager this is, for logs.
    fn name(&self) -> &'static str;

    /// Locks everything that `request` names, or nothing.
    ///
    /// Blocks for as long as the request's [`WaitLimit`] allows, and for some I/Os of up to N each.
    ///
    /// # Errors
    ///
    /// [`AcquireError`]; nothing is held then.
    fn acquire(&self, request: LockRequest) -> Result<LockGuard, AcquireError>;

    /// Locks what `state` names again, or nothing: for a guest that goes on from where it was
    /// suspended, or paused when its locks were lost. **Succeeds only if nobody can have used any of
    /// its disks in between**, and writes nothing to a lease that somebody has.
    ///
    /// `request` says for whom, and how long to wait for what others hold. It names the same disks and
    /// leases as the state, whose paths may be others here; or none, for all that the state names, at
    /// the paths that the state has.
    ///
    /// # Errors
    ///
    /// [`AcquireError`]; nothing is held then. [`AcquireError::NotAsLeft`] names who has or had it
    /// since. After any other error the same state may be resumed once more.
    fn resume(&self, state: &LockState, request: LockRequest) -> Result<LockGuard, AcquireError>;

    /// Locks what another host hands over, or nothing: for a guest that was received from there.
    ///
    /// Waits, as long as the request allows, until the other host has handed over everything by this
    /// very offer. `request` names the same disks and leases as the offered guard.
    ///
    /// # Errors
    ///
    /// [`AcquireError`]; nothing is held then. [`AcquireError::NotAsLeft`] if somebody else came first,
    /// the source itself perhaps; [`AcquireError::NotHandedOver`] if the source ended otherwise.
    fn accept(&self, token: &HandoverToken, request: LockRequest)
    -> Result<Accepted, AcquireError>;
}

/// The lock managers by the names they have in configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManagerKind {
    /// `nop`: locks nothing.
    Nop,
    /// `paxos`, or `sanlock` as libvirt has it: leases on shared storage.
    Paxos,
}

/// A lock manager that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no lock manager {name:?}: it is one of nop, paxos, sanlock")]
#[non_exhaustive]
pub struct UnknownManager {
    /// What was asked for.
    pub name: String,
}

impl FromStr for ManagerKind {
    type Err = UnknownManager;

    fn from_str(name: &str) -> Result<Self, UnknownManager> {
        match name {
            "nop" => Ok(Self::Nop),
            "paxos" | "sanlock" => Ok(Self::Paxos),
            other => Err(UnknownManager {
                name: other.to_owned(),
            }),
        }
    }
}
