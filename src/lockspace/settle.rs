//! Settling what acquires and releases that failed have left on the disk, in the background.

use super::debts::LeaseTable;
use crate::delta_lease::Membership;
use crate::paxos_lease::{Settled, came_back, retract};
use crate::probe::witness;
use crate::world::World;

/// Settles debts as they come: tried again after N, then every 2N, for as long as the join lives.
/// What was settled is looked at every 2N until 8N + F are over.
pub async fn settle_debts<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
) {
    let timing = membership.timing();
    loop {
        table.owing.wait().await;
        world.sleep(timing.io()).await;
        while table.owing() > 0 || table.is_watching() {
            if !membership.expiry().is_held(world.now()) {
                return;
            }
            for (key, owed) in table.debts() {
                // A try that hangs would cost one more worker each time.
                if world.is_busy(&owed.lease.disk) {
                    continue;
                }
                let Some(owed) = table.begin(&key) else {
                    continue;
                };
                let resource = owed.lease.resource;
                match retract(world, membership, &owed.lease, &owed.debt).await {
                    Ok(settled) => {
                        witness!(DebtSettled);
                        match settled {
                            Settled::TakenBack => {
                                tracing::info!(%resource, "a lease that was left half-way is settled");
                            }
                            Settled::Void => {
                                tracing::info!(%resource, "nothing of this host is left on a lease that was left half-way");
                            }
                        }
                        if table.settled(&key) {
                            table.watch(key, owed);
                        }
                    }
                    Err(error) => {
                        // A device that is gone is tried for as long as the join lives.
                        if table.stands(&key, &error) {
                            tracing::warn!(%resource, %error, "a lease that was left half-way is not settled yet: it is tried again and again");
                        } else {
                            tracing::debug!(%resource, %error, "a lease that was left half-way is still not settled");
                        }
                    }
                }
            }
            look_at_settled(world, membership, table).await;
            if table.owing() > 0 || table.is_watching() {
                world.sleep(timing.renewal_interval()).await;
            }
        }
        table.owing.clear();
        // One that was added just before the flag was cleared must not be forgotten.
        if table.owing() > 0 || table.is_watching() {
            table.owing.set();
        }
    }
}

/// One look at each lease that was settled not long ago.
async fn look_at_settled<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
) {
    let time = membership.timing().stopped_by();
    for (key, owed) in table.to_look_at(world.now(), time) {
        if world.is_busy(&owed.lease.disk) {
            continue;
        }
        match came_back(world, membership, &owed.lease, &owed.debt).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::error!(
                    resource = %owed.lease.resource,
                    "a write to a lease was done after its storage had said that it was not: it names this host, which does not hold it, and is settled again"
                );
                table.owe_again(key, owed);
            }
            Err(error) => {
                tracing::debug!(resource = %owed.lease.resource, %error, "a lease that was settled cannot be looked at");
            }
        }
    }
}
