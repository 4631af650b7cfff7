//! Disk Paxos: one instance for each version of the lease, with the names of Gafni and Lamport's module
//! `DiskSynod`.
//!
//! | paper | here |
//! | --- | --- |
//! | processor *p*, disk *d* | host id; there is one disk, so the own block is a majority |
//! | `dblock[p]`: `mbal`, `bal`, `inp` | [`Dblock`]: `mbal`, `bal`, `input` |
//! | `NotAnInput` | `input` is `None` |
//! | `input[p]` | `Attempt::input_for` |
//! | `blocksSeen`, `nonInitBlks` | the blocks of one read of all; those of this version that have accepted a value |
//! | `StartBallot` | `rules::start_ballot`, in the loop of [`decide()`] |
//! | `Phase1or2Write`, `Phase1or2Read` | [`write_and_read()`] |
//! | `EndPhase1or2` | [`ballot()`] |
//! | `output[p]` | the leader record: [`commit()`] |
//! | `Fail(p)`, `Phase0Read`, `EndPhase0` | a new acquire: it reads all, and `rules::own_dblock` takes `dblock[p]` from that (INV-KEEP) |
//!
//! What the paper calls *committed* is *chosen* here; *to commit* means to write `output[p]`.
//!
//! Two things are not in the paper. A version that others have gone past is given up
//! ([`Abort::BeginAnew`]). And the chosen value is written to the leader, by whoever got it chosen; so a host
//! can find its own input committed by another, and must tell it from an older one of its own
//! (INV-INPUT).
//!
//! The paper's `blocksSeen` holds `dblock[p]` from memory. Here it holds the own block as it was read back. That
//! is the same: the read starts when the write has completed, and no other host writes that sector but one that
//! takes this host for dead (`sharers`).

use std::time::Duration;

use super::area::LeaseIo;
use super::attempt::Attempt;
use super::continuity;
use super::error::{AcquireError, LeaseIoError, NotWritten};
use super::give_back::LeftBehind;
use super::held::HeldLease;
use super::image::{BlockSeen, LeaseImage, PhaseRead, dblocks, sharers};
use super::judge;
use super::rules::{self, Overtaken};
use crate::format::{
    Commit, Dblock, FormatError, FormatErrorKind, Generation, HostId, Input, LeaseVersion,
    PaxosLeader, Structure,
};
use crate::probe::waypoint;
use crate::world::World;

/// How many ballots one acquire starts for one version before it gives up.
const BALLOTS_MAX: u32 = 64;

/// After a ballot that was overtaken a host waits for less than this before it starts the next, so that
/// some host gets through.
const RETRY_DELAY_MILLIS: u64 = 1000;

/// Why a ballot came to no success.
pub(super) enum Abort {
    /// A host has started a ballot with this larger number: to be tried again, with a still larger one.
    Overtaken(u64),
    /// The version went to another host, or newer ones exist: all is to be read again.
    BeginAnew,
    /// The acquire has failed.
    Failed(AcquireError),
}

impl<E: Into<AcquireError>> From<E> for Abort {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Ballots for `version` until it is decided. `leader_may_have_moved`: since it was read for `image`.
pub(super) async fn decide<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    image: &LeaseImage,
    version: LeaseVersion,
    mut leader_may_have_moved: bool,
) -> Result<HeldLease, Abort> {
    let (me, hosts) = (io.me(), io.shape.geometry.max_hosts());
    let mut dblock = rules::own_dblock(image.block_of(me), version);
    let mut largest_seen = image.max_mbal();
    for _ in 0..BALLOTS_MAX {
        let mbal = rules::next_mbal(me, hosts, dblock.mbal, largest_seen);
        dblock = rules::start_ballot(dblock, mbal.ok_or(AcquireError::NumbersUsedUp)?);
        waypoint!(image.leader, dblock, leader_may_have_moved, attempt);
        if rules::rereads_leader(leader_may_have_moved) {
            let leader = io.read_leader().await?;
            if leader != image.leader {
                return leader_moved(io, attempt, leader, version);
            }
        }
        match ballot(io, attempt, &image.leader, &mut dblock).await {
            Err(Abort::Overtaken(mbal)) => largest_seen = mbal,
            decided => return decided,
        }
        let pause = io.world.random(RETRY_DELAY_MILLIS);
        io.world.sleep(Duration::from_millis(pause)).await;
        leader_may_have_moved = true;
    }
    let rounds = BALLOTS_MAX;
    Err(AcquireError::Contended { rounds }.into())
}

