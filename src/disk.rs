//! Real storage: the [`World`] in which the algorithms run in production.
//!
//! A disk is opened ([`OpenOptions`]) and put on a pool of worker threads ([`IoPool`]), which makes
//! it a [`Disk`]. Its I/O is direct, goes through to the medium, and hangs at the worst for as long
//! as its caller allows.

mod identity;
#[cfg(feature = "cli")]
mod landed;
mod named;
mod open;
mod raw;
mod request;
mod threads;
mod writes;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use identity::{FileSystem, Identity};
#[cfg(feature = "cli")]
pub use landed::{NotLanded, await_writes, writes_end_with_process};
pub use named::{NamedFile, Refreshed};
pub use open::{
    Access, DiskInfo, FileKind, Links, OpenError, OpenOptions, OpenedDisk, file_system_of_one_host,
};
#[cfg(test)]
pub(crate) use raw::FileNow;
use raw::RawIo;
use request::{Failure, Kind, submit};
use rustix::io::Errno;
#[cfg(test)]
use threads::InFlight;
pub use threads::{IoPool, IoWatch};
use writes::WriteTable;

use crate::world::{OsError, ReadError, SectorBuf, Sleep, Timestamp, World, WriteError, clock};

/// An opened disk whose I/O is done by an [`IoPool`]. All clones are the same disk.
///
/// It is closed when the last clone is gone and the last I/O on it has ended.
#[derive(Clone)]
pub struct Disk {
    inner: Arc<Inner>,
}

struct Inner {
    io: Arc<dyn RawIo>,
    info: DiskInfo,
    pool: Arc<threads::Shared>,
    writes: Arc<WriteTable>,
    /// I/Os of this open, on whichever pool, that were begun and have not ended.
    under_way: Arc<AtomicUsize>,
}

impl Disk {
    /// Has the I/O of `opened` done by `pool`.
    #[must_use]
    pub fn new(opened: OpenedDisk, pool: &IoPool) -> Self {
        Self::over(Box::new(opened.fd), opened.info, pool)
    }

    fn over(io: Box<dyn RawIo>, info: DiskInfo, pool: &IoPool) -> Self {
        let writes = WriteTable::of(info.identity());
        Self {
            inner: Arc::new(Inner {
                io: io.into(),
                info,
                pool: Arc::clone(pool.shared()),
                writes,
                under_way: Arc::default(),
            }),
        }
    }

    /// The same disk, whose I/O is done by `pool` when it is asked for by what this returns.
    #[must_use]
    pub fn on(&self, pool: &IoPool) -> Self {
        let Inner {
            io,
            info,
            writes,
            under_way,
            ..
        } = &*self.inner;
        Self {
            inner: Arc::new(Inner {
                io: Arc::clone(io),
                info: info.clone(),
                pool: Arc::clone(pool.shared()),
                writes: Arc::clone(writes),
                under_way: Arc::clone(under_way),
            }),
        }
    }

    /// What was learnt of it when it was opened.
    #[must_use]
    pub fn info(&self) -> &DiskInfo {
        &self.inner.info
    }

    /// The file system of the file, or the device.
    #[must_use]
    pub fn file_system(&self) -> FileSystem {
        self.info().identity().file_system()
    }

    /// Whether the open file has no name any more: whoever looks for it finds another or none. A
    /// second hard link keeps it, and so does doubt. May block as the file system does.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let info = self.info();
        !info.is_block_device()
            && match self.inner.io.now() {
                Ok(now) => now.links == 0 && info.has_links,
                Err(errno) => errno == Errno::STALE,
            }
    }

    /// How many writes of this process to this disk were begun and have not ended, whether or not
    /// anyone waits for them, and through whichever open of it. Each of them may still land.
    #[cfg(test)]
    pub(crate) fn writes_in_flight(&self) -> usize {
        self.inner.writes.in_flight()
    }

    /// As [`World::read`], but gives a shorter buffer where the file or device ends early.
    ///
    /// # Errors
    ///
    /// As [`World::read`], apart from the end of the file.
    pub async fn read_up_to_end(
        &self,
        offset: u64,
        into: SectorBuf,
        timeout: Duration,
    ) -> Result<SectorBuf, ReadError> {
        let ended = submit(self, Kind::ReadUpToEnd, offset, into, timeout).await;
        ended.map_err(|failure| read_error(failure, timeout))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.info().path()).finish()
    }
}

/// The real world: disks on worker threads, the kernel's clocks and chance.
///
/// Its futures are made for [`block_on`](crate::world::executor::block_on). An I/O is asked for
/// when its future is first polled. One that ended well is reported so even if its caller came to
/// look only after the limit.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StorageWorld;

impl World for StorageWorld {
    type Disk = Disk;

    async fn read(
        &self,
        disk: &Disk,
        offset: u64,
        into: SectorBuf,
        timeout: Duration,
    ) -> Result<SectorBuf, ReadError> {
        let ended = submit(disk, Kind::Read, offset, into, timeout).await;
        ended.map_err(|failure| read_error(failure, timeout))
    }

    async fn write(
        &self,
        disk: &Disk,
        offset: u64,
        bytes: SectorBuf,
        timeout: Duration,
    ) -> Result<(), WriteError> {
        let ended = submit(disk, Kind::Write, offset, bytes, timeout).await;
        ended.map(drop).map_err(|failure| match failure {
            Failure::NotBegun | Failure::Stopped => WriteError::NotBegun(timeout),
            Failure::TimedOut => WriteError::TimedOut(timeout),
            Failure::Os(error) => WriteError::Failed(error),
            // Only reads end so.
            Failure::EndOfFile { .. } => WriteError::Failed(OsError(Errno::IO.raw_os_error())),
        })
    }

    fn is_write_in_flight(&self, disk: &Disk, offset: u64, len: usize) -> bool {
        disk.inner.writes.is_in_flight(&byte_range(offset, len))
    }

    fn is_busy(&self, disk: &Disk) -> bool {
        disk.inner.under_way.load(Ordering::Acquire) > 0
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn clock_secs(&self) -> u64 {
        clock::monotonic_secs()
    }

    fn sleep_until(&self, at: Timestamp) -> impl Future<Output = ()> {
        Sleep::until(at)
    }

    fn random(&self, below: u64) -> u64 {
        clock::random(below)
    }
}

fn read_error(failure: Failure, timeout: Duration) -> ReadError {
    match failure {
        Failure::NotBegun | Failure::TimedOut => ReadError::TimedOut(timeout),
        Failure::Stopped => ReadError::Failed(OsError(Errno::CANCELED.raw_os_error())),
        Failure::EndOfFile { wanted, got } => ReadError::EndOfFile { wanted, got },
        Failure::Os(error) => ReadError::Failed(error),
    }
}

/// The bytes of an I/O. One that would overflow fails as such when it is begun.
fn byte_range(offset: u64, len: usize) -> Range<u64> {
    offset..offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
