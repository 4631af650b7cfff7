//! What a guest had locked when it was suspended, so that it can go on from there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::{AcquireError, ReleaseError};
use super::guard::{LockGuard, Locked};
use super::lease::{Lease, Leaving, Target};
use super::request::{LeaseSpec, LockRequest};
use crate::format::{Generation, HostId, LeaseVersion, LockspaceName, ResourceName};
use crate::libvirt::{HoldState, LeaseState, StateError, parse_state, state_string};
use crate::lockspace::Lockspace;
use crate::paxos_lease::{Expected, Passage};

/// What a suspended guest had locked, and in which version of each lease.
///
/// As text it is the state string of sanlock and libvirt, which goes anywhere that a suspended guest
/// is kept. The text has no room for who held the locks; a state that never became text also tells a
/// lease that was deleted, made anew, and came to the same version again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockState {
    locks: Vec<SuspendedLock>,
}

/// One lock of a [`LockState`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuspendedLock {
    /// The lockspace of its lease.
    pub lockspace: LockspaceName,
    /// The name of its lease.
    pub name: ResourceName,
    /// The file or device with the lease.
    pub lease_path: PathBuf,
    /// Where on it the lease begins, in bytes.
    pub offset: u64,
    /// In which version it was held; `None` if it was held in shared mode, or the text did not say.
    pub version: Option<LeaseVersion>,
    /// Who held it, if that is known.
    pub holder: Option<(HostId, Generation)>,
    shared: bool,
}

/// The locks were given up, but not all of them on the disk.
///
/// The state may be resumed all the same: whether anybody came in between is found out then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("suspended, but {error}")]
#[non_exhaustive]
pub struct SuspendError {
    /// What was suspended.
    pub state: LockState,
    /// What went wrong with the first lease of which anything did.
    pub error: ReleaseError,
}

impl LockGuard {
    /// Gives everything back, and keeps what is needed to go on later with
    /// [`LockManager::resume`](super::LockManager::resume). **The guest must be paused, and its writes
    /// must have ended**; it must not go on without a guard from `resume`.
    ///
    /// The same for a guard that was lost, to a storage outage for instance, and whose guest was
    /// paused in time: nothing is written then. When the lockspace was left and joined again, the
    /// guest goes on by the same rule.
    ///
    /// Blocks as [`release`](Self::release) does.
    ///
    /// # Errors
    ///
    /// [`SuspendError`] where a lease could not be given back on the disk. It has the state too.
    pub fn suspend(self) -> Result<LockState, SuspendError> {
        let state = self.state();
        self.end();
        match self.give_back(Leaving::Used) {
            Ok(()) | Err(ReleaseError::LockspaceLost { .. }) => Ok(state),
            Err(error) => Err(SuspendError { state, error }),
        }
    }

    /// What to resume when these locks have been given back.
    pub(super) fn state(&self) -> LockState {
        let locks = self.lockspace().map_or_else(Vec::new, |lockspace| {
            let of = |lease| SuspendedLock::of(lease, lockspace);
            self.leases().iter().map(of).collect()
        });
        LockState { locks }
    }
}

impl SuspendedLock {
    fn of(lease: &Lease, lockspace: &Lockspace) -> Self {
        let target = lease.target();
        Self {
            lockspace: target.lockspace,
            name: target.name,
            lease_path: target.path.clone(),
            offset: target.offset,
            version: Some(lease.version()),
            holder: Some((lockspace.host_id(), lockspace.generation())),
            shared: false,
        }
    }

    fn of_text(lease: LeaseState) -> Option<Self> {
        let LeaseState {
            lockspace,
            name,
            places,
            hold,
        } = lease;
        // Of a lease with copies on several disks no one of them tells all.
        let [place] = <[_; 1]>::try_from(places).ok()?;
        Some(Self {
            lockspace,
            name,
            lease_path: place.path,
            offset: place.offset,
            version: match hold {
                HoldState::Version(version) => Some(version),
                HoldState::Shared | HoldState::Unsaid => None,
            },
            holder: None,
            shared: hold == HoldState::Shared,
        })
    }

    fn text(&self) -> LeaseState {
        let hold = match self.version {
            Some(version) => HoldState::Version(version),
            None if self.shared => HoldState::Shared,
            None => HoldState::Unsaid,
        };
        let path: &Path = &self.lease_path;
        LeaseState::new(self.lockspace, self.name, path, self.offset, hold)
    }

    fn locked(&self) -> Locked {
        Locked::Lease {
            lockspace: self.lockspace,
            name: self.name,
        }
    }
}

impl LockState {
    /// What was locked.
    #[must_use]
    pub fn locks(&self) -> &[SuspendedLock] {
        &self.locks
    }

    /// As sanlock and libvirt write it. The path of a lease may be any bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let leases: Vec<_> = self.locks.iter().map(SuspendedLock::text).collect();
        state_string(&leases)
    }

    /// Reads what [`to_bytes`](Self::to_bytes), sanlock or libvirt wrote; nothing at all is the state
    /// of a guest without locks.
    ///
    /// # Errors
    ///
    /// [`StateError`], also for a lease that lies on several disks.
    pub fn from_bytes(text: &[u8]) -> Result<Self, StateError> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let leases = parse_state(text)?;
        let locks = leases.into_iter().map(|lease| {
            let fields = lease.places.len().saturating_mul(2).saturating_add(3);
            SuspendedLock::of_text(lease).ok_or(StateError::Fields { at: 0, fields })
        });
        Ok(Self {
            locks: locks.collect::<Result<_, _>>()?,
        })
    }

    /// `request`, for all that this names if it names nothing itself.
    pub(super) fn fill(&self, mut request: LockRequest) -> LockRequest {
        if request.disks.is_empty() && request.leases.is_empty() {
            let specs = self.locks.iter().map(|lock| {
                LeaseSpec::new(lock.lockspace, lock.name, &lock.lease_path, lock.offset)
            });
            request.leases.extend(specs);
        }
        request
    }

    /// How each of `targets` must have been left: they are those of this state, no fewer and no more.
    pub(super) fn expect_of(
        &self,
        targets: Vec<Target>,
    ) -> Result<Vec<(Target, Option<Expected>)>, AcquireError> {
        let mut left: Vec<_> = self.locks.iter().collect();
        let mut expected = Vec::with_capacity(targets.len());
        for target in targets {
            let is_it = |lock: &&SuspendedLock| {
                (lock.lockspace, lock.name) == (target.lockspace, target.name)
            };
            let Some(at) = left.iter().position(is_it) else {
                let locked = target.locked;
                return Err(AcquireError::OtherLocks { locked });
            };
            let lock = left.swap_remove(at);
            let Some(version) = lock.version else {
                let locked = target.locked;
                return Err(AcquireError::VersionUnknown { locked });
            };
            let as_left = Expected {
                version,
                holder: lock.holder,
                passage: Passage::AnyEnd,
            };
            expected.push((target, Some(as_left)));
        }
        match left.first() {
            Some(lock) => Err(AcquireError::OtherLocks {
                locked: lock.locked(),
            }),
            None => Ok(expected),
        }
    }
}

/// As [`LockState::to_bytes`], with a mark in place of what is no text.
impl fmt::Display for LockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl FromStr for LockState {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        Self::from_bytes(text.as_bytes())
    }
}
