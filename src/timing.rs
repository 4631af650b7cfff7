//! Every time that the protocol derives, from two configured ones.
//!
//! N, the *io timeout*, is what one host allows one read or write. It stands in that host's delta
//! sector, so every host knows every other's. F, the *fire timeout*, is how long the watchdog gives
//! a host; sanlock's format does not tell it, so **all hosts of a lockspace must use the same** (60
//! s where sanlock hosts are among them).
//!
//! | counted from the start of the last good renewal's write | what |
//! | --- | --- |
//! | 2N | the next renewal is due |
//! | 6N | renewals are failing: warn |
//! | 8N | the leases are lost to their holder: [`Timing::lost_after`] |
//! | 8N + grace | a holder that has not said that it stopped is killed: [`Timing::killed_after`] |
//! | 8N + grace + a little | the kernel kills a process that did not get so far: [`Timing::deadman_after`] |
//! | 8N + F | the holder is gone for certain |
//! | 8N + F + margin | other hosts may take over: [`Timing::dead_after`] |
//!
//! # Why a takeover cannot overlap
//!
//! Let host A begin the write of its renewal at instant *t* and let no later renewal of A reach the
//! disk.
//!
//! 1. A counts from *t*, the instant **before** the write was handed to the storage. From *t* + 8N
//!    on, by A's clock, A's guards say "not held", and stay so.
//! 2. Whoever may not write any longer is stopped before *t* + 8N + F, by A's clock.
//! 3. Host B can see A's renewal only in a read that **completes** after A's write was started, so after
//!    *t*. B counts from the end of that read, and takes over only when more than 8N + F + margin
//!    have passed on B's clock without another change, and a last read after that still shows none.
//! 4. B's wait is longer than A's by the margin: [`CLOCK_MARGIN`] at least, or one part in
//!    [`CLOCK_DRIFT_PARTS`] of the wait where that is more. Clocks of A and B may run at rates that
//!    differ by that much. They are never compared.
//!
//! N in this is **A's**: B takes it from A's sector, never from its own configuration.

use std::time::Duration;

/// What a takeover waits beyond 8N + F, at least.
pub const CLOCK_MARGIN: Duration = Duration::from_secs(1);

/// A takeover waits beyond 8N + F one part in this many of it, at least: clocks may differ by half
/// a percent.
pub const CLOCK_DRIFT_PARTS: u32 = 200;

/// How long a holder has to stop by itself after a loss where F is 60 s or more: sanlock's value.
const GRACE_OF_MINUTES: Duration = Duration::from_secs(40);

/// The same where F is shorter: at most, and never more than half of F.
const GRACE_AT_MOST: Duration = Duration::from_secs(15);

/// How long after the grace the deadman timer fires, at most, and never later than half-way from
/// there to the end of F.
const DEADMAN_SLACK: Duration = Duration::from_secs(1);

/// The watchdog's time where sanlock hosts share the lockspace; sanlock before 4 knows no other.
pub const SANLOCK_FIRE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long sanlock takes at most to initialise a lease.
const INITIALISED_WITHIN: Duration = Duration::from_secs(60);

/// An io timeout: whole seconds, 1 to 255. The format has one byte of room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoTimeout(u8);

impl IoTimeout {
    /// What sanlock and libvirt use when nothing is configured: 10 s.
    pub const DEFAULT: Self = Self(10);
    /// The shortest: 1 s.
    pub const MIN: Self = Self(1);
    /// The longest that the format can hold: 255 s.
    pub const MAX: Self = Self(u8::MAX);

    /// From a whole number of seconds, 1 to 255.
    ///
    /// # Errors
    ///
    /// [`TimingError::IoTimeout`] for anything else; sanlock would write such a value modulo 256,
    /// and its peers would then take leases over too early.
    pub fn new(timeout: Duration) -> Result<Self, TimingError> {
        let secs = u8::try_from(timeout.as_secs()).unwrap_or(0);
        if secs == 0 || timeout.subsec_nanos() != 0 {
            return Err(TimingError::IoTimeout { given: timeout });
        }
        Ok(Self(secs))
    }

