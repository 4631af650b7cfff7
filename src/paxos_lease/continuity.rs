//! The version precondition: taking a lease only if nobody has used it since, for a guest that was
//! suspended or is handed over, and must find its disk as it left it.
//!
//! Each version is one instance of Disk Paxos, and goes to one input. So whoever wins version v + 1
//! knows that nobody else ever had it, and that nobody had a newer one: that needs v + 1 in the
//! leader first. What is left is to see to it that the acquire ballots for v + 1 and no other
//! version, and that a leader which *says* v is believed only if no block contradicts it: a late
//! write may have put an older record over a newer one.
//!
//! Versions that a host had and did not use are skipped. Whoever fails to acquire, or gives back what
//! was handed over without having started the guest, leaves a note beside its block that says so, and
//! which earlier version the disk is still as of.

use super::area::LeaseIo;
use super::attempt::Attempt;
use super::error::AcquireError;
use super::holder::{LaterHolder, VersionChange};
use super::holding::{Holding, RequiredEnd, VersionPrecondition};
use super::image::{BlockSeen, LeaseImage, dblocks, note_of};
use super::rules;
use crate::format::{
    Dblock, Generation, HostId, Input, LeaseVersion, NoteState, OfferId, PaxosLeader, Tenure,
};
use crate::world::World;

/// A version that contradicts the precondition, and who has or had it.
#[derive(Clone, Copy)]
struct Conflict {
    version: LeaseVersion,
    by: Option<(HostId, Generation)>,
}

/// INV-PRECONDITION: refuses a lease that is not at the version that is required. Writes nothing.
pub(super) async fn check_image<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    image: &LeaseImage,
) -> Result<(), AcquireError> {
    let Some(expected) = rules::precondition(attempt.holding.expected) else {
        return Ok(());
    };
    let leader = &image.leader;
    let last_used = last_used(attempt, image);
    match conflict_of_leader(expected, leader, last_used, io.us()) {
        None => check_blocks(io, attempt, leader, &image.blocks).await,
        Some(conflict) => Err(refusal(io, expected, conflict, leader, &image.blocks).await),
    }
}

/// The same of the blocks alone, which phase 1 reads anew: none may show that the leader is stale, or
/// that the next version may have gone to somebody who has used it.
pub(super) async fn check_blocks<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    leader: &PaxosLeader,
    blocks: &[BlockSeen],
) -> Result<(), AcquireError> {
    let expected = rules::precondition(attempt.holding.expected);
    let Some(expected) = expected.and_then(rules::precondition_of_blocks) else {
        return Ok(());
    };
    for block in dblocks(blocks) {
        let known = [attempt.own_input, attempt.skipped];
        match judge_block(expected, leader, block, blocks, known) {
            Judged::Consistent => {}
            Judged::Skipped(accepted) => attempt.skipped = Some(accepted),
            Judged::Conflicts(conflict) => {
                return Err(refusal(io, expected, conflict, leader, blocks).await);
            }
        }
    }
    Ok(())
}

/// The conflict of the leader with what is expected of its version, under which `last_used` is the
/// last use of the disk.
fn conflict_of_leader(
    expected: VersionPrecondition,
    leader: &PaxosLeader,
    last_used: LeaseVersion,
    (me, generation): (HostId, Generation),
) -> Option<Conflict> {
    let owner = leader.last_owner().map(|host| (host, leader.generation()));
    let is_holders = leader.version() != expected.version
        || rules::is_of_holder(expected.holder.is_none() || expected.holder == owner);
    let is_as_expected = last_used == expected.version && is_holders;
    let is_own_earlier = leader.last_owner() == Some(me) && leader.generation() < generation;
    let conflict = Conflict {
        version: leader.version(),
        by: owner,
    };
    (!rules::meets_precondition(is_as_expected, is_own_earlier)).then_some(conflict)
}

/// What a block says of the versions after the leader's.
enum Judged {
    Consistent,
    /// This was accepted for the next version, by a host that never used it.
    Skipped((LeaseVersion, Input)),
    Conflicts(Conflict),
}

/// Judges `block`, one of `blocks`. `known`: what may have been accepted for the next version.
fn judge_block(
    expected: VersionPrecondition,
    leader: &PaxosLeader,
    block: Dblock,
    blocks: &[BlockSeen],
    known: [Option<(LeaseVersion, Input)>; 2],
) -> Judged {
    let version = block.version;
    if version <= leader.version() {
        return Judged::Consistent;
    }
    let input = rules::accepted(block).map(|(_, input)| input);
    let by = input.and_then(|input| {
        let host = HostId::new(input.owner).ok()?;
        Some((host, Generation::new(input.generation)))
    });
    let conflict = Judged::Conflicts(Conflict { version, by });
    if Some(version) != leader.version().next() {
        return conflict;
    }
    // What was only announced was not given to anybody: the ballot will tell.
    let Some(input) = input else {
        return Judged::Consistent;
    };
    if known.contains(&Some((version, input))) {
        return Judged::Consistent;
    }
    let (host, generation) = (by.map(|(host, _)| host), Generation::new(input.generation));
    if last_used_before(blocks, host, generation, version) == expected.version {
        Judged::Skipped((version, input))
    } else {
        conflict
    }
}

