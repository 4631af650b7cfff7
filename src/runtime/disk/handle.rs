//! An opened disk in use.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::identity::FileSystem;
use super::info::DiskInfo;
use super::open::OpenedDisk;
use super::pool::IoPool;
use super::raw::{Failure, FileNow, Kind, RawIo};
use super::request::{Target, byte_range, submit};
use super::writes::WriteTable;
use crate::world::{OsError, ReadError, SectorBuf, WriteError};

/// An opened disk whose I/O is done by an [`IoPool`]. All clones are the same disk.
///
/// It is closed when the last clone is gone and the last I/O on it has completed.
#[derive(Clone)]
pub struct Disk {
    target: Arc<Target>,
}

impl Disk {
    /// Has the I/O of `opened` done by `pool`.
    #[must_use]
    pub fn new(opened: OpenedDisk, pool: &IoPool) -> Self {
        Self::over(Box::new(opened.fd), opened.info, pool)
    }

    pub(super) fn over(io: Box<dyn RawIo>, info: DiskInfo, pool: &IoPool) -> Self {
        let target = Target {
            io: io.into(),
            pool: Arc::clone(pool.shared()),
            writes: WriteTable::of(info.identity()),
            under_way: Arc::default(),
            info,
        };
        Self {
            target: Arc::new(target),
        }
    }

    /// The same disk, whose I/O is done by `pool` when it is asked for by what this returns.
    #[must_use]
    pub fn on(&self, pool: &IoPool) -> Self {
        let target = Target {
            io: Arc::clone(&self.target.io),
            info: self.target.info.clone(),
            pool: Arc::clone(pool.shared()),
            writes: Arc::clone(&self.target.writes),
            under_way: Arc::clone(&self.target.under_way),
        };
        Self {
            target: Arc::new(target),
        }
    }

    /// What was learnt of it when it was opened.
    #[must_use]
    pub fn info(&self) -> &DiskInfo {
        &self.target.info
    }

    /// The file system of the file, or the device.
    #[must_use]
    pub fn file_system(&self) -> FileSystem {
        self.info().identity().file_system()
    }

    /// What whoever keeps the open file says of it at this moment. May block as the file system does.
    pub(super) fn now(&self) -> Result<FileNow, Errno> {
        self.target.io.now()
    }

    /// Whether the open file has no name any more: whoever looks for it finds another or none. A
    /// second hard link keeps it, and so does doubt. May block as the file system does.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let info = self.info();
        !info.is_block_device()
            && match self.now() {
                Ok(now) => now.links == 0 && info.has_links,
                Err(errno) => errno == Errno::STALE,
            }
    }

    /// How many writes of this process to this disk were started and have not completed, whether or not
    /// anyone waits for them, and through whichever open of it. Each of them may still land.
    #[cfg(test)]
    pub(crate) fn writes_in_flight(&self) -> usize {
        self.target.writes.in_flight()
    }

    /// Whether such a write to any of the `len` bytes at `offset` has not completed.
    pub(super) fn is_write_in_flight(&self, offset: u64, len: usize) -> bool {
        self.target.writes.is_in_flight(&byte_range(offset, len))
    }

    /// Whether an I/O by way of this very open was started and has not completed.
    pub(super) fn is_busy(&self) -> bool {
        self.target.under_way.load(Ordering::Acquire) > 0
    }

    pub(super) async fn read(
        &self,
        kind: Kind,
        offset: u64,
        into: SectorBuf,
        timeout: Duration,
    ) -> Result<SectorBuf, ReadError> {
        let ended = submit(&self.target, kind, offset, into, timeout).await;
        ended.map_err(|failure| match failure {
            Failure::NotStarted | Failure::TimedOut => ReadError::TimedOut(timeout),
            Failure::Stopped => ReadError::Failed(OsError::from(Errno::CANCELED)),
            Failure::EndOfFile { wanted, got } => ReadError::EndOfFile { wanted, got },
            Failure::Os(error) => ReadError::Failed(error),
        })
    }

    /// As [`World::read`](crate::world::World::read), but gives a shorter buffer where the file or device
    /// ends early.
    ///
    /// # Errors
    ///
    /// As [`World::read`](crate::world::World::read), apart from the end of the file.
    pub async fn read_up_to_end(
        &self,
        offset: u64,
        into: SectorBuf,
        timeout: Duration,
    ) -> Result<SectorBuf, ReadError> {
        self.read(Kind::ReadUpToEnd, offset, into, timeout).await
    }

    pub(super) async fn write(
        &self,
        offset: u64,
        bytes: SectorBuf,
        timeout: Duration,
    ) -> Result<(), WriteError> {
        let ended = submit(&self.target, Kind::Write, offset, bytes, timeout).await;
        ended.map(drop).map_err(|failure| match failure {
            Failure::NotStarted | Failure::Stopped => WriteError::NotStarted(timeout),
            Failure::TimedOut => WriteError::TimedOut(timeout),
            Failure::Os(error) => WriteError::Failed(error),
            // Only reads end so.
            Failure::EndOfFile { .. } => WriteError::Failed(OsError::from(Errno::IO)),
        })
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.info().path()).finish()
    }
}
