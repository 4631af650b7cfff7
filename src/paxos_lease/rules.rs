//! The rules of a paxos lease that a programmer could get wrong, each by its name.
//!
//! All are pure: they judge what was read, and touch neither disk nor clock. Here, and nowhere else
//! in `paxos_lease`, stand the switches of the mutants (`docs/testing.md`). A `mutation!` has a name, a
//! wrong value and the right one, which counts in everything but a test that gets this rule wrong on
//! purpose.

use std::cmp::Ordering;

use super::holding::VersionPrecondition;
use crate::delta_lease::HostState;
use crate::format::{
    Dblock, DblockSector, FormatError, Generation, HolderNote, HostId, Incarnation, Input,
    LeaseVersion, NoteState, OfferId, PaxosLeader, Tenure,
};
use crate::probe::{mutation, with_checksum};

/// Where the checksum of a dblock is in its sector.
const DBLOCK_CHECKSUM_AT: usize = 48;

// What is read, and when nothing may be decided on it.

/// Decodes the sector of `host`. A dblock whose checksum does not match its bytes decides nothing.
pub(super) fn decode_block(sector: &[u8], host: HostId) -> DblockSector {
    let decoded = DblockSector::decode(sector, host);
    match decoded.block {
        Err(FormatError::Checksum { computed, .. }) if mutation!(BlockChecksumIgnored) => {
            DblockSector::decode(&with_checksum(sector, DBLOCK_CHECKSUM_AT, computed), host)
        }
        _ => decoded,
    }
}

/// A block that is damaged ends what was asked: an accepted value may be in it.
pub(super) fn undamaged(
    block: Result<Option<Dblock>, FormatError>,
) -> Result<Option<Dblock>, FormatError> {
    mutation!(DamagedBlockSkipped, Ok(block.unwrap_or(None)), block)
}

/// The generation of a shared holder. The mark itself has no checksum. The block beside the mark has,
/// and the same host wrote it in the same generation: where the block proposes a later generation, the
/// mark is damaged, and would make a live sharer look dead.
pub(super) fn sharer(marked: Generation, proposed: Option<Generation>) -> Generation {
    let right = proposed.map_or(marked, |proposed| proposed.max(marked));
    mutation!(SharerMarkTrusted, marked, right)
}

/// While a write of this host to the lease has not completed, what is read may still be overwritten by
/// that write.
pub(super) fn must_await_own_write(is_in_flight: bool) -> bool {
    mutation!(WriteInFlightIgnored, false, is_in_flight)
}

/// A lease that turned out larger than expected is read again: writes in flight to its further sectors
/// were not asked for.
pub(super) fn must_read_again(has_expected_shape: bool) -> bool {
    mutation!(GrownInFlightIgnored, false, !has_expected_shape)
}

/// INV-MEMBER, where nothing is written: an acquire goes on, and counts, only while this host's delta
/// lease is held.
pub(super) fn is_member(is_held: bool) -> bool {
    mutation!(MemberUnchecked, true, is_held)
}

// INV-NEXT: which version is balloted for.

/// The newest version that any host has balloted for.
pub(super) fn newest_version(blocks: impl Iterator<Item = Dblock>) -> LeaseVersion {
    let none = LeaseVersion::new(0);
    let newest = blocks.map(|block| block.version).max();
    mutation!(BlocksNotCounted, none, newest.unwrap_or(none))
}

/// A block newer than the leader shows that the leader is stale: a write of an older version landed
/// late over a newer leader. Whoever balloted for the newer version judged the owner that the stale
/// leader names.
pub(super) fn is_stale(leader: LeaseVersion, newest_block: LeaseVersion) -> bool {
    mutation!(StaleOwnerJudged, false, newest_block > leader)
}

/// INV-NEXT: newer than the leader, not older than any block. `None`: the numbers are used up.
pub(super) fn next_version(
    leader: LeaseVersion,
    newest_block: LeaseVersion,
) -> Option<LeaseVersion> {
    let above = mutation!(VersionAboveBlocks, leader.max(newest_block), leader);
    Some(above.next()?.max(newest_block))
}

// Whose the lease is.

/// The owner by the leader must be judged, whoever that is.
pub(super) fn owner_to_judge(owner: Option<HostId>) -> Option<HostId> {
    mutation!(OwnerNotJudged, None, owner)
}

