//! All that the algorithms may touch of the world, as one small trait.
//!
//! The algorithms of [`delta_lease`](crate::delta_lease) and [`paxos_lease`](crate::paxos_lease)
//! are `async fn`s over [`World`]. They do no I/O of their own, spawn nothing, take no lock and
//! read no clock. So one text of each algorithm runs in production over worker threads, and in
//! tests over simulated disks in virtual time, where every call of this trait is a point at which a
//! scheduler may switch hosts, fail an I/O or stop a host for good.
//!
//! # Rules for an implementation
//!
//! * **A buffer given to an I/O belongs to it until the I/O has completed**, whatever its caller was
//!   given meanwhile.
//! * **A write that timed out may still land**, at any later time. [`WriteError::TimedOut`] says
//!   just that.
//! * **One write at a time for each sector.** While an earlier write of this host to the same
//!   sector has not completed, a new one is not started: it waits within its own time limit, then fails
//!   with [`WriteError::NotStarted`]. Without this a late write could land over a newer one of the
//!   same host.
//! * **Dropping a future leaves nothing undefined**: an I/O under way goes on until it completes and is
//!   accounted for.

mod buffer;
mod cancel;

use std::fmt;
use std::future::Future;
use std::ops::{Add, Sub};
use std::time::Duration;

pub use buffer::SectorBuf;
pub use cancel::CancelToken;

/// The world of one host: disks, a clock, sleep and chance.
pub trait World {
    /// An opened disk or file. Cheap to clone; all clones are the same disk.
    type Disk: Clone + fmt::Debug;

    /// Reads `into.len()` bytes at byte `offset` and gives the buffer back filled.
    ///
    /// Both are multiples of the sector size. Fails after `timeout`; the buffer then stays with the
    /// I/O.
    fn read(
        &self,
        disk: &Self::Disk,
        offset: u64,
        into: SectorBuf,
        timeout: Duration,
    ) -> impl Future<Output = Result<SectorBuf, ReadError>>;

    /// Writes `bytes` at byte `offset`, through to the medium.
    ///
    /// A write of one sector is atomic. See the module's rules for what an error says about the
    /// disk.
    fn write(
        &self,
        disk: &Self::Disk,
        offset: u64,
        bytes: SectorBuf,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), WriteError>>;

    /// Whether a write of this host to any of the `len` bytes at `offset` was started and has not
    /// completed, though its caller may have given up on it. What is read meanwhile may still be
    /// overwritten by it.
    fn is_write_in_flight(&self, disk: &Self::Disk, offset: u64, len: usize) -> bool;

    /// Whether an I/O by way of this very handle was started and has not completed: one that hangs, if nobody
    /// waits for it. Another I/O may hang as well, and cost one more thread.
    fn is_busy(&self, _disk: &Self::Disk) -> bool {
        false
    }

    /// This host's clock for every decision: it never goes back, and it counts the time in system
    /// suspend.
    fn now(&self) -> Timestamp;

    /// The whole seconds that the format wants in its records (`CLOCK_MONOTONIC`). Other hosts only
    /// compare them for change; nothing of ours is decided by them.
    fn clock_secs(&self) -> u64;

    /// Ends at `at` or a little later, never earlier.
    fn sleep_until(&self, at: Timestamp) -> impl Future<Output = ()>;

    /// A random number below `below`; 0 if `below` is 0.
    fn random(&self, below: u64) -> u64;

    /// Ends `pause` from now.
    fn sleep(&self, pause: Duration) -> impl Future<Output = ()> {
        self.sleep_until(self.now() + pause)
    }
}

/// A point in time of this host's clock ([`World::now`]), in nanoseconds since an arbitrary start.
///
/// Says nothing to any other host: clocks are never compared between hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From nanoseconds of this host's clock.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// As nanoseconds of this host's clock.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant that is earlier by this much; the clock's start if there is none.
    #[must_use]
    pub fn before(self, earlier_by: Duration) -> Self {
        let nanos = u64::try_from(earlier_by.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates: a time too far to be counted is as good as never.
    fn add(self, later_by: Duration) -> Self {
        let nanos = u64::try_from(later_by.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    /// The same as [`Timestamp::since`].
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// An error number of the operating system; never 0, which would say "success".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OsError(i32);

impl OsError {
    /// The error of this number. 0 counts as an I/O error.
    #[must_use]
    pub const fn new(errno: i32) -> Self {
        Self(if errno == 0 { libc::EIO } else { errno })
    }

    /// The number.
    #[must_use]
    pub const fn errno(self) -> i32 {
        self.0
    }
}

impl From<&std::io::Error> for OsError {
    /// What has no number of the system's counts as an I/O error.
    fn from(error: &std::io::Error) -> Self {
        Self::new(error.raw_os_error().unwrap_or_default())
    }
}

impl From<rustix::io::Errno> for OsError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::new(errno.raw_os_error())
    }
}

impl From<std::io::Error> for OsError {
    fn from(error: std::io::Error) -> Self {
        Self::from(&error)
    }
}

impl std::error::Error for OsError {}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// Why a read gave no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The storage did not answer in time.
    #[error("the read did not complete within {0:?}")]
    TimedOut(Duration),
    /// The storage answered with an error.
    #[error("the read failed: {0}")]
    Failed(#[source] OsError),
    /// The file or device ends before the bytes that were asked for.
    #[error("the file ends early: {wanted} bytes were asked for, {got} are there")]
    EndOfFile {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes read before the end.
        got: usize,
    },
}

/// Why a write was not reported as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The storage did not answer in time. **The write may still land, at any later time.**
    #[error("the write did not complete within {0:?} and may still land")]
    TimedOut(Duration),
    /// The storage answered with an error. Whether the sector holds the old or the new bytes is not
    /// known.
    #[error("the write failed: {0}")]
    Failed(#[source] OsError),
    /// Nothing was written and nothing will be: an earlier write to the same sector has not completed
    /// yet, or no worker was free to start this one in time.
    #[error("the write was not started within {0:?}: an earlier one has not completed")]
    NotStarted(Duration),
}
