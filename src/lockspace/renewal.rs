//! The loop that keeps a host id: renew in time, judge what went wrong, notice the end.
//!
//! An `async fn` over the [`World`], like the algorithms: in production a thread drives it, in
//! tests the simulator, and it does not assume that it owns either.

use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::pin_mut;

use super::loss::LossReason;
use crate::delta_lease::{DeltaLease, Membership, RenewError, renew};
use crate::probe::mutation;
use crate::world::World;

/// The pause after a renewal that failed.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Renews `lease` until the leases of this life are lost, and says why.
///
/// The loss is in the membership's expiry before this returns; there it may be noticed earlier.
pub async fn keep_renewed<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &mut DeltaLease,
) -> LossReason {
    let renewals = renew_for_ever(world, membership, lease);
    let expiry = wait_for_expiry(world, membership);
    pin_mut!(renewals, expiry);
    match select(renewals, expiry).await {
        Either::Left((reason, _)) | Either::Right((reason, _)) => reason,
    }
}

async fn renew_for_ever<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &mut DeltaLease,
) -> LossReason {
    let timing = membership.timing();
    let mut failures: u32 = 0;
    loop {
        let due = lease.renewed_at() + timing.renewal_interval();
        let retry = world.now() + RETRY_DELAY;
        world
            .sleep_until(if failures == 0 { due } else { retry })
            .await;
        match renew(world, membership, lease).await {
            Ok(()) => {
                // A renewal that ended after the deadline comes too late to save anything.
                if !membership.expiry().extend(world.now(), lease.expires_at()) {
                    return LossReason::NotRenewed;
                }
                if failures > 0 {
                    tracing::info!(host_id = lease.host_id().get(), failures, "renewed again");
                }
                failures = 0;
            }
            Err(RenewError::Expired { .. }) => return LossReason::NotRenewed,
            Err(error) if error.is_fatal() => {
                membership.expiry().lose();
                return LossReason::Overwritten(Box::new(error));
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let age = world.now().since(lease.renewed_at());
                if age >= timing.warn_after() {
                    tracing::warn!(host_id = lease.host_id().get(), failures, ?age, %error, "renewals are failing");
                } else {
                    tracing::debug!(host_id = lease.host_id().get(), failures, %error, "a renewal failed");
                }
            }
        }
    }
}

/// Ends when the deadline has passed, with the loss made final, though a renewal hang meanwhile.
async fn wait_for_expiry<W: World>(world: &W, membership: &Membership<W::Disk>) -> LossReason {
    loop {
        let Some(deadline) = membership.expiry().deadline() else {
            return LossReason::NotRenewed;
        };
        if mutation!(ExpiryNotWatched) {
            std::future::pending::<()>().await;
        }
        world.sleep_until(deadline).await;
        if membership.expiry().expire(world.now()) {
            return LossReason::NotRenewed;
        }
    }
}
