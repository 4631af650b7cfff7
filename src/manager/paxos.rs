//! The manager that takes leases in a lockspace.

use std::time::Duration;

use super::error::{AcquireError, DirectoryError, LeaseFault};
use super::guard::{LockGuard, Locked};
use super::handover::{Accepted, HandoverToken};
use super::lease::{Lease, Leaving, Target, Unstarted};
use super::request::{Access, LockRequest, Owner, WaitLimit};
use super::spelling::warn_of_other_names;
use super::state::LockState;
use super::{LockManager, new_lease, place, repair};
use crate::format::{HolderNote, LeaseVersion};
use crate::libvirt::{LeaseDirectory, lease_name};
use crate::lockspace::{Lockspace, LossReason};
use crate::paxos_lease::{Expected, Holding, Patience};
use crate::runtime::clock;
use crate::runtime::disk::StorageWorld;
use crate::runtime::executor::block_on;
use crate::world::{CancelToken, OsError, Timestamp, World};

/// The pause before another try at what somebody else holds, at least; up to twice that, by chance.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The same where another guard of this process holds it: nothing is read for such a try.
const LOCAL_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How often a pause is looked at whether it was cancelled.
const CANCEL_LOOK: Duration = Duration::from_millis(100);

/// The longest pause while somebody else may be about to initialise a lease: each try writes a
/// file.
const LEFTOVER_PAUSE: Duration = Duration::from_secs(5);

/// The same while a holder may make its second links again: each try reads the lockspace.
const QUARANTINE_PAUSE: Duration = Duration::from_secs(1);

/// Locks disks by leases in one lockspace.
///
/// The lease of a disk is the file in the [`LeaseDirectory`] that is named by the MD5 of the disk's
/// path; it is created when it is missing. Clones share the lockspace.
#[derive(Clone, Debug)]
pub struct PaxosManager {
    lockspace: Lockspace,
    /// `None`: it locks no disks, only leases that it is told where to find.
    directory: Option<LeaseDirectory>,
}

impl PaxosManager {
    /// A manager that takes leases as a host of `lockspace`, for disks those in `directory`, whose
    /// lockspace that must be: hosts of another one would take the same leases for free. By another mount
    /// of the same storage it is the same one. Asked again at each acquire.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if `lockspace` is not the one in `directory`, or that cannot be told.
    pub fn new(lockspace: Lockspace, directory: LeaseDirectory) -> Result<Self, DirectoryError> {
        place::check(&lockspace, &directory)?;
        Ok(Self {
            lockspace,
            directory: Some(directory),
        })
    }

    /// A manager without a lease directory: it locks no disks by their paths, but leases that
    /// requests name one by one ([`LockRequest::lease`]).
    #[must_use]
    pub const fn without_directory(lockspace: Lockspace) -> Self {
        Self {
            lockspace,
            directory: None,
        }
    }

    /// The lockspace.
    #[must_use]
    pub const fn lockspace(&self) -> &Lockspace {
        &self.lockspace
    }

    /// The leases to take, in the one order that everybody takes them in.
    fn targets(&self, request: &LockRequest) -> Result<Vec<Target>, AcquireError> {
        let mut targets =
            Vec::with_capacity(request.disks.len().saturating_add(request.leases.len()));
        let joined = self.lockspace.name();
        for (disk, access) in &request.disks {
            match access {
                Access::Exclusive => {}
            }
            let Some(directory) = &self.directory else {
                return Err(AcquireError::NoLeaseDirectory { disk: disk.clone() });
            };
            targets.push(Target {
                locked: Locked::Disk(disk.clone()),
                path: directory.lease_path(disk),
                offset: 0,
                lockspace: *joined,
                name: lease_name(disk),
                names: Some(directory.lease_names(&lease_name(disk))),
            });
        }
        for lease in &request.leases {
            if lease.lockspace != *joined {
                return Err(AcquireError::OtherLockspace {
                    asked_for: lease.lockspace,
                    joined: *joined,
                });
            }
            targets.push(Target {
                locked: Locked::Lease {
                    lockspace: lease.lockspace,
                    name: lease.name,
                },
                path: lease.path.clone(),
                offset: lease.offset,
                lockspace: lease.lockspace,
                name: lease.name,
                names: None,
            });
        }
        targets.sort_by(|a, b| (&a.path, a.offset).cmp(&(&b.path, b.offset)));
        let same_place = |pair: &[Target]| match pair {
            [a, b] => (&a.path, a.offset) == (&b.path, b.offset),
            _ => false,
        };
        match targets
            .windows(2)
            .find(|pair| same_place(pair))
            .and_then(<[_]>::first)
        {
            Some(twice) => Err(AcquireError::NamedTwice {
                path: twice.path.clone(),
            }),
            None => Ok(targets),
        }
    }

