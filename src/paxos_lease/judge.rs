//! Whose the lease is: what the leader and the blocks say, and whether the owner that they name still
//! lives.
//!
//! An ownership has ended when the owner's host id is free, or in a later generation, or has been silent
//! for long enough; or when the owner itself said that it released, and only another host's late commit
//! (see `ballot`) makes the leader look owned.

use std::time::Duration;

use super::area::LeaseIo;
use super::attempt::Attempt;
use super::continuity;
use super::error::AcquireError;
use super::holder::{Holder, OwnerSeen};
use super::holding::{Holding, Patience};
use super::image::{LeaseImage, PhaseRead, note_of, owner_of};
use super::rules;
use crate::delta_lease::{
    DeltaRecord, DeltaSectorError, HostState, Membership, ReadSpan, Silence, Watcher,
};
use crate::format::{Generation, HostId, LeaseVersion, NoteState, PaxosLeader};
use crate::world::{Timestamp, World};

/// How often the owner's sector is read while its death is waited for.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Whose the lease is, by one read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The leader is free, or names this host, which does not hold the lease.
    Nobodys,
    /// A block is newer than the leader: its owner need not be judged ([`rules::is_stale`]).
    Stale,
    /// The leader names another host, which is to be watched.
    Others(HostId),
}

/// INV-INCARNATION: refuses a lease that a twin may hold.
///
/// A twin is another process that uses this host's id, name and generation by mistake. A note in our own
/// block with our generation and another incarnation is a twin's. The twin may hold the lease if the leader
/// names us, or if our block is newer than the leader and not RELEASED.
pub(super) fn refuse_twin<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    image: &LeaseImage,
) -> Result<(), AcquireError> {
    let (me, leader) = (io.me(), &image.leader);
    let is_named = !leader.is_free() && rules::names(leader, io.us());
    let is_newer = image
        .block_of(me)
        .is_some_and(|block| block.version > leader.version() && !block.released);
    if io.is_twins(note_of(&image.blocks, me)) && (is_named || is_newer) {
        return Err(leave_to_twin(io, attempt));
    }
    Ok(())
}

/// The same between our phase 2 and our commit, by what phase 2 has read. A twin's note over our block, or a
/// commit of `version` in our name, which we have not made, is of a twin that came since our first read.
pub(super) fn refuse_twin_in_ballot<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    read: &PhaseRead,
    version: LeaseVersion,
) -> Result<(), AcquireError> {
    let has_committed = |leader| rules::is_twins_commit(leader, version, io.us());
    if io.is_twins(note_of(&read.blocks, io.me()))
        || read.leader.as_ref().is_some_and(has_committed)
    {
        return Err(leave_to_twin(io, attempt));
    }
    Ok(())
}

/// The refusal, after which nothing is cleaned up: what this host has left there may be what its twin holds
/// the lease by.
pub(super) fn leave_to_twin<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
) -> AcquireError {
    attempt.written = None;
    let (host_id, generation) = io.us();
    tracing::debug!(name: "lease_of_twin", resource = %io.area.resource, %host_id, %generation,
        "another host with this host's id, name and generation may hold the lease");
    AcquireError::HeldByTwin {
        host_id,
        generation,
    }
}

/// Judges what one read of the lease shows.
pub(super) fn whose<D>(
    image: &LeaseImage,
    membership: &Membership<D>,
) -> Result<Whose, AcquireError> {
    let leader = &image.leader;
    // INV-JUDGED.
    if rules::is_stale(leader.version(), image.newest_version()) {
        tracing::debug!(name: "leader_stale", resource = %leader.resource_name(), version = %leader.version(), newest = %image.newest_version(),
            "a block is newer than the leader: the owner in the leader need not be judged");
        return Ok(Whose::Stale);
    }
    let Some(owner) = rules::owner_to_judge(owner_of(leader)) else {
        return Ok(Whose::Nobodys);
    };
    if owner != membership.host_id() {
        return Ok(Whose::Others(owner));
    }
    let (on_lease, in_lockspace) = (leader.generation(), membership.generation());
    if !rules::is_not_of_later_generation(on_lease, in_lockspace) {
        return Err(from_the_future(owner, on_lease, in_lockspace));
    }
    if on_lease < in_lockspace {
        tracing::debug!(name: "own_earlier_generation", resource = %leader.resource_name(), %on_lease, %in_lockspace,
            "the leader names an earlier generation of this host");
        return Ok(Whose::Nobodys);
    }
    tracing::debug!(name: "own_leftover", resource = %leader.resource_name(), generation = %on_lease,
        "the leader names this host, which does not hold the lease");
    Ok(Whose::Nobodys)
}

