//! The right to use what was locked, for as long as the guard lives.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::event::EventfdFlags;

use super::error::{AcquireError, ReleaseError, VerifyError};
use super::lease::Lease;
use super::request::OnLost;
use crate::format::{LeaseVersion, LockspaceName, ResourceName};
use crate::lockspace::{Listener, Lockspace, LossReason, Subscription};
use crate::world::OsError;

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
/// * The [event descriptor](Self::event_fd) becomes readable when the locks are lost.
/// * [`release`](Self::release) when the guest has stopped writing. Dropping does the same, and can
///   only log an error.
///
/// **A lock that was lost stays lost**: the guard never says "held" again.
///
/// After `fork`, the child's copy releases nothing and is not to be asked.
#[must_use = "if unused, the locks are released at once"]
pub struct LockGuard {
    core: Arc<Core>,
    /// In the order in which they were taken; given back in the reverse order.
    leases: Vec<Lease>,
    /// `None` where nothing protects the locks.
    protection: Option<Protection>,
    unprotected: Vec<Locked>,
    pid: u32,
}

/// What the leases of a guard depend on. The subscription ends before the lockspace handle is
/// dropped.
struct Protection {
    _subscription: Subscription,
    lockspace: Lockspace,
}

/// What is left of a guard when it is told of a loss.
struct Core {
    lost: AtomicBool,
    reason: Mutex<Option<LossReason>>,
    event: OwnedFd,
    callbacks: Mutex<Vec<OnLost>>,
}

impl Core {
    fn new(callbacks: Vec<OnLost>) -> Result<Arc<Self>, AcquireError> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| AcquireError::EventFd {
                error: OsError(errno.raw_os_error()),
            })?;
        Ok(Arc::new(Self {
            lost: AtomicBool::new(false),
            reason: Mutex::new(None),
            event,
            callbacks: Mutex::new(callbacks),
        }))
    }
}

impl Listener for Core {
    fn mark_lost(&self, reason: &LossReason) {
        self.reason.lock().get_or_insert_with(|| reason.clone());
        self.lost.store(true, Ordering::Release);
        // Cannot block: a counter that is full would be readable already.
        let _ = rustix::io::write(&self.event, bytemuck::bytes_of(&1_u64));
    }

    fn run_callbacks(&self) {
        let Some(reason) = self.reason.lock().clone() else {
            return;
        };
        let callbacks = std::mem::take(&mut *self.callbacks.lock());
        for callback in callbacks {
            // The others, and those of other guards, are called all the same. What it panicked with
            // was told by the panic hook.
            if catch_unwind(AssertUnwindSafe(|| callback(&reason))).is_err() {
                tracing::error!("a callback for the loss of a lock has panicked");
            }
        }
    }
}

impl LockGuard {
    pub(super) fn unprotected(
        locked: Vec<Locked>,
        on_lost: Vec<OnLost>,
    ) -> Result<Self, AcquireError> {
        Ok(Self {
            core: Core::new(on_lost)?,
            leases: Vec::new(),
            protection: None,
            unprotected: locked,
            pid: std::process::id(),
        })
    }

    /// A guard over `leases`, which all lie in `lockspace`.
    pub(super) fn over(
        lockspace: &Lockspace,
        leases: Vec<Lease>,
        on_lost: Vec<OnLost>,
    ) -> Result<Self, AcquireError> {
        let core = Core::new(on_lost)?;
        let listener: Arc<dyn Listener> = Arc::<Core>::clone(&core);
        let files = leases.iter().map(Lease::file).collect();
        let subscription = lockspace.inner().shared.subscribe(&listener, files);
        Ok(Self {
            core,
            leases,
            protection: Some(Protection {
                _subscription: subscription,
                lockspace: lockspace.clone(),
            }),
            unprotected: Vec::new(),
            pid: std::process::id(),
        })
    }

    /// Whether everything is still locked at this instant.
    ///
    /// Judged by the clock, which also counts the time that the process was stopped or the host
    /// suspended: no thread has to be alive for this to be right. Never blocks, never waits.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.core.lost.load(Ordering::Acquire)
            && self
                .protection
                .as_ref()
                .is_none_or(|protection| protection.lockspace.is_held())
    }

    /// Why the locks were lost, as far as it is known already.
    #[must_use]
    pub fn loss(&self) -> Option<LossReason> {
        self.core.reason.lock().clone()
    }

    /// Reads the leases from the disk and compares them with what this guard holds. Writes nothing.
    ///
    /// Blocks for one small read for each lease, up to N each.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]. If a lease is not ours any more, this guard is lost from then on; if it
    /// only cannot be read, the guard stays as it is.
    pub fn verify(&self) -> Result<(), VerifyError> {
        if let Some(reason) = self.loss() {
            return Err(VerifyError::Lost { reason });
        }
        for lease in &self.leases {
            if let Err(error) = lease.verify() {
                if let (VerifyError::NotOurs { .. }, Some(protection)) = (&error, &self.protection)
                {
                    self.core.mark_lost(&LossReason::LeaseTaken);
                    let listener: Arc<dyn Listener> = Arc::<Core>::clone(&self.core);
                    protection
                        .lockspace
                        .inner()
                        .shared
                        .losses
                        .announce_to(&listener);
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

    /// A descriptor that becomes readable when the locks are lost, for `epoll` and the like. It
    /// stays readable; reading it is not necessary.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.core.event.as_fd()
    }

    /// Calls `callback` should the locks be lost, as
    /// [`LockRequest::on_lost`](super::LockRequest::on_lost) does; soon, if they are lost already.
    pub fn on_lost(&self, callback: impl FnOnce(&LossReason) + Send + 'static) {
        self.core.callbacks.lock().push(Box::new(callback));
        if let (true, Some(protection)) = (self.core.lost.load(Ordering::Acquire), &self.protection)
        {
            let listener: Arc<dyn Listener> = Arc::<Core>::clone(&self.core);
            protection
                .lockspace
                .inner()
                .shared
                .losses
                .announce_to(&listener);
        }
    }

    /// What is locked.
    pub fn locks(&self) -> impl Iterator<Item = LockInfo<'_>> {
        let leases = self.leases.iter().map(|lease| LockInfo {
            locked: lease.locked(),
            lease_path: Some(lease.path()),
            version: Some(lease.version()),
        });
        let unprotected = self.unprotected.iter().map(|locked| LockInfo {
            locked,
            lease_path: None,
            version: None,
        });
        leases.chain(unprotected)
    }

    /// Gives everything back. The guest must have stopped writing, and its writes must have ended.
    ///
    /// Blocks for three small I/Os for each lease, up to N each.
    ///
    /// # Errors
    ///
    /// The first error; the other leases are given back all the same. What could not be written is
    /// tried again in the background for as long as the lockspace is joined; until then the lease
    /// looks held to everybody.
    pub fn release(mut self) -> Result<(), ReleaseError> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), ReleaseError> {
        if self.pid != std::process::id() {
            // A copy in a forked child. The locks are the parent's.
            std::mem::forget(std::mem::take(&mut self.leases));
            return Ok(());
        }
        // From now on nobody is told of a loss any more.
        self.core.callbacks.lock().clear();
        let mut result = Ok(());
        while let Some(mut lease) = self.leases.pop() {
            let released = lease.release();
            if result.is_ok() {
                result = released;
            } else if let Err(error) = released {
                tracing::warn!(%error, "a lease was not given back");
            }
        }
        result
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
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
