//! The rules of a delta lease that a programmer could get wrong, each by its name.
//!
//! All are pure: they judge what was read, and touch neither disk nor clock. Here, and nowhere else in
//! `delta_lease`, stand the switches of the mutants (`docs/testing.md`). A `mutation!` has a name, a wrong
//! value and the right one, which counts in everything but a test that gets this rule wrong on purpose.

use std::time::Duration;

use super::watch::{Change, ReadSpan, Sign, Watcher};
use crate::format::{DeltaLeader, FormatError, FormatErrorKind, Generation, Incarnation};
use crate::probe::{mutation, with_checksum};
use crate::timing::{FireTimeout, IoTimeout, Timing};
use crate::world::{Timestamp, WriteError};

/// Where the checksum of a leader is in its sector.
const LEADER_CHECKSUM_AT: usize = 168;

// What a sector holds.

/// Decodes the leader of a delta lease or a paxos lease. A leader whose checksum does not match its
/// bytes decides nothing.
pub(crate) fn decode_leader<T>(
    sector: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
) -> Result<T, FormatError> {
    let decoded = decode(sector);
    let kind = decoded.as_ref().err().map(FormatError::kind);
    match kind {
        Some(&FormatErrorKind::Checksum { computed, .. }) if mutation!(LeaderChecksumIgnored) => {
            decode(&with_checksum(sector, LEADER_CHECKSUM_AT, computed))
        }
        _ => decoded,
    }
}

/// The io timeout N of a host. No checksum covers the field in its record. So where a note repeats it, the
/// longer of the two counts, and a value that no host can have written stands for the longest there is: a
/// takeover may be late, never early.
pub(super) fn io_timeout(field: Option<IoTimeout>, noted: Option<IoTimeout>) -> IoTimeout {
    let nonsense = mutation!(BadTimeoutDefaulted, IoTimeout::DEFAULT, IoTimeout::MAX);
    let field = field.unwrap_or(nonsense);
    let longest = noted.map_or(field, |noted| noted.max(field));
    mutation!(TimeoutFieldTrusted, field, longest)
}

/// The fire timeout to wait for, of a host whose note tells `noted`: `own`, or the noted one, or sanlock's
/// where there is no note, whichever is longest. A takeover may be late, never early.
pub(super) fn fire_timeout(noted: Option<u16>, own: FireTimeout) -> FireTimeout {
    let theirs = noted.map_or(Some(FireTimeout::DEFAULT), FireTimeout::from_secs);
    let longest = theirs.map_or(own, |theirs| theirs.max(own));
    mutation!(FireTimeoutIsOwn, own, longest)
}

// How long a host has been silent.

/// What became of a sector that showed `before` and shows `after`.
pub(super) fn change(by: Watcher, before: &Sign, after: &Sign) -> Change {
    let right = Change::between(before, after);
    let in_generation = || Change::in_generation(before, after);
    let in_time = || Change::in_time(before, after);
    match (by, right) {
        (Watcher::Claimant(_), _) => mutation!(ClaimRenewalIgnored, Change::Nothing, right),
        (Watcher::Table(_), Change::OtherGeneration) => {
            mutation!(TableGenerationsMixed, in_generation(), right)
        }
        (Watcher::Table(_), Change::OtherWriter) => {
            mutation!(TableIncarnationsMixed, in_time(), right)
        }
        (Watcher::Acquirer(_), Change::OtherGeneration) => {
            mutation!(TableOfOtherLife, in_generation(), right)
        }
        (Watcher::Acquirer(_), Change::OtherWriter) => {
            mutation!(OwnerIncarnationIgnored, in_time(), right)
        }
        (Watcher::Acquirer(_), Change::Renewed) => {
            mutation!(OwnerRenewalIgnored, Change::Nothing, right)
        }
        _ => right,
    }
}

/// From when on a content is silent that `read` was the first to show.
pub(super) fn silent_from(by: Watcher, read: ReadSpan) -> Timestamp {
    let ReadSpan { started, completed } = read;
    match by {
        Watcher::Claimant(_) => mutation!(ClaimSilenceFromReadBegin, started, completed),
        Watcher::Table(_) => mutation!(TableSilenceFromReadBegin, started, completed),
        Watcher::Acquirer(_) => mutation!(OwnerSilenceFromReadBegin, started, completed),
    }
}

