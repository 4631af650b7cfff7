//! Giving a lease back, and looking whether it is still ours.

use std::time::Duration;

use super::{HeldLease, LeaseArea, LeaseIoError};
use crate::delta_lease::Membership;
use crate::format::{Dblock, Generation, HolderNote, HostId, LeaseVersion, PaxosLeader};
use crate::probe::{mutation, witness};
use crate::world::World;

/// Why a lease was not given back, or not by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The storage failed half-way. The lease may still be owned by this host on the disk; to be
    /// retracted.
    #[error(transparent)]
    Lease(#[from] LeaseIoError),
    /// The leader was not what made this host the owner, before that was given up: the lease had
    /// been taken from it. The leader was left as it is.
    #[error(
        "the lease was not ours any more: it is at version {version}, last written by host {writer}"
    )]
    NotOurs {
        /// The version found.
        version: LeaseVersion,
        /// Who wrote the leader last.
        writer: u64,
    },
    /// This host's own delta lease is lost: others judge the lease by that now. From then on
    /// nothing was written.
    #[error("the lease was not given back: its lockspace was lost")]
    LockspaceLost,
}

/// The block as it stays behind: all that others may rely on in a ballot, and the mark that nobody
/// holds the lease.
pub(super) fn released(block: Dblock) -> Dblock {
    Dblock {
        released: true,
        ..block
    }
}

/// What a leader says of an ownership of this host.
enum Standing {
    /// We wrote it, for this very ownership.
    Ours,
    /// Another host has committed late what made us the owner, or what was before.
    Late,
    /// Anything else.
    Taken,
}

impl Standing {
    fn of(leader: &PaxosLeader, held: &HeldLease, me: HostId) -> Self {
        if leader.write_id() == u64::from(me) {
            return if *leader == held.leader {
                Self::Ours
            } else {
                Self::Taken
            };
        }
        if leader.version() < held.version() || makes_us_owner(leader, held) {
            Self::Late
        } else {
            Self::Taken
        }
    }
}

fn makes_us_owner(leader: &PaxosLeader, held: &HeldLease) -> bool {
    (leader.version(), leader.input()) == (held.version(), held.leader.input())
}

/// Releases `held`. The holder must have stopped writing before.
///
/// Four dependent I/Os: the leader is looked at before, the own block marked, the leader looked at
/// again and freed.
///
/// # Errors
///
/// [`ReleaseError`]. After [`ReleaseError::Lease`] the caller owes a
/// [retraction](super::retract()).
pub async fn release<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    held: &HeldLease,
) -> Result<(), ReleaseError> {
    release_with_note(world, membership, lease, held, None).await
}

/// The same, with a note that stays beside the block: how the lease was left.
///
/// # Errors
///
/// [`ReleaseError`], as [`release()`].
pub async fn release_with_note<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    held: &HeldLease,
    note: Option<&HolderNote>,
) -> Result<(), ReleaseError> {
    // As soon as the mark is on the disk others may take the lease, where another host has committed
    // our input. So only what the leader shows before it tells whether the lease was taken from us.
    let before = read_leader(world, membership, lease, held).await?;
    let taken = matches!(
        Standing::of(&before, held, membership.host_id()),
        Standing::Taken
    );
    // INV-RELEASED-FIRST: should another host's commit of this very version land after our free
    // leader, the mark tells everyone that it means nothing.
    if mutation!(LeaderFreedFirst) {
        free_leader(world, membership, lease, held).await?;
        return mark_released(world, membership, lease, held, note).await;
    }
    mark_released(world, membership, lease, held, note).await?;
    if taken {
        return Err(not_ours(&before));
    }
    free_leader(world, membership, lease, held).await
}

async fn read_leader<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    held: &HeldLease,
) -> Result<PaxosLeader, ReleaseError> {
    let found = lease
        .read_leader(world, held.shape, membership.timing().io())
        .await?;
    Ok(mutation!(ReleaseBlind, held.leader, found))
}

fn not_ours(leader: &PaxosLeader) -> ReleaseError {
    witness!(ReleaseNotOurs);
    ReleaseError::NotOurs {
        version: leader.version(),
        writer: leader.write_id(),
    }
}

/// INV-MEMBER: the time limit of a write, to be asked for right before it.
fn write_limit<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
) -> Result<Duration, ReleaseError> {
    let limit = membership.write_limit(world.now());
    limit.ok_or(ReleaseError::LockspaceLost)
}

async fn mark_released<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    held: &HeldLease,
    note: Option<&HolderNote>,
) -> Result<(), ReleaseError> {
    if mutation!(ReleaseUnmarked) {
        return Ok(());
    }
    let values = mutation!(
        ReleaseZeroes,
        Dblock::for_version(LeaseVersion::new(0)),
        held.block
    );
    let block = released(values);
    let me = membership.host_id();
    let limit = write_limit(world, membership)?;
    Ok(lease
        .write_block(world, held.shape, me, Some((&block, note)), limit)
        .await?)
}

async fn free_leader<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    held: &HeldLease,
) -> Result<(), ReleaseError> {
    let me = membership.host_id();
    let leader = read_leader(world, membership, lease, held).await?;
    // INV-WRITER: what another host wrote is left alone: a late commit of what made us the owner, or
    // of what was before; our mark speaks. Or the lease was taken by whom the mark allowed it.
    let written_by_us = leader.write_id() == u64::from(me);
    match Standing::of(&leader, held, me) {
        Standing::Ours => {}
        Standing::Late if makes_us_owner(&leader, held) && mutation!(ReleaseWriterIgnored) => {}
        Standing::Taken if written_by_us => return Err(not_ours(&leader)),
        Standing::Late | Standing::Taken => {
            witness!(ReleaseLeftLeader);
            return Ok(());
        }
    }
    let freed = leader.freed(me, membership.generation(), world.clock_secs());
    let limit = write_limit(world, membership)?;
    lease.write_leader(world, held.shape, &freed, limit).await?;
    witness!(ReleaseFreedLeader);
    Ok(())
}

/// Why a lease cannot be confirmed to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The storage does not tell. The lease may still be ours.
    #[error(transparent)]
    Lease(#[from] LeaseIoError),
    /// The disk names another owner, or another version: the lease is lost.
    #[error("the lease is not ours any more: it is at version {version}, owned by host {}", owner.map_or_else(|| "none".to_owned(), |(host, generation)| format!("{host} in generation {generation}")))]
    NotOurs {
        /// The version found.
        version: LeaseVersion,
        /// The owner found, `None` when the lease is free.
        owner: Option<(HostId, Generation)>,
    },
}

/// Reads the leader and compares it with what made this host the owner. Writes nothing.
///
/// Another host's late commit of the same input changes only who wrote the record, and is no loss.
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
    let leader = lease
        .read_leader(world, held.shape, membership.timing().io())
        .await?;
    let is_same_owner = leader.input() == held.leader.input() || mutation!(VerifyByVersion);
    if leader.version() == held.version() && is_same_owner && !leader.is_free() {
        return Ok(());
    }
    let owner = leader.owner_id().filter(|_| !leader.is_free());
    Err(VerifyError::NotOurs {
        version: leader.version(),
        owner: owner.map(|owner| (owner, leader.generation())),
    })
}
