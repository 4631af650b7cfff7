//! The manager that takes leases in a lockspace.

use std::time::Duration;

use super::error::{AcquireError, AcquireErrorKind, DirectoryError, LeaseFault};
use super::guard::LockGuard;
use super::handover::accepted::Accepted;
use super::handover::token::HandoverToken;
use super::lease::{Attempt, Lease, Unstarted};
use super::leftover::{may_be_leftover, replace_leftover};
use super::lock_manager::LockManager;
use super::locked::Locked;
use super::misnamed_lease::{file_beside_second_link, put_second_right, replace_copy};
use super::missing_lease;
use super::place::{self, expect_held, expect_named};
use super::request::{Access, LockRequest, Owner, WaitLimit};
use super::spelling::warn_of_other_names;
use super::suspended::SuspendedLocks;
use super::target::Target;
use crate::format::{HolderNote, LeaseVersion};
use crate::libvirt::{LeaseDirectory, lease_name};
use crate::lockspace::{Lockspace, LossReason};
use crate::paxos_lease::{Holding, Patience, VersionPrecondition};
use crate::runtime::clock;
use crate::runtime::disk::StorageWorld;
use crate::runtime::executor::block_on;
use crate::world::{CancelToken, OsError, World};

/// The pause before another try at what another host holds, at least; up to twice that, by chance.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The same where another guard of this process holds it: nothing is read for such a try.
const LOCAL_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How often it is checked during a pause whether the wait was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// The longest pause while another program may be about to initialise a lease: each try writes a
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
    /// `None`: it locks no disks, only leases whose place a request names.
    directory: Option<LeaseDirectory>,
}

