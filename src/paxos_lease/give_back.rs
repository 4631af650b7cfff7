//! Giving a lease back: a holder's release, and the clean-up of what an acquire or a release that
//! failed may have left on the disk. Both are one operation:
//!
//! 1. Read the leader and the own block. What this host remembers of the lease is void where they show
//!    something else (INV-AS-WRITTEN).
//! 2. Mark the own block RELEASED, with all its values kept (INV-KEEP, INV-RELEASED-FIRST).
//! 3. Read the leader again, and free it if this host wrote it and it names this host (INV-WRITER).
//!
//! The two differ in what step 1 must find. And only the release reports a leader that is not ours in step 3.

use super::area::{LeaseArea, LeaseIo};
use super::error::{GiveBackError, LeaseIoError};
use super::held::HeldLease;
use super::rules::{self, AboutLeader, Giver, Step};
use super::shape::LeaseShape;
use crate::delta_lease::Membership;
use crate::format::{Dblock, Generation, HolderNote, HostId, LeaseVersion, PaxosLeader};
use crate::world::World;

/// What this host may have left on a lease without holding it. To be cleaned up with [`retract()`].
///
/// Void once a later acquire of the same lease by this host succeeded: cleaning up would then take
/// back what that acquire wrote.
#[derive(Clone, Debug)]
#[must_use = "until it is cleaned up, the lease may stay owned by this host without a holder"]
pub struct LeftBehind {
    shape: LeaseShape,
    block: Dblock,
    /// What is to stand beside the block.
    note: Option<Box<HolderNote>>,
}

impl LeftBehind {
    /// Left by an acquire or a holder that wrote, or tried to write, `block`.
    pub(super) const fn of(shape: LeaseShape, block: Dblock) -> Self {
        Self {
            shape,
            block,
            note: None,
        }
    }

    /// Left by a release that failed.
    pub const fn of_release(held: &HeldLease) -> Self {
        Self::of(held.shape, held.block)
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
    pub fn has_write_in_flight<W: World>(&self, world: &W, lease: &LeaseArea<W::Disk>) -> bool {
        lease.has_write_in_flight(world, self.shape)
    }
}

/// What came of a clean-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// What this host had left there was taken back.
    TakenBack,
    /// Nothing is there: the write had never reached the disk, or the lease was initialised anew or
    /// restored to an older state, or something else lies in its place.
    Void,
}

/// Releases `held`. The holder must have stopped writing before. `note` stays beside the block: how the
/// lease was left.
///
/// Four dependent I/Os: the leader and the own block are read, the own block is marked, the leader
/// is read again and freed.
///
/// # Errors
///
/// [`GiveBackError`]. After [`GiveBackError::Lease`] the caller has to [clean up](retract()).
pub async fn release<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    held: &HeldLease,
    note: Option<&HolderNote>,
) -> Result<(), GiveBackError> {
    let io = LeaseIo::new(world, membership, lease, held.shape);
    give_back(&io, &Claim::Held(held, note)).await.map(drop)
}

/// Cleans up `left`. May be repeated; the caller sees to it that no acquire of the same lease runs
/// meanwhile.
///
/// # Errors
///
/// [`GiveBackError`]; it is still to be cleaned up.
pub async fn retract<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    left: &LeftBehind,
) -> Result<Reconciled, GiveBackError> {
    let io = LeaseIo::new(world, membership, lease, left.shape);
    give_back(&io, &Claim::Left(left)).await
}

/// What is given back, and the note that is to stand beside the block.
enum Claim<'a> {
    /// By its holder.
    Held(&'a HeldLease, Option<&'a HolderNote>),
    /// By nobody: it was left behind.
    Left(&'a LeftBehind),
}

