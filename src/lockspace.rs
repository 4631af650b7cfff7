//! The live membership of this process in a lockspace: joined, kept renewed, left.
//!
//! [`Lockspace::options`] says how, [`LockspaceOptions::join`] blocks while the host id is won.
//! From then on a thread of its own renews it. When renewals fail for 8N, or another owner is found
//! in this host's sector, every lease held through it is lost, for good: `is_held()` says so by the clock,
//! and event descriptors and callbacks say so. Then the lockspace can only be left and joined
//! anew.

mod error;
mod guarantee;
mod health;
mod holder;
mod hosts;
mod inspection;
mod join;
mod joined;
mod live;
mod options;
mod owners;
mod path_watch;
mod process_lock;
mod recognise;
mod reread_pools;
mod rules;
mod shared;
mod spawn;
#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "threads, files and processes are real ones"
)]
mod tests;
mod threads;
mod watchdog_use;
mod watched_file;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use crate::host::LossReason;
pub use error::{JoinError, JoinErrorKind, LeaveError};
pub use guarantee::{Guarantee, Peers, WatchdogState};
pub use health::{Health, Latencies};
pub use hosts::HostInfo;
pub use options::{JoinProgress, LockspaceOptions, Watchdog};

use crate::delta_lease::{Membership, ReadSpan};
use crate::format::{Generation, HostId, HostName, LockspaceName};
use crate::runtime::clock;
use crate::runtime::disk::{Disk, StorageWorld};
use crate::runtime::executor::block_on;
use live::Inner;

pub(crate) use holder::HolderToken;
pub(crate) use hosts::Others;
pub(crate) use owners::OwnerEnd;
pub(crate) use shared::{LeaseKey, Reservation};
pub(crate) use watchdog_use::NotProtected;
pub(crate) use watched_file::WatchedFile;

/// A joined lockspace. Clones are handles to the same join; the last one that is dropped leaves it.
///
/// All methods may be called from any thread. After `fork`, the child's copy is not to be used.
#[derive(Clone)]
pub struct Lockspace {
    inner: Arc<Inner>,
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

    /// Which generation of this host id the join is. It rises by one with each join of the id.
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

    /// How well the delta lease is renewed: renewals that failed, for how long the leases are still held, and what
    /// renewals take.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.shared.renewals.health(self.held_for())
    }

    /// What stops a holder of this member host that does not stop by itself, at this instant.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        let shared = &self.inner.shared;
        let watchdog = &shared.watchdog;
        Guarantee {
            deadman: shared.holders.has_deadman(),
            watchdog: match (watchdog.is_wanted(), watchdog.is_in_force()) {
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
        self.inner.shared.loss()
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
    /// until it has been silent for 8N + F and a margin: the error says for how long.
    pub fn leave(self) -> Result<(), LeaveError> {
        self.inner.leave()
    }

    pub(crate) fn membership(&self) -> &Membership<Disk> {
        &self.inner.shared.membership
    }

    /// Which other hosts may run, by a scan that is started now. What cannot be read may.
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

impl fmt::Debug for Lockspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lockspace")
            .field("name", &self.name().to_string())
            .field("host_id", &self.host_id())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