/// Whether the leader's generation of this host is the present one or an earlier one: nobody holds the
/// lease by it. A later generation was made in another lockspace, and its holder may run.
pub(super) fn has_been_ours(on_lease: Generation, in_lockspace: Generation) -> bool {
    match on_lease.cmp(&in_lockspace) {
        Ordering::Less => mutation!(OwnEarlierGenerationRefused, false, true),
        Ordering::Equal => true,
        Ordering::Greater => mutation!(FutureLifeTaken, true, false),
    }
}

/// INV-INCARNATION: whether a note in this host's own block was written by a twin, another process with
/// the same host id, name and generation.
pub(super) fn is_of_twin(note: &HolderNote, generation: Generation, ours: Incarnation) -> bool {
    let is_other = note.generation == generation && note.incarnation != Some(ours);
    mutation!(LeaseOfTwinTaken, false, is_other)
}

/// INV-INCARNATION: whether a leader that names this host for `version`, which this acquire has not committed,
/// was written by a twin.
pub(super) fn is_twins_commit(
    leader: &PaxosLeader,
    version: LeaseVersion,
    (host, generation): (HostId, Generation),
) -> bool {
    let by_us = leader.write_id() == u64::from(host) && names(leader, (host, generation));
    let right = by_us && leader.version() == version && !leader.is_free();
    mutation!(CommitOfTwinTaken, false, right)
}

/// The table of hosts alone never ends an ownership: a host id that was free may be owned again.
pub(super) fn is_ended_by_table(state: HostState) -> bool {
    mutation!(TableBelieved, state.has_ended(), false)
}

/// An owner whose sector cannot be read or believed may be alive.
pub(super) fn may_live_unreadable() -> bool {
    mutation!(UnreadableOwnerOver, false, true)
}

/// A sector of an older generation than the lease's is of another lockspace, and tells nothing.
pub(super) fn is_from_the_future(on_lease: Generation, in_sector: Generation) -> bool {
    mutation!(OlderLifeBelieved, false, in_sector < on_lease)
}

/// An owner that has joined anew holds nothing of its earlier generation.
pub(super) fn has_rejoined(on_lease: Generation, in_sector: Generation) -> bool {
    mutation!(LaterLifeIgnored, false, in_sector > on_lease)
}

/// RELEASED is asked for only where the owner was not the last writer of the leader: an owner that
/// releases marks its block first, so the leader can be another host's late commit.
pub(super) fn may_be_late_commit(leader: &PaxosLeader, owner: HostId) -> bool {
    let by_another = leader.write_id() != u64::from(owner);
    mutation!(ReleasedAlwaysBelieved, true, by_another)
}

/// Whether the owner has given this ownership back. No checksum covers RELEASED; so where the owner's
/// note, which has a checksum, says that the owner holds the lease, the note is believed. RELEASED in a
/// block that is older than the leader may be the mark of an earlier ownership, in a sector that was put
/// back. A block that was never written, but for the mark, is what sanlock leaves behind.
pub(super) fn has_released(
    sector: &DblockSector,
    generation: Generation,
    version: LeaseVersion,
) -> bool {
    let is_noted_held = match &sector.note {
        NoteState::Present(note) => note.is_of(generation, version) && note.tenure == Tenure::Held,
        _ => false,
    };
    let contradicted = mutation!(ReleasedFlagTrusted, false, is_noted_held);
    let block = sector.block.ok().flatten();
    let is_older = block.is_some_and(|block| block.version < version);
    let is_of_earlier = mutation!(ReleasedOfEarlierBelieved, false, is_older);
    let right = sector.released && !contradicted && !is_of_earlier;
    mutation!(ReleasedNotBelieved, false, right)
}

/// Whether the leader was written since its owner is being watched.
pub(super) fn has_moved(before: &PaxosLeader, now: &PaxosLeader) -> bool {
    mutation!(LeaderNotWatched, false, before != now)
}

/// Shared holders refuse an exclusive acquire.
pub(super) fn refuse<T>(live_sharers: Vec<T>) -> Vec<T> {
    mutation!(SharersIgnored, Vec::new(), live_sharers)
}