    /// From the two bytes of a delta sector. `None` for 0 and for what no byte can hold.
    #[must_use]
    pub fn from_secs(secs: u16) -> Option<Self> {
        u8::try_from(secs).ok().filter(|&secs| secs != 0).map(Self)
    }

    /// As whole seconds, for the format.
    #[must_use]
    pub const fn as_secs(self) -> u8 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub fn as_duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

impl Default for IoTimeout {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The watchdog's time: whole seconds, 1 to 600, the same on all hosts of a lockspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FireTimeout(u16);

impl FireTimeout {
    /// What sanlock 3 has, without a choice: 60 s.
    pub const DEFAULT: Self = Self(60);

    /// From a whole number of seconds, 1 to 600.
    ///
    /// # Errors
    ///
    /// [`TimingError::FireTimeout`] for anything else.
    pub fn new(timeout: Duration) -> Result<Self, TimingError> {
        match u16::try_from(timeout.as_secs()) {
            Ok(secs @ 1..=600) if timeout.subsec_nanos() == 0 => Ok(Self(secs)),
            _ => Err(TimingError::FireTimeout { given: timeout }),
        }
    }

    /// From the two bytes of a host note. `None` for what no host can have.
    #[must_use]
    pub fn from_secs(secs: u16) -> Option<Self> {
        Some(secs).filter(|secs| (1..=600).contains(secs)).map(Self)
    }

    /// As whole seconds, for the format.
    #[must_use]
    pub const fn as_secs(self) -> u16 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub fn as_duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

impl Default for FireTimeout {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A configured time that the protocol cannot work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimingError {
    /// The io timeout is not a whole number of seconds from 1 to 255.
    #[error("the io timeout must be a whole number of seconds from 1 to 255, not {given:?}")]
    IoTimeout {
        /// What was asked for.
        given: Duration,
    },
    /// The fire timeout is not a whole number of seconds from 1 to 600.
    #[error("the fire timeout must be a whole number of seconds from 1 to 600, not {given:?}")]
    FireTimeout {
        /// What was asked for.
        given: Duration,
    },
}

/// The times of one host, from its io timeout N and the common fire timeout F.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    io_timeout: IoTimeout,
    fire_timeout: FireTimeout,
}

impl Timing {
    /// The times of a host with this io timeout, in a lockspace with this fire timeout.
    #[must_use]
    pub const fn new(io_timeout: IoTimeout, fire_timeout: FireTimeout) -> Self {
        Self {
            io_timeout,
            fire_timeout,
        }
    }

    /// The io timeout N these times are derived from.
    #[must_use]
    pub const fn io_timeout(self) -> IoTimeout {
        self.io_timeout
    }

    /// The fire timeout F these times are derived from.
    #[must_use]
    pub const fn fire_timeout(self) -> FireTimeout {
        self.fire_timeout
    }

    /// N times `factor`.
    fn times(self, factor: u32) -> Duration {
        self.io_timeout.as_duration().saturating_mul(factor)
    }

    /// N: the time limit of one read or write.
    #[must_use]
    pub fn io(self) -> Duration {
        self.times(1)
    }

    /// 2N: from the start of one good renewal to the next.
    #[must_use]
    pub fn renewal_interval(self) -> Duration {
        self.times(2)
    }

    /// 2N: the pause between writing a delta lease and reading it back, in which another host that
    /// had started to take the same host id must show itself.
    #[must_use]
    pub fn short_delay(self) -> Duration {
        self.times(2)
    }

    /// 6N after the last good renewal was started: its holders should be warned.
    #[must_use]
    pub fn warn_after(self) -> Duration {
        self.times(6)
    }

    /// 8N after the last good renewal was started: the leases are lost.
    #[must_use]
    pub fn lost_after(self) -> Duration {
        self.times(8)
    }

    /// How long after a loss a holder has to stop by itself, before it is killed: 40 s for an F of
    /// 60 s or more, else 15 s or half of F, whichever is less.
    ///
    /// sanlock gives none where F is below 30 s. But a host that would take over waits for all of F
    /// in any case, and without a grace no holder could pause a guest in time there.
    #[must_use]
    pub fn grace(self) -> Duration {
        let fire = self.fire_timeout.as_duration();
        if fire >= SANLOCK_FIRE_TIMEOUT {
            GRACE_OF_MINUTES
        } else {
            half(fire).min(GRACE_AT_MOST)
        }
    }