/// Up to when `read` shows silence.
pub(super) fn silent_until(by: Watcher, read: ReadSpan) -> Timestamp {
    let ReadSpan { started, completed } = read;
    match by {
        Watcher::Claimant(_) => mutation!(ClaimSilenceToReadEnd, completed, started),
        Watcher::Table(_) => mutation!(TableSilenceToReadEnd, completed, started),
        Watcher::Acquirer(_) => mutation!(OwnerSilenceToReadEnd, completed, started),
    }
}

/// Up to when a silence counts at `now`, of which reads have shown the part before `shown_until`.
pub(super) fn seen_until(by: Watcher, shown_until: Timestamp, now: Timestamp) -> Timestamp {
    match by {
        Watcher::Table(_) => mutation!(TableDeadUnseen, now, shown_until),
        Watcher::Claimant(_) | Watcher::Acquirer(_) => shown_until,
    }
}

/// The times of a host that has not renewed, and showed first `before`, then `after`: the longest of both.
pub(super) fn longest_times(by: Watcher, before: Timing, after: Timing) -> Timing {
    let longest = Timing::new(
        before.io_timeout().max(after.io_timeout()),
        before.fire_timeout().max(after.fire_timeout()),
    );
    match by {
        Watcher::Table(_) => mutation!(TableTimeoutShrinks, after, longest),
        Watcher::Claimant(_) | Watcher::Acquirer(_) => longest,
    }
}

/// By which times a host dies that shows `theirs`. N is the host's own; never a default, never the
/// watcher's.
pub(super) fn times_of_host(by: Watcher, theirs: Timing) -> Timing {
    match by {
        Watcher::Claimant(own) => mutation!(ClaimByOwnTimeout, own, theirs),
        Watcher::Table(_) => theirs,
        Watcher::Acquirer(own) => {
            let with_own = Timing::new(own.io_timeout(), theirs.fire_timeout());
            mutation!(OwnerTimeoutIsOwn, with_own, theirs)
        }
    }
}

/// How long a host must have been silent to be dead: [`Timing::dead_after`], by the times of that host.
pub(super) fn dead_after(by: Watcher, timing: Timing) -> Duration {
    if mutation!(TakeoverAtLost) {
        return timing.lost_after();
    }
    let right = mutation!(MarginDropped, timing.stopped_by(), timing.dead_after());
    match by {
        Watcher::Claimant(_) => mutation!(ClaimAtLost, timing.lost_after(), right),
        Watcher::Table(_) | Watcher::Acquirer(_) => right,
    }
}

/// Whether silence counts where the last read found this damage: a damaged sector proves nothing.
pub(super) fn counts(damage: Option<FormatError>) -> bool {
    mutation!(TableDamageIsSilence, true, damage.is_none())
}

/// Whether this generation of a host may still run, of which the last scan showed `in_table`, and which has
/// ended or not. What is not known counts as running: a later generation than the one in the table started
/// after the last scan.
pub(super) fn may_be_alive(
    generation: Generation,
    in_table: Option<Generation>,
    has_ended: bool,
) -> bool {
    match in_table {
        None => mutation!(UnseenSharerDead, false, true),
        Some(in_table) if in_table > generation => false,
        Some(in_table) if in_table < generation => {
            mutation!(EarlierGenerationOfSharer, !has_ended, true)
        }
        Some(_) => !has_ended,
    }
}

/// Whether two hosts go by different fire timeouts.
pub(super) fn is_other_fire_timeout(ours: FireTimeout, theirs: FireTimeout) -> bool {
    mutation!(OtherFireTimeoutJoined, false, ours != theirs)
}

// Claiming a host id.

/// Whether a sector was written by an earlier generation of this very host that is proven to have ended.
///
/// The name alone is no proof: two machines may have been given the same by mistake, and a process that
/// crashed may have left a guest behind. To enter a new generation voids all leases of the earlier one at
/// once. INV-RECORDED: nor are boot and process token; a machine that was cloned with its memory has the same.
pub(super) fn has_ended_here(
    proven: Option<Incarnation>,
    found: Option<Incarnation>,
    is_same_name: bool,
    is_same_boot_and_mark: bool,
) -> bool {
    let is_proven = |last| mutation!(RejoinIncarnationIgnored, true, found == Some(last));
    let is_proven = proven.is_some_and(is_proven);
    mutation!(RejoinProofIgnored, true, is_proven)
        && mutation!(RejoinNameIgnored, true, is_same_name)
        && mutation!(RejoinMarkIgnored, true, is_same_boot_and_mark)
}

