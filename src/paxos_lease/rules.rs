//! The rules of a paxos lease that a programmer could get wrong, each by its name.
//!
//! All but `flushed` and `stopped` are pure: they judge what was read, and touch neither disk nor clock. Here, and nowhere else
//! in `paxos_lease`, stand the switches of the mutants (`docs/testing.md`).
//!
//! Read `mutation!(Name, wrong, right)` as `right`: **the last argument is the rule**. The one before it
//! counts only in a test that gets this rule wrong on purpose. `mutation!(Name)` is false but in such a
//! test. For the same tests some rules are functions that need not be one: "*Its argument, but for the
//! mutant*" and "*always, but for the mutant*" say so.

use std::cmp::Ordering;

use super::holding::VersionPrecondition;
use crate::delta_lease::HostState;
use crate::format::{
    Dblock, DblockSector, FormatError, FormatErrorKind, Generation, HolderNote, HostId,
    Incarnation, Input, LeaseVersion, NoteState, OfferId, PaxosLeader, Tenure,
};
use crate::probe::{mutation, with_checksum};

/// Where the checksum of a dblock is in its sector.
const DBLOCK_CHECKSUM_AT: usize = 48;

// What is read, and when nothing may be decided on it.

/// Decodes the sector of `host`. A dblock whose checksum does not match its bytes decides nothing.
pub(super) fn decode_block(sector: &[u8], host: HostId) -> DblockSector {
    let decoded = DblockSector::decode(sector, host);
    match decoded.block.as_ref().err().map(FormatError::kind) {
        Some(&FormatErrorKind::Checksum { computed, .. }) if mutation!(BlockChecksumIgnored) => {
            DblockSector::decode(&with_checksum(sector, DBLOCK_CHECKSUM_AT, computed), host)
        }
        _ => decoded,
    }
}

/// A damaged block makes the read fail: it may hold an accepted value. (Its argument, but for the mutant.)
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
/// that write. (Its argument, but for the mutant.)
pub(super) fn must_await_own_write(is_in_flight: bool) -> bool {
    mutation!(WriteInFlightIgnored, false, is_in_flight)
}

/// A lease that turned out larger than expected is read again: the check for own writes in flight has not
/// reached its further sectors.
pub(super) fn must_read_again(has_expected_shape: bool) -> bool {
    mutation!(GrownInFlightIgnored, false, !has_expected_shape)
}

/// INV-MEMBER, where nothing is written: an acquire goes on, and counts, only while this host's delta
/// lease is held. (Its argument, but for the mutant.)
pub(super) fn is_member(is_held: bool) -> bool {
    mutation!(MemberUnchecked, true, is_held)
}

// INV-JUDGED, INV-NEXT: whose end is known already, and which version is balloted for.

/// The newest version that any host has balloted for.
pub(super) fn newest_version(blocks: impl Iterator<Item = Dblock>) -> LeaseVersion {
    let none = LeaseVersion::new(0);
    let newest = blocks.map(|block| block.version).max();
    mutation!(BlocksNotCounted, none, newest.unwrap_or(none))
}

/// INV-JUDGED: a block newer than the leader shows that the leader is stale. A ballot for the next version is
/// under way or was given up, or an older leader was written late over a newer one. In each case whoever
/// balloted for the newer version has found before that the ownership which the leader shows had ended, so
/// this host need not judge its owner again.
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

/// The owner by the leader must be judged, whoever that is. (Its argument, but for the mutant.)
pub(super) fn owner_to_judge(owner: Option<HostId>) -> Option<HostId> {
    mutation!(OwnerNotJudged, None, owner)
}