async fn give_back<W: World>(
    io: &LeaseIo<'_, W>,
    claim: &Claim<'_>,
) -> Result<Reconciled, GiveBackError> {
    // A write of ours that is still under way would change what is read now. A holder has none.
    let is_left = matches!(claim, Claim::Left(_));
    if is_left && io.is_own_block_in_flight() {
        return Err(GiveBackError::WriteInFlight);
    }
    let (leader, sector) = match io.read_leader_and_own_block().await {
        Err(error) if is_left && error.shows_other_content() => {
            tracing::debug!(name: "cleanup_void", resource = %io.area.resource, %error,
                "the lease is gone: there is nothing to clean up");
            return Ok(Reconciled::Void);
        }
        found => found?,
    };
    let found = io.own_block(&sector);
    let is_twins = io.is_twins(sector.note.present().as_ref());
    if is_left && is_twins {
        // INV-INCARNATION: a mark would say that our twin does not hold the lease.
        tracing::debug!(name: "cleanup_of_twin", resource = %io.area.resource,
            "a twin of this host wrote the block: it is left alone");
        return Ok(Reconciled::Void);
    }
    // A damaged block is an error only now: what is a twin's is left alone, damaged or not.
    let mark = block_to_mark(io, claim, &leader, found?, is_twins)?;
    let mut cleaned_up = Reconciled::Void;
    for step in rules::order_of_giving_back() {
        let is_done = match (step, &mark) {
            (Step::MarkBlock, Some(Mark { block, note })) => {
                io.write_own_block(block, *note).await?;
                true
            }
            (Step::MarkBlock, None) => false,
            (Step::FreeLeader, _) => free_leader(io, claim).await?,
        };
        if is_done {
            cleaned_up = Reconciled::TakenBack;
        }
    }
    Ok(cleaned_up)
}

/// What step 2 writes into the own sector.
struct Mark<'a> {
    block: Dblock,
    note: Option<&'a HolderNote>,
}

/// INV-AS-WRITTEN: what step 2 writes; `None` where there is nothing to mark. A clean-up
/// marks the block that it read; a release the one that this host wrote, also where its own sector alone was
/// restored.
///
/// A holder must find what it wrote, and no other owner in the leader: where another host has committed our
/// input, others may take the lease as soon as the mark is on the disk. So only what the leader
/// shows before tells whether the lease was taken from the holder.
fn block_to_mark<'a, W: World>(
    io: &LeaseIo<'_, W>,
    claim: &Claim<'a>,
    leader: &PaxosLeader,
    found: Option<Dblock>,
    is_twins: bool,
) -> Result<Option<Mark<'a>>, GiveBackError> {
    match *claim {
        Claim::Held(held, _) if !rules::is_as_written(leader, found, &held.block) => {
            let version = leader.version();
            tracing::debug!(name: "release_not_there", resource = %io.area.resource, held = %held.version(), found = %version,
                "the lease that is to be released is not on the disk");
            Err(GiveBackError::NotThere { version })
        }
        // INV-INCARNATION: a twin has the values of ours.
        Claim::Held(..) if is_twins => Err(not_ours(leader)),
        Claim::Held(held, _) if rules::is_taken(leader, &held.leader, io.me()) => {
            Err(not_ours(leader))
        }
        Claim::Held(held, note) => {
            let block = rules::released(held.block, Giver::Holder);
            Ok(Some(Mark { block, note }))
        }
        Claim::Left(left) => {
            let Some(block) = rules::block_left_behind(leader, found, &left.block) else {
                tracing::debug!(name: "cleanup_not_there", resource = %io.area.resource, version = %left.version(),
                    "the block that is to be cleaned up is not on the disk");
                return Ok(None);
            };
            let is_of_note = block.version == left.version();
            let note = left.note.as_deref().filter(|_| is_of_note);
            let block = rules::released(block, Giver::Cleanup);
            Ok(Some(Mark { block, note }))
        }
    }
}

/// Step 3. INV-WRITER: whether the leader was freed.
async fn free_leader<W: World>(
    io: &LeaseIo<'_, W>,
    claim: &Claim<'_>,
) -> Result<bool, GiveBackError> {
    // Step 2 need not wait for a commit of ours that is still under way; this step must.
    if matches!(claim, Claim::Left(_)) && rules::must_await_own_commit(io.is_leader_in_flight()) {
        tracing::debug!(name: "cleanup_awaits_commit", resource = %io.area.resource,
            "the clean-up waits: a commit of this host has not completed");
        return Err(GiveBackError::WriteInFlight);
    }
    let leader = io.read_leader().await?;
    if !is_to_be_freed(claim, &leader, io.us())? {
        return Ok(false);
    }
    let (host, generation) = io.us();
    let freed = leader.freed(host, generation, io.world.clock_secs());
    io.write_leader(&freed).await?;
    Ok(true)
}

