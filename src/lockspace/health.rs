//! How well the storage serves a member host: what its renewals take, and how many of them fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// How a member host does at one instant.
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

/// What operations took, each from its start to its end. Percentiles are upper bounds, by an eighth
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

/// Counts of how long something took, each by an upper bound that has few different values.
#[derive(Debug, Default)]
struct Histogram(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By [`rounded_up`] microseconds: a few hundred entries at most.
    by_micros: BTreeMap<u64, u64>,
    max: Duration,
}

impl Histogram {
    fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.0.lock();
        counts.max = counts.max.max(Duration::from_micros(micros));
        let count = counts.by_micros.entry(rounded_up(micros)).or_default();
        *count = count.saturating_add(1);
    }

    fn summary(&self) -> Latencies {
        let Counts { by_micros, max } = &*self.0.lock();
        let count = by_micros.values().copied().fold(0, u64::saturating_add);
        let below = |percent: u64| {
            // Rounded up: of one operation, the 99th percentile is that one.
            let wanted = count.saturating_mul(percent).div_ceil(100);
            let mut seen = 0_u64;
            let found = by_micros.iter().find(|&(_, count)| {
                seen = seen.saturating_add(*count);
                seen >= wanted
            });
            found.map_or(*max, |(&micros, _)| Duration::from_micros(micros).min(*max))
        };
        Latencies {
            count,
            p50: below(50),
            p99: below(99),
            max: *max,
        }
    }
}

/// The largest value with the same first four bits: higher by less than an eighth.
fn rounded_up(micros: u64) -> u64 {
    let rest = micros.checked_ilog2().unwrap_or(0).saturating_sub(3);
    micros | !u64::MAX.checked_shl(rest).unwrap_or(0)
}

/// What is kept of the renewals of one member host.
#[derive(Debug, Default)]
pub(super) struct RenewalRecord {
    missed: AtomicU32,
    latencies: Histogram,
    /// Holders were warned, and have not been notified of a good renewal since.
    is_warned: AtomicBool,
    /// It was logged that the storage is slow.
    is_slow: AtomicBool,
}

impl RenewalRecord {
    /// Takes in a good renewal. Whether holders had been warned before.
    pub(super) fn renewed(&self, took: Duration, io_timeout: Duration) -> bool {
        self.missed.store(0, Ordering::Relaxed);
        self.latencies.count(took);
        self.log_if_slow(io_timeout);
        self.is_warned.swap(false, Ordering::Relaxed)
    }

    pub(super) fn missed(&self, missed: u32) {
        self.missed.store(missed, Ordering::Relaxed);
    }

    pub(super) fn warned(&self) {
        self.is_warned.store(true, Ordering::Relaxed);
    }

    /// What is known at this instant, with leases that are held for `held_for`.
    pub(super) fn health(&self, held_for: Duration) -> Health {
        Health {
            missed_renewals: self.missed.load(Ordering::Relaxed),
            held_for,
            renewals: self.latencies.summary(),
            is_slow: self.is_slow.load(Ordering::Relaxed),
        }
    }

    fn log_if_slow(&self, io_timeout: Duration) {
        let found = self.latencies.summary();
        let limit = io_timeout.checked_div(2).unwrap_or_default();
        let is_slow = found.p99 > limit;
        if self.is_slow.swap(is_slow, Ordering::Relaxed) != is_slow {
            if is_slow {
                tracing::warn!(renewals = ?found, ?io_timeout, "the storage of the lockspace is slow: 1 of 100 renewals takes longer than half the io timeout; raise it or mend the storage");
            } else {
                tracing::info!(renewals = ?found, ?io_timeout, "the storage of the lockspace is quick enough again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_rounded_up_by_less_than_an_eighth_to_one_of_few_values() {
        let mut value = 0_u64;
        let mut all = std::collections::BTreeSet::new();
        while value < 1 << 36 {
            let up = rounded_up(value);
            assert!(value <= up && up - value <= value / 8, "{value} {up}");
            assert_eq!(rounded_up(up), up);
            assert_ne!(rounded_up(up + 1), up);
            all.insert(up);
            value += 1 + value / 97;
        }
        assert!(all.len() <= 280, "{}", all.len());
        assert_eq!(rounded_up(u64::MAX), u64::MAX);
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
        assert!(!record.health(quick).is_slow);
        record.renewed(slow, io);
        assert!(record.health(quick).is_slow);
        for _ in 0..200 {
            record.renewed(quick, io);
        }
        assert!(!record.health(quick).is_slow);
        record.missed(3);
        record.warned();
        assert_eq!(record.health(quick).missed_renewals, 3);
        assert!(record.renewed(quick, io) && !record.renewed(quick, io));
        assert_eq!(record.health(quick).missed_renewals, 0);
    }
}
