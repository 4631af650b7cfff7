//! Whether a file is a mere copy of a lease: what it says of an owner has come to its end in the lease itself.
//!
//! Nobody gives a copy back. It names its owner for as long as that host lives, and is in everybody's way.

use super::area::{LeaseArea, LeaseIo};
use super::error::LeaseIoError;
use super::image::{BlockSeen, owner_of, sharers};
use crate::delta_lease::Membership;
use crate::format::{PaxosLeader, Tenure};
use crate::world::World;

/// Whether the owner that `copy` names has had its ownership in `lease`, and ended it there. To be asked by a
/// holder of `lease`.
///
/// No two acquires propose the same input (INV-TIMESTAMP), so the block of the owner in `lease` tells: it shows
/// that very input with RELEASED, or a later one. A host has one lease of a name at a time, and proposes an
/// input only when it holds no earlier one. Where another host ballots in `copy`, or has it in shared mode, or
/// it names this host, nothing is proved.
///
/// # Errors
///
/// One of the two cannot be read.
pub async fn has_ended_elsewhere<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    copy: &LeaseArea<W::Disk>,
    lease: &LeaseArea<W::Disk>,
) -> Result<bool, LeaseIoError> {
    let me = membership.host_id();
    let copy = LeaseIo::new(world, membership, copy, copy.expected_shape);
    let shown = copy.read_all().await?;
    let leader = &shown.leader;
    let Some(owner) = owner_of(leader).filter(|&owner| owner != me) else {
        return Ok(false);
    };
    if shown.newest_version() > leader.version() || sharers(&shown.blocks).next().is_some() {
        return Ok(false);
    }
    let lease = LeaseIo::new(world, membership, lease, lease.expected_shape);
    let image = lease.read_all().await?;
    let seen = image.blocks.iter().find(|seen| seen.host == owner);
    Ok(seen.is_some_and(|seen| ends(seen, leader)))
}

/// Whether the owner's own block says that the ownership which `leader` shows has ended.
fn ends(seen: &BlockSeen, leader: &PaxosLeader) -> bool {
    let Some((block, input)) = seen.block.and_then(|block| Some((block, block.input?))) else {
        return false;
    };
    let shown = leader.input();
    if (input.owner, input.generation) != (shown.owner, shown.generation) {
        return false;
    }
    // No checksum covers the mark, but one covers the note.
    let is_noted_as_held = seen.note.as_ref().is_some_and(|note| {
        note.is_of(leader.generation(), leader.version()) && note.tenure == Tenure::Held
    });
    let is_this_one = input == shown && block.version == leader.version();
    input.timestamp > shown.timestamp || is_this_one && block.released && !is_noted_as_held
}
