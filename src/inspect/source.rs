//! The bytes of a file or device, as far as it gives them.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::error::{Damage, LookError};
use crate::disk::{Access, Disk, DiskInfo, IoPool, Links, OpenOptions};
use crate::world::executor::block_on;
use crate::world::{OsError, ReadError, SectorBuf};

/// What is read at once where the storage fails larger reads.
const PIECE: u64 = 4096;

/// A file or device that is open for reading. Nothing is ever written through it.
pub(super) struct Source {
    disk: Disk,
    /// Reads for `disk`, in a thread of its own: storage that hangs costs the time limit.
    _pool: IoPool,
    timeout: Duration,
}

impl Source {
    pub(super) fn open(path: &Path, links: Links, timeout: Duration) -> Result<Self, LookError> {
        let options = OpenOptions::new(Access::ReadOnly).links(links);
        let opened = options.open(path).map_err(LookError::Open)?;
        let pool = IoPool::new("dl-look", 1..=1).map_err(|error| LookError::Threads {
            path: path.to_owned(),
            error: OsError(error.raw_os_error().unwrap_or(0)),
        })?;
        Ok(Self {
            disk: Disk::new(opened, &pool),
            _pool: pool,
            timeout,
        })
    }

    pub(super) fn info(&self) -> &DiskInfo {
        self.disk.info()
    }

    /// The bytes from `offset` on, `len` of them or as many as there are.
    ///
    /// Sectors that the storage fails are left out; storage that does not answer at all is an
    /// error.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Chunk, LookError> {
        let unit = u64::from(self.info().io_alignment().max(1));
        let end = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        let end = end.min(self.info().len());
        // Direct I/O takes whole units only.
        let range = down(offset, unit)..up(end, unit);
        let mut chunk = Chunk {
            start: range.start,
            bytes: Vec::new(),
            failed: Vec::new(),
        };
        match self.read_once(&range) {
            Ok(bytes) => chunk.bytes = bytes.to_vec(),
            Err(ReadError::Failed(_)) => self.read_in_pieces(range, unit, &mut chunk)?,
            Err(error) => return Err(self.failed(range.start, error)),
        }
        let wanted = index(end.saturating_sub(chunk.start));
        chunk.bytes.truncate(wanted);
        Ok(chunk)
    }

    fn read_in_pieces(
        &self,
        range: Range<u64>,
        unit: u64,
        chunk: &mut Chunk,
    ) -> Result<(), LookError> {
        let step = up(PIECE, unit).max(unit);
        let mut at = range.start;
        let mut last_error = None;
        while at < range.end {
            let piece = at..at.saturating_add(step).min(range.end);
            match self.read_once(&piece) {
                Ok(bytes) => chunk.bytes.extend_from_slice(&bytes),
                Err(error @ ReadError::Failed(_)) => {
                    let place = index(piece.end.saturating_sub(range.start));
                    chunk.bytes.resize(place, 0);
                    chunk.failed.push((piece.clone(), error));
                    last_error = Some(error);
                }
                Err(error) => return Err(self.failed(at, error)),
            }
            at = piece.end;
        }
        let pieces = range.end.saturating_sub(range.start).div_ceil(step);
        match last_error {
            Some(error) if index(pieces) == chunk.failed.len() => {
                Err(self.failed(range.start, error))
            }
            _ => Ok(()),
        }
    }

    fn read_once(&self, range: &Range<u64>) -> Result<SectorBuf, ReadError> {
        let len = index(range.end.saturating_sub(range.start));
        let into = SectorBuf::zeroed(len);
        block_on(self.disk.read_up_to_end(range.start, into, self.timeout))
    }

    fn failed(&self, offset: u64, error: ReadError) -> LookError {
        LookError::Read {
            path: self.info().path().to_owned(),
            offset,
            error,
        }
    }
}

/// Some bytes of a file or device.
pub(super) struct Chunk {
    start: u64,
    bytes: Vec<u8>,
    /// Where the storage failed. The bytes there are zeros that mean nothing.
    failed: Vec<(Range<u64>, ReadError)>,
}

impl Chunk {
    /// The sector of `len` bytes at byte `offset` of the file, cut where the file ends; `None` if
    /// the file ends before it.
    pub(super) fn sector(&self, offset: u64, len: usize) -> Option<Result<&[u8], Damage>> {
        let start = index(offset.checked_sub(self.start)?);
        let end = start.saturating_add(len).min(self.bytes.len());
        let bytes = self
            .bytes
            .get(start..end)
            .filter(|found| !found.is_empty())?;
        let end = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        let failed = self
            .failed
            .iter()
            .find(|(range, _)| range.start < end && offset < range.end);
        Some(match failed {
            Some(&(_, error)) => Err(Damage::Unreadable(error)),
            None => Ok(bytes),
        })
    }

    /// All bytes from `offset` on.
    pub(super) fn from(&self, offset: u64) -> &[u8] {
        let start = index(offset.saturating_sub(self.start));
        self.bytes.get(start..).unwrap_or_default()
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn down(offset: u64, unit: u64) -> u64 {
    offset.checked_div(unit).unwrap_or(0).saturating_mul(unit)
}

fn up(offset: u64, unit: u64) -> u64 {
    offset.div_ceil(unit).saturating_mul(unit)
}
