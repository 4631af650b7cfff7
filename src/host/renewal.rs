//! The loop that keeps a host id: renew in time, judge what went wrong, notice the end.
//!
//! An `async fn` over the [`World`], like the algorithms: in production a thread drives it, in
//! tests the simulator, and it does not assume that it owns either.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::pin_mut;

use super::loss::LossReason;
use super::rules;
use crate::delta_lease::{DeltaLease, Membership, RenewError, renew};
use crate::world::{Timestamp, World};

/// The pause after a renewal that failed.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Is notified of renewals as they come. No method may block: it is called between one renewal and the next.
pub trait Upkeep {
    /// A renewal was good, whose write was started at `renewed_at`. Reading and writing took `took`.
    fn renewed(&self, renewed_at: Timestamp, took: Duration);
    /// Another renewal was not good: `missed` in a row by now.
    fn missed(&self, missed: u32);
    /// No renewal was good for 6N. If none is, the leases are lost after `left`.
    fn warned(&self, missed: u32, left: Duration);
    /// The leases are lost since this instant, for the cause that the renewals found.
    fn lost(&self, found: &LossReason, since: Timestamp);
}

/// The end of the leases of one generation.
#[derive(Debug)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// Since when: by the deadline, or when something was found.
    pub since: Timestamp,
    /// The renewals that had failed by then, since the last good one.
    pub failed: FailedRenewals,
}

/// The renewals that have failed since the last good one.
#[derive(Clone, Debug, Default)]
pub struct FailedRenewals {
    /// How many.
    pub count: u32,
    /// Why the last of them failed.
    pub last: Option<RenewError>,
}

/// Renews `lease` until the leases of this generation are lost, and says why. To make the loss final, once
/// its cause is named, is the caller's; by the clock it may be final before.
pub async fn keep_renewed<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &mut DeltaLease,
    upkeep: &impl Upkeep,
) -> Loss {
    let failed = RefCell::new(FailedRenewals::default());
    let reason = {
        let renewals = renew_for_ever(world, membership, lease, upkeep, &failed);
        let expiry = wait_for_expiry(world, membership, upkeep, &failed);
        pin_mut!(renewals, expiry);
        match select(renewals, expiry).await {
            Either::Left((reason, _)) | Either::Right((reason, _)) => reason,
        }
    };
    // Also where it is noticed late, as after the process stood still.
    let now = world.now();
    let since = rules::lost_since(now, lease.expires_at());
    let failed = failed.into_inner();
    Loss {
        reason,
        since,
        failed,
    }
}

async fn renew_for_ever<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &mut DeltaLease,
    upkeep: &impl Upkeep,
    failed: &RefCell<FailedRenewals>,
) -> LossReason {
    let timing = membership.timing();
    loop {
        let due = lease.renewed_at() + timing.renewal_interval();
        let retry = world.now() + RETRY_DELAY;
        let next = if failed.borrow().count == 0 {
            due
        } else {
            retry
        };
        world.sleep_until(next).await;
        let started = world.now();
        match renew(world, membership, lease).await {
            Ok(()) => {
                let now = world.now();
                // A renewal that completed after the deadline comes too late to save anything.
                if !membership.expiry().extend(now, lease.expires_at()) {
                    return LossReason::NotRenewed;
                }
                upkeep.renewed(lease.renewed_at(), now.since(started));
                let failures = failed.take().count;
                if failures > 0 {
                    tracing::info!(
                        lockspace = ?membership.area().disk,
                        host_id = lease.host_id().get(),
                        failures,
                        "renewed again"
                    );
                }
            }
            Err(error) if !error.is_fatal() => {
                let failures = failed.borrow().count.saturating_add(1);
                tracing::debug!(host_id = lease.host_id().get(), failures, %error, "a renewal failed");
                failed.replace(FailedRenewals {
                    count: failures,
                    last: Some(error),
                });
                upkeep.missed(failures);
            }
            Err(RenewError::Lost(found)) => return LossReason::HostIdLost(Box::new(found)),
            Err(_) => return LossReason::NotRenewed,
        }
    }
}

/// Warns 2N before the deadline, and ends when it has passed, with the loss made final; both though
/// a renewal hang meanwhile.
async fn wait_for_expiry<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    upkeep: &impl Upkeep,
    failed: &RefCell<FailedRenewals>,
) -> LossReason {
    let timing = membership.timing();
    let warned_before = timing.lost_after().saturating_sub(timing.warn_after());
    let mut warned_of = None;
    loop {
        let deadline = || membership.expiry().deadline().map(rules::awaited_deadline);
        let Some(until) = deadline() else {
            return LossReason::NotRenewed;
        };
        let warn_at = until.before(warned_before);
        if warned_of != Some(until) {
            world.sleep_until(warn_at).await;
            if deadline() == Some(until) {
                warned_of = Some(until);
                let left = until.since(world.now());
                let FailedRenewals { count, last } = failed.borrow().clone();
                tracing::warn!(
                    lockspace = ?membership.area().disk,
                    host_id = membership.host_id().get(),
                    failures = count,
                    last_error = last.as_ref().map(tracing::field::display),
                    ?left,
                    "no renewal was good for 6 io timeouts: the leases are lost if none is good soon; see what is wrong with the storage of the lockspace"
                );
                upkeep.warned(count, left);
            }
            continue;
        }
        world.sleep_until(until).await;
        if membership.expiry().expire(world.now()) {
            return LossReason::NotRenewed;
        }
    }
}

/// For where nobody wants to be notified.
impl Upkeep for () {
    fn renewed(&self, _: Timestamp, _: Duration) {}
    fn missed(&self, _: u32) {}
    fn warned(&self, _: u32, _: Duration) {}
    fn lost(&self, _: &LossReason, _: Timestamp) {}
}
