//! Claiming a host id while the other hosts are observed, so that it is known which of them live when
//! the claim is won; and while a timer is kept from killing this process, should it not stand still.
//!
//! An `async fn` over the [`World`], like the algorithms.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::pin_mut;
use parking_lot::Mutex;

use super::process_timer::ProcessTimer;
use super::rules;
use crate::delta_lease::{
    ClaimError, ClaimProgress, Claimant, DeltaLease, HostTable, LockspaceArea, ReadSpan, claim,
    log_damage,
};
use crate::timing::Timing;
use crate::world::{OsError, World};

/// How often the others are observed while the host id is claimed.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(1);

/// How often a process that claims a host id moves its timer on.
const MOVE_INTERVAL: Duration = Duration::from_millis(250);

/// Claims the host id, and observes all hosts until that is done. A process that stands still meanwhile
/// is killed by `timer`, which stays armed.
///
/// # Errors
///
/// The timer cannot be set; or [`ClaimError`].
pub async fn claim_with_timer<W: World>(
    world: &W,
    area: &LockspaceArea<W::Disk>,
    claimant: &Claimant,
    progress: &impl Fn(ClaimProgress),
    timer: Option<&dyn ProcessTimer>,
) -> Result<Result<(DeltaLease, HostTable), ClaimError>, OsError> {
    let moved = move_on(world, rules::timer_of_claim(timer), claimant.timing);
    let claim = claim_observing(world, area, claimant, progress);
    pin_mut!(moved, claim);
    // The timer first: nothing is written before it is armed.
    match select(moved, claim).await {
        Either::Left((error, _)) => Err(error),
        Either::Right((claimed, _)) => Ok(claimed),
    }
}

/// Keeps `timer` from going off for as long as this is polled. Ends when it cannot be set.
async fn move_on<W: World>(world: &W, timer: Option<&dyn ProcessTimer>, timing: Timing) -> OsError {
    let Some(timer) = timer else {
        return std::future::pending().await;
    };
    loop {
        let at = world.now() + timing.claimant_deadman_after();
        if let Err(error) = timer.set(Some(at)) {
            return error;
        }
        world.sleep(MOVE_INTERVAL).await;
    }
}

async fn claim_observing<W: World>(
    world: &W,
    area: &LockspaceArea<W::Disk>,
    claimant: &Claimant,
    progress: &impl Fn(ClaimProgress),
) -> Result<(DeltaLease, HostTable), ClaimError> {
    let table = Mutex::new(HostTable::new(
        area.geometry,
        area.name,
        claimant.timing.fire_timeout(),
        Some(claimant.host_id),
    ));
    let claimed = {
        let claim = claim(world, area, claimant, progress);
        let others = observe_others(world, area, claimant.timing.io(), &table);
        pin_mut!(claim, others);
        match select(claim, others).await {
            Either::Left((claimed, _)) => claimed,
            Either::Right((never, _)) => match never {},
        }
    };
    Ok((claimed?, table.into_inner()))
}

/// Never ends by itself. A scan that fails is of no consequence: the claim has its own reads.
async fn observe_others<W: World>(
    world: &W,
    area: &LockspaceArea<W::Disk>,
    timeout: Duration,
    table: &Mutex<HostTable>,
) -> Infallible {
    loop {
        let started = world.now();
        if let Ok(scan) = area.read_all(world, timeout).await {
            let completed = world.now();
            let damaged = table.lock().observe(&scan, ReadSpan { started, completed });
            log_damage(damaged);
        }
        world.sleep(OBSERVE_INTERVAL).await;
    }
}