/// Whether the leader's generation of this host is the present one or an earlier one: nobody holds the
/// lease by it. A later generation was made in another lockspace, and its holder may run.
pub(super) fn is_not_of_later_generation(on_lease: Generation, in_lockspace: Generation) -> bool {
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

/// The table of hosts alone ends no ownership: a host id that was free may be owned again. (Never, but for
/// the mutant.)
pub(super) fn is_ended_by_table_alone(state: HostState) -> bool {
    mutation!(TableBelieved, state.has_ended(), false)
}

/// An owner whose sector cannot be read or believed may be alive. (Always, but for the mutant.)
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

/// RELEASED is asked for only under a leader that another host than the owner wrote: an owner that releases
/// marks its block first, so such a leader can be a late commit. Believed always, RELEASED could leave a lease
/// that nobody can take beside sanlock hosts (`docs/protocol.md`).
pub(super) fn may_be_late_commit(leader: &PaxosLeader, owner: HostId) -> bool {
    let by_another = leader.write_id() != u64::from(owner);
    mutation!(ReleasedAlwaysBelieved, true, by_another)
}

/// Whether the owner has given this ownership back. No checksum covers RELEASED; so where the owner's
/// note, which has a checksum, says that the owner holds the lease, the note is believed. RELEASED in a
/// block that is older than the leader may be the mark of an earlier ownership, in a sector that was
/// restored. A block that was never written, but for the mark, is what sanlock leaves behind.
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

/// Live shared holders refuse an exclusive acquire. (Its argument, but for the mutant.)
pub(super) fn refuse<T>(live_sharers: Vec<T>) -> Vec<T> {
    mutation!(SharersIgnored, Vec::new(), live_sharers)
}

/// A shared holder that may be alive is respected. (Its argument, but for the mutant.)
pub(super) fn respects_sharer(may_be_alive: bool) -> bool {
    mutation!(LiveSharerCleared, false, may_be_alive)
}

// INV-PRECONDITION: how the lease must have been left.

/// The version precondition of an acquire. (Its argument, but for the mutant.)
pub(super) fn precondition(expected: Option<VersionPrecondition>) -> Option<VersionPrecondition> {
    mutation!(ExpectedVersionIgnored, None, expected)
}

/// The blocks must not contradict the precondition either: a late write may have set the leader back. (Its
/// argument, but for the mutant.)
pub(super) fn precondition_of_blocks(expected: VersionPrecondition) -> Option<VersionPrecondition> {
    mutation!(ExpectedBlocksIgnored, None, Some(expected))
}

/// The version expected must be that of the holder expected: a lease that was initialised anew comes to
/// the same versions. (Its argument, but for the mutant.)
pub(super) fn is_of_holder(is_expected_holder: bool) -> bool {
    mutation!(ExpectedHolderIgnored, true, is_expected_holder)
}

/// A version that differs is refused, also where the leader names an earlier generation of this very
/// host: another host may have had the lease in between. (Its first argument; the second is for the mutant.)
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

/// A hand-over is accepted only by the note of its own offer. (Its argument, but for the mutant.)
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
/// hosts, so that no two hosts ever use the same. `None`: the numbers are used up. (`last`, this host's last
/// one for the version, 0 for none, is for the mutant.)
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

/// The leader is read again before a ballot where another host may have written it since it was read. (Its
/// argument, but for the mutant.)
pub(super) fn rereads_leader(may_have_moved: bool) -> bool {
    mutation!(LeaderNotReread, false, may_have_moved)
}

/// `blocksSeen`: what a phase goes by is what it read after its own write. (`read`, but for the mutants of the
/// two phases.)
pub(super) fn blocks_seen<T>(dblock: &Dblock, read: Vec<T>) -> Vec<T> {
    if is_phase_2(dblock) {
        mutation!(Phase2ReadSkipped, Vec::new(), read)
    } else {
        mutation!(Phase1Skipped, Vec::new(), read)
    }
}

/// Whether `dblock` has accepted a value in its own ballot: `mbal` = `bal`.
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
/// whoever wrote the leader. A leader that names this host for an older reason is no success. (Host and
/// generation are for the mutants.)
pub(super) fn has_won(
    leader: &PaxosLeader,
    version: LeaseVersion,
    own_input: Option<(LeaseVersion, Input)>,
    (host, generation): (HostId, Generation),
) -> bool {
    if leader.version() != version || leader.is_free() {
        return false;
    }
    let names_host = leader.last_owner() == Some(host);
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
    leader.last_owner() == Some(host) && leader.generation() == generation
}

/// A write that failed or timed out may be on the disk all the same, or get there later. (`Some(block)`, but
/// for the mutant.)
pub(super) fn may_be_on_disk<T>(block: T, is_reported_written: bool) -> Option<T> {
    let reported = is_reported_written.then_some(());
    mutation!(FailedWriteForgotten, reported.map(|()| block), Some(block))
}

/// A commit counts only if the storage reported it as written. (Its argument, but for the mutant.)
pub(super) fn reported_commit<E>(written: Result<(), E>) -> Result<(), E> {
    mutation!(CommitErrorIgnored, Ok(()), written)
}

// What an acquire that failed leaves behind.

/// Once the leader shows that a version went to another host, or a newer one did, what this host proposed for
/// it cannot be committed any more. A leader that was freed still names its last owner.
pub(super) fn is_decided_otherwise(
    leader: &PaxosLeader,
    proposed_for: Option<LeaseVersion>,
    host: HostId,
) -> bool {
    let decided = proposed_for.is_some_and(|version| version <= leader.version());
    let otherwise = decided && leader.last_owner() != Some(host);
    mutation!(CleanupForgottenAtRestart, true, otherwise)
}

/// An acquire that failed is cleaned up. Also one that only announced a ballot: its phase 1 has taken away the
/// mark over what this host had accepted for the same version before, which others may yet commit. (Always,
/// but for the mutants.)
pub(super) fn must_be_cleaned_up(dblock: &Dblock) -> bool {
    let also_phase_1 = mutation!(Phase1NotRetracted, is_phase_2(dblock), true);
    mutation!(RetractSkipped, false, also_phase_1)
}

/// What could not be cleaned up at once stays to be cleaned up. (Always, but for the mutant.)
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

/// INV-RELEASED-FIRST: should a late commit of this very version by another host land over our free leader,
/// the mark tells everyone that the commit means nothing. (Always, but for the mutant.)
pub(super) fn order_of_giving_back() -> [Step; 2] {
    let right = [Step::MarkBlock, Step::FreeLeader];
    mutation!(LeaderFreedFirst, [Step::FreeLeader, Step::MarkBlock], right)
}

/// INV-AS-WRITTEN: a release marks its block only over the values that this host wrote, or under a leader
/// that names this host for them. In a lease that was initialised anew, or restored, the mark would be newer
/// than the leader: others would call that leader stale, and take the lease beside its owner.
pub(super) fn is_as_written(leader: &PaxosLeader, found: Option<Dblock>, written: &Dblock) -> bool {
    let is_same = found.is_some_and(|found| has_same_values(&found, written));
    let right = is_same || own_sector_was_restored(leader, found, written);
    mutation!(ReleaseOverRestored, true, right)
}

/// Whether the own sector, and nothing else of the lease, was restored to `found` or emptied after this host
/// wrote `written` there: the leader still shows the very input that is in `written`.
///
/// No host has had the lease since then, and the mark that this host writes at the leader's own version
/// makes that leader look stale to nobody. A block that is not older than `written` is a twin's.
fn own_sector_was_restored(leader: &PaxosLeader, found: Option<Dblock>, written: &Dblock) -> bool {
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
/// its holder. It was not in three cases:
///
/// * the leader is what this host wrote;
/// * another host wrote it, and it shows what made this host the owner: a late commit;
/// * it is older, whoever wrote it: a late commit, or the leader's sector alone was restored. Had all of
///   the lease been, the own block would not be as written ([`is_as_written`]).
pub(super) fn is_taken(leader: &PaxosLeader, held: &PaxosLeader, host: HostId) -> bool {
    let is_ours = if leader.write_id() == u64::from(host) {
        leader == held
    } else {
        makes_same_owner(leader, held)
    };
    let is_older = leader.version() < held.version();
    mutation!(ReleaseOverTaken, false, !is_ours && !is_older)
}

fn makes_same_owner(leader: &PaxosLeader, held: &PaxosLeader) -> bool {
    (leader.version(), leader.input()) == (held.version(), held.input())
}

/// What is done about a leader once the own block says RELEASED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AboutLeader {
    /// It is freed.
    Free,
    /// Another host wrote it: our mark speaks.
    Leave,
}

/// INV-WRITER, for a holder: only a leader that this host was the last to write is freed, and only the
/// very one that made it the owner. Since another host may take the lease as soon as the mark is on the
/// disk, a free record could land over that host's. `None`: this host wrote the leader, and it is another
/// one than the holder's. Somebody should know.
pub(super) fn leader_of_holder(
    leader: &PaxosLeader,
    held: &PaxosLeader,
    host: HostId,
) -> Option<AboutLeader> {
    if mutation!(ReleaseBlind) {
        return Some(AboutLeader::Free);
    }
    let by_us = leader.write_id() == u64::from(host);
    if by_us && leader == held {
        Some(AboutLeader::Free)
    } else if by_us {
        None
    } else if makes_same_owner(leader, held) && mutation!(ReleaseWriterIgnored) {
        Some(AboutLeader::Free)
    } else {
        Some(AboutLeader::Leave)
    }
}

/// INV-WRITER, for what an acquire or a release left behind: only a leader that names this host in this
/// generation, and that this host was the last to write, is freed. `None`: it does not name this host as
/// the owner, and there is nothing to be done.
pub(super) fn leader_left_behind(
    leader: &PaxosLeader,
    (host, generation): (HostId, Generation),
) -> Option<AboutLeader> {
    let names_us = mutation!(RetractOwnerIgnored, true, names(leader, (host, generation)));
    let is_owned = mutation!(RetractLeavesLeader, false, !leader.is_free());
    let by_us = leader.write_id() == u64::from(host);
    if !is_owned || !names_us {
        None
    } else if mutation!(RetractWriterIgnored, true, by_us) {
        Some(AboutLeader::Free)
    } else {
        Some(AboutLeader::Leave)
    }
}

/// INV-AS-WRITTEN, for what was left behind: the block that is to be marked, if any.
///
/// * A block of the same version: it is marked as it is on the disk.
/// * The own sector alone was restored: what this host wrote there is written again, with the mark.
/// * A block of another version: the write of what was left never reached the disk. The block that is there
///   is marked unless it is already, since others may commit what it proposes, for this host too.
pub(super) fn block_left_behind(
    leader: &PaxosLeader,
    on_disk: Option<Dblock>,
    left: &Dblock,
) -> Option<Dblock> {
    let right = match on_disk {
        Some(found) if found.version == left.version => Some(found),
        found if own_sector_was_restored(leader, found, left) => Some(*left),
        found => found.filter(|found| !found.released),
    };
    mutation!(RetractOverRestored, Some(*left), right)
}

/// Who gives back; for the mutants alone.
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
/// (Its argument, but for the mutant.)
pub(super) fn must_await_own_commit(is_in_flight: bool) -> bool {
    mutation!(RetractInFlightIgnored, false, is_in_flight)
}

/// Before a lease is handed over, all of the guest's writes have completed and are on the disk. (Always, but
/// for the mutant.)
pub(super) async fn flushed<E>(flush: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    if mutation!(FlushAfterRelease) {
        return Ok(());
    }
    flush.await
}

/// Before a lease is handed over, its holder's own right to run has ended. (Always, but for the mutant.)
pub(super) fn stopped(stop: impl FnOnce()) {
    if !mutation!(HandoverBothRun) {
        stop();
    }
}

// Whether a lease is still held.

/// A leader of the held version keeps its holder only with the holder's own input. The input of a leader
/// that was freed has no time, and is nobody's.
pub(super) fn still_names_holder(leader: &PaxosLeader, held: &PaxosLeader) -> bool {
    let right = makes_same_owner(leader, held);
    mutation!(VerifyByVersion, leader.version() == held.version(), right)
}

/// An older leader may be stale, by another host's late commit, and is then no loss.
pub(super) fn may_be_stale(leader: LeaseVersion, held: LeaseVersion) -> bool {
    mutation!(StaleLeaderIsLoss, false, leader < held)
}

/// Under an older leader the lease is held only as long as the own block is what this host wrote.
pub(super) fn is_held_under_stale_leader(found: Option<Dblock>, written: &Dblock) -> bool {
    let is_same = found.is_some_and(|found| has_same_values(&found, written));
    mutation!(RestoredIsHeld, true, is_same)
}

/// Something else in the place of a lease, or nothing, is a loss, and no doubt. (Its argument, but for the
/// mutant.)
pub(super) fn is_loss(shows_other_content: bool) -> bool {
    mutation!(OtherContentIsDoubt, false, shows_other_content)
}