/// One ballot, `dblock.mbal`, for `dblock.version`, which is newer than `leader`.
async fn ballot<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    leader: &PaxosLeader,
    dblock: &mut Dblock,
) -> Result<HeldLease, Abort> {
    // Phase 1: announce mbal, and see what others have accepted. Our own bal and inp stay (INV-KEEP).
    if dblock.input.is_some() {
        tracing::trace!(name: "value_kept", resource = %io.area.resource, version = %dblock.version, mbal = dblock.mbal,
            "phase 1 keeps what this host has accepted before");
    }
    let blocks_seen = write_and_read(io, attempt, dblock).await?.blocks;
    attempt.sharers = sharers(&blocks_seen).collect();
    continuity::check_blocks(io, attempt, leader, &blocks_seen).await?;
    abort_if_overtaken(io, dblock, &blocks_seen)?;

    // Phase 2: accept the value of the largest bal, or our own input where there is none.
    let input = attempt.input_for(io, dblock.version);
    let accepted = rules::value_of_largest_bal(dblock.version, dblocks(&blocks_seen));
    let chosen = accepted.unwrap_or(input);
    if chosen != input {
        tracing::trace!(name: "value_adopted", resource = %io.area.resource, version = %dblock.version, mbal = dblock.mbal, owner = chosen.owner,
            "phase 2 adopts what was accepted before: another input than this acquire's");
    }
    dblock.input = Some(chosen);
    dblock.bal = dblock.mbal;
    waypoint!(leader, dblock, attempt);
    let read = write_and_read(io, attempt, dblock).await?;
    judge::refuse_twin_in_ballot(io, attempt, &read, dblock.version)?;
    abort_if_overtaken(io, dblock, &read.blocks)?;
    let owner = proposed_owner(io, chosen, &read.blocks)?;
    waypoint!(leader, dblock, attempt);

    // The value is chosen. Make it known, whosever it is.
    let leader = commit(io, leader, dblock.version, chosen, owner).await?;
    if !rules::has_won(&leader, dblock.version, attempt.own_input, io.us()) {
        tracing::debug!(name: "committed_for_another", resource = %io.area.resource, version = %dblock.version, owner = chosen.owner,
            "this host committed the version for another input than its own");
        return Err(Abort::BeginAnew);
    }
    io.check_member()?;
    tracing::debug!(name: "committed", resource = %io.area.resource, version = %dblock.version, mbal = dblock.mbal,
        "this host won the lease");
    Ok(held(io, attempt, leader, *dblock))
}

/// The write of a phase, and then its read of all blocks.
async fn write_and_read<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    dblock: &Dblock,
) -> Result<PhaseRead, Abort> {
    // The note speaks for our own input only: we do not hold what we accept for another host.
    let note = attempt
        .is_own(dblock.input)
        .then(|| attempt.note_for(io, dblock.version))
        .flatten();
    let written = io.write_own_block(dblock, note.as_ref()).await;
    if written != Err(NotWritten::LockspaceLost) {
        let left = LeftBehind::of(io.shape, *dblock);
        attempt.written = rules::may_be_on_disk(left, written.is_ok());
    }
    written.map_err(AcquireError::from)?;
    let mut read = io.read_blocks().await?;
    read.blocks = rules::blocks_seen(dblock, read.blocks);
    Ok(read)
}

