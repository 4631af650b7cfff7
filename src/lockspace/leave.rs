//! Leaving a lockspace, on purpose or because the last handle is gone.

use std::time::Duration;

use super::error::LeaveError;
use super::keep::run_on;
use super::{Inner, loss::LossReason};
use crate::delta_lease::{DeltaLease, release};
use crate::probe::mutation;
use crate::runtime::clock;
use crate::runtime::disk::{IoPool, IoWatch, StorageWorld};
use crate::runtime::executor::block_on;
use crate::world::World;

/// How often the end of I/O under way is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

impl Inner {
    /// Leaves, once: later calls have nothing left to do.
    pub(super) fn leave(&self) -> Result<(), LeaveError> {
        if self.pid != std::process::id() {
            // A copy in a forked child, where none of our threads is. The join is the parent's.
            return Ok(());
        }
        let closed = self.shared.leases.close();
        closed.map_err(|leases| LeaveError::InUse { leases })?;
        let Some(thread) = self.thread.lock().take() else {
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
        let (lease, rest) = thread.stop_renewing(&self.shared, limit());
        // A write of ours that lands after somebody else took the freed id could undo what that one
        // wrote. So the id is freed only when nothing is under way.
        let quiet = wait_for_io(&self.pools(), limit()).is_empty() || mutation!(LeftWithIoInFlight);
        let left = match (lease, quiet) {
            (None, _) => Err(LeaveError::RenewalThreadDied),
            (Some(_), false) => Err(LeaveError::IoInFlight),
            (Some(lease), true) => {
                block_on(release(&StorageWorld, membership, &lease)).map_err(LeaveError::NotFreed)
            }
        };
        membership.expiry().lose();
        self.shared.board.announce(&LossReason::Left, clock::now());
        if !busy(&self.pools()).is_empty() {
            block_on(run_on(&StorageWorld, membership.timing()));
        }
        self.shared.board.end_writing();
        rest.end(&self.shared);
        self.end_life();
        tracing::info!(
            lockspace = %membership.area().name,
            host_id = membership.host_id().get(),
            generation = membership.generation().get(),
            freed = left.is_ok(),
            "left the lockspace"
        );
        left
    }

    /// Frees the host id of a join that got no thread. Best effort: the error to report is the
    /// join's.
    pub(super) fn free(&self, lease: &DeltaLease) {
        if let Err(error) = block_on(release(&StorageWorld, &self.shared.membership, lease)) {
            tracing::warn!(%error, "a join that failed could not free its host id");
        }
        // The write may still be under way: no next life before it has ended.
        self.end_life();
    }

    fn pools(&self) -> [&IoPool; 2] {
        [&self.lockspace_pool, &self.lease_pool]
    }

    /// Takes the life off the register, and gives its life lock back though handles to the join may
    /// live on: at once when no I/O of it is left, else when none is.
    fn end_life(&self) {
        if let Some(joined) = self.joined.lock().take() {
            let life_lock = self.shared.life_lock.lock().take();
            joined.end_after(busy(&self.pools()), life_lock);
        }
    }
}

fn busy(pools: &[&IoPool]) -> Vec<IoWatch> {
    let watches = pools.iter().map(|pool| pool.watch());
    watches.filter(IoWatch::is_busy).collect()
}

/// Waits for all I/O of `pools` to end, but not longer than `limit`. Returns what is left.
pub(super) fn wait_for_io(pools: &[&IoPool], limit: Duration) -> Vec<IoWatch> {
    let until = clock::now() + limit;
    block_on(async {
        while !busy(pools).is_empty() && clock::now() < until {
            StorageWorld.sleep(LOOK_INTERVAL).await;
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
