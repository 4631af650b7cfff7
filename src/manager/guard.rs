//! The right to use what was locked, for as long as the guard lives.

mod state;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Weak};

use super::error::{AcquireError, AcquireErrorKind, ReleaseError, VerifyError, VerifyErrorKind};
use super::lease::{Lease, Leaving, Unstarted};
use super::locked::Locked;
use super::request::Wishes;
use crate::format::LeaseVersion;
use crate::lockspace::{Lockspace, LossReason, OwnerEnd};
use crate::world::OsError;

use self::state::GuardState;
pub use self::state::LockEvent;

/// One lock of a guard.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LockInfo<'a> {
    /// What is locked.
    pub locked: &'a Locked,
    /// The file or device with its lease; `None` where nothing protects it.
    pub lease_path: Option<&'a Path>,
    /// The lease version: rises by one with each change of owner, a fencing token. `None` as above.
    pub version: Option<LeaseVersion>,
}

/// Everything of one request is locked, for as long as this lives and says so.
///
/// * Before each write, or as often as is affordable, [`is_held`](Self::is_held): one load and one
///   clock read.
/// * The [event descriptor](Self::event_fd) becomes readable when there is something to
///   [tell](Self::next_event): the locks are in danger, or lost.
/// * [`release`](Self::release) when the guest has stopped writing. Dropping does the same, and can
///   only log an error.
///
/// **A lock that was lost stays lost**: the guard never says "held" again. From then on its holder
/// has until the end of the grace ([`Timing::grace`]) to stop, which it says by dropping or
/// releasing the guard, or by ending where it is another process; else it is killed. See
/// [`FailureAction`].
///
/// After `fork`, the child's copy releases nothing and is not to be asked.
///
/// [`Timing::grace`]: crate::timing::Timing::grace
/// [`FailureAction`]: super::FailureAction
#[must_use = "if unused, the locks are released at once"]
pub struct LockGuard {
    state: Arc<GuardState>,
}

impl LockGuard {
    pub(super) fn unprotected(locked: Vec<Locked>, wishes: Wishes) -> Result<Self, AcquireError> {
        let state = GuardState::unprotected(locked, wishes)?;
        Ok(Self { state })
    }

    /// A guard over `leases`, which all lie in `lockspace`. Where none can be made they are given
    /// back as they were taken: no guest has run on them.
    pub(super) fn over(
        lockspace: &Lockspace,
        leases: Unstarted,
        wishes: Wishes,
    ) -> Result<Self, AcquireError> {
        let owner = wishes.owner.clone();
        if let Some(owner) = &owner {
            lockspace.inner().shared.mind_owner(owner);
        }
        let state = GuardState::over(lockspace, leases, wishes)?;
        let guard = Self { state };
        if let Some(owner) = owner {
            let holder = Arc::downgrade(&guard.state);
            let holder: Weak<dyn OwnerEnd> = holder;
            if let Err(error) = lockspace.inner().owners.watch(&owner, holder) {
                guard.give_back_quietly(Leaving::Unused);
                let error = OsError::from(error);
                return Err(AcquireErrorKind::Threads { error }.into());
            }
        }
        Ok(guard)
    }