/// A shared holder that may be alive is respected.
pub(super) fn respects_sharer(may_be_alive: bool) -> bool {
    mutation!(LiveSharerCleared, false, may_be_alive)
}

// INV-PRECONDITION: how the lease must have been left.

/// The version precondition of an acquire.
pub(super) fn precondition(expected: Option<VersionPrecondition>) -> Option<VersionPrecondition> {
    mutation!(ExpectedVersionIgnored, None, expected)
}

/// The blocks must not contradict the precondition either: a late write may have set the leader back.
pub(super) fn precondition_of_blocks(expected: VersionPrecondition) -> Option<VersionPrecondition> {
    mutation!(ExpectedBlocksIgnored, None, Some(expected))
}

/// The version expected must be that of the holder expected: a lease that was initialised anew comes to
/// the same versions.
pub(super) fn is_of_holder(is_expected_holder: bool) -> bool {
    mutation!(ExpectedHolderIgnored, true, is_expected_holder)
}

/// A version that differs is refused, also where the leader names an earlier generation of this very
/// host: another host may have had the lease in between.
pub(super) fn meets_precondition(is_as_expected: bool, is_of_own_earlier_generation: bool) -> bool {
    let wrong = is_as_expected || is_of_own_earlier_generation;
    mutation!(LostStateTrustsOwner, wrong, is_as_expected)
}

/// Whether an owner's note speaks of this very ownership of it.
pub(super) fn note_speaks_of(
    note: &HolderNote,
    generation: Generation,
    version: LeaseVersion,
) -> bool {
    mutation!(
        UnusedNoteOfAnyVersion,
        true,
        note.is_of(generation, version)
    )
}

/// A hand-over is accepted only by the note of its own offer.
pub(super) fn offer_to_prove(offer: Option<OfferId>) -> Option<OfferId> {
    mutation!(HandoverNoteIgnored, None, offer)
}

// The ballot.

/// INV-KEEP: `dblock[p]` when a host joins the ballots for `version`. What this host accepted for it, in
/// whatever earlier acquire, stays accepted.
pub(super) fn own_dblock(on_disk: Option<Dblock>, version: LeaseVersion) -> Dblock {
    let kept = on_disk.filter(|block| block.version == version);
    let kept = mutation!(EarlierAcceptForgotten, None, kept);
    let (bal, input) = kept.and_then(accepted).unzip();
    Dblock {
        bal: bal.unwrap_or(0),
        input,
        ..Dblock::for_version(version)
    }
}

/// INV-KEEP: `StartBallot` changes `mbal` alone.
pub(super) fn start_ballot(dblock: Dblock, mbal: u64) -> Dblock {
    let forgotten = Dblock::for_version(dblock.version);
    let kept = mutation!(AcceptedForgotten, forgotten, dblock);
    Dblock { mbal, ..kept }
}

/// The number of this host's next ballot: above `seen`, and equal to the host id modulo the number of
/// hosts, so that no two hosts ever use the same. `last`: this host's last one for the version, 0 for
/// none. `None`: the numbers are used up.
pub(super) fn next_mbal(host: HostId, hosts: u16, last: u64, seen: u64) -> Option<u64> {
    if last != 0 && mutation!(BallotNumberKept) {
        return Some(last);
    }
    if mutation!(BallotNumberShared) {
        return seen.checked_add(1);
    }
    let (host, hosts) = (u64::from(host), u64::from(hosts));
    if seen == 0 {
        return Some(host);
    }
    let base = seen.checked_sub(seen.checked_rem(hosts)?)?;
    base.checked_add(hosts)?.checked_add(host)
}

/// Whether the leader is read again before a ballot: another host may have written it meanwhile.
pub(super) fn rereads_leader(time_has_passed: bool) -> bool {
    mutation!(LeaderNotReread, false, time_has_passed)
}

/// `blocksSeen`: what a phase goes by is what it read after its own write. `mbal` = `bal` in phase 2.
pub(super) fn blocks_seen<T>(dblock: &Dblock, read: Vec<T>) -> Vec<T> {
    if is_phase_2(dblock) {
        mutation!(Phase2ReadSkipped, Vec::new(), read)
    } else {
        mutation!(Phase1Skipped, Vec::new(), read)
    }
}

