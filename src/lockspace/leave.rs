//! Leaving a lockspace, on purpose or because the last handle is gone.

use super::{Inner, loss::LossReason};
use crate::delta_lease::{DeltaLease, release};
use crate::disk::{IoWatch, StorageWorld};
use crate::error::LeaveError;
use crate::world::executor::block_on;
use crate::world::{World, clock};

/// How often the end of I/O under way is looked for.
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);

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
        let membership = &self.shared.membership;
        let lease = thread.stop(&self.shared);
        // A write of ours that lands after somebody else took the freed id could undo what that one
        // wrote. So the id is freed only when nothing is under way.
        let quiet = self.wait_for_io();
        let left = match (lease, quiet) {
            (None, _) => Err(LeaveError::RenewalThreadDied),
            (Some(_), false) => Err(LeaveError::IoInFlight),
            (Some(lease), true) => {
                block_on(release(&StorageWorld, membership, &lease)).map_err(LeaveError::NotFreed)
            }
        };
        membership.expiry().lose();
        self.shared.losses.announce(LossReason::Left);
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
    }

    fn busy_pools(&self) -> Vec<IoWatch> {
        let pools = [self.lockspace_pool.watch(), self.lease_pool.watch()];
        pools.into_iter().filter(IoWatch::is_busy).collect()
    }

    /// Waits up to N for all I/O to end. Returns whether it has.
    fn wait_for_io(&self) -> bool {
        let until = clock::now() + self.shared.membership.timing().io();
        block_on(async {
            while !self.busy_pools().is_empty() && clock::now() < until {
                StorageWorld.sleep(LOOK_INTERVAL).await;
            }
        });
        self.busy_pools().is_empty()
    }

    /// Takes the life off the register: at once when no I/O of it is left, else when none is.
    fn end_life(&self) {
        if let Some(joined) = self.joined.lock().take() {
            joined.end_after(self.busy_pools());
        }
    }
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
