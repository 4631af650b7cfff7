//! The manager that locks nothing.

use super::LockManager;
use super::error::AcquireError;
use super::guard::{LockGuard, Locked};
use super::handover::{Accepted, HandoverToken};
use super::request::LockRequest;
use super::state::LockState;

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

    fn acquire(&self, mut request: LockRequest) -> Result<LockGuard, AcquireError> {
        request.check()?;
        let wishes = request.take_wishes()?;
        let disks = request
            .disks
            .into_iter()
            .map(|(path, _)| Locked::Disk(path));
        let leases = request.leases.into_iter().map(|lease| Locked::Lease {
            lockspace: lease.lockspace,
            name: lease.name,
        });
        LockGuard::unprotected(disks.chain(leases).collect(), wishes)
    }

    fn resume(&self, state: &LockState, request: LockRequest) -> Result<LockGuard, AcquireError> {
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
