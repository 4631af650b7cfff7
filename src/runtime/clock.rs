//! The real clocks and the real chance behind [`StorageWorld`](super::disk::StorageWorld).

use std::io;
use std::time::Duration;

use rustix::rand::GetRandomFlags;
use rustix::time::{ClockId, Timespec};

use crate::world::{OsError, Timestamp};

/// Where the kernel tells which boot of this machine it is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// This host's clock for every decision: `CLOCK_BOOTTIME`, which never goes back and counts system
/// suspend.
#[must_use]
pub fn now() -> Timestamp {
    let nanos = since_zero(rustix::time::clock_gettime(ClockId::Boottime)).as_nanos();
    Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The whole seconds that the format wants in its records: `CLOCK_MONOTONIC`.
#[must_use]
pub fn monotonic_secs() -> u64 {
    monotonic().as_secs()
}

/// `at` in whole seconds of `CLOCK_MONOTONIC`, for those who know no other clock: rounded down,
/// never later than `at`. A suspend from now on makes it later, for that clock then stands still.
#[must_use]
pub fn to_monotonic_secs(at: Timestamp) -> u64 {
    // In this order: if time passes in between, the result is too early, and not too late.
    let monotonic = monotonic();
    to_monotonic(at, monotonic, now()).as_secs()
}

/// When the clock of `now` shows `at`, as the clock of `monotonic` shows it then.
fn to_monotonic(at: Timestamp, monotonic: Duration, now: Timestamp) -> Duration {
    if at >= now {
        monotonic.saturating_add(at.since(now))
    } else {
        monotonic.saturating_sub(now.since(at))
    }
}

fn monotonic() -> Duration {
    since_zero(rustix::time::clock_gettime(ClockId::Monotonic))
}

/// Seconds since 1970 by the wall clock; 0 if it stands before that.
///
/// For notes that people read. Nothing may be decided by it: it is set by hand and by others.
#[must_use]
pub fn unix_secs() -> u64 {
    since_zero(rustix::time::clock_gettime(ClockId::Realtime)).as_secs()
}

/// Which boot of this machine this is: the same for all processes until the next boot, then
/// another.
///
/// # Errors
///
/// `/proc` is not mounted, not readable, or does not hold a UUID there.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string(BOOT_ID)?;
    parse_uuid(text.trim_end()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{BOOT_ID} does not hold a UUID"),
        )
    })
}

/// A random number below `below`; 0 if `below` is 0.
#[must_use]
pub fn random(below: u64) -> u64 {
    // The upper half of the product is uniform enough: its bias is below / 2^64.
    let scaled = u128::from(random_u64()).wrapping_mul(u128::from(below)) >> 64;
    u64::try_from(scaled).unwrap_or(0)
}

/// 128 random bits, which nobody else has. Unlike [`random`] there is no stand-in for them. The wall clock
/// is in them, too: machines that were cloned with their memory may be given the same bits by their kernels.
///
/// # Errors
///
/// The kernel gives none.
pub fn random_bits() -> Result<[u8; 16], OsError> {
    let bytes = random_bytes()?;
    let wall = since_zero(rustix::time::clock_gettime(ClockId::Realtime)).as_nanos();
    let seed = u64::try_from(wall).unwrap_or(0);
    let mixed = u128::from_le_bytes(bytes) ^ u128::from(spread(seed));
    Ok(mixed.to_le_bytes())
}

/// A jail may forbid the call. Chance here only spreads hosts in time, so the clock does as well: two hosts
/// do not read the same nanoseconds.
fn random_u64() -> u64 {
    random_bytes().map_or_else(|_| spread(now().as_nanos()), u64::from_le_bytes)
}

fn random_bytes<const LEN: usize>() -> Result<[u8; LEN], OsError> {
    let mut bytes = [0; LEN];
    loop {
        match rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(len) if len == LEN => return Ok(bytes),
            // Fewer than 256 bytes come whole or not at all; asking again costs nothing.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(OsError(errno.raw_os_error())),
        }
    }
}

/// The finaliser of splitmix64: every bit of the result depends on every bit of `seed`.
const fn spread(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn since_zero(time: Timespec) -> Duration {
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Duration::from_secs(secs).saturating_add(Duration::from_nanos(nanos))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits = groups.concat();
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(&digits, 16).ok();
    number.filter(|_| is_hex).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_counts_from_boot() {
        let first = now();
        let second = now();
        assert!(first <= second);
        // What `/proc/uptime` shows is the same clock, in hundredths.
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let ours = Duration::from_nanos(second.as_nanos()).as_secs_f64();
        assert!((uptime - ours).abs() < 5.0, "{uptime} and {ours}");
        assert!(monotonic_secs() <= Duration::from_nanos(now().as_nanos()).as_secs());
        assert!(unix_secs() > 1_700_000_000);
    }

    #[test]
    fn another_clock_shows_the_same_instant() {
        let at = |secs| Timestamp::from_nanos(0) + Duration::from_millis(secs);
        // This clock has counted 100 s of suspend, the other has not.
        let (monotonic, now) = (Duration::from_secs(1), at(101_000));
        let shown = |millis| to_monotonic(at(millis), monotonic, now).as_millis();
        assert_eq!(shown(101_000), 1_000);
        assert_eq!(shown(111_999), 11_999);
        assert_eq!(shown(100_400), 400);
        assert_eq!(shown(7), 0, "before its zero");
        let now = super::now();
        assert!(to_monotonic_secs(now + Duration::from_secs(5)) <= monotonic_secs() + 5);
        assert!(to_monotonic_secs(now + Duration::from_secs(5)) >= monotonic_secs() + 3);
        assert_eq!(
            to_monotonic_secs(Timestamp::from_nanos(u64::MAX)) >> 32,
            (u64::MAX / 1_000_000_000) >> 32
        );
    }

    #[test]
    fn the_boot_id_is_the_kernels() {
        let id = boot_id().unwrap();
        assert_ne!(id, [0; 16]);
        let kernels = std::fs::read_to_string(BOOT_ID).unwrap();
        let digits = kernels.trim().replace('-', "");
        for (byte, pair) in id.iter().zip(digits.as_bytes().chunks(2)) {
            assert_eq!(format!("{byte:02x}").as_bytes(), pair);
        }
    }

    #[test]
    fn only_a_uuid_is_a_uuid() {
        assert_eq!(
            parse_uuid("00010203-0405-0607-0809-0a0b0c0d0eFF"),
            Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255])
        );
        for bad in [
            "",
            "-",
            "0001020304050607-0809-0a0b0c0d0e0f",
            "+0010203-0405-0607-0809-0a0b0c0d0e0f",
            "0001020é-0405-0607-0809-0a0b0c0d0e0",
            "00010203-0405-0607-0809-0a0b0c0d0e0f-",
        ] {
            assert_eq!(parse_uuid(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn chance_stays_below_its_bound_and_reaches_all_of_it() {
        assert_eq!(random(0), 0);
        assert_eq!(random(1), 0);
        let mut seen = [false; 8];
        for _ in 0..1_000 {
            seen[usize::try_from(random(8)).unwrap()] = true;
        }
        assert_eq!(seen, [true; 8]);
        assert_ne!(random(u64::MAX), random(u64::MAX));
        assert_ne!(spread(1), spread(2));
    }
}