/// Whether `dblock` has accepted a value in its own ballot.
pub(super) const fn is_phase_2(dblock: &Dblock) -> bool {
    dblock.bal == dblock.mbal
}

/// Why a phase ends its ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overtaken {
    /// A host has started a ballot with this larger number.
    ByBallot(u64),
    /// A host ballots for a newer version.
    ByVersion,
}

/// Whether the blocks that a phase has read end the ballot of `dblock`.
pub(super) fn overtaken(
    dblock: &Dblock,
    seen: impl Iterator<Item = Dblock> + Clone,
) -> Option<Overtaken> {
    let is_newer = seen.clone().any(|block| block.version > dblock.version);
    if mutation!(NewerVersionIgnored, false, is_newer) {
        let retried = Overtaken::ByBallot(dblock.mbal);
        return Some(mutation!(
            NewerVersionRetried,
            retried,
            Overtaken::ByVersion
        ));
    }
    let mbals = of_version(dblock.version, seen).map(|block| block.mbal);
    let larger = mbals.max().filter(|&mbal| mbal > dblock.mbal);
    mutation!(MbalIgnored, None, larger.map(Overtaken::ByBallot))
}

/// The value that phase 2 must accept: the one that was accepted with the largest `bal`, if any was.
pub(super) fn value_of_largest_bal(
    version: LeaseVersion,
    seen: impl Iterator<Item = Dblock>,
) -> Option<Input> {
    let values = of_version(version, seen).filter_map(accepted);
    let largest = values.max_by_key(|&(bal, _)| mutation!(HighestBalIgnored, 0, bal));
    mutation!(AcceptedIgnored, None, largest.map(|(_, input)| input))
}

/// A block of another version takes no part in this instance of Paxos.
fn of_version(
    version: LeaseVersion,
    blocks: impl Iterator<Item = Dblock>,
) -> impl Iterator<Item = Dblock> {
    blocks.filter(move |block| mutation!(OlderVersionAdopted, true, block.version == version))
}

/// What a block has accepted, and in which ballot.
pub(super) fn accepted(block: Dblock) -> Option<(u64, Input)> {
    let input = block.input.filter(|_| block.bal != 0)?;
    Some((block.bal, input))
}

/// INV-INPUT: an acquire has won `version` only if the leader shows this acquire's own input for it,
/// whoever wrote the leader. A leader that names this host for an older reason is no success.
pub(super) fn has_won(
    leader: &PaxosLeader,
    version: LeaseVersion,
    own_input: Option<(LeaseVersion, Input)>,
    (host, generation): (HostId, Generation),
) -> bool {
    if leader.version() != version || leader.is_free() {
        return false;
    }
    let names_host = leader.owner_id() == Some(host);
    let right = own_input == Some((version, leader.input()));
    if leader.write_id() == u64::from(host) {
        return mutation!(CommitNamesUsSuffices, names_host, right);
    }
    mutation!(
        LeaderNamesUsSuffices,
        names(leader, (host, generation)),
        right
    )
}

/// Whether `leader` names this host in this generation, for whatever acquire.
pub(super) fn names(leader: &PaxosLeader, (host, generation): (HostId, Generation)) -> bool {
    leader.owner_id() == Some(host) && leader.generation() == generation
}

/// A write that failed or timed out may be on the disk all the same, or get there later.
pub(super) fn may_be_on_disk<T>(block: T, is_reported_written: bool) -> Option<T> {
    let reported = is_reported_written.then_some(());
    mutation!(FailedWriteForgotten, reported.map(|()| block), Some(block))
}

/// A commit counts only if the storage reported it as written.
pub(super) fn committed<E>(written: Result<(), E>) -> Result<(), E> {
    mutation!(CommitErrorIgnored, Ok(()), written)
}

// What an acquire that failed leaves behind.

/// Once the leader shows that a version went to another host, what this host proposed for it cannot be
/// committed any more.
pub(super) fn is_decided_otherwise(
    leader: &PaxosLeader,
    proposed_for: Option<LeaseVersion>,
    host: HostId,
) -> bool {
    let decided = proposed_for.is_some_and(|version| version <= leader.version());
    let otherwise = decided && leader.owner_id() != Some(host);
    mutation!(CleanupForgottenAtRestart, true, otherwise)
}