    /// 8N + grace after the last good renewal was started: a holder that has not said that it stopped is
    /// killed.
    #[must_use]
    pub fn killed_after(self) -> Duration {
        self.lost_after().saturating_add(self.grace())
    }

    /// When the deadman timer fires: after [`killed_after`](Self::killed_after) by as much as a
    /// process needs that is not stuck, and before 8N + F.
    #[must_use]
    pub fn deadman_after(self) -> Duration {
        let killed = self.killed_after();
        let left = self.stopped_by().saturating_sub(killed);
        killed.saturating_add(half(left).min(DEADMAN_SLACK))
    }

    /// When the deadman timer fires of a member without a lock of its own, and of a manager whose
    /// guest is another process: half-way from [`killed_after`](Self::killed_after) to 8N + F. A process with much memory takes some time to end
    /// when it is killed, and while it does, its manager's death would help nobody.
    #[must_use]
    pub fn manager_deadman_after(self) -> Duration {
        let killed = self.killed_after();
        killed.saturating_add(half(self.stopped_by().saturating_sub(killed)))
    }

    /// 4N: how long after a write of its claim was started a host may renew the claim, if at all: a write, a pause
    /// of 2N, a read.
    #[must_use]
    pub fn claim_renewed_within(self) -> Duration {
        self.times(4)
    }

    /// How long after a sign of life of a process that claims a host id its deadman timer fires. A process
    /// that is about to write has started its last write [`claim_renewed_within`](Self::claim_renewed_within)
    /// before that sign at the earliest.
    #[must_use]
    pub fn claimant_deadman_after(self) -> Duration {
        let last_write = self.claim_renewed_within();
        self.manager_deadman_after().saturating_sub(last_write)
    }

    /// 8N + F + margin + 2 s: how long a lease file is not made anew where the second links of the leases were
    /// missing, while hosts may live, of which none has a longer N.
    ///
    /// A host inspects the names of each lease it holds once a second, and once more before it counts.
    /// So 2 s after the links were seen missing it has either made the one of its lease again, and the
    /// lease is not made anew, or it has found its lease gone. From then on its guests have the grace,
    /// which ends, and the deadman's slack with it, before F does. One that stands still meanwhile goes
    /// on within 8N, and inspects then, or finds its leases lost, or is killed. Another file system that
    /// hangs does not hold it up; this one, should it hang for the holder alone, does, and so does the
    /// lockspace on it, without which the leases are lost.
    ///
    /// All this counts from the first inspection that showed them missing, so it is one process that counts,
    /// without a break: each member that has a manager for the directory does, once a second, also while it
    /// holds nothing. Which of them comes to the end first does not matter.
    #[must_use]
    pub fn removal_quarantine(self) -> Duration {
        let inspected = Self::NAMES_INSPECTED_EVERY.saturating_mul(2);
        self.dead_after().saturating_add(inspected)
    }

    /// How long an empty lease file must not have been touched to be one that was never finished: a
    /// minute, which sanlock allows itself for initialising a lease, and as long as another host takes
    /// to find its lease emptied and to stop, if that is longer.
    #[must_use]
    pub fn leftover_age(self) -> Duration {
        let found = self.renewal_interval();
        let stopped = self.fire_timeout.as_duration().saturating_add(found);
        stopped.max(INITIALISED_WITHIN)
    }

    /// How often a host inspects the names of the leases that it holds.
    pub const NAMES_INSPECTED_EVERY: Duration = Duration::from_secs(1);

    /// 8N + F: what sanlock waits for before it takes over, and when a stopped holder must be gone.
    #[must_use]
    pub fn stopped_by(self) -> Duration {
        self.lost_after()
            .saturating_add(self.fire_timeout.as_duration())
    }