/// The lockspace was initialised anew, or is not the one that `owner` renews in: what it shows, a free
/// host id above all, says nothing of the owner.
fn from_the_future(owner: HostId, on_lease: Generation, in_lockspace: Generation) -> AcquireError {
    tracing::debug!(name: "owner_from_the_future", %owner, %on_lease, %in_lockspace,
        "the owner's generation on the lease is later than in the lockspace");
    AcquireError::FromTheFuture {
        host_id: owner,
        on_lease,
        in_lockspace,
    }
}

/// What became of an owner that was watched. In either case the leader may have moved since the lease was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// Its ownership has ended.
    Ended,
    /// The leader was written meanwhile.
    LeaderMoved,
}

/// Watches `owner`, which the leader names, until it is known whether its ownership has ended: reads its delta
/// sector, again and again if the caller waits.
///
/// # Errors
///
/// The owner lives, or may live and is not waited for any longer.
pub(super) async fn watch_owner<W: World>(
    io: &LeaseIo<'_, W>,
    holding: &Holding,
    image: &LeaseImage,
    owner: HostId,
) -> Result<Watched, AcquireError> {
    let leader = &image.leader;
    let now = io.now();
    // Never so: the table is some time old.
    if rules::is_ended_by_table_alone(io.membership.hosts(|table| table.state(owner, now))) {
        return Ok(Watched::Ended);
    }
    // The watch goes on from what the scans of the lockspace have seen of this owner so far, unless the last of
    // them showed damage: the owner may have renewed behind that.
    let by = Watcher::Acquirer(io.membership.timing());
    let in_table = io.membership.observed(owner);
    let undamaged = in_table.filter(|record| record.damage.is_none());
    let mut silence = undamaged.map(|record| record.silence.watched_by(by));
    loop {
        let started = io.now();
        let area = io.membership.area();
        let sector = area.read_sector(io.world, owner, io.timeout()).await;
        let completed = io.now();
        let Some(found) = record_unless_ended(leader, owner, sector)? else {
            return Ok(Watched::Ended);
        };
        let read = ReadSpan { started, completed };
        if let Some(silence) = &mut silence {
            silence.observe(&found, read);
        }
        let silence = silence.get_or_insert_with(|| Silence::first(by, &found, read));
        if owner_has_released(io, leader, owner).await? {
            tracing::debug!(name: "owner_released", resource = %io.area.resource, %owner, version = %leader.version(),
                "the owner has released the lease: the leader is another host's late commit");
            return Ok(Watched::Ended);
        }
        if silence.is_dead() {
            tracing::debug!(name: "owner_dead", resource = %io.area.resource, %owner, version = %leader.version(),
                "the owner is dead: it was silent for long enough");
            return Ok(Watched::Ended);
        }
        let seen = owner_seen(silence, completed);
        let is_alive = matches!(seen, OwnerSeen::Alive { .. });
        if is_alive || !waits(holding, image, completed) {
            tracing::debug!(name: "owner_respected", resource = %io.area.resource, %owner, version = %leader.version(), is_alive,
                "the owner of the lease may be alive");
            return Err(held_by(io, leader, owner, &found, seen).await);
        }
        io.world.sleep(WATCH_INTERVAL).await;
        io.check_member()?;
        if rules::has_moved(leader, &io.read_leader().await?) {
            tracing::debug!(name: "leader_moved_while_watched", resource = %io.area.resource, %owner,
                "the leader was written while its owner was watched");
            return Ok(Watched::LeaderMoved);
        }
    }
}

