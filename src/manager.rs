//! What an embedder uses: ask a lock manager for a guard over a guest's disks, keep it while they
//! are open.
//!
//! [`LockManager`] is object safe. [`NopManager`] locks nothing; [`PaxosManager`] takes leases in a
//! [`Lockspace`](crate::Lockspace). One acquire of the latter, from file to file: `paxos`, `missing_lease` (the
//! file is there or is made), `lease` (the lease is acquired), `misnamed_lease` and `leftover` (what may be mended
//! is), `guard`.

mod error;
mod failure;
mod guard;
mod handover;
mod kind;
mod lease;
mod leftover;
mod lock_manager;
mod locked;
mod misnamed_lease;
mod missing_lease;
mod nop;
mod paxos;
mod place;
mod request;
pub(crate) mod spelling;
mod suspended;
mod target;
#[cfg(test)]
mod testing;

pub use error::{
    AcquireError, AcquireErrorKind, DirectoryError, LeaseFault, LockError, ReleaseError,
    ReleaseErrorKind, VerifyError, VerifyErrorKind,
};
pub use failure::{FailureAction, FailureMeans, HelperProgram, LossCallback};
pub use guard::{LockEvent, LockGuard, LockInfo};
pub use handover::{
    Accepted, HandedOver, HandoverAnswer, HandoverError, HandoverOutcome, HandoverToken, Offer,
    OfferError, TokenError,
};
pub use kind::{ManagerKind, UnknownManager};
pub use lock_manager::LockManager;
pub use locked::Locked;
pub use nop::NopManager;
pub use paxos::PaxosManager;
pub use request::{Access, LeaseSpec, LockRequest, Owner, WaitLimit};
pub use suspended::{SuspendError, SuspendedLocks};
