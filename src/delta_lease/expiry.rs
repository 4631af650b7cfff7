//! Whether this host may still believe in its own leases: one word, read by everyone, moved by good
//! renewals only.

use std::sync::atomic::{AtomicU64, Ordering};

use super::rules;
use crate::world::Timestamp;

/// The word's value when the leases are lost. No deadline is 0: a deadline lies after the first
/// renewal.
const LOST: u64 = 0;

/// The instant up to which the leases of one member host are held, or that they are lost.
///
/// # Invariants
///
/// * **EXP-1 (sticky)**: once the word is [`LOST`], no call makes it anything else.
/// * **EXP-2 (by deadline)**: [`Expiry::is_held`] is true at `now` only if a renewal whose write
///   was started less than 8N before `now` reached the disk. No thread has to be alive to notice the
///   end: the caller's own clock read does, also after the process was stopped or the host was
///   suspended.
/// * **EXP-3 (forward)**: the deadline never moves back.
#[derive(Debug)]
pub struct Expiry {
    deadline: AtomicU64,
}

impl Expiry {
    /// Held until `deadline`.
    #[must_use]
    pub const fn until(deadline: Timestamp) -> Self {
        Self {
            deadline: AtomicU64::new(deadline.as_nanos()),
        }
    }

    /// Whether the leases are held at `now`. The first call that finds the deadline passed makes
    /// the loss final.
    ///
    /// One load in the usual case. Never waits.
    #[must_use]
    pub fn is_held(&self, now: Timestamp) -> bool {
        !self.expire(rules::asked_at(now))
    }

    /// Makes the loss final if the deadline has passed at `now`. Gives whether the leases are lost.
    pub fn expire(&self, now: Timestamp) -> bool {
        // A renewal may move the deadline at this very moment; then its word counts, not ours.
        match self.update(|deadline| (now >= deadline?).then_some(None)) {
            Ok(_) => {
                // For the simulation alone: a log may block, and this must not.
                #[cfg(feature = "__sim")]
                tracing::trace!(name: "expired_by_deadline", "the deadline of the leases has passed");
                true
            }
            Err(deadline) => deadline.is_none(),
        }
    }

    /// A renewal was good: held until `renewed`, unless it came too late. Returns whether the
    /// leases are held.
    pub fn extend(&self, now: Timestamp, renewed: Timestamp) -> bool {
        let extended = |deadline| rules::extended(deadline, now, renewed);
        let before = self
            .update(|deadline| Some(extended(deadline)))
            .unwrap_or_else(|deadline| deadline);
        let is_held = extended(before).is_some();
        #[cfg(feature = "__sim")]
        if before.is_some() && !is_held {
            tracing::trace!(name: "renewed_too_late", "a renewal came after the deadline of the leases");
        }
        is_held
    }

    /// Moves the deadline, which is `None` when the leases are lost, to what `next` gives, if anything.
    /// Gives what it was, as an error if it stays.
    fn update(
        &self,
        mut next: impl FnMut(Option<Timestamp>) -> Option<Option<Timestamp>>,
    ) -> Result<Option<Timestamp>, Option<Timestamp>> {
        let next = |word| next(deadline_in(word)).map(word_of);
        let moved = self
            .deadline
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        moved.map(deadline_in).map_err(deadline_in)
    }

    /// The leases are lost from now on, whatever the deadline says.
    pub fn lose(&self) {
        self.deadline.store(LOST, Ordering::Release);
    }

    /// Until when the leases are held, unless a renewal moves it. `None` when they are lost.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        deadline_in(self.deadline.load(Ordering::Acquire))
    }
}

const fn deadline_in(word: u64) -> Option<Timestamp> {
    match word {
        LOST => None,
        nanos => Some(Timestamp::from_nanos(nanos)),
    }
}

fn word_of(deadline: Option<Timestamp>) -> u64 {
    deadline.map_or(LOST, Timestamp::as_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn exp_2_held_before_the_deadline_and_not_at_it() {
        let expiry = Expiry::until(at(100));
        assert!(expiry.is_held(at(99)));
        assert!(!expiry.is_held(at(100)));
    }

    #[test]
    fn exp_1_a_loss_that_was_seen_is_final() {
        let expiry = Expiry::until(at(100));
        assert!(!expiry.is_held(at(100)));
        assert!(
            !expiry.extend(at(50), at(1000)),
            "no renewal brings it back"
        );
        assert!(!expiry.is_held(at(50)), "nor an earlier clock reading");
        assert_eq!(expiry.deadline(), None);
    }

    #[test]
    fn exp_1_a_renewal_that_ends_after_the_deadline_loses_the_lease_though_nobody_looked() {
        let expiry = Expiry::until(at(100));
        assert!(!expiry.extend(at(100), at(1000)));
        assert!(!expiry.is_held(at(1)));
    }

    #[test]
    fn exp_3_a_deadline_never_moves_back() {
        let expiry = Expiry::until(at(100));
        assert!(expiry.extend(at(10), at(200)));
        assert!(expiry.extend(at(20), at(150)));
        assert_eq!(expiry.deadline(), Some(at(200)));
    }

    #[test]
    fn exp_1_lose_is_final() {
        let expiry = Expiry::until(at(100));
        expiry.lose();
        assert!(!expiry.is_held(at(1)));
        assert!(!expiry.extend(at(1), at(1000)));
    }
}
