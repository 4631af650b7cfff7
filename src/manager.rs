//! What an embedder uses: ask a lock manager for a guard over a guest's disks, keep it while they
//! are open.
//!
//! [`LockManager`] is object safe. [`NopManager`] locks nothing; [`PaxosManager`] takes leases in a
//! [`Lockspace`](crate::Lockspace).

mod error;
mod failure;
mod guard;
mod lease;
mod nop;
mod paxos;
mod repair;
mod request;

use std::fmt;
use std::str::FromStr;

pub use error::{AcquireError, LeaseFault, ReleaseError, VerifyError};
pub use failure::{Callback, FailureAction, Helper, Means};
pub use guard::{LockEvent, LockGuard, LockInfo, Locked};
pub use nop::NopManager;
pub use paxos::PaxosManager;
pub use request::{Access, LeaseSpec, LockRequest, Owner, WaitLimit};

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
