//! The right to use what was locked, for as long as the guard lives.

mod core;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::error::{AcquireError, ReleaseError, VerifyError};
use super::lease::{Lease, Leaving, Unstarted};
use crate::format::{LeaseVersion, LockspaceName, ResourceName};
use crate::lockspace::{Lockspace, LossReason, OwnerEnd};
use crate::world::OsError;

use self::core::Core;
pub use self::core::LockEvent;
pub(super) use self::core::Wishes;

/// What was locked, as its user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Locked {
    /// A disk, by its path.
    Disk(PathBuf),
    /// A lease, by its names.
    Lease {
        /// The lockspace.
        lockspace: LockspaceName,
        /// The lease in it.
        name: ResourceName,
    },
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(path) => write!(f, "disk {path:?}"),
            Self::Lease { lockspace, name } => write!(f, "lease \"{lockspace}\":\"{name}\""),
        }
    }
}

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
    core: Arc<Core>,
}

impl LockGuard {
    pub(super) fn unprotected(locked: Vec<Locked>, wishes: Wishes) -> Result<Self, AcquireError> {
        let core = Core::unprotected(locked, wishes)?;
        Ok(Self { core })
    }

    /// A guard over `leases`, which all lie in `lockspace`. Where none is to be had they are given
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
        let core = Core::over(lockspace, leases, wishes)?;
        let guard = Self { core };
        if let Some(owner) = owner {
            let holder = Arc::downgrade(&guard.core);
            let holder: Weak<dyn OwnerEnd> = holder;
            if let Err(error) = lockspace.inner().owners.watch(&owner, holder) {
                if let Err(error) = guard.give_back(Leaving::Unused) {
                    tracing::warn!(%error, "a lock was not given back");
                }
                return Err(AcquireError::Threads {
                    error: OsError::from(error),
                });
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
        self.core.is_held()
    }

    /// Why the locks were lost, as far as it is known already.
    #[must_use]
    pub fn loss(&self) -> Option<LossReason> {
        self.core.reason()
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
            return Err(VerifyError::Lost { reason });
        }
        for lease in self.core.leases() {
            if let Err(error) = lease.verify() {
                if let Some(reason) = error.loss() {
                    self.core.lose(&reason);
                }
                return Err(error);
            }
        }
        if self.is_held() {
            Ok(())
        } else {
            Err(VerifyError::Lost {
                reason: self.loss().unwrap_or(LossReason::NotRenewed),
            })
        }
    }

    /// A descriptor that is readable while there is an event to be taken by
    /// [`next_event`](Self::next_event), for `epoll` and the like; and for ever once the locks are
    /// lost. It is not to be read.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.core.event().as_fd()
    }

    /// The next of what there is to tell. Never waits.
    ///
    /// Only the last of each kind is kept, so there are never many, taken or not.
    #[must_use]
    pub fn next_event(&self) -> Option<LockEvent> {
        self.core.next_event()
    }

    /// Calls `callback` should the locks be lost, as
    /// [`LockRequest::on_lost`](super::LockRequest::on_lost) does; soon, if they are lost already.
    /// Never where they are given back because the owner has ended.
    pub fn on_lost(&self, callback: impl FnOnce(&LossReason) + Send + 'static) {
        self.core.on_lost(Box::new(callback));
    }

    /// What is locked.
    pub fn locks(&self) -> impl Iterator<Item = LockInfo<'_>> {
        let leases = self.core.leases().iter().map(|lease| LockInfo {
            locked: lease.locked(),
            lease_path: Some(lease.path()),
            version: Some(lease.version()),
        });
        let unprotected = self.core.unprotected_locks().iter().map(|locked| LockInfo {
            locked,
            lease_path: None,
            version: None,
        });
        leases.chain(unprotected)
    }

    /// Gives everything back. The guest must have stopped writing, and its writes must have ended.
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
        self.core.end();
    }

    pub(super) fn give_back(&self, leaving: Leaving) -> Result<(), ReleaseError> {
        if self.core.is_copy() {
            return Ok(());
        }
        self.core.give_back(leaving)
    }

    pub(super) fn leases(&self) -> &[Lease] {
        self.core.leases()
    }

    /// `None` where nothing protects the locks.
    pub(super) fn lockspace(&self) -> Option<&Lockspace> {
        self.core.lockspace()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.core.is_copy() {
            // What it is made of would give back what the parent holds.
            std::mem::forget(Arc::clone(&self.core));
        } else if let Err(error) = self.give_back(Leaving::Used) {
            tracing::warn!(%error, "a lock was not given back when its guard was dropped");
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
    use std::time::Duration;

    use super::*;
    use crate::format::HostId;
    use crate::libvirt::LeaseDirectory;
    use crate::lockspace::Watchdog;
    use crate::manager::{LockRequest, Owner};

    /// By the clock of whoever asks: no thread of ours has to have told it.
    #[test]
    fn is_lost_in_the_instant_in_which_its_lockspace_is() {
        let dir = tempfile::tempdir().unwrap();
        let n = Duration::from_secs(1);
        let path = LeaseDirectory::new(dir.path()).create_lockspace(n).unwrap();
        let lockspace = Lockspace::options(Watchdog::None)
            .io_timeout(n)
            .runtime_dir(dir.path().join("run"))
            .join(path, HostId::FIRST)
            .unwrap();
        let mut request = LockRequest::new(Owner::this_process("guest-1"));
        let wishes = request.take_wishes().unwrap();
        let guard = LockGuard::over(&lockspace, Unstarted::default(), wishes).unwrap();
        assert!(guard.is_held());
        lockspace.membership().expiry().lose();
        assert!(!guard.is_held());
    }
}
