//! Making sure that no ownership is left on the disk without a holder.
//!
//! An acquire that failed half-way may have left its input in its block, where another host finds
//! and commits it; its own commit may have landed though it was reported as failed. A release that
//! failed leaves the lease owned. Both are settled in the same way: the own block says RELEASED,
//! and a leader that we wrote and that names us is freed.
//!
//! Time has passed since: the lease may have been initialised anew, put back to an older state, or
//! replaced by something else. So the disk is read before anything is written (INV-AS-WRITTEN), and what
//! is not there any more needs no settling.

use super::release::released;
use super::{HeldLease, LeaseArea, LeaseIoError, LeaseShape, is_twins, names_us};
use crate::delta_lease::Membership;
use crate::format::{Dblock, HolderNote, LeaseVersion};
use crate::probe::{mutation, witness};
use crate::world::World;

/// What this host may have left on a lease without holding it. To be settled with [`retract()`].
///
/// Void once a later acquire of the same lease by this host succeeded: settling it then would take
/// back what that acquire wrote.
#[derive(Clone, Debug)]
#[must_use = "until it is settled, the lease may stay owned by this host without a holder"]
pub struct Debt {
    shape: LeaseShape,
    block: Dblock,
    /// What is to stand beside the block.
    note: Option<Box<HolderNote>>,
}

impl Debt {
    /// Left by an acquire that wrote, or tried to write, `block`.
    pub(super) const fn of_acquire(shape: LeaseShape, block: Dblock) -> Self {
        Self {
            shape,
            block,
            note: None,
        }
    }

    /// Left by a release that failed.
    pub const fn of_release(held: &HeldLease) -> Self {
        Self {
            shape: held.shape,
            block: held.block,
            note: None,
        }
    }

    /// The same with a note on how the lease was left.
    pub fn with_note(mut self, note: Option<HolderNote>) -> Self {
        self.note = note.map(Box::new);
        self
    }

    pub(super) const fn block(&self) -> Dblock {
        self.block
    }

    pub(super) const fn version(&self) -> LeaseVersion {
        self.block.version
    }

    /// Whether a write of this host to the lease has not ended yet.
    pub fn may_be_written<W: World>(&self, world: &W, lease: &LeaseArea<W::Disk>) -> bool {
        lease.has_write_in_flight(world, self.shape)
    }

    /// Whether the block went beyond announcing a ballot.
    pub(super) const fn is_of_phase_2(&self) -> bool {
        self.block.bal == self.block.mbal
    }
}

/// Why a debt is not settled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetractError {
    /// The storage failed. To be tried again.
    #[error(transparent)]
    Lease(#[from] LeaseIoError),
    /// An earlier write of this host to the leader has not ended. To be tried again when it has.
    #[error("an earlier write of this host to the lease has not ended yet")]
    WriteInFlight,
    /// This host's own delta lease is lost: others judge the lease by that now, and nothing may be
    /// written.
    #[error("the lockspace was lost")]
    LockspaceLost,
}

/// How a debt was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// What this host had left there was taken back.
    TakenBack,
    /// It is not there: the write had never reached the disk, or the lease was initialised anew, put
    /// back to an older state, or something else lies in its place.
    Void,
}