/// The record of the very generation that owns the lease, from the owner's delta sector; `None` if the sector
/// says that the ownership has ended.
fn record_unless_ended(
    leader: &PaxosLeader,
    owner: HostId,
    sector: Result<DeltaRecord, DeltaSectorError>,
) -> Result<Option<DeltaRecord>, AcquireError> {
    let found = match sector {
        Ok(found) => found,
        Err(error) if rules::may_live_unreadable() => {
            tracing::debug!(name: "owner_unreadable", resource = %leader.resource_name(), %owner, %error,
                "the sector of the owner cannot be read or believed");
            return Err(AcquireError::OwnerUnreadable { owner, error });
        }
        Err(_) => return Ok(None),
    };
    let (on_lease, in_sector) = (leader.generation(), found.leader.generation());
    if rules::is_from_the_future(on_lease, in_sector) {
        return Err(from_the_future(owner, on_lease, in_sector));
    }
    if found.leader.is_free() {
        tracing::debug!(name: "owner_left", resource = %leader.resource_name(), %owner, generation = %on_lease,
            "the owner has freed its host id");
        return Ok(None);
    }
    if rules::has_rejoined(on_lease, in_sector) {
        tracing::debug!(name: "owner_rejoined", resource = %leader.resource_name(), %owner, %on_lease, %in_sector,
            "the owner has entered a later generation");
        return Ok(None);
    }
    Ok(Some(found))
}

/// Whether the owner released, and the leader looks owned only because another host committed it
/// late. Reads the owner's block where that may be so.
async fn owner_has_released<W: World>(
    io: &LeaseIo<'_, W>,
    leader: &PaxosLeader,
    owner: HostId,
) -> Result<bool, AcquireError> {
    if !rules::may_be_late_commit(leader, owner) {
        return Ok(false);
    }
    let sector = io.read_block(owner).await?;
    let (generation, version) = (leader.generation(), leader.version());
    Ok(rules::has_released(&sector, generation, version))
}

/// Whether the death of an owner that may be dead is waited for.
fn waits(holding: &Holding, image: &LeaseImage, now: Timestamp) -> bool {
    let is_in_time = match holding.patience {
        Patience::Refuse => false,
        Patience::WaitForDeath { until } => until.is_none_or(|until| now < until),
    };
    // From an owner that is dead and has not handed over, nothing is taken anyway.
    is_in_time && continuity::may_take_from_dead(holding, image) && !holding.cancel.is_cancelled()
}

/// The refusal, with all that can be told of the holder. A note that cannot be read makes it only
/// shorter.
async fn held_by<W: World>(
    io: &LeaseIo<'_, W>,
    leader: &PaxosLeader,
    owner: HostId,
    found: &DeltaRecord,
    seen: OwnerSeen,
) -> AcquireError {
    let (generation, version) = (leader.generation(), leader.version());
    let note = match io.read_block(owner).await.map(|sector| sector.note) {
        Ok(NoteState::Present(note)) if note.is_of(generation, version) => Some(note),
        _ => None,
    };
    AcquireError::Held(Box::new(Holder {
        host_id: owner,
        generation,
        host_name: found.leader.host_name(),
        version,
        seen,
        note,
    }))
}

/// What is known of whether the owner is alive.
fn owner_seen(silence: &Silence, now: Timestamp) -> OwnerSeen {
    if silence.state(now) == HostState::Live {
        OwnerSeen::Alive {
            renewed_ago: now.since(silence.changed_at()),
        }
    } else {
        OwnerSeen::Silent {
            for_at_least: silence.unchanged_for(),
            takeable_in: silence.dead_at().since(now),
        }
    }
}
