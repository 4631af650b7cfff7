//! How far one holder is in the escalation: when it is killed, and when the deadman timer fires.

use std::time::Duration;

use super::rules;
use crate::timing::Timing;
use crate::world::Timestamp;

/// The process that is killed when a holder that has lost its leases does not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// None: the holder need not stop.
    Nobody,
    /// This process, by itself or by the deadman timer.
    ThisProcess,
    /// Another process, which has the leases and may take some time to end when it is killed: see
    /// [`Timing::manager_deadman_after`].
    OtherProcess,
}

/// Where a holder is.
#[derive(Debug)]
pub(super) struct Escalation {
    victim: Victim,
    /// When the holder is killed for the first time, once it has lost its leases.
    killed_at: Option<Timestamp>,
    /// When the holder is killed next.
    next_kill: Option<Timestamp>,
}

impl Escalation {
    pub(super) const fn new(victim: Victim) -> Self {
        Self {
            victim,
            killed_at: None,
            next_kill: None,
        }
    }

    pub(super) const fn has_lost(&self) -> bool {
        self.killed_at.is_some()
    }

    /// The leases are lost since `lost_at`. The first loss counts: whether this is it.
    pub(super) fn lose(&mut self, lost_at: Timestamp, timing: Timing) -> bool {
        if self.has_lost() {
            return false;
        }
        self.killed_at = Some(lost_at + rules::grace(timing));
        self.next_kill = self.killed_at.filter(|_| self.victim != Victim::Nobody);
        true
    }

    /// When the holder is to be killed next, if it is.
    pub(super) const fn next_kill(&self) -> Option<Timestamp> {
        self.next_kill
    }

    /// The holder is killed at `now`, and will be again until it has stopped.
    pub(super) fn was_killed(&mut self, now: Timestamp) {
        self.next_kill = rules::next_kill(now);
    }

    /// When the deadman timer fires for this holder: when others ought to have killed it. The last
    /// good renewal was started at `renewed_at`.
    pub(super) fn deadman_at(&self, renewed_at: Timestamp, timing: Timing) -> Option<Timestamp> {
        let after = match self.victim {
            Victim::Nobody => return None,
            Victim::ThisProcess => timing.deadman_after(),
            Victim::OtherProcess => timing.manager_deadman_after(),
        };
        let by_renewal = rules::deadman_by_renewal(renewed_at, after, timing);
        let slack = after.saturating_sub(rules::killed_after(timing));
        Some(rules::deadman_by_loss(self.killed_at, slack, by_renewal))
    }
}

/// When the timer fires for a member host that may start a write, and so has to be gone before anybody
/// takes over.
pub(super) fn deadman_of_member(renewed_at: Timestamp, timing: Timing) -> Timestamp {
    rules::deadman_by_renewal(renewed_at, timing.manager_deadman_after(), timing)
}

/// How often to see whether another holder is to be killed sooner. Every grace is longer.
pub(super) const KILLED_WITHIN: Duration = Duration::from_millis(250);
