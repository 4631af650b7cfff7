//! A member host, from the start of its threads to the leave, on purpose or because the last handle is gone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::LeaveError;
use super::inspection;
use super::joined::Joined;
use super::owners::OwnerWatch;
use super::reread_pools::RereadPools;
use super::rules;
use super::shared::Shared;
use super::threads::Threads;
use super::watched_file::WatchedFile;
use crate::delta_lease::{DeltaLease, release};
use crate::format::HostName;
use crate::host::{LossReason, lose_all, run_on};
use crate::runtime::clock;
use crate::runtime::disk::{IoPool, IoWatch, StorageWorld};
use crate::runtime::executor::block_on;
use crate::world::World;

/// How often to see whether I/O under way has completed.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What the handles of one member host have in common.
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(super) host_name: HostName,
    pub(super) boot_id: [u8; 16],
    pub(super) pid: u32,
    pub(crate) owners: Arc<OwnerWatch>,
    /// Dropped first: the threads use the pools.
    pub(super) threads: Mutex<Option<Threads>>,
    /// Workers for the lockspace alone: a lease on a hung disk must not delay a renewal.
    pub(super) lockspace_pool: IoPool,
    pub(super) lease_pool: IoPool,
    /// Workers that read held leases again: those that hang take none away from an acquire or a release.
    pub(super) reread_pools: RereadPools,
    pub(super) joined: Mutex<Option<Joined>>,
}

impl Inner {
    /// Leaves, once: later calls do nothing.
    pub(super) fn leave(&self) -> Result<(), LeaveError> {
        if self.pid != std::process::id() {
            // A copy in a forked child, where none of our threads is. The membership is the parent's.
            return Ok(());
        }
        let closed = self.shared.leases.close();
        closed.map_err(|leases| LeaveError::InUse { leases })?;
        let Some(mut threads) = self.threads.lock().take() else {
            return Ok(());
        };
        self.owners.close();
        let membership = &self.shared.membership;
        // When the leases are lost the id is not freed, and the deadman timer does not wait for much
        // longer.
        let limit = || {
            let deadline = membership.expiry().deadline();
            let held_for = deadline.map_or(Duration::ZERO, |deadline| deadline.since(clock::now()));
            membership.timing().io().min(held_for)
        };
        let lease = threads.stop_renewing(&self.shared, limit());
        let in_flight = wait_for_io(&self.pools(), limit());
        // The release ends the leases: from here on they are lost for this cause, if for no other before.
        self.shared.loss();
        self.shared.holders.name_loss(&LossReason::Left);
        let path = membership.area().disk.info().path().to_owned();
        let (host_id, free_after) = (membership.host_id(), membership.timing().dead_after());
        let left = match (lease, rules::may_free(!in_flight.is_empty())) {
            (None, _) => Err(LeaveError::RenewalThreadDied {
                path,
                host_id,
                free_after,
            }),
            (Some(_), false) => Err(LeaveError::IoInFlight {
                path,
                host_id,
                free_after,
            }),
            (Some(lease), true) => {
                let released = block_on(release(&StorageWorld, membership, &lease));
                released.map_err(|error| LeaveError::NotFreed {
                    path,
                    host_id,
                    free_after,
                    error,
                })
            }
        };
        let now = clock::now();
        lose_all(membership, &self.shared.holders, &LossReason::Left, now);
        if !busy(&self.pools()).is_empty() {
            block_on(run_on(&StorageWorld, membership.timing()));
        }
        self.shared.holders.end_writing();
        threads.end(&self.shared);
        self.end_join();
        tracing::info!(
            lockspace = %membership.area().name,
            host_id = membership.host_id().get(),
            generation = membership.generation().get(),
            freed = left.is_ok(),
            "left the lockspace"
        );
        left
    }

    /// Frees the host id of a member host that got no thread. Best effort: the error to report is the
    /// join's.
    pub(super) fn free(&self, lease: &DeltaLease) {
        let membership = &self.shared.membership;
        if let Err(error) = block_on(release(&StorageWorld, membership, lease)) {
            tracing::warn!(
                lockspace = ?membership.area().disk,
                next_join_waits = ?membership.timing().dead_after(),
                %error,
                "a join that failed could not free its host id"
            );
        }
        // The write may still be under way: no next join before it has completed.
        self.end_join();
    }

    pub(crate) const fn lease_pool(&self) -> &IoPool {
        &self.lease_pool
    }

    pub(crate) const fn reread_pools(&self) -> &RereadPools {
        &self.reread_pools
    }

    pub(crate) const fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    /// Whether the path that was joined still names the lockspace. If not, other hosts may have
    /// joined the new one, and neither sees the other. May block as the file system does.
    pub(crate) fn is_still_named(&self) -> bool {
        !self.shared.named.as_ref().is_some_and(WatchedFile::is_lost)
    }

    /// Sees to it that each file system with held leases is inspected by a thread of its own, as far as
    /// threads are available.
    pub(crate) fn watch_file_systems(&self) {
        if let Err(error) = inspection::start_threads(&self.shared) {
            tracing::warn!(%error, "no thread is available to inspect the lease files of a file system: the thread of another file system does, later where that one hangs");
        }
    }

    fn pools(&self) -> [&IoPool; 2] {
        [&self.lockspace_pool, &self.lease_pool]
    }

    /// Takes the membership off the register, and gives its process lock back though handles to it may
    /// live on: at once when no I/O of this host is under way, else when none is any more.
    fn end_join(&self) {
        if let Some(joined) = self.joined.lock().take() {
            let lock = self.shared.process_lock.lock().take();
            joined.end_after(busy(&self.pools()), lock);
        }
    }
}

fn busy(pools: &[&IoPool]) -> Vec<IoWatch> {
    let watches = pools.iter().map(|pool| pool.watch());
    watches.filter(IoWatch::is_busy).collect()
}

/// Waits for all I/O of `pools` to end, but not longer than `limit`. Gives what has not completed.
pub(super) fn wait_for_io(pools: &[&IoPool], limit: Duration) -> Vec<IoWatch> {
    let until = clock::now() + limit;
    block_on(async {
        while !busy(pools).is_empty() && clock::now() < until {
            StorageWorld.sleep(POLL_INTERVAL).await;
        }
    });
    busy(pools)
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::warn!(
                lockspace = %self.shared.membership.area().name,
                host_id = self.shared.membership.host_id().get(),
                %error,
                "the lockspace was dropped and not left cleanly"
            );
        }
    }
}
