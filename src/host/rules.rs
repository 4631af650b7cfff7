//! Rules that are easy to get wrong, each a function of its own, so that a mutant can get it wrong
//! and a test must notice.

use std::time::Duration;

use super::process_timer::ProcessTimer;
use crate::probe::mutation;
use crate::timing::Timing;
use crate::world::Timestamp;

/// How often a holder is killed that does not end.
const KILL_INTERVAL: Duration = Duration::from_secs(1);

/// When a holder that has not said that it stopped is killed: [`Timing::killed_after`], well before
/// other hosts may write.
pub(super) fn killed_after(timing: Timing) -> Duration {
    let late = timing.stopped_by().saturating_add(Duration::from_secs(1));
    mutation!(GraceBeyondFire, late, timing.killed_after())
}

/// How long a holder may take to stop, from the loss of its leases on: a guest must be paused in
/// that time.
pub(super) fn grace(timing: Timing) -> Duration {
    let grace = killed_after(timing).saturating_sub(timing.lost_after());
    mutation!(GraceIgnored, Duration::ZERO, grace)
}

/// Since when leases are lost that are found lost at `now`: by the deadline, also where a process
/// that stood still finds it out late, lest it have the whole grace once more.
pub(super) fn lost_since(now: Timestamp, deadline: Timestamp) -> Timestamp {
    mutation!(LossSinceNotice, now, now.min(deadline))
}

/// Until when to wait for a renewal that may hang: the deadline of the leases.
pub(super) fn awaited_deadline(deadline: Timestamp) -> Timestamp {
    let never = Duration::from_secs(1_000_000);
    mutation!(ExpiryNotWatched, deadline + never, deadline)
}

/// Of the holders whose time has come, those that are killed: all.
pub(super) fn killed<T>(due: Vec<T>) -> Vec<T> {
    mutation!(KillSkipped, Vec::new(), due)
}

/// When a holder that was killed at `now` is killed again: it may have been out of reach right then.
pub(super) fn next_kill(now: Timestamp) -> Option<Timestamp> {
    mutation!(KilledOnce, None, Some(now + KILL_INTERVAL))
}

/// The instant of the last good renewal, from which the deadman timer counts.
pub(super) fn last_renewal(known: Timestamp, renewed_at: Timestamp) -> Timestamp {
    mutation!(DeadmanNotMoved, known, known.max(renewed_at))
}

/// When the deadman timer fires by the last renewal: before other hosts may take over.
pub(super) fn deadman_by_renewal(
    renewed_at: Timestamp,
    after: Duration,
    timing: Timing,
) -> Timestamp {
    let too_late = timing.dead_after().saturating_add(timing.lost_after());
    renewed_at + mutation!(DeadmanLate, after.max(too_late), after)
}

/// When it fires for a holder that is to be killed at `killed_at`, if it is: a little later, and no
/// later than by the last renewal.
pub(super) fn deadman_by_loss(
    killed_at: Option<Timestamp>,
    slack: Duration,
    by_renewal: Timestamp,
) -> Timestamp {
    let by_loss = killed_at.map_or(by_renewal, |at| by_renewal.min(at + slack));
    mutation!(DeadmanDeafToLoss, by_renewal, by_loss)
}

/// Whether the timer is armed for a member without holders: while a write of it may be started. A
/// member that stood still, and went on after 8N + F, would write over its successor.
pub(super) fn is_armed_without_holders(may_write: bool) -> bool {
    mutation!(DeadmanOnlyWithHolders, false, may_write)
}

/// The time of the timer once a holder has stopped: that of the others, not the one `before`.
pub(super) fn deadman_after_stop(
    before: Option<Timestamp>,
    of_others: Option<Timestamp>,
) -> Option<Timestamp> {
    mutation!(DeadmanKept, before, of_others)
}

/// The timer that a process which claims a host id keeps from going off: one that stood still
/// meanwhile would write over its successor.
pub(super) fn timer_of_claim(timer: Option<&dyn ProcessTimer>) -> Option<&dyn ProcessTimer> {
    mutation!(DeadmanAfterClaim, None, timer)
}

/// Whether a pending cleanup of a lease refuses the lease to a guard, where it `is_in_the_way`.
pub(super) fn is_refused(is_in_the_way: bool) -> bool {
    mutation!(AcquiredWhileOwing, false, is_in_the_way)
}

/// Whether a cleanup may start. Not while a guard `has_the_name` in another place: that may be the
/// same lease by another path, and what the guard wrote must not be taken back.
pub(super) fn may_clean_up(has_the_name: bool) -> bool {
    mutation!(ReconciledBesideHolder, true, !has_the_name)
}

/// For how long a lease is observed that was cleaned up: a write that the storage reported as failed
/// may be done all the same, until nobody need wait for this host any more.
pub(super) fn observed_for(timing: Timing) -> Duration {
    mutation!(ReconciledNotWatched, Duration::ZERO, timing.stopped_by())
}

/// Whether the lockspace may be left while guards have `in_use` leases.
pub(super) fn may_leave(in_use: usize) -> bool {
    mutation!(LeftWhileHeld, true, in_use == 0)
}

/// Of the held leases that are due, those that are read again: all.
pub(super) fn reread<T>(due: Vec<T>) -> Vec<T> {
    mutation!(HeldNotReread, Vec::new(), due)
}
