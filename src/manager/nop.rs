//! The manager that locks nothing.

use super::error::AcquireError;
use super::guard::LockGuard;
use super::handover::accepted::Accepted;
use super::handover::token::HandoverToken;
use super::lock_manager::LockManager;
use super::locked::Locked;
use super::request::{LeaseSpec, LockRequest};
use super::suspended::SuspendedLocks;

/// Gives every guard at once, and protects nothing: for hosts that share no storage, and for tests.
///
/// Requests are checked like everywhere, and guards behave like everywhere, but two of them on one
/// disk do not exclude each other.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NopManager;

impl NopManager {
    /// The manager.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl LockManager for NopManager {
    fn name(&self) -> &'static str {
        "nop"
    }

    fn acquire(&self, request: LockRequest) -> Result<LockGuard, AcquireError> {
        request.check()?;
        let wishes = request.wishes()?;
        let disks = request
            .disks
            .into_iter()
            .map(|(path, _)| Locked::Disk(path));
        let leases = request.leases.iter().map(LeaseSpec::locked);
        LockGuard::unprotected(disks.chain(leases).collect(), wishes)
    }

    fn resume(
        &self,
        state: &SuspendedLocks,
        request: LockRequest,
    ) -> Result<LockGuard, AcquireError> {
        self.acquire(state.fill(request))
    }

    fn accept(
        &self,
        token: &HandoverToken,
        request: LockRequest,
    ) -> Result<Accepted, AcquireError> {
        let guard = self.acquire(request)?;
        Ok(Accepted::new(guard, token))
    }
}
