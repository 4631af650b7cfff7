//! True time, which no host sees, and each host's own clock.

use std::time::Duration;

/// Nanoseconds of true time since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrueTime(pub u64);

impl TrueTime {
    pub fn after(self, pause: Duration) -> Self {
        Self(self.0 + nanos(pause))
    }

    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A host's clock: where it began, and how fast it runs.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    /// What it shows at true time 0, in nanoseconds.
    pub starts_at: u64,
    /// What [`World::clock_secs`](disklease::__sim::world::World::clock_secs) is ahead of it.
    pub secs_ahead: u64,
    /// Parts in a million by which it is too fast.
    pub ppm_fast: i64,
}

impl Default for HostClock {
    fn default() -> Self {
        Self {
            starts_at: 1_000_000_000,
            secs_ahead: 1000,
            ppm_fast: 0,
        }
    }
}

const MILLION: i128 = 1_000_000;

impl HostClock {
    /// What it shows at `at`.
    pub fn shows(&self, at: TrueTime) -> u64 {
        if self.ppm_fast == 0 {
            return self.starts_at + at.0;
        }
        let rate = MILLION + i128::from(self.ppm_fast);
        self.starts_at + u64::try_from(i128::from(at.0) * rate / MILLION).unwrap()
    }

    /// The first true time at which it shows `nanos` or more.
    pub fn reaches(&self, nanos: u64) -> TrueTime {
        if self.ppm_fast == 0 {
            return TrueTime(nanos.saturating_sub(self.starts_at));
        }
        let rate = MILLION + i128::from(self.ppm_fast);
        let shown = i128::from(nanos.saturating_sub(self.starts_at));
        let at = (shown * MILLION + rate - 1) / rate;
        TrueTime(u64::try_from(at).unwrap_or(u64::MAX))
    }
}

pub fn nanos(pause: Duration) -> u64 {
    u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)
}
