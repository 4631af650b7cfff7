//! Held leases are read again in the background: an operator or another host may have initialised one anew, restored it
//! to an older state or overwritten it, and then other hosts take it beside its holder.
//!
//! Each is read at least once in 2N, unless the two threads for these reads on its file system both hang:
//! the reads of one round follow each other, so that no thread is started for them while the storage
//! answers; what is left of a round after a quarter of N is read side by side. A lease is due half an
//! N after its last read, a round starts no later than its first lease is due, and a read takes N at
//! most. What one read shows to be gone is read once more, N/8 later, before its lock is lost.
//!
//! A read that fails is no loss: whether the storage can be counted on, the renewals decide.

use std::time::Duration;

use futures_util::future::{Either, join, join_all, select};
use futures_util::pin_mut;

use super::leases::{Held, LeaseTable};
use super::loss::LossReason;
use super::rules;
use crate::delta_lease::Membership;
use crate::paxos_lease::{VerifyError, verify};
use crate::world::World;

/// Reads the held leases of `table`, as they come and go, until the membership is lost.
pub async fn reread_held<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
) {
    let part = |parts| {
        let io = membership.timing().io();
        io.checked_div(parts).unwrap_or(io)
    };
    let (half, quarter) = (part(2), part(4));
    loop {
        table.added.wait().await;
        table.added.take();
        while let Some(next) = table.next_reread(world.now()) {
            world.sleep_until(next).await;
            if !membership.expiry().is_held(world.now()) {
                return;
            }
            let due = rules::reread(table.due(world.now(), half, quarter));
            reread_all(world, membership, table, due, quarter).await;
        }
    }
}

/// One round.
async fn reread_all<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
    due: Vec<(K, Held<W::Disk>)>,
    patience: Duration,
) {
    let until = world.now() + patience;
    let mut rest = due.into_iter();
    let pause = patience.checked_div(2).unwrap_or(patience);
    let reread = |(key, held)| reread(world, membership, table, key, held, pause);
    while let Some(next) = rest.next() {
        let first = reread(next);
        let patience = world.sleep_until(until);
        pin_mut!(first, patience);
        if let Either::Right(((), first)) = select(first, patience).await {
            join(first, join_all(rest.by_ref().map(reread))).await;
        }
    }
}

async fn reread<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
    key: K,
    held: Held<W::Disk>,
    pause: Duration,
) {
    // A read of it that hangs keeps one worker already; the lease is read again when that has completed.
    if world.is_busy(&held.lease.disk) {
        return;
    }
    let resource = &held.lease.resource;
    let read = || verify(world, membership, &held.lease, &held.won);
    let mut seen = read().await;
    if matches!(
        seen,
        Err(VerifyError::NotThere(_) | VerifyError::PutBack { .. })
    ) {
        // One read may give garbage, or be short: nothing is decided on that alone.
        world.sleep(pause).await;
        seen = read().await;
    }
    let Err(error) = seen else { return };
    let reason = match error {
        VerifyError::Lease(error) => {
            // Not louder: logs may hang with this very storage, and with them this thread.
            tracing::debug!(%resource, %error, "a lease that is held cannot be read");
            return;
        }
        VerifyError::NotThere(_) | VerifyError::PutBack { .. } => LossReason::LeaseOverwritten,
        VerifyError::NotOurs { version, owner } => LossReason::LeaseTaken {
            resource: *resource,
            version,
            owner,
        },
    };
    // Its holder may have started to give it back meanwhile.
    if table.lose(&key, &held) {
        (held.on_loss)(&reason);
        tracing::error!(name: "held_not_there", %resource, lease = ?held.lease.disk, %error,
            "a lease on its disk is not what this host wrote any more: its lock is lost");
    }
}
