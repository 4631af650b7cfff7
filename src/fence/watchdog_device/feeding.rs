//! When a device is fed, and for how long at most it lasts.
//!
//! Let E be when the leases are lost, and t the device's own timeout. The device is fed only while
//! the clock shows less than E + F - 2t. The feeder may be held up between its reading of the clock
//! and its write, but not for longer than t: by then the device has fired. So the last feeding is
//! before E + F - t, and the device fires before **E + F**, whatever held the feeder up. With t = F,
//! fed until E, a feeder that is held up could put the reset off to nearly E + 2F.
//!
//! The death of the process closes the device, which feeds it once more: that is the last feeding
//! then, and not before t has passed since the one before it; so the same holds. Both in a row, a late
//! feeding and then a death, could reach beyond E + F; but the deadman timer ends the process at E +
//! grace + 1 s at the latest, which leaves more than t.
//!
//! t is as long as possible, for it is also how long a healthy host may be too busy to feed. It is
//! F / 2 at most, so that a device is fed until E at least; and so short that the device does not
//! fire before there was time to kill a process that did not stop, which starts at E + grace.

use std::time::Duration;

use crate::timing::Timing;
use crate::world::Timestamp;

/// A device is fed so many times in its timeout.
const FEEDINGS: u32 = 4;

/// How a device with a certain timeout is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Feeding {
    timeout: Duration,
    /// F - 2t.
    beyond: Duration,
}

impl Feeding {
    /// A device with a shorter timeout would fire when a healthy host is busy.
    pub(super) const SHORTEST_TIMEOUT: Duration = Duration::from_secs(3);

    /// The shortest F that goes with these times.
    pub(super) const SHORTEST_FIRE_TIMEOUT: Duration = Duration::from_secs(10);

    /// From the timeout that the device has, if it goes with these times.
    pub(super) fn with(timeout: Duration, timing: Timing) -> Option<Self> {
        let fire = timing.fire_timeout().as_duration();
        let beyond = fire.checked_sub(timeout.saturating_mul(2))?;
        (timeout >= Self::SHORTEST_TIMEOUT).then_some(Self { timeout, beyond })
    }

    /// The timeout to ask a device for: whole seconds. `None` if F is too short for any.
    pub(super) fn wish(timing: Timing) -> Option<Duration> {
        let fire = timing.fire_timeout().as_duration();
        let half = Self::longest(timing);
        // When it is fed for the last time it has three quarters of t left at least, so it fires no
        // sooner than F - 5t/4 after E. A quarter of what is left after the grace is for killing.
        let killing = part(fire.saturating_sub(timing.grace()).saturating_mul(3), 5);
        let whole = Duration::from_secs(half.min(killing).as_secs());
        (whole >= Self::SHORTEST_TIMEOUT).then_some(whole)
    }

    pub(super) fn longest(timing: Timing) -> Duration {
        part(timing.fire_timeout().as_duration(), 2)
    }

    /// The pause between two feedings.
    pub(super) fn interval(self) -> Duration {
        part(self.timeout, FEEDINGS)
    }

    /// From when on a device is not fed whose holders lose their leases at `expires_at`.
    pub(super) fn end(self, expires_at: Timestamp) -> Timestamp {
        expires_at + self.beyond
    }

    pub(super) const fn timeout(self) -> Duration {
        self.timeout
    }
}

/// `Duration` has no division that cannot panic.
fn part(time: Duration, parts: u32) -> Duration {
    time.checked_div(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::{FireTimeout, IoTimeout};

    fn timing(fire: u64) -> Timing {
        Timing::new(
            IoTimeout::MIN,
            FireTimeout::new(Duration::from_secs(fire)).unwrap(),
        )
    }

    #[test]
    fn the_reset_comes_between_the_killing_and_the_end_of_f() {
        let lost = Timestamp::from_nanos(0) + Duration::from_secs(1_000);
        for fire in 10..=600 {
            let timing = timing(fire);
            let timeout = Feeding::wish(timing).unwrap();
            let feeding = Feeding::with(timeout, timing).unwrap();
            let end = feeding.end(lost);
            assert!(end >= lost, "{fire}: a healthy host is fed");
            // Held up at the last moment, for nearly as long as the device lasts.
            let latest = end + timeout + timeout;
            assert!(latest <= lost + Duration::from_secs(fire), "{fire}");
            let soonest = end + timeout.checked_sub(feeding.interval()).unwrap();
            assert!(soonest > lost + timing.grace(), "{fire}: {soonest:?}");
        }
    }

    #[test]
    fn the_times_for_common_fire_timeouts() {
        let wish = |fire| Feeding::wish(timing(fire)).map(|wish| wish.as_secs());
        assert_eq!(
            [9, 10, 30, 60, 120].map(wish),
            [None, Some(3), Some(9), Some(12), Some(48)]
        );
    }

    #[test]
    fn a_timeout_that_cannot_keep_the_promise_is_not_used() {
        let with = |timeout| Feeding::with(Duration::from_secs(timeout), timing(60));
        assert!(with(2).is_none() && with(31).is_none());
        let longest = with(30).unwrap();
        let lost = Timestamp::from_nanos(7);
        assert_eq!(longest.end(lost), lost);
        assert_eq!(with(3).unwrap().end(lost), lost + Duration::from_secs(54));
    }
}
