//! How well the storage serves a join: what its renewals take, and how many of them fail.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How a join does at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// How many renewals have failed in a row since the last good one.
    pub missed_renewals: u32,
    /// For how long the leases can be counted on, should no renewal succeed from now on. Zero when
    /// they are lost.
    pub held_for: Duration,
    /// What the good renewals took.
    pub renewals: Latencies,
    /// Whether 1 of 100 of them takes longer than N/2: little is left before they fail.
    pub is_slow: bool,
}

/// What operations took, each from its begin to its end. Percentiles are upper bounds, by an eighth
/// too high at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latencies {
    /// How many there were.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

/// Each octave of microseconds has this many buckets.
const PER_OCTAVE: u64 = 8;
/// Up to 2^36 µs, 19 hours; what is longer counts there.
const BUCKETS: usize = 280;

/// Counts of how long something took. All of it at once is no more consistent than a sum must be.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    max_micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            max_micros: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub(super) fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.max_micros.fetch_max(micros, Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(bucket_of(micros)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn summary(&self) -> Latencies {
        let load = |bucket: &AtomicU64| bucket.load(Ordering::Relaxed);
        let count = self.buckets.iter().map(load).fold(0, u64::saturating_add);
        let max = self.max_micros.load(Ordering::Relaxed);
        let below = |percent: u64| {
            // Rounded up: of one operation, the 99th percentile is that one.
            let wanted = count.saturating_mul(percent).div_ceil(100);
            let mut seen = 0_u64;
            let found = self.buckets.iter().position(|bucket| {
                seen = seen.saturating_add(load(bucket));
                seen >= wanted
            });
            Duration::from_micros(found.map_or(max, top_of).min(max))
        };
        if count == 0 {
            return Latencies::default();
        }
        Latencies {
            count,
            p50: below(50),
            p99: below(99),
            max: Duration::from_micros(max),
        }
    }
}

/// Values below one octave of buckets have one each; then the three bits after the highest tell.
fn bucket_of(micros: u64) -> usize {
    let bucket = match micros.checked_ilog2() {
        None | Some(0..=2) => micros,
        Some(octave) => {
            let octave = u64::from(octave).saturating_sub(3);
            let within = micros >> octave;
            octave.saturating_mul(PER_OCTAVE).saturating_add(within)
        }
    };
    usize::try_from(bucket)
        .unwrap_or(usize::MAX)
        .min(BUCKETS.saturating_sub(1))
}

/// The largest value that is counted in this bucket.
fn top_of(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    if bucket < PER_OCTAVE.saturating_mul(2) {
        return bucket;
    }
    // The highest bit is one of `within`, so an octave's buckets are numbered 8 to 15 above its base.
    let octave = (bucket / PER_OCTAVE).saturating_sub(1);
    let within = bucket.saturating_sub(octave.saturating_mul(PER_OCTAVE));
    let next = within.saturating_add(1);
    u32::try_from(octave)
        .ok()
        .and_then(|octave| next.checked_shl(octave))
        .map_or(u64::MAX, |top| top.saturating_sub(1))
}

/// What is kept of the renewals of one join.
#[derive(Debug, Default)]
pub(super) struct RenewalRecord {
    missed: AtomicU32,
    latencies: Histogram,
    /// Holders were warned, and have not been told of a good renewal since.
    is_warned: AtomicBool,
    /// The storage was said to be slow.
    is_slow: AtomicBool,
}

impl RenewalRecord {
    /// Takes in a good renewal. Whether holders had been warned before.
    pub(super) fn renewed(&self, took: Duration, io_timeout: Duration) -> bool {
        self.missed.store(0, Ordering::Relaxed);
        self.latencies.count(took);
        self.tell_if_slow(io_timeout);
        self.is_warned.swap(false, Ordering::Relaxed)
    }

    pub(super) fn missed(&self, missed: u32) {
        self.missed.store(missed, Ordering::Relaxed);
    }

    pub(super) fn warned(&self) {
        self.is_warned.store(true, Ordering::Relaxed);
    }

    pub(super) fn missed_renewals(&self) -> u32 {
        self.missed.load(Ordering::Relaxed)
    }

    pub(super) fn latencies(&self) -> Latencies {
        self.latencies.summary()
    }

    /// Whether 1 of 100 renewals takes longer than N/2, which leaves little before they fail.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    fn tell_if_slow(&self, io_timeout: Duration) {
        let found = self.latencies();
        let limit = io_timeout.checked_div(2).unwrap_or_default();
        let is_slow = found.p99 > limit;
        if self.is_slow.swap(is_slow, Ordering::Relaxed) != is_slow {
            let (p50, p99, max) = (found.p50, found.p99, found.max);
            if is_slow {
                tracing::warn!(
                    ?p50,
                    ?p99,
                    ?max,
                    ?io_timeout,
                    "the storage of the lockspace is slow: 1 of 100 renewals takes longer than half the io timeout; raise it or mend the storage"
                );
            } else {
                tracing::info!(
                    ?p50,
                    ?p99,
                    ?max,
                    ?io_timeout,
                    "the storage of the lockspace is quick enough again"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_counted_in_a_bucket_that_is_less_than_an_eighth_wide() {
        let mut value = 0_u64;
        while value < 1 << 36 {
            let top = top_of(bucket_of(value));
            assert!(value <= top && top - value <= value / 8, "{value} {top}");
            assert_ne!(bucket_of(top), bucket_of(top + 1), "{value} {top}");
            value += 1 + value / 97;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let histogram = Histogram::default();
        assert_eq!(histogram.summary(), Latencies::default());
        for millis in 1..=100 {
            histogram.count(Duration::from_millis(millis));
        }
        let found = histogram.summary();
        assert_eq!((found.count, found.max), (100, Duration::from_millis(100)));
        let near = |found: Duration, millis: u64| {
            let exact = Duration::from_millis(millis);
            found >= exact && found <= exact + exact / 8
        };
        assert!(near(found.p50, 50) && near(found.p99, 99), "{found:?}");
    }

    #[test]
    fn one_slow_renewal_of_a_hundred_makes_the_storage_slow_and_many_quick_ones_quick_again() {
        let record = RenewalRecord::default();
        let (io, quick, slow) = [10_000, 20, 6_000].map(Duration::from_millis).into();
        record.renewed(quick, io);
        assert!(!record.is_slow());
        record.renewed(slow, io);
        assert!(record.is_slow());
        for _ in 0..200 {
            record.renewed(quick, io);
        }
        assert!(!record.is_slow());
        record.missed(3);
        record.warned();
        assert_eq!(record.missed_renewals(), 3);
        assert!(record.renewed(quick, io) && !record.renewed(quick, io));
        assert_eq!(record.missed_renewals(), 0);
    }
}
