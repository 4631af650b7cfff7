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
        let taken = self.shared.leases.taken();
        if taken > 0 {
            return Err(LeaveError::InUse { leases: taken });
        }
        let Some(thread) = self.thread.lock().take() else {
            return Ok(());
        };
        let membership = &self.shared.membership;
        let lease = thread.stop(&self.shared);
        let owing = self.shared.leases.owing();
        let released = match lease {
            None => Err(LeaveError::RenewalThreadDied),
            // The freed id would void them: others could take what this host may still be made owner of.
            Some(lease) => block_on(release(&StorageWorld, membership, &lease)).map_err(LeaveError::NotFreed),
        };
        membership.expiry().lose();
        self.shared.losses.announce(LossReason::Left);
        let quiet = self.end_life();
        tracing::info!(
            lockspace = %membership.area().name,
            host_id = membership.host_id().get(),
            generation = membership.generation().get(),
            owing,
            freed = released.is_ok(),
            "left the lockspace"
        );
        released.and(quiet)
    }

    /// Frees the host id of a join that got no thread. Best effort: the error to report is the join's.
    pub(super) fn free(&self, lease: &DeltaLease) {
        if let Err(error) = block_on(release(&StorageWorld, &self.shared.membership, lease)) {
            tracing::warn!(%error, "a join that failed could not free its host id");
        }
    }

    /// Takes the life off the register, when no I/O of it is left; else as soon as none is.
    fn end_life(&self) -> Result<(), LeaveError> {
        let Some(joined) = self.joined.lock().take() else {
            return Ok(());
        };
        let pools = || [self.lockspace_pool.watch(), self.lease_pool.watch()];
        let until = clock::now() + self.shared.membership.timing().io();
        block_on(async {
            while pools().iter().any(IoWatch::is_busy) && StorageWorld.now() < until {
                StorageWorld.sleep(LOOK_INTERVAL).await;
            }
        });
        let busy: Vec<_> = pools().into_iter().filter(IoWatch::is_busy).collect();
        if busy.is_empty() {
            return Ok(());
        }
        joined.end_after(busy);
        Err(LeaveError::IoInFlight)
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
