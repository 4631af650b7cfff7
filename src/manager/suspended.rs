//! What a guest had locked when it was suspended, so that it can go on from there.

use std::fmt;
use std::str::FromStr;

use super::error::{AcquireError, AcquireErrorKind, ReleaseError, ReleaseErrorKind};
use super::guard::LockGuard;
use super::lease::{Lease, Leaving};
use super::request::{LeaseSpec, LockRequest};
use super::target::Target;
use crate::format::{Generation, HostId};
use crate::libvirt::{
    HoldState, LeaseState, StateError, StateErrorKind, parse_state, state_string,
};
use crate::paxos_lease::{RequiredEnd, VersionPrecondition};

/// What a suspended guest had locked, and in which version of each lease.
///
/// As text it is the state string of sanlock and libvirt, which goes anywhere that a suspended guest
/// is kept. The text has no room for who held the locks; a state that never became text also tells a
/// lease that was deleted, made anew, and came to the same version again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuspendedLocks {
    /// Each in one place.
    locks: Vec<LeaseState>,
    /// Who held them, if that is known.
    holder: Option<(HostId, Generation)>,
}

/// The locks were given up, but not all of them on the disk.
///
/// The state may be resumed all the same: whether anybody came in between is found out then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("suspended, but {error}")]
#[non_exhaustive]
pub struct SuspendError {
    /// What was suspended.
    pub state: SuspendedLocks,
    /// What went wrong with the first lease of which anything did.
    #[source]
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
    pub fn suspend(self) -> Result<SuspendedLocks, SuspendError> {
        let state = SuspendedLocks::of(&self);
        self.end();
        match self.give_back(Leaving::Used) {
            Err(error) if *error.kind() != ReleaseErrorKind::LockspaceLost => {
                Err(SuspendError { state, error })
            }
            _ => Ok(state),
        }
    }
}

fn state_of(lease: &Lease) -> LeaseState {
    let LeaseSpec {
        lockspace,
        name,
        path,
        offset,
    } = &lease.target().lease;
    let hold = HoldState::Version(lease.version());
    LeaseState::new(*lockspace, *name, path, *offset, hold)
}

impl SuspendedLocks {
    /// What to resume when the locks of `guard` have been given back.
    pub(super) fn of(guard: &LockGuard) -> Self {
        let lockspace = guard.lockspace();
        Self {
            locks: guard.leases().iter().map(state_of).collect(),
            holder: lockspace.map(|lockspace| (lockspace.host_id(), lockspace.generation())),
        }
    }

    /// What was locked. Each lock lies in one place.
    #[must_use]
    pub fn locks(&self) -> &[LeaseState] {
        &self.locks
    }

    /// Who held the locks, if that is known: a text does not say.
    #[must_use]
    pub const fn holder(&self) -> Option<(HostId, Generation)> {
        self.holder
    }

    /// As sanlock and libvirt write it. The path of a lease may be any bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        state_string(&self.locks)
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
        let locks = parse_state(text)?;
        // Of a lease with copies on several disks no one of them tells all.
        match locks.iter().map(|lock| lock.places.len()).max() {
            Some(places) if places > 1 => {
                let fields = places.saturating_mul(2).saturating_add(3);
                Err(StateErrorKind::Fields { fields }.at(0))
            }
            _ => Ok(Self {
                locks,
                holder: None,
            }),
        }
    }

    /// `request`, for all that this names if it names nothing itself.
    pub(super) fn fill(&self, mut request: LockRequest) -> LockRequest {
        if request.disks.is_empty() && request.leases.is_empty() {
            for lock in &self.locks {
                let specs = lock.places.iter().map(|place| {
                    LeaseSpec::new(lock.lockspace, lock.name, &place.path, place.offset)
                });
                request.leases.extend(specs);
            }
        }
        request
    }

    /// How each of `targets` must have been left: they are those of this state, no fewer and no more.
    pub(super) fn expect_of(
        &self,
        targets: Vec<Target>,
    ) -> Result<Vec<(Target, Option<VersionPrecondition>)>, AcquireError> {
        let locks = self.locks.iter().collect();
        let pairs = Target::pair(targets, locks, |lock: &&LeaseState, lease| {
            (lock.lockspace, lock.name) == (lease.lockspace, lease.name)
        })?;
        let expected = pairs.into_iter().map(|(target, lock)| {
            let HoldState::Version(version) = lock.hold else {
                return Err(target.error(AcquireErrorKind::VersionUnknown));
            };
            let precondition = VersionPrecondition {
                version,
                holder: self.holder,
                required_end: RequiredEnd::AnyEnd,
            };
            Ok((target, Some(precondition)))
        });
        expected.collect()
    }
}

/// As [`SuspendedLocks::to_bytes`], with a mark in place of what is no text.
impl fmt::Display for SuspendedLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl FromStr for SuspendedLocks {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        Self::from_bytes(text.as_bytes())
    }
}