/// The version under which the disk was last used, as far as `image` and the attempt tell.
pub(super) fn last_used(attempt: &Attempt<'_>, image: &LeaseImage) -> LeaseVersion {
    let leader = &image.leader;
    let version = leader.version();
    match (
        attempt.skipped,
        rules::precondition(attempt.holding.expected),
    ) {
        (Some(skipped), Some(expected)) if skipped == (version, leader.input()) => expected.version,
        _ => {
            let (owner, generation) = (leader.last_owner(), leader.generation());
            last_used_before(&image.blocks, owner, generation, version)
        }
    }
}

/// The version under which the disk was last used, where `owner` has `version` and these are the
/// blocks: an earlier one, if a note says so.
///
/// Two notes can say so: the owner's own, of its version; and that of a host which failed to get a newer version
/// and did not use it either. It has seen who had `version`: its `since` is older than `version` only where that
/// was not used.
fn last_used_before(
    blocks: &[BlockSeen],
    owner: Option<HostId>,
    generation: Generation,
    version: LeaseVersion,
) -> LeaseVersion {
    let noted = blocks.iter().filter_map(|seen| {
        let note = seen.note.as_ref()?;
        let Tenure::Unused { since } = note.tenure else {
            return None;
        };
        let by_owner = Some(seen.host) == owner && rules::note_speaks_of(note, generation, version);
        let by_later = note.version > version;
        (since < version && (by_owner || by_later)).then_some(since)
    });
    let Some(since) = noted.min() else {
        return version;
    };
    tracing::debug!(name: "version_skipped", %version, last_used = %since,
        "a version is skipped: its owner has not used it");
    since
}

/// The refusal, with all that is known of who was there.
async fn refusal<W: World>(
    io: &LeaseIo<'_, W>,
    expected: VersionPrecondition,
    conflict: Conflict,
    leader: &PaxosLeader,
    blocks: &[BlockSeen],
) -> AcquireError {
    tracing::debug!(name: "version_changed", resource = %io.area.resource, expected = %expected.version, found = %conflict.version,
        "the lease is not at the version that is required");
    let mut change = VersionChange {
        expected: expected.version,
        found: conflict.version,
        taken_by: None,
    };
    if let Some((host_id, generation)) = conflict.by {
        let area = io.membership.area();
        let sector = area.read_sector(io.world, host_id, io.timeout()).await;
        let shown = sector.ok().map(|found| found.leader);
        let shown = shown.filter(|leader| leader.generation() == generation);
        let note = note_of(blocks, host_id)
            .filter(|note| note.is_of(generation, conflict.version) && note.tenure == Tenure::Held);
        change.taken_by = Some(LaterHolder {
            host_id,
            generation,
            host_name: shown.map(|leader| leader.host_name()),
            holds: conflict.version == leader.version() && !leader.is_free(),
            note: note.cloned(),
        });
    }
    AcquireError::VersionChanged(Box::new(change))
}

/// The offer by which the lease must have been handed over, if any.
fn offer(holding: &Holding) -> Option<(VersionPrecondition, OfferId)> {
    let expected = rules::precondition(holding.expected)?;
    let offer = match expected.required_end {
        RequiredEnd::AnyEnd => None,
        RequiredEnd::HandedOver(offer) => Some(offer),
    };
    Some((expected, rules::offer_to_prove(offer)?))
}

/// Whether the lease may be taken from an owner that is dead, by what its note said when all was read.
pub(super) fn may_take_from_dead(holding: &Holding, image: &LeaseImage) -> bool {
    let Some((expected, offer)) = offer(holding) else {
        return true;
    };
    let note = expected
        .holder
        .and_then(|(host, _)| note_of(&image.blocks, host));
    note.is_some_and(|note| note.tenure == Tenure::HandedOver(offer))
}

/// Refuses a lease that was not handed over as it had to be, though nobody holds it any more: whoever
/// had it may have gone on with the guest after it was offered. The holder's note is read anew: time
/// may have passed since all was read.
pub(super) async fn check_handed_over<W: World>(
    io: &LeaseIo<'_, W>,
    holding: &Holding,
) -> Result<(), AcquireError> {
    let Some((expected, offer)) = offer(holding) else {
        return Ok(());
    };
    let version = expected.version;
    if let Some((host, generation)) = expected.holder
        && let NoteState::Present(note) = io.read_block(host).await?.note
        && note.is_of(generation, version)
        && note.tenure == Tenure::HandedOver(offer)
    {
        tracing::debug!(name: "taken_as_handed_over", resource = %io.area.resource, %version, from = %host,
            "the lease was handed over to this host");
        return Ok(());
    }
    tracing::debug!(name: "not_handed_over", resource = %io.area.resource, %version,
        "nobody holds the lease, and it was not handed over");
    Err(AcquireError::NotHandedOver {
        version,
        by: expected.holder,
    })
}
