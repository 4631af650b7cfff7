//! What is to be locked, for whom, and how long that may take.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::{AcquireError, AcquireErrorKind};
use super::failure::{FailureAction, LossCallback};
use super::locked::Locked;
use super::spelling::{check_absolute, check_disk_path};
use crate::fence::OwnerProcess;
use crate::format::{LockspaceName, ResourceName};
use crate::lockspace::LossReason;
use crate::world::CancelToken;

/// Who locks: what other hosts read when they are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub(super) guest_name: String,
    pub(super) guest_uuid: Option<[u8; 16]>,
    pub(super) pid: u32,
    /// Another process than this one.
    pub(super) is_foreign: bool,
}

impl Owner {
    /// This process, on behalf of the guest called `guest_name`. More than 128 bytes of the name
    /// are cut off.
    #[must_use]
    pub fn this_process(guest_name: impl Into<String>) -> Self {
        Self {
            guest_name: guest_name.into(),
            guest_uuid: None,
            pid: std::process::id(),
            is_foreign: false,
        }
    }

    /// The process `pid` on this host, a child of this one or not, on behalf of the guest called
    /// `guest_name`: the virtual machine monitor that a manager runs.
    ///
    /// It owns what is locked: when it ends, however it ends, its locks are given back on the disk
    /// at once, though the guard lives on. When they are lost it is sent SIGTERM, unless another
    /// [`FailureAction`] is asked for, and SIGKILL once a second from the end of the grace on.
    ///
    /// The end of a process is not the end of what it has handed to the kernel: `io_uring` and vhost
    /// can go on with its writes for a moment, and a network file system with any of them for as long
    /// as its server is away. Where an owner uses these, wait for that in
    /// [`LockRequest::on_owner_end`], which the locks are kept for: on NFS by a buffered read of one
    /// byte of the disk's file after an `fdatasync` of it.
    ///
    /// **Should this process die, nobody is left to stop the owner.** Tie a child to this process by
    /// [`die_with_this_thread`](crate::die_with_this_thread); for what is not a child, have a host
    /// watchdog in force.
    #[must_use]
    pub fn process(guest_name: impl Into<String>, pid: u32) -> Self {
        Self {
            is_foreign: pid != std::process::id(),
            pid,
            ..Self::this_process(guest_name)
        }
    }

    /// The guest's UUID.
    #[must_use]
    pub const fn uuid(mut self, uuid: [u8; 16]) -> Self {
        self.guest_uuid = Some(uuid);
        self
    }
}

/// In what way a disk is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// For one guest alone, which may write.
    Exclusive,
}

/// A lease that lies where its user says, as libvirt's `<lease>` elements name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSpec {
    pub(super) lockspace: LockspaceName,
    pub(super) name: ResourceName,
    pub(super) path: PathBuf,
    pub(super) offset: u64,
}

impl LeaseSpec {
    /// The lease `name` of `lockspace` at byte `offset` of the file or device at `path`, an absolute
    /// path. The offset is a multiple of the sector size.
    ///
    /// The lease must have been initialised, with [`lease_image`](crate::format::lease_image) or by
    /// `sanlock direct init`: leases are created only in a
    /// [`LeaseDirectory`](crate::LeaseDirectory).
    ///
    /// The name is what it is known by in this process: of two leases with the same name, wherever
    /// they lie, one can be held at a time.
    #[must_use]
    pub fn new(
        lockspace: LockspaceName,
        name: ResourceName,
        path: impl Into<PathBuf>,
        offset: u64,
    ) -> Self {
        Self {
            lockspace,
            name,
            path: path.into(),
            offset,
        }
    }

    pub(super) const fn locked(&self) -> Locked {
        Locked::Lease {
            lockspace: self.lockspace,
            name: self.name,
        }
    }
}

/// How long to wait for what another guard or host has locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitLimit {
    /// Not at all: whoever holds it, alive or perhaps dead, is reported at once.
    Try,
    /// For this long. Reaches from the call on over all that is locked by it.
    For(Duration),
    /// Until it is available.
    Forever,
}

/// What is to be locked: any number of disks and leases, all of them or none.
///
/// They are taken in one order that is the same on all hosts of a lease directory, so requests that
/// wait for each other's disks cannot wait for ever. A clone asks for the same once more.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing before a manager is asked to acquire it"]
pub struct LockRequest {
    pub(super) owner: Owner,
    pub(super) disks: Vec<(PathBuf, Access)>,
    pub(super) leases: Vec<LeaseSpec>,
    pub(super) wait: WaitLimit,
    pub(super) on_lost: Vec<LossCallback>,
    pub(super) action: FailureAction,
    pub(super) on_owner_end: Vec<LossCallback>,
    pub(super) cancel: CancelToken,
}