/// Settles `debt`. May be repeated; the caller sees to it that no acquire of the same lease runs
/// meanwhile.
///
/// The block keeps the values that it has on the disk (INV-KEEP): a zeroed block would take back what
/// another host relies upon. Only RELEASED is added, which tells those who find us committed later that
/// nobody holds the lease. Nothing that this host remembers of it is written (INV-AS-WRITTEN): in a
/// lease that was initialised anew or put back, a block of our version would be newer than the leader,
/// which others call stale then, and they take the lease beside its owner.
///
/// # Errors
///
/// [`RetractError`]; the debt stands.
pub async fn retract<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    debt: &Debt,
) -> Result<Settled, RetractError> {
    let io = membership.timing().io();
    let me = membership.host_id();
    let write_limit = || {
        membership
            .write_limit(world.now())
            .ok_or(RetractError::LockspaceLost)
    };

    // A write of ours that is still under way would change what is read now.
    if lease.has_block_write_in_flight(world, debt.shape, me) {
        return Err(RetractError::WriteInFlight);
    }
    let found = lease.read_leader_and_block(world, debt.shape, me, io).await;
    let (_, sector) = match found {
        Err(error) if error.shows_other_content() => {
            witness!(RetractVoid);
            return Ok(Settled::Void);
        }
        found => found?,
    };
    // INV-INCARNATION: a mark would say that our twin does not hold the lease.
    let note = sector.note.present();
    if note.is_some_and(|note| is_twins(&note, membership)) {
        witness!(RetractOfTwin);
        return Ok(Settled::Void);
    }
    let at = debt.shape.geometry.dblock_offset(me);
    let block = sector
        .block
        .map_err(|error| lease.format_error(at, error))?;
    let mark = match block {
        _ if mutation!(RetractOverRestored) => Some((debt.block, debt.note.as_deref())),
        Some(found) if found.version == debt.version() => Some((found, debt.note.as_deref())),
        // The last write has not reached the disk, and what was there before may name us, too.
        Some(found) if !found.released => Some((found, None)),
        _ => None,
    };
    if let Some((values, note)) = mark {
        let values = mutation!(
            RetractZeroes,
            Dblock::for_version(LeaseVersion::new(0)),
            values
        );
        let block = mutation!(RetractUnmarked, values, released(values));
        lease
            .write_block(world, debt.shape, me, Some((&block, note)), write_limit()?)
            .await?;
    } else {
        witness!(RetractNotThere);
    }

    // A commit of ours that is still under way would land over what is read and written now.
    let in_flight = lease.has_leader_write_in_flight(world, debt.shape);
    if in_flight && !mutation!(RetractInFlightIgnored) {
        witness!(RetractInFlight);
        return Err(RetractError::WriteInFlight);
    }
    let settled = if mark.is_some() {
        Settled::TakenBack
    } else {
        Settled::Void
    };
    let leader = lease.read_leader(world, debt.shape, io).await?;
    let is_owned = !leader.is_free() && !mutation!(RetractLeavesLeader);
    let by_us = names_us(&leader, membership) || mutation!(RetractOwnerIgnored);
    if !is_owned || !by_us {
        return Ok(settled);
    }
    // INV-WRITER: where another host committed us, RELEASED speaks; our write could clobber a newer
    // leader.
    if leader.write_id() != u64::from(me) && !mutation!(RetractWriterIgnored) {
        witness!(RetractLeftLeader);
        return Ok(settled);
    }
    let freed = leader.freed(me, membership.generation(), world.clock_secs());
    lease
        .write_leader(world, debt.shape, &freed, write_limit()?)
        .await?;
    witness!(RetractFreedLeader);
    Ok(Settled::TakenBack)
}

/// Whether the debt stands again though it was settled, and nobody holds the lease: the leader names
/// this life of this host, by its own hand; or our block is there without the mark.
///
/// Where a write that has ended, with whatever result, changes nothing any more, this does not
/// happen. A storage that reports an error and does the write later all the same would leave the
/// lease owned by a host that lives and does not know of it.
///
/// One read. The caller sees to it that no acquire of the same lease runs meanwhile, or takes no
/// notice of the answer.
///
/// # Errors
///
/// The lease cannot be read.
pub async fn came_back<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    debt: &Debt,
) -> Result<bool, LeaseIoError> {
    let (io, me) = (membership.timing().io(), membership.host_id());
    let found = lease.read_leader_and_block(world, debt.shape, me, io).await;
    let (leader, sector) = match found {
        Err(error) if error.shows_other_content() => return Ok(false),
        found => found?,
    };
    let by_us = leader.write_id() == u64::from(me);
    if !leader.is_free() && names_us(&leader, membership) && by_us {
        return Ok(true);
    }
    let block = sector.block.ok().flatten();
    Ok(block.is_some_and(|block| !block.released))
}