    fn note(&self, owner: &Owner) -> HolderNote {
        // Host, generation and version are the acquire's to fill in.
        let lockspace = &self.lockspace;
        let mut note = HolderNote::new(
            lockspace.host_id(),
            lockspace.generation(),
            LeaseVersion::new(0),
        )
        .with_guest_name(&owner.guest_name);
        note.guest_uuid = owner.guest_uuid;
        note.pid = owner.pid;
        note.boot_id = lockspace.inner().boot_id();
        note.acquired_unix_secs = clock::unix_secs();
        note
    }

    /// Acquires one lease of a request that has got `mine` so far, as often as the limit allows.
    fn acquire_one(
        &self,
        target: &Target,
        mine: &[Lease],
        request: &LockRequest,
        limit: Limit,
        expected: Option<Expected>,
    ) -> Result<Lease, AcquireError> {
        let cancel = &request.cancel;
        let mut mended = false;
        loop {
            if cancel.is_cancelled() {
                let locked = target.locked.clone();
                return Err(AcquireError::Cancelled { locked });
            }
            // Before anything else is found out: a guard that was lost still looks like a holder.
            if !self.lockspace.is_held() {
                return Err(AcquireError::LockspaceLost {
                    reason: self.lockspace.loss(),
                });
            }
            let patience = match limit {
                Limit::Try => Patience::Refuse,
                Limit::Until(until) => Patience::WaitForDeath { until: Some(until) },
                Limit::Forever => Patience::WaitForDeath { until: None },
            };
            let holding = Holding {
                patience,
                note: Some(self.note(&request.owner)),
                expected,
                cancel: cancel.clone(),
            };
            let mut error = match self.try_one(target, &holding) {
                Ok(lease) => return Ok(lease),
                Err(error) => error,
            };
            let is_held_here = matches!(error, AcquireError::HeldHere { .. });
            if is_held_here && mine.iter().any(|lease| lease.is_at(target)) {
                // To wait would be to wait for ourselves.
                return Err(AcquireError::NamedTwice {
                    path: target.path.clone(),
                });
            }
            if may_mend(target, &error) {
                match self.mend(target, &holding, error.clone()) {
                    // What is to be mended again and again is somebody's who is at it still.
                    Ok(()) if mended => {}
                    Ok(()) => {
                        mended = true;
                        continue;
                    }
                    Err(refusal) => error = refusal,
                }
            }
            self.pause(error, limit, cancel)?;
        }
    }

    /// Pauses before another try. Gives `error` back where none can do better, or none is wanted.
    fn pause(
        &self,
        error: AcquireError,
        limit: Limit,
        cancel: &CancelToken,
    ) -> Result<(), AcquireError> {
        let Some(pause) = pause_before_retry(&error) else {
            return Err(error);
        };
        // What this process itself is in the way of, a lost guard or a debt, may then stay so.
        if !self.lockspace.is_held() {
            return Err(AcquireError::LockspaceLost {
                reason: self.lockspace.loss(),
            });
        }
        let now = clock::now();
        let pause = match limit {
            Limit::Try => return Err(error),
            Limit::Until(until) if now >= until => return Err(error),
            Limit::Until(until) => pause.min(until.since(now)),
            Limit::Forever => pause,
        };
        let until = now + pause;
        while clock::now() < until && !cancel.is_cancelled() {
            let left = until.since(clock::now());
            block_on(StorageWorld.sleep(left.min(CANCEL_LOOK)));
        }
        Ok(())
    }
}

