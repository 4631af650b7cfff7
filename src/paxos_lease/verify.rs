//! Whether a lease is still ours on the disk.

use super::area::{LeaseArea, LeaseIo};
use super::error::{LeaseIoError, VerifyError};
use super::held::HeldLease;
use super::image::owner_of;
use super::rules;
use crate::delta_lease::Membership;
use crate::world::World;

/// Reads the leader and compares it with what made this host the owner. Writes nothing.
///
/// Another host's late commit of the same input changes only who wrote the record, and is no loss.
/// Nor is another host's late commit of an older version, as long as our own block is what we wrote
/// (one more small read): whoever reads the two finds the leader stale, ballots for our version,
/// adopts our input from the block and so names us in the leader again. In a lease that was
/// initialised anew or restored to an older state our block is gone too.
///
/// # Errors
///
/// [`VerifyError`].
pub async fn verify<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    held: &HeldLease,
) -> Result<(), VerifyError> {
    let io = LeaseIo::new(world, membership, lease, held.shape);
    let leader = io.read_leader().await.map_err(loss_or_doubt)?;
    if rules::still_names_holder(&leader, &held.leader) {
        return Ok(());
    }
    let version = leader.version();
    if rules::may_be_stale(version, held.version()) {
        let sector = io.read_block(io.me()).await.map_err(loss_or_doubt)?;
        if rules::is_held_under_stale_leader(io.own_block(&sector)?, &held.block) {
            tracing::debug!(name: "held_under_stale_leader", resource = %lease.resource, held = %held.version(), leader = %version,
                "the lease is held, and its leader shows an older version");
            return Ok(());
        }
        return Err(VerifyError::PutBack { version });
    }
    let owner = owner_of(&leader).map(|owner| (owner, leader.generation()));
    Err(VerifyError::NotOurs { version, owner })
}

fn loss_or_doubt(error: LeaseIoError) -> VerifyError {
    if rules::is_loss(error.shows_other_content()) {
        VerifyError::NotThere(error)
    } else {
        VerifyError::Lease(error)
    }
}