fn is_to_be_freed(
    claim: &Claim<'_>,
    leader: &PaxosLeader,
    us: (HostId, Generation),
) -> Result<bool, GiveBackError> {
    let resource = leader.resource_name();
    let about = match claim {
        Claim::Held(held, _) => {
            let about = rules::leader_of_holder(leader, &held.leader, us.0);
            about.ok_or_else(|| not_ours(leader))?
        }
        Claim::Left(_) => match rules::leader_left_behind(leader, us) {
            Some(about) => about,
            None => return Ok(false),
        },
    };
    match (claim, about) {
        (Claim::Held(..), AboutLeader::Free) => {
            tracing::debug!(name: "release_freed_leader", %resource, version = %leader.version(),
                "the release frees the leader");
        }
        (Claim::Held(..), AboutLeader::Leave) => {
            tracing::debug!(name: "release_left_leader", %resource, version = %leader.version(), writer = leader.write_id(),
                "the release leaves the leader alone: another host wrote it");
        }
        (Claim::Left(_), AboutLeader::Free) => {
            tracing::debug!(name: "cleanup_freed_leader", %resource, version = %leader.version(),
                "the clean-up frees the leader");
        }
        (Claim::Left(_), AboutLeader::Leave) => {
            tracing::debug!(name: "cleanup_left_leader", %resource, version = %leader.version(), writer = leader.write_id(),
                "the clean-up leaves the leader alone: another host wrote it");
        }
    }
    Ok(about == AboutLeader::Free)
}

fn not_ours(leader: &PaxosLeader) -> GiveBackError {
    tracing::debug!(name: "release_not_ours", resource = %leader.resource_name(), version = %leader.version(), writer = leader.write_id(),
        "the lease that is to be released was taken from this host");
    GiveBackError::NotOurs {
        version: leader.version(),
        writer: leader.write_id(),
    }
}

/// Whether what was cleaned up is there again, and nobody holds the lease: the leader names this host
/// in this generation, by its own hand; or our block is there without the mark.
///
/// This cannot happen on a storage where a write that has completed, failed or not, has no effect later
/// (`docs/failure-model.md`). On a storage that reports an error and does the write later all the same, the
/// lease would be owned by a host that lives and does not know of it.
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
    left: &LeftBehind,
) -> Result<bool, LeaseIoError> {
    let io = LeaseIo::new(world, membership, lease, left.shape);
    let (leader, sector) = match io.read_leader_and_own_block().await {
        Err(error) if error.shows_other_content() => return Ok(false),
        found => found?,
    };
    let by_us = leader.write_id() == u64::from(io.me());
    if by_us && !leader.is_free() && rules::names(&leader, io.us()) {
        return Ok(true);
    }
    let block = sector.block.ok().flatten();
    Ok(block.is_some_and(|block| !block.released))
}

/// What became of a hand-over at its source.
#[derive(Debug)]
pub enum HandoverEnd<E, R> {
    /// The flush failed: the lease is held as before.
    Kept(E),
    /// The lease is not held any more. The release failed, or is known to be on the disk.
    Gone(Result<(), R>),
}

/// Gives a lease to another host that goes on with the guest. The holder has paused its guest.
///
/// Then, in this order: `flush`, after which all of the guest's writes are on the disk; `stop`, which
/// ends the holder's own right to run; and only then `release`, with a note of the offer. As soon as the
/// first write of the release is started, the other host may run, whatever comes of the rest: a release that
/// failed may have reached the disk, or may yet, and the lease is gone all the same.
pub async fn hand_over<E, R>(
    flush: impl Future<Output = Result<(), E>>,
    stop: impl FnOnce(),
    release: impl Future<Output = Result<(), R>>,
) -> HandoverEnd<E, R> {
    if let Err(error) = rules::flushed(flush).await {
        tracing::debug!(name: "handover_kept", "the flush before a hand-over failed: the lease is kept");
        return HandoverEnd::Kept(error);
    }
    tracing::debug!(name: "handover_gone", "the guest is flushed: the lease is handed over");
    rules::stopped(stop);
    HandoverEnd::Gone(release.await)
}