impl PaxosManager {
    /// Finds or makes the file of `target`, and tries once to acquire its lease.
    fn try_one(&self, target: &Target, holding: &Holding) -> Result<Lease, AcquireError> {
        let (Some(_), Some(directory)) = (&target.names, &self.directory) else {
            return target.try_acquire(&self.lockspace, holding);
        };
        self.check_place(directory)?;
        // A lease that must be as it was left is there.
        let may_create = holding.expected.is_none();
        new_lease::find(&self.lockspace, directory, target, may_create)?;
        let lease = target.try_acquire(&self.lockspace, holding)?;
        // Another one may have been mounted meanwhile.
        match self.check_place(directory) {
            Ok(()) => Ok(lease),
            Err(error) => {
                lease.release_quietly(Leaving::Unused);
                Err(error)
            }
        }
    }

    fn check_place(&self, directory: &LeaseDirectory) -> Result<(), AcquireError> {
        if !self.lockspace.inner().is_still_named() {
            return Err(AcquireError::LockspaceReplaced {
                path: self.lockspace.path().to_owned(),
            });
        }
        place::check(&self.lockspace, directory).map_err(|error| AcquireError::Directory { error })
    }

    /// Mends what `error` tells of, so that another try may succeed.
    fn mend(
        &self,
        target: &Target,
        holding: &Holding,
        error: AcquireError,
    ) -> Result<(), AcquireError> {
        if let Some(first) = new_lease::file_beside_second_link(&error) {
            return new_lease::put_second_right(&self.lockspace, target, holding, first);
        }
        if matches!(error, AcquireError::Held { .. }) {
            return new_lease::replace_copy(&self.lockspace, target, holding, error);
        }
        match &self.directory {
            Some(directory) => {
                repair::replace_leftover(&self.lockspace, directory, target, holding, error)
            }
            None => Err(error),
        }
    }
}

fn may_mend(target: &Target, error: &AcquireError) -> bool {
    let may_be_copy = matches!(error, AcquireError::Held { .. }) && target.names.is_some();
    may_be_copy
        || new_lease::file_beside_second_link(error).is_some()
        || repair::may_mend(target, error)
}

/// The request's limit as an instant, for all its leases together.
#[derive(Clone, Copy)]
enum Limit {
    Try,
    Until(Timestamp),
    Forever,
}

impl Limit {
    fn begin(wait: WaitLimit) -> Self {
        match wait {
            WaitLimit::Try => Self::Try,
            WaitLimit::For(limit) => Self::Until(clock::now() + limit),
            WaitLimit::Forever => Self::Forever,
        }
    }
}

/// How long to wait before another try, if another try can do better.
fn pause_before_retry(error: &AcquireError) -> Option<Duration> {
    match error {
        AcquireError::HeldHere { .. } | AcquireError::NotSettled { .. } => Some(LOCAL_RETRY_PAUSE),
        AcquireError::Lease {
            fault: LeaseFault::BeingCreated { remaining },
            ..
        } => Some((*remaining).clamp(RETRY_PAUSE, LEFTOVER_PAUSE)),
        AcquireError::Lease {
            fault: LeaseFault::MayBeHeld { remaining },
            ..
        } => Some((*remaining).clamp(RETRY_PAUSE, QUARANTINE_PAUSE)),
        error if error.is_held() || error.is_contended() => {
            let millis = u64::try_from(RETRY_PAUSE.as_millis()).unwrap_or(0);
            Some(RETRY_PAUSE.saturating_add(Duration::from_millis(clock::random(millis))))
        }
        _ => None,
    }
}

