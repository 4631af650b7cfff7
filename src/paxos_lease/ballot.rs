//! Disk Paxos: one instance for each version of the lease, after figure 1 of Gafni and Lamport.
//!
//! | paper | here |
//! | --- | --- |
//! | processor *p*, disk *d* | host id; there is one disk, so the own block is a majority |
//! | `dblock[p]`: `mbal`, `bal`, `inp` | [`Dblock`]: `mbal`, `bal`, `input` |
//! | `NotAnInput` | `input` is `None` |
//! | `input[p]` | `Attempt::input_for` |
//! | `blocksSeen`, `nonInitBlks` | the blocks of one read of all; those of this version that have accepted a value |
//! | `StartBallot` | [`decide()`] |
//! | `Phase1or2Write`, `Phase1or2Read` | [`write_and_read()`] |
//! | `EndPhase1or2` | [`ballot()`] |
//! | `output[p]` | the leader record: [`commit()`] |
//!
//! Three things are not in the paper. A version that others have left behind is given up
//! ([`Abort::BeginAnew`]). The chosen value is written to the leader, by whoever got it chosen; so a host
//! can find its own input committed by another, and must tell it from an older one of its own
//! (INV-INPUT). And `dblock[p]` is not kept in memory from one acquire to the next, but taken from the
//! disk (INV-KEEP).

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
    Commit, Dblock, FormatError, Generation, HostId, Input, LeaseVersion, PaxosLeader, Structure,
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

/// Ballots for `version` until it is decided. `time_has_passed`: since `image` was read.
pub(super) async fn decide<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    image: &LeaseImage,
    version: LeaseVersion,
    mut time_has_passed: bool,
) -> Result<HeldLease, Abort> {
    let (me, hosts) = (io.me(), io.shape.geometry.max_hosts());
    let mut dblock = rules::own_dblock(image.block_of(me), version);
    let mut largest_seen = image.max_mbal();
    for _ in 0..BALLOTS_MAX {
        let mbal = rules::next_mbal(me, hosts, dblock.mbal, largest_seen);
        dblock = rules::start_ballot(dblock, mbal.ok_or(AcquireError::NumbersUsedUp)?);
        waypoint!(image.leader, dblock, time_has_passed, attempt);
        if rules::rereads_leader(time_has_passed) {
            let leader = io.read_leader().await?;
            if leader != image.leader {
                return won_by_another(io, attempt, leader, version);
            }
        }
        match ballot(io, attempt, &image.leader, &mut dblock).await {
            Err(Abort::Overtaken(mbal)) => largest_seen = mbal.max(dblock.mbal),
            decided => return decided,
        }
        let pause = io.world.random(RETRY_DELAY_MILLIS);
        io.world.sleep(Duration::from_millis(pause)).await;
        time_has_passed = true;
    }
    let rounds = BALLOTS_MAX;
    Err(AcquireError::Contended { rounds }.into())
}

/// One ballot, `dblock.mbal`, for the version after `leader`.
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
    waypoint!(leader, dblock, attempt);

    // The value is chosen. Make it known, whosever it is.
    let leader = commit(io, leader, dblock.version, chosen).await?;
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
        let left = LeftBehind::of_acquire(io.shape, *dblock);
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

/// The leader was written since it was first read: with our own input, or the version is lost.
fn won_by_another<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    leader: PaxosLeader,
    version: LeaseVersion,
) -> Result<HeldLease, Abort> {
    let has_won = rules::has_won(&leader, version, attempt.own_input, io.us());
    if has_won && rules::is_twins_commit(&leader, version, io.us()) {
        return Err(judge::held_by_twin(io, attempt).into());
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
        unchanged_since: attempt.unchanged_since.map(|(_, since)| since),
        incarnation: io.membership.incarnation(),
    }
}

/// `output[p]`: makes the chosen value known in the leader.
async fn commit<W: World>(
    io: &LeaseIo<'_, W>,
    leader: &PaxosLeader,
    version: LeaseVersion,
    chosen: Input,
) -> Result<PaxosLeader, AcquireError> {
    let owner = proposed_owner(io, chosen)?;
    let (me, generation) = io.us();
    let leader = leader.committed(Commit {
        version,
        owner,
        generation: Generation::new(chosen.generation),
        timestamp_secs: chosen.timestamp,
        writer: me,
        writer_generation: generation,
        writer_clock_secs: io.world.clock_secs(),
        clear_short_hold: owner == me,
    });
    rules::committed(io.write_leader(&leader).await)?;
    Ok(leader)
}

/// The owner that an input proposes. A block is any host's bytes: what would make a leader that no host
/// can read is not committed.
fn proposed_owner<W: World>(io: &LeaseIo<'_, W>, chosen: Input) -> Result<HostId, LeaseIoError> {
    let (structure, max) = (Structure::Dblock(io.me()), io.shape.num_hosts);
    let found = chosen.owner;
    let owner = HostId::new(found).ok();
    let error = match owner.filter(|owner| owner.get() <= max) {
        _ if chosen.timestamp == 0 => FormatError::InputWithoutTime { structure },
        None => FormatError::OwnerRange {
            structure,
            max,
            found,
        },
        Some(owner) => return Ok(owner),
    };
    Err(io.invalid(io.shape.geometry.dblock_offset(io.me()), error))
}
