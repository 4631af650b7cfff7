//! Cleaning up what acquires and releases that failed have left on the disk, in the background.

use super::leases::LeaseTable;
use crate::delta_lease::Membership;
use crate::paxos_lease::{Reconciled, came_back, retract};
use crate::world::World;

/// Does the pending cleanups as they come: tried again after N, then every 2N, for as long as the
/// member host lives. A lease that was cleaned up is observed every 2N until 8N + F have passed.
pub async fn reconcile<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
) {
    let timing = membership.timing();
    loop {
        table.cleaning.wait().await;
        // Whoever adds one sets it again.
        table.cleaning.take();
        if table.has_cleanups() {
            world.sleep(timing.io()).await;
        }
        while table.has_cleanups() {
            if !membership.expiry().is_held(world.now()) {
                return;
            }
            clean_up_all(world, membership, table).await;
            observe_all(world, membership, table).await;
            if table.has_cleanups() {
                world.sleep(timing.renewal_interval()).await;
            }
        }
    }
}

/// One try at each pending cleanup.
async fn clean_up_all<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
) {
    for (key, cleanup) in table.cleanups() {
        // A try that hangs would cost one more worker each time.
        if world.is_busy(&cleanup.lease.disk) {
            continue;
        }
        let Some(cleanup) = table.begin(&key) else {
            continue;
        };
        let resource = cleanup.lease.resource;
        match retract(world, membership, &cleanup.lease, &cleanup.left).await {
            Ok(cleaned_up) => {
                let found = match cleaned_up {
                    Reconciled::TakenBack => "was taken back",
                    Reconciled::Void => "had left nothing of this host",
                };
                tracing::info!(name: "cleanup_done", %resource, lease = ?cleanup.lease.disk, found,
                    "pending cleanup: done");
                table.cleaned_up(&key);
            }
            // A device that is gone is tried for as long as the member host lives.
            Err(error) if table.failed(&key, &error) => {
                tracing::warn!(
                    %resource,
                    lease = ?cleanup.lease.disk,
                    %error,
                    "pending cleanup: not done yet, it is tried again for as long as the lockspace is joined; see what is wrong with the storage"
                );
            }
            Err(error) => {
                tracing::debug!(%resource, %error, "pending cleanup: still not done");
            }
        }
    }
}

/// Observes each lease once that was cleaned up not long ago.
async fn observe_all<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
) {
    for (key, cleanup) in table.observed(world.now(), membership.timing()) {
        if world.is_busy(&cleanup.lease.disk) {
            continue;
        }
        let resource = cleanup.lease.resource;
        match came_back(world, membership, &cleanup.lease, &cleanup.left).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::error!(
                    %resource,
                    lease = ?cleanup.lease.disk,
                    "the storage has done a write to a lease that it had reported as failed: the lease names this host, which does not hold it, and is cleaned up again; report this to whoever runs the storage"
                );
                table.pend_again(key, cleanup);
            }
            Err(error) => {
                tracing::debug!(%resource, %error, "a lease that was cleaned up cannot be read");
            }
        }
    }
}