/// The generation that a claim writes: each join gets its own, lest leases of an earlier generation be
/// taken for leases of this one.
pub(super) fn generation_of_claim(found: Generation) -> Option<Generation> {
    mutation!(GenerationKept, Some(found), found.next())
}

/// INV-INCARNATION: each join writes an incarnation that nobody else has.
pub(super) fn incarnation_of_claim(own: Incarnation) -> Incarnation {
    mutation!(IncarnationConstant, Incarnation::FIXED, own)
}

/// INV-TOKEN: a claim is no membership yet. Its write may land late, over the record of a host that was
/// taken into the lockspace meanwhile; a host that then found its own token there would take that host for an
/// earlier generation of itself, and end its leases.
pub(super) fn token_of_claim(own: u32) -> u32 {
    mutation!(UnconfirmedMarked, own, 0)
}

/// Whether a claim took longer to be written than another host allows it.
pub(super) fn is_too_slow(took: Duration, limit: Duration) -> bool {
    mutation!(TooSlowIgnored, false, took > limit)
}

/// How long after the read a claim may be written again: not beyond 2N of our own, by which others may
/// count since the first write.
pub(super) fn limit_of_rewrite(limit: Duration, own_delay: Duration) -> Duration {
    mutation!(ClaimWrittenAgainLate, limit, limit.min(own_delay))
}

/// The N by which a claim is confirmed: that in the sector, which is what the other claimants of the same
/// sector go by. Where the sector has none, our own.
pub(super) fn io_timeout_of_delay(in_sector: Option<IoTimeout>, own: IoTimeout) -> IoTimeout {
    mutation!(ShortDelayByOwnTimeout, own, in_sector.unwrap_or(own))
}

/// How long after its write a claim is read back.
pub(super) fn delay_of_confirmation(short_delay: Duration) -> Duration {
    mutation!(ShortDelaySkipped, Duration::ZERO, short_delay)
}

/// Whether a claim stands that is read back. INV-INCARNATION: all but the incarnation may be the same in a
/// twin's claim.
pub(super) fn stands(is_same_record: bool, is_own_incarnation: bool) -> bool {
    let is_own = mutation!(ConfirmIncarnationUnchecked, true, is_own_incarnation);
    mutation!(ConfirmUnchecked, true, is_same_record && is_own)
}

/// Whether a claim is renewed that waits for its confirmation for longer than its own N allows.
pub(super) fn renews_claims() -> bool {
    mutation!(ClaimNotRenewed, false, true)
}

/// Whether it is too late to renew a claim so long after a step that had this limit.
pub(super) fn is_too_late_to_renew(took: Duration, limit: Duration) -> bool {
    mutation!(ClaimRenewedLate, false, took > limit)
}

/// From when on a confirmed lease counts: from its last write, which others may have seen right then.
pub(super) fn claim_counts_from(write_started: Timestamp, confirmed: Timestamp) -> Timestamp {
    mutation!(ClaimCountedFromConfirm, confirmed, write_started)
}

/// What is written over a claim that was not confirmed: nothing. Only a claim that was confirmed is known to
/// be alone.
pub(super) fn undo_of_claim(claimed: &DeltaLeader) -> Option<DeltaLeader> {
    mutation!(FailedClaimFreed, Some(claimed.released()), None)
}

// Renewing and releasing.

/// The seconds for the next write or input, of which `last` were given out before. Others see a renewal
/// only by a change of whole seconds, so each is above that of every write before, also of one that
/// failed: that may have landed.
pub(super) fn next_renewal_secs(clock_secs: u64, last: u64) -> u64 {
    mutation!(TimestampReused, clock_secs, next_secs(clock_secs, last))
}

/// INV-TIMESTAMP: the same for the input of an acquire; two acquires may fall into one second. Never 0.
pub(super) fn next_input_secs(clock_secs: u64, last: u64) -> u64 {
    mutation!(
        InputNotUnique,
        clock_secs.max(1),
        next_secs(clock_secs, last)
    )
}

fn next_secs(clock_secs: u64, last: u64) -> u64 {
    clock_secs.max(last.saturating_add(1))
}

