//! The live membership of this process in a lockspace: joined, kept renewed, left.
//!
//! [`Lockspace::options`] says how, [`LockspaceOptions::join`] blocks while the host id is won.
//! From then on a thread of its own renews it. When renewals fail for 8N, or somebody else is found
//! in our sector, every lease held through it is lost, for good: `is_held()` says so by the clock,
//! and event descriptors and callbacks tell it. Then the lockspace can only be left and joined
//! anew.

#[allow(
    unreachable_pub,
    clippy::exhaustive_enums,
    reason = "tests come in here"
)]
pub(crate) mod board;
#[allow(
    unreachable_pub,
    clippy::exhaustive_enums,
    reason = "tests come in here"
)]
pub(crate) mod claim;
#[allow(
    unreachable_pub,
    clippy::exhaustive_enums,
    reason = "tests come in here"
)]
pub(crate) mod debts;
mod error;
mod guarantee;
mod health;
#[allow(unreachable_pub, reason = "tests come in here")]
pub(crate) mod held;
mod host_fence;
mod hosts;
mod join;
#[allow(unreachable_pub, reason = "tests come in here")]
pub(crate) mod keep;
mod leave;
mod life_lock;
mod loss;
mod options;
mod owners;
mod recognise;
mod registry;
#[allow(
    unreachable_pub,
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "tests come in here"
)]
pub(crate) mod renewal;
mod reread_pools;
mod rules;
#[allow(unreachable_pub, reason = "tests come in here")]
pub(crate) mod settle;
mod signal;
mod thread;
mod watch;
#[allow(unnameable_types, unreachable_pub, reason = "tests come in here")]
pub(crate) mod watched_file;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use error::{JoinError, LeaveError};
pub use guarantee::{Guarantee, Peers, WatchdogState};
pub use health::{Health, Latencies};
pub use hosts::HostInfo;
pub use loss::LossReason;
pub use options::{JoinProgress, LockspaceOptions, Watchdog};

use crate::delta_lease::{Membership, ReadSpan};
use crate::format::{Generation, HostId, HostName, LockspaceName};
use crate::libvirt::SecondLinks;
use crate::runtime::clock;
use crate::runtime::disk::{Disk, FileSystem, Identity, IoPool, Links, Refreshed, StorageWorld};
use crate::runtime::executor::block_on;
use crate::timing::Timing;
use board::HolderBoard;
use health::RenewalRecord;
use host_fence::HostFence;
use life_lock::LifeLock;
use owners::OwnerWatch;
use registry::Joined;
use reread_pools::RereadPools;
use thread::RenewalThread;
use watch::PathWatch;

pub(crate) use board::{Holder, Notice, Subscription};
pub(crate) use debts::{LeaseKey, LeaseTable, NotReserved, OnLoss};
pub(crate) use host_fence::{FenceHold, NotProtected};
pub(crate) use hosts::Others;
pub(crate) use owners::OwnerEnd;

pub(crate) use watched_file::WatchedFile;

/// The right to one lease in this process.
pub(crate) type Reservation = debts::Reservation<Disk, LeaseKey>;

/// A joined lockspace. Clones are handles to the same join; the last one that is dropped leaves it.
///
/// All methods may be called from any thread. After `fork`, the child's copy is not to be used.
#[derive(Clone)]
pub struct Lockspace {
    inner: Arc<Inner>,
}

/// What the handles, the guards and the thread of one join have in common.
pub(crate) struct Shared {
    pub(crate) membership: Membership<Disk>,
    pub(crate) leases: Arc<LeaseTable<Disk, LeaseKey>>,
    pub(crate) board: Arc<HolderBoard>,
    renewals: RenewalRecord,
    pub(crate) host_fence: Arc<HostFence>,
    /// How the path of the lockspace was opened, if it was not handed in as a descriptor.
    named: Option<WatchedFile>,
    watch: PathWatch,
    /// The second links of the lease directories that managers of this join use, by the path of their
    /// lockspace, and which file that was when it was last found to be the joined one.
    pub(crate) directories: Mutex<BTreeMap<PathBuf, (SecondLinks, Identity)>>,
    /// Held for as long as the join, and by every child of this process for as long as it lives.
    life_lock: thread::Slot<Arc<LifeLock>>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    host_name: HostName,
    boot_id: [u8; 16],
    pid: u32,
    pub(crate) owners: Arc<OwnerWatch>,
    /// Dropped first: the thread uses the pools.
    thread: thread::Slot<RenewalThread>,
    /// Workers for the lockspace alone: a lease on a hung disk must not delay a renewal.
    lockspace_pool: IoPool,
    lease_pool: IoPool,
    /// Workers that read held leases again: those that hang take none away from an acquire or a release.
    reread_pools: RereadPools,
    joined: thread::Slot<Joined>,
}

impl Lockspace {
    /// How to join, under the protection of `watchdog`, with defaults for everything else.
    pub fn options(watchdog: Watchdog) -> LockspaceOptions {
        LockspaceOptions::new(watchdog)
    }

    /// This host.
    #[must_use]
    pub fn host_id(&self) -> HostId {
        self.membership().host_id()
    }