/// Whether a phase has seen that its ballot must not go on.
fn abort_if_overtaken<W: World>(
    io: &LeaseIo<'_, W>,
    dblock: &Dblock,
    blocks_seen: &[BlockSeen],
) -> Result<(), Abort> {
    match rules::overtaken(dblock, dblocks(blocks_seen)) {
        None => Ok(()),
        Some(Overtaken::ByBallot(mbal)) => {
            tracing::trace!(name: "ballot_overtaken", resource = %io.area.resource, version = %dblock.version, mbal = dblock.mbal, by = mbal,
                "a larger ballot has overtaken this one");
            Err(Abort::Overtaken(mbal))
        }
        Some(Overtaken::ByVersion) => {
            tracing::debug!(name: "newer_version_met", resource = %io.area.resource, version = %dblock.version,
                "a newer version has started: all is read again");
            Err(Abort::BeginAnew)
        }
    }
}

/// The leader was written since it was first read. With our own input, which another host has committed: we
/// hold the lease. Otherwise all begins anew.
fn leader_moved<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    leader: PaxosLeader,
    version: LeaseVersion,
) -> Result<HeldLease, Abort> {
    let has_won = rules::has_won(&leader, version, attempt.own_input, io.us());
    if has_won && rules::is_twins_commit(&leader, version, io.us()) {
        return Err(judge::leave_to_twin(io, attempt).into());
    }
    let Some(written) = attempt.written.as_ref().filter(|_| has_won) else {
        tracing::debug!(name: "leader_moved_before_ballot", resource = %io.area.resource, %version, found = %leader.version(),
            "the leader was written before the ballot: all is read again");
        return Err(Abort::BeginAnew);
    };
    tracing::debug!(name: "committed_by_another", resource = %io.area.resource, %version, writer = leader.write_id(),
        "this host won the lease: another host committed its input");
    io.check_member()?;
    Ok(held(io, attempt, leader, written.block()))
}

fn held<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &Attempt<'_>,
    leader: PaxosLeader,
    block: Dblock,
) -> HeldLease {
    HeldLease {
        shape: io.shape,
        leader,
        block,
        unchanged_since: attempt.last_used_before.map(|(_, since)| since),
        incarnation: io.membership.incarnation(),
    }
}

/// `output[p]`: makes the chosen value known in the leader.
///
/// This write can land late: after another host's commit of the same value has made the owner the owner, and
/// even after that owner has released. Such a *late commit* makes a lease that was freed look owned, or sets the
/// leader back to an older version.
async fn commit<W: World>(
    io: &LeaseIo<'_, W>,
    leader: &PaxosLeader,
    version: LeaseVersion,
    chosen: Input,
    owner: HostId,
) -> Result<PaxosLeader, AcquireError> {
    let (me, generation) = io.us();
    let leader = leader.committed(Commit {
        version,
        owner,
        generation: Generation::new(chosen.generation),
        timestamp_secs: chosen.timestamp,
        writer: me,
        writer_generation: generation,
        writer_clock_secs: io.world.clock_secs(),
        // Another host may hold for a short time, to share the lease: its mark of that stays.
        clear_short_hold: owner == me,
    });
    rules::reported_commit(io.write_leader(&leader).await)?;
    Ok(leader)
}

/// The owner that the chosen value proposes. A block holds whatever some host wrote: a value that would make a
/// leader which nobody can read is not committed. The error names the block from which this host has the value.
fn proposed_owner<W: World>(
    io: &LeaseIo<'_, W>,
    chosen: Input,
    blocks: &[BlockSeen],
) -> Result<HostId, LeaseIoError> {
    let max = io.shape.num_hosts;
    let owner = HostId::new(chosen.owner).ok();
    let owner = owner.filter(|owner| owner.get() <= max);
    if let Some(owner) = owner.filter(|_| chosen.timestamp != 0) {
        return Ok(owner);
    }
    let proposes_it = |seen: &&BlockSeen| {
        let input = seen.block.and_then(|block| block.input);
        seen.host != io.me() && input == Some(chosen)
    };
    let found_at = blocks.iter().find(proposes_it).map(|seen| seen.host);
    let host = found_at.unwrap_or_else(|| io.me());
    let error = if chosen.timestamp == 0 {
        FormatErrorKind::InputWithoutTime
    } else {
        let found = chosen.owner;
        FormatErrorKind::OwnerRange { max, found }
    };
    let error = FormatError::new(Structure::Dblock(host), error);
    Err(io.invalid(io.shape.geometry.dblock_offset(host), error))
}