    /// Whether everything is still locked at this instant.
    ///
    /// Judged by the clock, which also counts the time that the process was stopped or the host
    /// suspended: no thread has to be alive for this to be right. Never blocks, never waits.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state.is_held()
    }

    /// Why the locks were lost, as far as it is known already.
    #[must_use]
    pub fn loss(&self) -> Option<LossReason> {
        self.state.reason()
    }

    /// Reads the leases from the disk and compares them with what this guard holds. Writes nothing.
    ///
    /// Blocks for one small read for each lease, and for a second one where the leader record on the
    /// disk is older than the lease; up to N each.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]. If a lease is not ours any more, this guard is lost from then on; if it
    /// only cannot be read, the guard stays as it is.
    pub fn verify(&self) -> Result<(), VerifyError> {
        if let Some(reason) = self.loss() {
            return Err(VerifyErrorKind::Lost(reason).into());
        }
        for lease in self.leases() {
            if let Err(error) = lease.verify() {
                if let Some(reason) = error.loss(lease.resource()) {
                    self.state.lose(&reason);
                }
                return Err(error);
            }
        }
        if self.is_held() {
            return Ok(());
        }
        let reason = self.loss().unwrap_or(LossReason::NotRenewed);
        Err(VerifyErrorKind::Lost(reason).into())
    }

    /// A descriptor that is readable while there is an event to be taken by
    /// [`next_event`](Self::next_event), for `epoll` and the like; and for ever once the locks are
    /// lost. It is not to be read.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.state.event.as_fd()
    }

    /// The next of what there is to tell. Never waits.
    ///
    /// Only the last of each kind is kept, so there are never many, taken or not.
    #[must_use]
    pub fn next_event(&self) -> Option<LockEvent> {
        self.state.next_event()
    }

    /// Calls `callback` should the locks be lost, as
    /// [`LockRequest::on_lost`](super::LockRequest::on_lost) does; soon, if they are lost already.
    /// Never where they are given back because the owner has ended.
    pub fn on_lost(&self, callback: impl FnOnce(&LossReason) + Send + 'static) {
        self.state.on_lost(Box::new(callback));
    }

    /// What is locked.
    pub fn locks(&self) -> impl Iterator<Item = LockInfo<'_>> {
        let leases = self.leases().iter().map(|lease| LockInfo {
            locked: &lease.target().locked,
            lease_path: Some(&lease.target().lease.path),
            version: Some(lease.version()),
        });
        let unprotected = self.state.unprotected.iter().map(|locked| LockInfo {
            locked,
            lease_path: None,
            version: None,
        });
        leases.chain(unprotected)
    }

    /// Gives everything back. The guest must have stopped writing, and its writes must have completed.
    ///
    /// Blocks for four small I/Os for each lease, up to N each: two reads and two writes.
    ///
    /// # Errors
    ///
    /// The first error; the other leases are given back all the same. What could not be written is
    /// tried again in the background for as long as the lockspace is joined; until then the lease
    /// looks held to everybody.
    pub fn release(self) -> Result<(), ReleaseError> {
        self.give_back(Leaving::Used)
    }

    /// From now on this guard does not say "held" any more, though nothing is given back yet.
    pub(super) fn end(&self) {
        self.state.end();
    }

    pub(super) fn give_back(&self, leaving: Leaving) -> Result<(), ReleaseError> {
        if self.state.is_copy() {
            return Ok(());
        }
        self.state.give_back(leaving)
    }

    /// For where there is an error to report already, or nobody to report to.
    pub(super) fn give_back_quietly(&self, leaving: Leaving) {
        if let Err(error) = self.give_back(leaving) {
            tracing::warn!(%error, "a release failed");
        }
    }

    pub(super) fn leases(&self) -> &[Lease] {
        &self.state.leases
    }

    /// `None` where nothing protects the locks.
    pub(super) fn lockspace(&self) -> Option<&Lockspace> {
        self.state.lockspace.as_ref()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.state.is_copy() {
            // What it is made of would give back what the parent holds.
            std::mem::forget(Arc::clone(&self.state));
        } else {
            self.give_back_quietly(Leaving::Used);
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let locks: Vec<_> = self.locks().map(|lock| lock.locked.to_string()).collect();
        f.debug_struct("LockGuard")
            .field("locks", &locks)
            .field("held", &self.is_held())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::request::{LockRequest, Owner};
    use crate::manager::testing::joined;

    /// By the clock of whoever asks: no thread of ours has to have noticed it.
    #[test]
    fn is_lost_in_the_instant_in_which_its_lockspace_is() {
        let (_dir, _, lockspace) = joined();
        let request = LockRequest::new(Owner::this_process("guest-1"));
        let wishes = request.wishes().unwrap();
        let guard = LockGuard::over(&lockspace, Unstarted::default(), wishes).unwrap();
        assert!(guard.is_held());
        lockspace.membership().expiry().lose();
        assert!(!guard.is_held());
    }
}
