//! What the handles, the guards and the threads of one member host have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::health::RenewalRecord;
use super::path_watch::PathWatch;
use super::process_lock::ProcessLock;
use super::watchdog_use::WatchdogUse;
use super::watched_file::WatchedFile;
use crate::delta_lease::Membership;
use crate::fence::OwnerProcess;
use crate::host::{
    self, FailedRenewals, HolderId, HolderRegistry, LossReason, Notice, Upkeep, log_loss, lose_all,
};
use crate::libvirt::SecondLinks;
use crate::runtime::clock;
use crate::runtime::disk::{Disk, FileSystem, Identity, Links, Refreshed};
use crate::timing::Timing;
use crate::world::Timestamp;

/// Which lease on which disk.
///
/// Two with different keys may be the same: a partition and its whole disk, a loop device and the file
/// under it, one file system mounted twice. On the disk both would be one and the same host, and
/// the later one would take the lease from the earlier as its own. So a member host knows a lease by its
/// name, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeaseKey {
    pub(crate) disk: Identity,
    pub(crate) offset: u64,
}

/// The leases of a member host.
pub(crate) type LeaseTable = host::LeaseTable<Disk, LeaseKey>;

/// The right to one lease in this process.
pub(crate) type Reservation = host::Reservation<Disk, LeaseKey>;

/// See above.
pub(crate) struct Shared {
    pub(crate) membership: Membership<Disk>,
    pub(crate) leases: Arc<LeaseTable>,
    pub(crate) holders: Arc<HolderRegistry>,
    pub(super) renewals: RenewalRecord,
    pub(crate) watchdog: WatchdogUse,
    /// How the path of the lockspace was opened, if it was not handed in as a descriptor.
    pub(super) named: Option<WatchedFile>,
    /// The files with the leases of each holder.
    pub(super) files: Mutex<BTreeMap<HolderId, Arc<[WatchedFile]>>>,
    pub(super) watch: PathWatch,
    /// The second links of the lease directories that managers of this member host use, by the path of their
    /// lockspace, and which file that was when it was last found to be the joined one.
    pub(crate) directories: Mutex<BTreeMap<PathBuf, (SecondLinks, Identity)>>,
    /// Held for as long as the membership, and by every child of this process for as long as it lives.
    pub(super) process_lock: Mutex<Option<Arc<ProcessLock>>>,
}

impl Shared {
    /// The lease files of the holders that have not lost their leases.
    pub(super) fn held_files(&self) -> Vec<(HolderId, Arc<[WatchedFile]>)> {
        let files = self.files.lock();
        let all = files.iter().map(|(id, files)| (*id, Arc::clone(files)));
        let mut held: Vec<_> = all.collect();
        drop(files);
        held.retain(|(id, _)| self.holders.holds(*id));
        held
    }

    /// Marks the second links complete of each lease directory on the file system `on` that this member host uses, once
    /// they were seen incomplete for long enough. One that is not in its place is left alone.
    pub(super) fn complete_second_links(&self, on: FileSystem, round: &mut Refreshed) {
        let directories = self.directories.lock().clone();
        let quarantine = self.removal_quarantine();
        for (lockspace, (links, known)) in directories {
            let is_here = known.file_system() == on;
            if is_here && Identity::of_path(&lockspace, Links::Refuse) == Ok(known) {
                links.complete_after(quarantine, round);
            }
        }
    }

    /// [`Timing::removal_quarantine`] by the longest N of all hosts that may run.
    pub(crate) fn removal_quarantine(&self) -> Duration {
        let own = self.membership.timing();
        let now = clock::now();
        let longest = self.membership.hosts(|table| {
            let may_run = table
                .iter()
                .filter(|&(id, _)| !table.state(id, now).has_ended());
            may_run
                .map(|(_, record)| record.silence.timing().io_timeout())
                .max()
        });
        let own_timeout = own.io_timeout();
        let io_timeout = longest.map_or(own_timeout, |longest| longest.max(own_timeout));
        Timing::new(io_timeout, own.fire_timeout()).removal_quarantine()
    }

    /// Makes sure that no later join of this host id goes without a wait once this process is gone, if
    /// `owner`, for which locks are to be held, may go on running then unnoticed.
    pub(crate) fn mind_owner(&self, owner: &OwnerProcess) {
        let lock = self.process_lock.lock().clone();
        if let Some(lock) = lock.filter(|lock| !lock.is_inherited_by(owner.pid())) {
            lock.revoke();
        }
    }

    /// May block as the file system of the runtime directory does.
    pub(crate) fn revoke_proof(&self) {
        let lock = self.process_lock.lock().clone();
        if let Some(lock) = lock {
            lock.revoke();
        }
    }

    /// Says to the watchdog that leases are held until `expires_at`.
    fn extend_watchdog(&self, expires_at: Timestamp) {
        if let Some(in_force) = self.watchdog.extend(expires_at) {
            self.holders.notice(Notice::Watchdog { in_force });
        }
    }

    /// All leases are lost, now.
    pub(super) fn lose(&self, reason: &LossReason) {
        if lose_all(&self.membership, &self.holders, reason, clock::now()) {
            log_loss(&self.membership, &self.holders, &FailedRenewals::default());
        }
    }

    /// Why all leases are lost, if they are. Of a loss that nobody has named yet the clock is the cause.
    pub(super) fn loss(&self) -> Option<LossReason> {
        // First: every other cause is named before the loss.
        let is_held = self.membership.expiry().is_held(clock::now());
        let named = self.holders.loss();
        let named =
            named.or_else(|| (!is_held).then(|| self.holders.name_loss(&LossReason::NotRenewed)));
        named.cloned()
    }
}

impl Upkeep for Shared {
    fn renewed(&self, renewed_at: Timestamp, took: Duration) {
        self.holders.renewed(renewed_at);
        if let Some(error) = self.holders.unset() {
            // As it stands the timer kills this process soon: a holder that can stop has to do so before.
            self.lose(&LossReason::DeadmanUnset(error));
            return;
        }
        if let Some(deadline) = self.membership.expiry().deadline() {
            self.extend_watchdog(deadline);
        }
        let io_timeout = self.membership.timing().io();
        if self.renewals.renewed(took, io_timeout) {
            self.holders.notice(Notice::Renewed);
        }
    }

    fn missed(&self, missed: u32) {
        self.renewals.missed(missed);
    }

    fn lost(&self, found: &LossReason, since: Timestamp) {
        // Once more: its clock may have stood still in suspend.
        self.extend_watchdog(since);
        if let LossReason::HostIdLost(_) = found {
            // Perhaps by a copy of this very process, on a machine that was cloned with it.
            self.watch.revoke_proof();
        }
    }

    fn warned(&self, missed: u32, left: Duration) {
        self.renewals.warned();
        self.holders.notice(Notice::Warned { missed, left });
    }
}

/// A thread that dies, of those that keep the leases honest, must not leave leases that seem held.
pub(super) struct Death<'a> {
    shared: &'a Shared,
}

impl<'a> Death<'a> {
    pub(super) const fn of(shared: &'a Shared) -> Self {
        Self { shared }
    }

    pub(super) fn ended_well(self) {
        std::mem::forget(self);
    }
}

impl Drop for Death<'_> {
    fn drop(&mut self) {
        self.shared.lose(&LossReason::ThreadDied);
        let membership = &self.shared.membership;
        tracing::error!(
            lockspace = ?membership.area().disk,
            host_id = membership.host_id().get(),
            thread = std::thread::current().name(),
            "a thread of disklease has died, and all leases of this host are lost: report this as a bug"
        );
    }
}