/// What the check of the own sector says counts, before anything is written.
pub(super) fn checked<E>(own_sector: Result<(), E>) -> Result<(), E> {
    mutation!(RenewalUnchecked, Ok(()), own_sector)
}

/// Whether an own sector shows another owner than this host in this generation.
pub(super) fn is_taken(is_ours: bool) -> bool {
    mutation!(RenewalOwnerUnchecked, false, !is_ours)
}

/// Whether another process wrote an own sector.
pub(super) fn is_by_another(is_own_incarnation: bool) -> bool {
    mutation!(RenewalIncarnationUnchecked, false, !is_own_incarnation)
}

/// Whether an own sector has changed. Nothing can be said where it is not known what was there.
pub(super) fn is_changed(is_known: bool, is_same_record: bool) -> bool {
    mutation!(RenewalChangeUnchecked, false, is_known && !is_same_record)
}

/// Whether a sector that is not ours any more loses the leases at once.
pub(super) fn is_lost_with_sector() -> bool {
    mutation!(TakenOverNotFatal, false, true)
}

/// Whether a renewal may be written. A process that stood still since the scan was started, or a host that
/// was suspended, must not write over who has taken the id meanwhile.
pub(super) fn may_renew(is_held: bool) -> bool {
    mutation!(RenewedAfterExpiry, true, is_held)
}

/// How long the write of a renewal may take: until it can save nothing any more.
pub(super) fn limit_of_renewal(left: Duration, timing: Timing) -> Duration {
    mutation!(RenewalBeyondExpiry, timing.stopped_by(), left)
}

/// A renewal counts only if the storage reported it as written.
pub(super) fn written(result: Result<(), WriteError>) -> Result<(), WriteError> {
    mutation!(RenewalErrorIgnored, Ok(()), result)
}

/// Whether it is still known what the disk holds after a write that failed: only if it was not started. Any
/// other leaves old or new on the disk.
pub(super) fn is_known_after(error: &WriteError) -> bool {
    let is_known = matches!(error, WriteError::NotStarted(_));
    mutation!(FailedRenewalKnown, true, is_known)
}

/// INV-RENEW: from when on a renewal counts.
pub(super) fn renewal_counts_from(write_started: Timestamp, write_ended: Timestamp) -> Timestamp {
    mutation!(RenewalCountedFromEnd, write_ended, write_started)
}

/// Whether an id may be freed by a host that holds its leases, or has lost them.
pub(super) fn may_free(is_held: bool) -> bool {
    mutation!(IdFreedAfterLoss, true, is_held)
}

/// Whether an id may be freed though it is known or not what the disk holds.
pub(super) fn may_free_over(is_known: bool) -> bool {
    mutation!(IdFreedAfterFailedRenewal, true, is_known)
}

/// Before an id is freed, its leases are lost.
pub(super) fn ended(end: impl FnOnce()) {
    if !mutation!(IdFreedWhileHeld) {
        end();
    }
}

// Believing in the own leases.

/// How long after the start of the last good write the own leases are held.
pub(super) fn held_for(timing: Timing) -> Duration {
    mutation!(LostTooLate, timing.stopped_by(), timing.lost_after())
}

/// INV-MEMBER: how long a write to a lease may take of a host whose leases are held for `left`, or are
/// lost.
pub(super) fn write_limit(io: Duration, left: Option<Duration>) -> Option<Duration> {
    let right = left.map(|left| mutation!(WriteBegunAfterExpiry, io, io.min(left)));
    mutation!(WrittenAfterExpiry, Some(io), right)
}

/// EXP-2: the instant with which a deadline is compared that is asked for at `now`.
pub(super) fn asked_at(now: Timestamp) -> Timestamp {
    mutation!(DeadlineUnchecked, Timestamp::default(), now)
}

/// What becomes of a deadline, `None` when the leases are lost, by a renewal that was good for another one
/// and had completed at `now`.
pub(super) fn extended(
    deadline: Option<Timestamp>,
    now: Timestamp,
    renewed: Timestamp,
) -> Option<Timestamp> {
    // EXP-1.
    let deadline = mutation!(LossNotSticky, Some(renewed), deadline)?;
    let is_late = mutation!(LateRenewalCounts, false, now >= deadline);
    // EXP-3.
    let forward = mutation!(DeadlineMovesBack, renewed, renewed.max(deadline));
    (!is_late).then_some(forward)
}