/// An acquire that failed is cleaned up, also one that only announced a ballot: others are overtaken by
/// that, and nobody owns it.
pub(super) fn must_be_cleaned_up(dblock: &Dblock) -> bool {
    let also_phase_1 = mutation!(Phase1NotRetracted, is_phase_2(dblock), true);
    mutation!(RetractSkipped, false, also_phase_1)
}

/// What could not be cleaned up at once stays to be cleaned up.
pub(super) fn still_pending<T>(pending: T) -> Option<T> {
    mutation!(CleanupDropped, None, Some(pending))
}

// Giving back.

/// The writes of a host that gives a lease back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// RELEASED into the own block.
    MarkBlock,
    /// The leader says that the lease is free.
    FreeLeader,
}

/// INV-RELEASED-FIRST: should another host's commit of this very version land after our free leader, the
/// mark tells everyone that the commit means nothing.
pub(super) fn order_of_giving_back() -> [Step; 2] {
    let right = [Step::MarkBlock, Step::FreeLeader];
    mutation!(LeaderFreedFirst, [Step::FreeLeader, Step::MarkBlock], right)
}

/// INV-AS-WRITTEN: a release marks its block only over the values that this host wrote, or under a leader
/// that names this host for them. In a lease that was initialised anew, or put back, the mark would be newer
/// than the leader: others would call that leader stale, and take the lease beside its owner.
pub(super) fn is_as_written(leader: &PaxosLeader, found: Option<Dblock>, written: &Dblock) -> bool {
    let is_same = found.is_some_and(|found| has_same_values(&found, written));
    let right = is_same || is_put_back_alone(leader, found, written);
    mutation!(ReleaseOverRestored, true, right)
}

/// Whether the own sector alone was put back, to `found`, after this host wrote `written` there: the leader
/// names this host for the very input in that block.
///
/// No host has had the lease since then, and the mark that this host writes at the leader's own version
/// makes that leader look stale to nobody. A block that is not older is a twin's.
fn is_put_back_alone(leader: &PaxosLeader, found: Option<Dblock>, written: &Dblock) -> bool {
    let is_older = |found: Dblock| (found.version, found.mbal) <= (written.version, written.mbal);
    leader.version() == written.version
        && Some(leader.input()) == written.input
        && found.is_none_or(is_older)
}

/// Whether two blocks have the same part in the same ballot. The flags are left out: no checksum covers
/// them.
pub(super) fn has_same_values(a: &Dblock, b: &Dblock) -> bool {
    (a.version, a.mbal, a.bal, a.input) == (b.version, b.mbal, b.bal, b.input)
}

/// Whether the leader, as it is before the release writes anything, shows that the lease was taken from
/// its holder. It was not where the leader is what this host wrote; or another host has committed late
/// what made this host the owner, or an older version. The own block, as written, tells a late commit
/// from a lease that was put back.
pub(super) fn is_taken(leader: &PaxosLeader, held: &PaxosLeader, host: HostId) -> bool {
    let is_ours = if leader.write_id() == u64::from(host) {
        leader == held
    } else {
        makes_same_owner(leader, held)
    };
    let is_late = leader.version() < held.version();
    mutation!(ReleaseOverTaken, false, !is_ours && !is_late)
}

fn makes_same_owner(leader: &PaxosLeader, held: &PaxosLeader) -> bool {
    (leader.version(), leader.input()) == (held.version(), held.input())
}

/// What is done about a leader once the own block says RELEASED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AboutLeader {
    /// It is freed.
    Free,
    /// It does not name this host: nothing is to be done.
    NotOurs,
    /// Another host wrote it: our mark speaks.
    Leave,
    /// This host wrote it, and for another reason: somebody should know.
    Report,
}

/// INV-WRITER, for a holder: only a leader that this host was the last to write is freed, and only the
/// very one that made it the owner. Since another host may take the lease as soon as the mark is on the
/// disk, a free record could land over that host's.
pub(super) fn leader_of_holder(
    leader: &PaxosLeader,
    held: &PaxosLeader,
    host: HostId,
) -> AboutLeader {
    if mutation!(ReleaseBlind) {
        return AboutLeader::Free;
    }
    let by_us = leader.write_id() == u64::from(host);
    if by_us && leader == held {
        AboutLeader::Free
    } else if by_us {
        AboutLeader::Report
    } else if makes_same_owner(leader, held) && mutation!(ReleaseWriterIgnored) {
        AboutLeader::Free
    } else {
        AboutLeader::Leave
    }
}