impl LockManager for PaxosManager {
    fn name(&self) -> &'static str {
        "paxos"
    }

    fn acquire(&self, request: LockRequest) -> Result<LockGuard, AcquireError> {
        self.acquire_all(request, |targets| {
            Ok(targets.into_iter().map(|target| (target, None)).collect())
        })
    }

    fn resume(&self, state: &LockState, request: LockRequest) -> Result<LockGuard, AcquireError> {
        let request = state.fill(request);
        self.acquire_all(request, |targets| state.expect_of(targets))
    }

    fn accept(
        &self,
        token: &HandoverToken,
        request: LockRequest,
    ) -> Result<Accepted, AcquireError> {
        let guard = self.acquire_all(request, |targets| token.expect_of(targets))?;
        Ok(Accepted::new(guard, token))
    }
}

/// What is to be locked, each as it must have been left.
type Expectations = Vec<(Target, Option<Expected>)>;

impl PaxosManager {
    /// Acquires all that is requested, each as `expect` says, or nothing.
    fn acquire_all(
        &self,
        mut request: LockRequest,
        expect: impl FnOnce(Vec<Target>) -> Result<Expectations, AcquireError>,
    ) -> Result<LockGuard, AcquireError> {
        request.check()?;
        if !request.action.is_fenced() && self.lockspace.inner().shared.watchdog.is_wanted() {
            return Err(AcquireError::IgnoredWithWatchdog);
        }
        // Before anything is waited for: the number may be another's by then.
        let wishes = request.take_wishes()?;
        let targets = expect(self.targets(&request)?)?;
        let limit = Limit::begin(request.wait);
        if let Some(directory) = self
            .directory
            .as_ref()
            .filter(|_| !request.disks.is_empty())
        {
            self.check_place(directory)?;
            new_lease::settle_if_alone(&self.lockspace, directory);
        }
        warn_of_other_names(request.disks.iter().map(|(disk, _)| disk.clone()));
        // All or nothing.
        let leases = loop {
            let mut leases = Unstarted::default();
            for (target, expected) in &targets {
                let mine = leases.as_slice();
                let lease = self.acquire_one(target, mine, &request, limit, *expected)?;
                leases.push(lease);
            }
            let Err(error) = leases.check_again() else {
                break leases;
            };
            drop(leases);
            self.pause(error, limit, &request.cancel)?;
        };
        let guard = LockGuard::over(&self.lockspace, leases, wishes)?;
        self.give_out(guard, request.owner.pid)
    }

    /// The last look: the lockspace may have been lost, and the owner have ended, since the last acquire.
    fn give_out(&self, guard: LockGuard, owner: u32) -> Result<LockGuard, AcquireError> {
        if guard.is_held() {
            tracing::info!(locks = ?guard, "acquired");
            return Ok(guard);
        }
        Err(match guard.loss() {
            Some(LossReason::OwnerEnded) => AcquireError::OwnerGone {
                pid: owner,
                error: OsError(libc::ESRCH),
            },
            Some(reason) if self.lockspace.is_held() => AcquireError::Lost { reason },
            reason => AcquireError::LockspaceLost { reason },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::HostId;
    use crate::lockspace::Watchdog;

    #[test]
    fn no_guard_is_given_out_whose_lockspace_was_lost_after_its_last_acquire() {
        let dir = tempfile::tempdir().unwrap();
        let n = Duration::from_secs(1);
        let path = LeaseDirectory::new(dir.path()).create_lockspace(n).unwrap();
        let lockspace = Lockspace::options(Watchdog::None)
            .io_timeout(n)
            .runtime_dir(dir.path().join("run"))
            .join(path, HostId::FIRST)
            .unwrap();
        let manager = PaxosManager::without_directory(lockspace.clone());
        let guard = || {
            let mut request = LockRequest::new(Owner::this_process("guest-1"));
            let wishes = request.take_wishes().unwrap();
            LockGuard::over(&lockspace, Unstarted::default(), wishes).unwrap()
        };
        assert!(manager.give_out(guard(), 1).unwrap().is_held());
        let guard = guard();
        lockspace.membership().expiry().lose();
        let reason = Some(LossReason::NotRenewed);
        let lost = AcquireError::LockspaceLost { reason };
        assert_eq!(manager.give_out(guard, 1).unwrap_err(), lost);
    }
}