impl PaxosManager {
    /// A manager that takes leases as a host of `lockspace`, for disks those in `directory`, whose
    /// lockspace that must be: hosts of another one would take the same leases for free. By another mount
    /// of the same storage it is the same one. Asked again at each acquire.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] if `lockspace` is not the one in `directory`, or that cannot be found out.
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
        let mut targets = Vec::new();
        let joined = *self.lockspace.name();
        for (disk, access) in &request.disks {
            match access {
                Access::Exclusive => {}
            }
            let Some(directory) = &self.directory else {
                let disk = disk.clone();
                return Err(AcquireErrorKind::NoLeaseDirectory { disk }.into());
            };
            let locked = Locked::Disk(disk.clone());
            targets.push(Target::in_directory(
                locked,
                joined,
                lease_name(disk),
                directory,
            ));
        }
        for lease in &request.leases {
            let asked_for = lease.lockspace;
            if asked_for != joined {
                let kind = AcquireErrorKind::OtherLockspace { asked_for, joined };
                return Err(kind.into());
            }
            targets.push(Target::of_spec(lease));
        }
        targets.sort_by(|a, b| a.at().cmp(&b.at()));
        let is_twice = |pair: &&[Target]| matches!(pair, [a, b] if a.at() == b.at());
        match targets.windows(2).find(is_twice) {
            Some([twice, ..]) => Err(named_twice(twice)),
            _ => Ok(targets),
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

    /// Acquires all that is requested, each as `expect` says, or nothing.
    fn acquire_all(
        &self,
        request: &LockRequest,
        expect: impl FnOnce(Vec<Target>) -> Result<Expectations, AcquireError>,
    ) -> Result<LockGuard, AcquireError> {
        request.check()?;
        if !request.action.is_fenced() && self.lockspace.inner().shared.watchdog.is_wanted() {
            return Err(AcquireErrorKind::IgnoredWithWatchdog.into());
        }
        // Before anything is waited for: the number may be another's by then.
        let wishes = request.wishes()?;
        let targets = expect(self.targets(request)?)?;
        // For all leases together.
        let patience = match request.wait {
            WaitLimit::Try => Patience::Refuse,
            WaitLimit::For(limit) => Patience::WaitForDeath {
                until: Some(clock::now() + limit),
            },
            WaitLimit::Forever => Patience::WaitForDeath { until: None },
        };
        if let (Some(directory), false) = (&self.directory, request.disks.is_empty()) {
            self.check_place(directory)?;
            missing_lease::complete_if_alone(&self.lockspace, directory);
        }
        warn_of_other_names(request.disks.iter().map(|(disk, _)| disk.clone()));
        // All or nothing.
        let leases = loop {
            let mut leases = Unstarted::default();
            for (target, expected) in &targets {
                let mine = leases.as_slice();
                let lease = self.acquire_one(target, mine, request, patience, *expected)?;
                leases.push(lease);
            }
            let Err(error) = leases.check_again() else {
                break leases;
            };
            drop(leases);
            self.pause(error, patience, &request.cancel)?;
        };
        let guard = LockGuard::over(&self.lockspace, leases, wishes)?;
        self.give_out(guard, request.owner.pid)
    }

    /// Acquires one lease of a request that has got `mine` so far, as often as `patience` allows.
    fn acquire_one(
        &self,
        target: &Target,
        mine: &[Lease],
        request: &LockRequest,
        patience: Patience,
        expected: Option<VersionPrecondition>,
    ) -> Result<Lease, AcquireError> {
        let mut mended = false;
        loop {
            if request.cancel.is_cancelled() {
                return Err(target.error(AcquireErrorKind::Cancelled));
            }
            // Before anything else is found out: a guard that was lost still counts as a holder.
            expect_held(&self.lockspace)?;
            let holding = Holding {
                patience,
                note: Some(self.note(&request.owner)),
                expected,
                cancel: request.cancel.clone(),
            };
            let attempt = Attempt {
                lockspace: &self.lockspace,
                target,
                holding: &holding,
            };
            let error = match self.try_one(attempt) {
                Ok(lease) => return Ok(lease),
                Err(error) => error,
            };
            let is_held_here = matches!(error.kind(), AcquireErrorKind::HeldHere);
            if is_held_here && mine.iter().any(|lease| lease.is_at(target)) {
                // To wait would be to wait for ourselves.
                return Err(named_twice(target));
            }
            let error = match self.mend(attempt, error.clone()) {
                Ok(()) if !mended => {
                    mended = true;
                    continue;
                }
                // What is to be mended again and again is somebody's who is at it still.
                Ok(()) => error,
                Err(refusal) => refusal,
            };
            self.pause(error, patience, &request.cancel)?;
        }
    }

    /// Finds or makes the file of `target`, and tries once to acquire its lease.
    fn try_one(&self, attempt: Attempt<'_>) -> Result<Lease, AcquireError> {
        let target = attempt.target;
        let (Some(_), Some(directory)) = (&target.names, &self.directory) else {
            return attempt.acquire();
        };
        self.check_place(directory)?;
        // A lease with a version precondition is there.
        let may_create = attempt.holding.expected.is_none();
        missing_lease::find(&self.lockspace, directory, target, may_create)?;
        let lease = attempt.acquire()?;
        // Another one may have been mounted meanwhile.
        let place = self.check_place(directory);
        lease.unless_refused(place)
    }

    fn check_place(&self, directory: &LeaseDirectory) -> Result<(), AcquireError> {
        expect_named(&self.lockspace)?;
        place::check(&self.lockspace, directory)
            .map_err(|error| AcquireErrorKind::from(error).into())
    }

    /// Mends what `refused` tells of, so that another try may succeed; or gives it back.
    fn mend(&self, attempt: Attempt<'_>, refused: AcquireError) -> Result<(), AcquireError> {
        if let Some(first) = file_beside_second_link(&refused) {
            return put_second_right(attempt, first);
        }
        if refused.holder().is_some() {
            return replace_copy(attempt, refused);
        }
        match &self.directory {
            Some(directory) if may_be_leftover(attempt.target, &refused) => {
                replace_leftover(attempt, directory, refused)
            }
            _ => Err(refused),
        }
    }

    /// Pauses before another try. Gives `error` back where none can do better, or none is wanted.
    fn pause(
        &self,
        error: AcquireError,
        patience: Patience,
        cancel: &CancelToken,
    ) -> Result<(), AcquireError> {
        let Some(pause) = pause_before_retry(&error) else {
            return Err(error);
        };
        // What this process itself is in the way of, a lost guard or a pending cleanup, may then stay so.
        expect_held(&self.lockspace)?;
        let now = clock::now();
        let pause = match patience {
            Patience::Refuse => return Err(error),
            Patience::WaitForDeath { until: Some(until) } if now >= until => return Err(error),
            Patience::WaitForDeath { until: Some(until) } => pause.min(until.since(now)),
            Patience::WaitForDeath { until: None } => pause,
        };
        let until = now + pause;
        while clock::now() < until && !cancel.is_cancelled() {
            let left = until.since(clock::now());
            block_on(StorageWorld.sleep(left.min(CANCEL_INTERVAL)));
        }
        Ok(())
    }

    /// The last check: the lockspace may have been lost, and the owner have ended, since the last acquire.
    fn give_out(&self, guard: LockGuard, owner: u32) -> Result<LockGuard, AcquireError> {
        if guard.is_held() {
            tracing::info!(locks = ?guard, "acquired");
            return Ok(guard);
        }
        let kind = match guard.loss() {
            Some(LossReason::OwnerEnded) => {
                let error = OsError::new(libc::ESRCH);
                AcquireErrorKind::OwnerGone { pid: owner, error }
            }
            Some(reason) if self.lockspace.is_held() => AcquireErrorKind::Lost { reason },
            reason => AcquireErrorKind::LockspaceLost { reason },
        };
        Err(kind.into())
    }
}

/// What is to be locked, each as it must have been left.
type Expectations = Vec<(Target, Option<VersionPrecondition>)>;

fn named_twice(target: &Target) -> AcquireError {
    let path = target.lease.path.clone();
    AcquireErrorKind::NamedTwice { path }.into()
}

/// How long to wait before another try, if another try can do better.
fn pause_before_retry(error: &AcquireError) -> Option<Duration> {
    match error.kind() {
        AcquireErrorKind::HeldHere | AcquireErrorKind::CleanupPending => Some(LOCAL_RETRY_PAUSE),
        AcquireErrorKind::Lease(LeaseFault::BeingCreated { remaining }) => {
            Some((*remaining).clamp(RETRY_PAUSE, LEFTOVER_PAUSE))
        }
        AcquireErrorKind::Lease(LeaseFault::MayBeHeld { remaining }) => {
            Some((*remaining).clamp(RETRY_PAUSE, QUARANTINE_PAUSE))
        }
        _ if error.is_held() || error.is_contended() => {
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
        self.acquire_all(&request, |targets| {
            Ok(targets.into_iter().map(|target| (target, None)).collect())
        })
    }

    fn resume(
        &self,
        state: &SuspendedLocks,
        request: LockRequest,
    ) -> Result<LockGuard, AcquireError> {
        self.acquire_all(&state.fill(request), |targets| state.expect_of(targets))
    }

    fn accept(
        &self,
        token: &HandoverToken,
        request: LockRequest,
    ) -> Result<Accepted, AcquireError> {
        let guard = self.acquire_all(&request, |targets| token.expect_of(targets))?;
        Ok(Accepted::new(guard, token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::testing::joined;

    #[test]
    fn no_guard_is_given_out_whose_lockspace_was_lost_after_its_last_acquire() {
        let (_dir, _, lockspace) = joined();
        let manager = PaxosManager::without_directory(lockspace.clone());
        let guard = || {
            let request = LockRequest::new(Owner::this_process("guest-1"));
            let wishes = request.wishes().unwrap();
            LockGuard::over(&lockspace, Unstarted::default(), wishes).unwrap()
        };
        assert!(manager.give_out(guard(), 1).unwrap().is_held());
        let guard = guard();
        lockspace.membership().expiry().lose();
        let refused = manager.give_out(guard, 1).unwrap_err();
        let reason = Some(LossReason::NotRenewed);
        let lost = AcquireErrorKind::LockspaceLost { reason };
        assert_eq!(*refused.kind(), lost);
    }
}
