//! All that a member host does for its holders: it renews, notifies them, and stops those that do not stop.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::pin_mut;

use super::loss::LossReason;
use super::registry::HolderRegistry;
use super::renewal::{FailedRenewals, Loss, Upkeep, keep_renewed};
use crate::delta_lease::{DeltaLease, Membership};
use crate::timing::Timing;
use crate::world::{Timestamp, World};

/// Renews `lease` until it is lost, announces the loss to `registry`, and goes on to stop holders that
/// have not stopped, for as long as it is polled.
pub async fn serve_holders<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &mut DeltaLease,
    registry: &HolderRegistry,
    upkeep: &impl Upkeep,
) -> Infallible {
    let renewal = async {
        let Loss {
            reason,
            since,
            failed,
        } = keep_renewed(world, membership, lease, upkeep).await;
        let is_first = lose_all(membership, registry, &reason, since);
        upkeep.lost(&reason, since);
        // What is said of it may hang with whatever it is written to: it comes last.
        if is_first {
            log_loss(membership, registry, &failed);
        }
        run_on(world, membership.timing()).await;
        registry.end_writing();
    };
    let enforcement = registry.enforce(world);
    pin_mut!(renewal, enforcement);
    match select(renewal, enforcement).await {
        Either::Left(((), enforcement)) => enforcement.await,
        Either::Right((never, _)) => match never {},
    }
}

/// All leases of a member host are lost since this instant. The first cause that was named counts, and is what
/// everybody is notified of. Whether nobody was notified before.
pub fn lose_all<D>(
    membership: &Membership<D>,
    registry: &HolderRegistry,
    found: &LossReason,
    since: Timestamp,
) -> bool {
    // In this order: whoever finds the leases lost finds a cause, and no notice that hangs keeps them held.
    registry.name_loss(found);
    membership.expiry().lose();
    registry.announce(found, since)
}

/// Logs the loss of all leases, once, with the renewals that had `failed` before.
pub fn log_loss<D: fmt::Debug>(
    membership: &Membership<D>,
    registry: &HolderRegistry,
    failed: &FailedRenewals,
) {
    tracing::error!(
        disk = ?membership.area().disk,
        lockspace = %membership.area().name,
        host_id = membership.host_id().get(),
        generation = membership.generation().get(),
        reason = registry.loss().map(tracing::field::display),
        failed_renewals = failed.count,
        last_error = failed.last.as_ref().map(tracing::field::display),
        "all leases of this lockspace are lost"
    );
}

/// How long a thread takes at most from reading a deadline to its call of the kernel, if its
/// process runs meanwhile.
const CALL_TAKES: Duration = Duration::from_secs(1);

/// Waits until this process has run for so long without a pause that all writes which were on their
/// way to the kernel are with it. None may be started any more.
pub async fn run_on<W: World>(world: &W, timing: Timing) {
    let quarter = timing.grace().checked_div(4).unwrap_or_default();
    let needed = quarter.min(CALL_TAKES);
    loop {
        let started = world.now();
        world.sleep_until(started + needed).await;
        if world.now().since(started) <= needed.saturating_mul(2) {
            return;
        }
    }
}