    /// 8N + F + margin without a change of the other host's sector: it is dead.
    #[must_use]
    pub fn dead_after(self) -> Duration {
        let stopped = self.stopped_by();
        let drift = stopped
            .checked_div(CLOCK_DRIFT_PARTS)
            .unwrap_or(CLOCK_MARGIN);
        let margin = drift.max(CLOCK_MARGIN);
        stopped.saturating_add(margin)
    }
}

/// Half of a time. `Duration` has no division that cannot panic and is const.
fn half(time: Duration) -> Duration {
    time.checked_div(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(io: u64, fire: u64) -> Timing {
        let io = IoTimeout::new(Duration::from_secs(io)).unwrap();
        Timing::new(io, FireTimeout::new(Duration::from_secs(fire)).unwrap())
    }

    #[test]
    fn derived_times_are_those_of_the_protocol() {
        for (io, renew, warn, lost, stopped) in [
            (1, 2, 6, 8, 68),
            (2, 4, 12, 16, 76),
            (5, 10, 30, 40, 100),
            (10, 20, 60, 80, 140),
            (20, 40, 120, 160, 220),
        ] {
            let t = timing(io, 60);
            let secs = Duration::from_secs;
            assert_eq!(
                (
                    t.io(),
                    t.renewal_interval(),
                    t.short_delay(),
                    t.warn_after(),
                    t.lost_after(),
                    t.stopped_by()
                ),
                (
                    secs(io),
                    secs(renew),
                    secs(renew),
                    secs(warn),
                    secs(lost),
                    secs(stopped)
                )
            );
        }
    }

    #[test]
    fn a_takeover_waits_longer_than_the_holder_may_live() {
        for io in 1..=255 {
            for fire in [1, 10, 30, 60, 120, 600] {
                let t = timing(io, fire);
                assert!(t.dead_after() >= t.stopped_by() + CLOCK_MARGIN);
                assert!(t.dead_after() >= t.stopped_by() + t.stopped_by() / CLOCK_DRIFT_PARTS);
                assert!(t.lost_after() > t.warn_after() && t.warn_after() > t.renewal_interval());
            }
        }
    }

    #[test]
    fn a_holder_is_killed_and_the_deadman_fires_before_anybody_may_take_over() {
        for io in 1..=255 {
            for fire in 1..=600 {
                let t = timing(io, fire);
                assert!(t.lost_after() < t.killed_after(), "{t:?}");
                assert!(t.killed_after() < t.deadman_after(), "{t:?}");
                assert!(t.deadman_after() <= t.manager_deadman_after(), "{t:?}");
                assert!(t.manager_deadman_after() < t.stopped_by(), "{t:?}");
                let after_its_write = t.claimant_deadman_after() + t.claim_renewed_within();
                assert!(after_its_write < t.stopped_by(), "{t:?}");
                assert!(t.claimant_deadman_after() > 4 * t.io(), "{t:?}");
            }
        }
    }

    #[test]
    fn a_holder_that_found_its_lease_removed_has_ended_before_it_is_made_anew() {
        for fire in 1..=600 {
            let t = timing(1, fire);
            let second_inspection = Duration::from_millis(500);
            let found_after = Timing::NAMES_INSPECTED_EVERY + second_inspection;
            // It stood still for as long as it could have the lease.
            let ended_after = t.manager_deadman_after() + found_after;
            assert!(ended_after < t.removal_quarantine(), "{t:?}");
        }
    }

    #[test]
    fn the_grace_is_sanlock_s_where_that_gives_one() {
        let millis = |fire| timing(1, fire).grace().as_millis();
        assert_eq!(
            [1, 2, 10, 29, 30, 59, 60, 120].map(millis),
            [500, 1_000, 5_000, 14_500, 15_000, 15_000, 40_000, 40_000]
        );
    }

    #[test]
    fn io_timeouts_that_the_format_cannot_hold_are_refused() {
        for bad in [
            Duration::ZERO,
            Duration::from_millis(1500),
            Duration::from_secs(256),
            Duration::MAX,
        ] {
            assert_eq!(
                IoTimeout::new(bad),
                Err(TimingError::IoTimeout { given: bad })
            );
        }
        assert_eq!(IoTimeout::from_secs(0), None);
        assert_eq!(IoTimeout::from_secs(256), None);
        assert_eq!(IoTimeout::from_secs(255), Some(IoTimeout::MAX));
    }
}
