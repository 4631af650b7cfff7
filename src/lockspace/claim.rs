//! Claiming a host id while the other hosts are watched, so that their life is known when the claim
//! is won.
//!
//! An `async fn` over the [`World`], like the algorithms.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::pin_mut;
use parking_lot::Mutex;

use crate::delta_lease::{
    ClaimError, ClaimProgress, Claimant, DeltaLease, HostTable, LockspaceArea, acquire,
};
use crate::world::World;

/// How often the others are looked at while the host id is claimed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Claims the host id, and watches all hosts until that is done.
///
/// # Errors
///
/// [`ClaimError`].
pub async fn claim_watching<W: World>(
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
        let claim = acquire(world, area, claimant, progress);
        let watch = watch_others(world, area, claimant.timing.io(), &table);
        pin_mut!(claim, watch);
        match select(claim, watch).await {
            Either::Left((claimed, _)) => claimed,
            Either::Right((never, _)) => match never {},
        }
    };
    Ok((claimed?, table.into_inner()))
}

/// Never ends by itself. A scan that fails is of no consequence: the claim has its own reads.
async fn watch_others<W: World>(
    world: &W,
    area: &LockspaceArea<W::Disk>,
    timeout: Duration,
    table: &Mutex<HostTable>,
) -> Infallible {
    loop {
        let read_begun = world.now();
        if let Ok(scan) = area.read_all(world, timeout).await {
            table.lock().observe(&scan, read_begun, world.now());
        }
        world.sleep(WATCH_INTERVAL).await;
    }
}
