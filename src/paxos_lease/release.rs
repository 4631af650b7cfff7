//! Giving a lease back, and looking whether it is still ours.

use std::time::Duration;

use super::{HeldLease, LeaseArea, LeaseIoError, is_twins};
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
    /// The leader is not what made this host the owner: the lease was taken from it. Nothing was
    /// written, unless another host took the lease only after this host had marked its block.
    #[error(
        "the lease was not ours any more: it is at version {version}, last written by host {writer}"
    )]
    NotOurs {
        /// The version found.
        version: LeaseVersion,
        /// Who wrote the leader last.
        writer: u64,
    },
    /// What this host wrote to its own sector is not there any more: the lease was initialised anew,
    /// or put back to an older state. Nothing was written.
    #[error(
        "the lease on the disk is not the one that was held: it was initialised anew or put back to an older state, and is at version {version}; nothing was written to it"
    )]
    NotThere {
        /// The version found.
        version: LeaseVersion,
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
    /// Another host has committed late what made us the owner, or what was before; or the leader's
    /// sector alone was put back to that.
    Late,
    /// Anything else.
    Taken,
}

impl Standing {
    fn of(leader: &PaxosLeader, held: &HeldLease, me: HostId) -> Self {
        let by_us = leader.write_id() == u64::from(me);
        if by_us && *leader == held.leader {
            Self::Ours
        } else if leader.version() < held.version() || !by_us && makes_us_owner(leader, held) {
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
/// Four dependent I/Os: the leader and the own block are read, the own block is marked, the leader
/// is read again and freed. Nothing is written where the first read does not show the lease that
/// was acquired (INV-AS-WRITTEN).
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
    check_as_written(world, membership, lease, held).await?;
    // INV-RELEASED-FIRST: should another host's commit of this very version land after our free
    // leader, the mark tells everyone that it means nothing.
    if mutation!(LeaderFreedFirst) {
        free_leader(world, membership, lease, held).await?;
        return mark_released(world, membership, lease, held, note).await;
    }
    mark_released(world, membership, lease, held, note).await?;
    free_leader(world, membership, lease, held).await
}

/// INV-AS-WRITTEN: the own block must be what this host wrote, and the leader must not show another
/// owner, before the block is marked.
///
/// In a lease that was initialised anew, or put back, a mark at this host's version would be newer
/// than the leader: others would call that stale, and take the lease beside its owner. A leader that
/// is merely older was committed late by another host: the block tells the two apart.
///
/// As soon as the mark is on the disk others may take the lease, where another host has committed our
/// input. So only what the leader shows before it tells whether the lease was taken from us.
async fn check_as_written<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    held: &HeldLease,
) -> Result<(), ReleaseError> {
    let me = membership.host_id();
    let (leader, sector) = lease
        .read_leader_and_block(world, held.shape, me, membership.timing().io())
        .await?;
    let block = sector
        .block
        .map_err(|error| lease.format_error(held.shape.geometry.dblock_offset(me), error))?;
    if !held.wrote(block) && !mutation!(ReleaseOverRestored) {
        witness!(ReleaseNotThere);
        return Err(ReleaseError::NotThere {
            version: leader.version(),
        });
    }
    // INV-INCARNATION: a twin has the values of ours, and a mark would say that it does not hold the lease.
    let note = sector.note.present();
    if note.is_some_and(|note| is_twins(&note, membership)) {
        return Err(not_ours(&leader));
    }
    match Standing::of(&leader, held, me) {
        Standing::Taken if !mutation!(ReleaseOverTaken) => Err(not_ours(&leader)),
        _ => Ok(()),
    }
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
        // Our own older record, too: the mark lets others take the lease, and somebody should know.
        Standing::Taken | Standing::Late if written_by_us => return Err(not_ours(&leader)),
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
    /// Something else lies there, or nothing: the lease is lost.
    #[error("the lease is not on its disk any more: {0}")]
    NotThere(LeaseIoError),
    /// The lease was initialised anew, or put back to an older state: it is lost.
    #[error(
        "the lease was initialised anew or put back to an older state: it is at version {version}"
    )]
    PutBack {
        /// The version found.
        version: LeaseVersion,
    },
    /// The disk names another owner: the lease is lost.
    #[error("the lease is not ours any more: it is at version {version}, owned by host {}", owner.map_or_else(|| "none".to_owned(), |(host, generation)| format!("{host} in generation {generation}")))]
    NotOurs {
        /// The version found.
        version: LeaseVersion,
        /// The owner found, `None` when the lease is free.
        owner: Option<(HostId, Generation)>,
    },
}

impl VerifyError {
    fn of_io(error: LeaseIoError) -> Self {
        if error.shows_other_content() && !mutation!(OtherContentIsDoubt) {
            Self::NotThere(error)
        } else {
            Self::Lease(error)
        }
    }
}

/// Reads the leader and compares it with what made this host the owner. Writes nothing.
///
/// Another host's late commit of the same input changes only who wrote the record, and is no loss.
/// Nor is another host's late commit of an older version, as long as our own block is what we wrote
/// (one more small read): whoever reads the two finds the leader stale, ballots for our version,
/// adopts our input from the block and so names us in the leader again. In a lease that was
/// initialised anew or put back to an older state our block is gone too.
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
    let io = membership.timing().io();
    let leader = lease.read_leader(world, held.shape, io).await;
    let leader = leader.map_err(VerifyError::of_io)?;
    // The input of a leader that was freed has no time, and is nobody's.
    let is_same_owner = leader.input() == held.leader.input() || mutation!(VerifyByVersion);
    if leader.version() == held.version() && is_same_owner {
        return Ok(());
    }
    if leader.version() < held.version() && !mutation!(StaleLeaderIsLoss) {
        let me = membership.host_id();
        let sector = lease.read_block(world, held.shape, me, io).await;
        let sector = sector.map_err(VerifyError::of_io)?;
        let at = held.shape.geometry.dblock_offset(me);
        let block = sector
            .block
            .map_err(|error| lease.format_error(at, error))?;
        if held.wrote(block) || mutation!(RestoredIsHeld) {
            witness!(HeldUnderStaleLeader);
            return Ok(());
        }
        return Err(VerifyError::PutBack {
            version: leader.version(),
        });
    }
    let owner = leader.owner_id().filter(|_| !leader.is_free());
    Err(VerifyError::NotOurs {
        version: leader.version(),
        owner: owner.map(|owner| (owner, leader.generation())),
    })
}