    /// Which life of this host id the join is. It rises by one with each join of the id.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.membership().generation()
    }

    /// This host's name, as other hosts see it.
    #[must_use]
    pub fn host_name(&self) -> &HostName {
        &self.inner.host_name
    }

    /// The lockspace's name.
    #[must_use]
    pub fn name(&self) -> &LockspaceName {
        &self.membership().area().name
    }

    /// The file or device that holds the lockspace.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.membership().area().disk.info().path()
    }

    /// N, this host's io timeout.
    #[must_use]
    pub fn io_timeout(&self) -> Duration {
        self.membership().timing().io()
    }

    /// Whether this host's leases can be counted on at this instant: one load and one clock read.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.membership().expiry().is_held(clock::now())
    }

    /// For how long this host's leases can be counted on, should no renewal succeed from now on.
    /// Zero when they are lost.
    #[must_use]
    pub fn held_for(&self) -> Duration {
        let deadline = self.membership().expiry().deadline();
        deadline.map_or(Duration::ZERO, |deadline| deadline.since(clock::now()))
    }

    /// How the join does: renewals that failed, the time that is left, and what renewals take.
    #[must_use]
    pub fn health(&self) -> Health {
        let renewals = &self.inner.shared.renewals;
        Health {
            missed_renewals: renewals.missed_renewals(),
            held_for: self.held_for(),
            renewals: renewals.latencies(),
            is_slow: renewals.is_slow(),
        }
    }

    /// What stops a holder of this join that does not stop by itself, at this instant.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        let shared = &self.inner.shared;
        let fence = &shared.host_fence;
        Guarantee {
            deadman: shared.board.has_deadman(),
            watchdog: match (fence.is_wanted(), fence.is_in_force()) {
                (false, _) => WatchdogState::None,
                (true, true) => WatchdogState::InForce,
                (true, false) => WatchdogState::Failed,
            },
            foreign_owners: self.inner.owners.count(|_| true),
            unreachable_owners: self
                .inner
                .owners
                .count(|owner| owner.check_reach().is_err()),
            peers: self.membership().hosts(|table| hosts::peers(table)),
        }
    }

    /// Why the leases were lost, if they were.
    #[must_use]
    pub fn loss(&self) -> Option<LossReason> {
        self.inner.shared.board.reason()
    }

    /// All host ids that were ever used, as the last scan showed them: at most 2N old.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostInfo> {
        let now = clock::now();
        self.membership().hosts(|table| hosts::all(table, now))
    }

    /// Leaves the lockspace: frees the host id, so that others need not wait for it.
    ///
    /// All guards must have been released or dropped before. Blocks for N, and for N more where I/O
    /// is still under way.
    ///
    /// # Errors
    ///
    /// [`LeaveError::InUse`] when leases are held through it: nothing was done then. After any
    /// other error this process has left all the same, but on the disk the host id looks owned
    /// until it has been silent for 8N + F.
    pub fn leave(self) -> Result<(), LeaveError> {
        self.inner.leave()
    }

    pub(crate) fn membership(&self) -> &Membership<Disk> {
        &self.inner.shared.membership
    }

    /// Which other hosts may run, by a scan that is begun now. What cannot be read may.
    pub(crate) fn others_now(&self) -> Others {
        let membership = self.membership();
        let started = clock::now();
        let io = membership.timing().io();
        let Ok(area) = block_on(membership.area().read_all(&StorageWorld, io)) else {
            return Others {
                of_ours: true,
                without_second_links: true,
            };
        };
        let mut table = membership.hosts(|table| table.clone());
        let now = clock::now();
        let completed = now;
        table.observe(&area, ReadSpan { started, completed });
        hosts::others(&table, membership.host_id(), now)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Shared {
    /// Settles the second links of each lease directory on the file system `on` that this join uses, once
    /// they were seen unsettled for long enough. One that is not in its place is left alone.
    fn settle_directories(&self, on: FileSystem, round: &mut Refreshed) {
        let directories = self.directories.lock().clone();
        let quarantine = self.removal_quarantine();
        for (lockspace, (links, known)) in directories {
            let is_here = known.file_system() == on;
            if is_here && Identity::of_path(&lockspace, Links::Refuse) == Ok(known) {
                links.settle_after(quarantine, round);
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
}

impl Inner {
    pub(crate) const fn lease_pool(&self) -> &IoPool {
        &self.lease_pool
    }

    pub(crate) const fn reread_pools(&self) -> &RereadPools {
        &self.reread_pools
    }

    /// Whether the path that was joined still names the lockspace. If not, other hosts may have
    /// joined the new one, and neither sees the other. May block as the file system does.
    pub(crate) fn is_still_named(&self) -> bool {
        !self.shared.named.as_ref().is_some_and(WatchedFile::is_lost)
    }

    /// Sees to it that each file system with held leases is inspected by a thread of its own, as far as
    /// threads are to be had.
    pub(crate) fn watch_file_systems(&self) {
        if let Err(error) = PathWatch::start_threads(&self.shared) {
            tracing::warn!(%error, "no thread is to be had for a file system: another inspects its lease files");
        }
    }

    pub(crate) const fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }
}

impl fmt::Debug for Lockspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lockspace")
            .field("name", &self.name().to_string())
            .field("host_id", &self.host_id())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