/// INV-WRITER, for what an acquire or a release left behind: only a leader that names this host in this
/// generation, and that this host was the last to write, is freed.
pub(super) fn leader_left_behind(
    leader: &PaxosLeader,
    (host, generation): (HostId, Generation),
) -> AboutLeader {
    let names_us = mutation!(RetractOwnerIgnored, true, names(leader, (host, generation)));
    let is_owned = mutation!(RetractLeavesLeader, false, !leader.is_free());
    let by_us = leader.write_id() == u64::from(host);
    if !is_owned || !names_us {
        AboutLeader::NotOurs
    } else if mutation!(RetractWriterIgnored, true, by_us) {
        AboutLeader::Free
    } else {
        AboutLeader::Leave
    }
}

/// INV-AS-WRITTEN, for what was left behind: the block to mark is the one on the disk; what is remembered
/// counts only where the own sector alone was put back. A block of another version shows that the write of
/// what was left never reached the disk, and what was there before may name this host, too.
pub(super) fn block_left_behind(
    leader: &PaxosLeader,
    on_disk: Option<Dblock>,
    left: &Dblock,
) -> Option<Dblock> {
    let right = match on_disk {
        Some(found) if found.version == left.version => Some(found),
        found if is_put_back_alone(leader, found, left) => Some(*left),
        found => found.filter(|found| !found.released),
    };
    mutation!(RetractOverRestored, Some(*left), right)
}

/// Who gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Giver {
    /// A holder: a release.
    Holder,
    /// Nobody holds the lease: a clean-up.
    Cleanup,
}

/// INV-KEEP: the block as it stays behind: RELEASED, and all that others may rely on in a ballot.
pub(super) fn released(block: Dblock, giver: Giver) -> Dblock {
    let (unmarked, zeroed) = match giver {
        Giver::Holder => (mutation!(ReleaseUnmarked), mutation!(ReleaseZeroes)),
        Giver::Cleanup => (mutation!(RetractUnmarked), mutation!(RetractZeroes)),
    };
    let empty = Dblock::for_version(LeaseVersion::new(0));
    Dblock {
        released: !unmarked,
        ..if zeroed { empty } else { block }
    }
}

/// A commit of this host that is still under way would land over the leader that is read and written now.
pub(super) fn must_await_own_commit(is_in_flight: bool) -> bool {
    mutation!(RetractInFlightIgnored, false, is_in_flight)
}

/// Before a lease is handed over, all of the guest's writes have completed and are on the disk.
pub(super) async fn flushed<E>(flush: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    if mutation!(FlushAfterRelease) {
        return Ok(());
    }
    flush.await
}

/// Before a lease is handed over, its holder's own right to run has ended.
pub(super) fn stopped(stop: impl FnOnce()) {
    if !mutation!(HandoverBothRun) {
        stop();
    }
}

// Whether a lease is still held.

/// A leader of the held version keeps its holder only with the holder's own input. The input of a leader
/// that was freed has no time, and is nobody's.
pub(super) fn is_same_owner(leader: &PaxosLeader, held: &PaxosLeader) -> bool {
    let right = makes_same_owner(leader, held);
    mutation!(VerifyByVersion, leader.version() == held.version(), right)
}

/// An older leader may be another host's late commit, and is then no loss.
pub(super) fn may_be_stale(leader: LeaseVersion, held: LeaseVersion) -> bool {
    mutation!(StaleLeaderIsLoss, false, leader < held)
}

/// Under an older leader the lease is held only as long as the own block is what this host wrote.
pub(super) fn is_held_under_stale_leader(found: Option<Dblock>, written: &Dblock) -> bool {
    let is_same = found.is_some_and(|found| has_same_values(&found, written));
    mutation!(RestoredIsHeld, true, is_same)
}

/// Something else in the place of a lease, or nothing, is a loss, and no doubt.
pub(super) fn is_loss(shows_other_content: bool) -> bool {
    mutation!(OtherContentIsDoubt, false, shows_other_content)
}
