//! What all lock managers do.

use std::fmt;

use super::error::AcquireError;
use super::guard::LockGuard;
use super::handover::accepted::Accepted;
use super::handover::token::HandoverToken;
use super::request::LockRequest;
use super::suspended::SuspendedLocks;

/// Gives out locks on disks. Implemented by this crate, and by whoever wants to put something in
/// between.
pub trait LockManager: fmt::Debug + Send + Sync {
    /// Which kind of manager this is, for logs.
    fn name(&self) -> &'static str;

    /// Locks everything that `request` names, or nothing.
    ///
    /// Blocks for as long as the request's [`WaitLimit`](crate::WaitLimit) allows, and for some I/Os of up to N
    /// each.
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
    /// [`AcquireError`]; nothing is held then.
    /// [`VersionConflict`](crate::AcquireErrorKind::VersionConflict) names who has or had it since. After any other error
    /// the same state may be resumed once more.
    fn resume(
        &self,
        state: &SuspendedLocks,
        request: LockRequest,
    ) -> Result<LockGuard, AcquireError>;

    /// Locks what another host hands over, or nothing: for a guest that was received from there.
    ///
    /// Waits, as long as the request allows, until the other host has handed over everything by this
    /// very offer. `request` names the same disks and leases as the offered guard.
    ///
    /// # Errors
    ///
    /// [`AcquireError`]; nothing is held then. [`VersionConflict`](crate::AcquireErrorKind::VersionConflict) if somebody
    /// else came first, the source itself perhaps;
    /// [`NotHandedOver`](crate::AcquireErrorKind::NotHandedOver) if the source ended otherwise.
    fn accept(&self, token: &HandoverToken, request: LockRequest)
    -> Result<Accepted, AcquireError>;
}