impl LockRequest {
    /// A request for nothing yet, which would not wait.
    pub fn new(owner: Owner) -> Self {
        Self {
            owner,
            disks: Vec::new(),
            leases: Vec::new(),
            wait: WaitLimit::Try,
            on_lost: Vec::new(),
            action: FailureAction::default(),
            on_owner_end: Vec::new(),
            cancel: CancelToken::new(),
        }
    }

    /// Also the disk at `path`. The path must be absolute, in normal form, and **the same on every host**:
    /// it is what the disk is known by, taken as it is, with no link resolved. A disk with two paths has two
    /// leases, and two guests. So one with a symbolic link in it, but for links below `/dev`, is
    /// warned of when it is acquired.
    pub fn disk(mut self, path: impl Into<PathBuf>, access: Access) -> Self {
        self.disks.push((path.into(), access));
        self
    }

    /// Also this lease.
    pub fn lease(mut self, lease: LeaseSpec) -> Self {
        self.leases.push(lease);
        self
    }

    /// How long to wait; [`WaitLimit::Try`] when nothing is said.
    pub const fn wait(mut self, limit: WaitLimit) -> Self {
        self.wait = limit;
        self
    }

    /// Ends the wait for what others hold when the token is cancelled: with
    /// [`AcquireErrorKind::Cancelled`] within a second or an I/O, and with
    /// nothing locked.
    pub fn cancel_by(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// What is to be done should the locks be lost; [`FailureAction::PowerOff`] when nothing is said.
    pub fn on_lock_failure(mut self, action: FailureAction) -> Self {
        self.action = action;
        self
    }

    /// Calls `callback` when the [owner](Owner::process), another process, has ended, before its
    /// locks are given back: to end what it has left behind that could still write. It may take its
    /// time, and the locks are kept meanwhile, also by a release of the guard, which waits for it; so
    /// it must not release or drop that itself. A panic of it stops there.
    pub fn on_owner_end(mut self, callback: impl Fn() + Send + Sync + 'static) -> Self {
        let callback = LossCallback::new(move |_| callback());
        self.on_owner_end.push(callback);
        self
    }

    /// Calls `callback` should the locks be lost: once, on a thread of its own, before what
    /// [`on_lock_failure`](Self::on_lock_failure) wants to be done. A panic of it stops there. It is
    /// not called after a release, but may still be running when one returns. Nor is it, or anything
    /// done, for what happens after the [owner](Owner::process) has ended, by which its locks are given
    /// back; a loss that came first is reported and acted upon though the owner has ended since.
    pub fn on_lost(mut self, callback: impl Fn(&LossReason) + Send + Sync + 'static) -> Self {
        self.on_lost.push(LossCallback::new(callback));
        self
    }

    /// What can be found wrong with a request before any disk is inspected. The same for all managers.
    pub(super) fn check(&self) -> Result<(), AcquireError> {
        if self.disks.is_empty() && self.leases.is_empty() {
            return Err(AcquireErrorKind::NothingToLock.into());
        }
        for (path, _) in &self.disks {
            check_disk_path(path)?;
        }
        for lease in &self.leases {
            check_absolute(&lease.path)?;
        }
        let disks = self.disks.iter().map(|(path, _)| (path, None));
        let leases = self.leases.iter().map(|at| (&at.path, Some(at.offset)));
        let mut named = BTreeSet::new();
        for (path, offset) in disks.chain(leases) {
            if !named.insert((offset, path)) {
                let path = path.clone();
                return Err(AcquireErrorKind::NamedTwice { path }.into());
            }
        }
        self.action.check(self.owner.is_foreign)
    }

    /// All that the guard is to care for. The owner must be alive.
    pub(super) fn wishes(&self) -> Result<Wishes, AcquireError> {
        let pid = self.owner.pid;
        let owner = if self.owner.is_foreign {
            let owner = OwnerProcess::open(pid);
            let owner = owner.map_err(|error| AcquireErrorKind::OwnerGone { pid, error })?;
            if self.action.is_fenced() {
                let reach = owner.check_reach();
                reach.map_err(|error| AcquireErrorKind::OwnerOutOfReach { pid, error })?;
            }
            Some(Arc::new(owner))
        } else {
            None
        };
        Ok(Wishes {
            on_lost: self.on_lost.clone(),
            action: self.action.clone(),
            on_owner_end: self.on_owner_end.clone(),
            owner,
        })
    }
}

/// What is to be done for a guard beside locking.
pub(super) struct Wishes {
    pub(super) on_lost: Vec<LossCallback>,
    pub(super) action: FailureAction,
    pub(super) on_owner_end: Vec<LossCallback>,
    /// `None`: this process.
    pub(super) owner: Option<Arc<OwnerProcess>>,
}
