//! The bytes of a file or device, as far as it gives them.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::error::{Damage, InspectError, InspectErrorKind};
use crate::format::{Geometry, HostId};
use crate::runtime::disk::{Access, Disk, DiskInfo, IoPool, Links, OpenOptions};
use crate::runtime::executor::block_on;
use crate::world::{ReadError, SectorBuf};

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
    pub(super) fn open(path: &Path, links: Links, timeout: Duration) -> Result<Self, InspectError> {
        let options = OpenOptions::new(Access::ReadOnly).links(links);
        let opened = options.open(path).map_err(|error| {
            InspectError::new(error.path(), InspectErrorKind::Open(error.kind()))
        })?;
        let pool = IoPool::new("dl-inspect", 1..=1)
            .map_err(|error| InspectError::new(path, InspectErrorKind::Thread(error.into())))?;
        Ok(Self {
            disk: Disk::new(opened, &pool),
            _pool: pool,
            timeout,
        })
    }

    pub(super) fn info(&self) -> &DiskInfo {
        self.disk.info()
    }

    /// All sectors of an area with `geometry` at byte `offset`, as far as the file has them.
    pub(super) fn read_area(
        &self,
        offset: u64,
        geometry: Geometry,
    ) -> Result<Sectors, InspectError> {
        let chunk = self.read(offset, geometry.area_size())?;
        let end = offset.saturating_add(u64::try_from(geometry.area_size()).unwrap_or(u64::MAX));
        let file_len = self.info().len();
        Ok(Sectors {
            offset,
            geometry,
            cut_at: (end > file_len).then_some(file_len),
            chunk,
        })
    }

    /// The bytes from `offset` on, `len` of them or as many as there are.
    ///
    /// Sectors that the storage fails are left out; storage that does not answer at all is an
    /// error.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Chunk, InspectError> {
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
    ) -> Result<(), InspectError> {
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

    fn failed(&self, offset: u64, error: ReadError) -> InspectError {
        self.error(InspectErrorKind::Read { offset, error })
    }

    /// An error about this file or device.
    pub(super) fn error(&self, kind: InspectErrorKind) -> InspectError {
        InspectError::new(self.info().path(), kind)
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

/// The sectors of an area, as far as the file has them.
pub(super) struct Sectors {
    /// Where the area starts, in bytes from the start of the file.
    pub(super) offset: u64,
    pub(super) geometry: Geometry,
    /// Where the file ends, if it does so before the area.
    pub(super) cut_at: Option<u64>,
    chunk: Chunk,
}

impl Sectors {
    /// The sector at byte `at` of the area; without bytes where the file ends before it.
    pub(super) fn at(&self, at: u64) -> Result<&[u8], Damage> {
        let at = self.offset.saturating_add(at);
        let sector = self.chunk.sector(at, self.geometry.sector_size());
        sector.unwrap_or(Ok(&[]))
    }

    /// The sectors of all hosts that the file does not end before: host id, offset in the file, bytes.
    pub(super) fn of_hosts(
        &self,
        offset_in_area: impl Fn(HostId) -> u64,
    ) -> impl Iterator<Item = (HostId, u64, Result<&[u8], Damage>)> {
        let size = self.geometry.sector_size();
        (1..=u64::from(self.geometry.max_hosts())).filter_map(move |id| {
            let host = HostId::new(id).ok()?;
            let offset = self.offset.saturating_add(offset_in_area(host));
            Some((host, offset, self.chunk.sector(offset, size)?))
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Dblock, LeaseVersion, LockspaceName, ResourceName, lease_image};
    use crate::inspect::file::{Area, area_at};
    use crate::runtime::disk::testing::HangingDisk;
    use crate::world::OsError;

    const EIO: ReadError = ReadError::Failed(OsError::new(5));

    /// With a limit that is not reached.
    fn source(storage: &HangingDisk) -> Source {
        source_with(storage, Duration::from_secs(20))
    }

    fn source_with(storage: &HangingDisk, timeout: Duration) -> Source {
        let pool = IoPool::new("test", 1..=1).unwrap();
        Source {
            disk: storage.open(&pool),
            _pool: pool,
            timeout,
        }
    }

    fn lease(storage: &HangingDisk) {
        let space = LockspaceName::new("LS").unwrap();
        let name = ResourceName::new("R").unwrap();
        let mut area = lease_image(Geometry::S512_A1M, &space, &name, 0);
        // Of hosts 1, 999 and 2000.
        for at in [1024, 512_000, 1_024_512] {
            let block = Dblock::for_version(LeaseVersion::new(1));
            block.write_to(area[at..].first_chunk_mut().unwrap());
        }
        storage.fill(0, &area);
    }

    #[test]
    fn sectors_that_cannot_be_read_do_not_hide_the_others() {
        let storage = HangingDisk::new(1 << 20);
        lease(&storage);
        storage.fail_reads(1000 * 512..1000 * 512 + 1);
        let area = area_at(&source(&storage), 0).unwrap();
        let Area::Lease(report) = area else {
            panic!("{area:?}")
        };
        assert!(report.leader.is_ok() && report.is_damaged());
        let good = report.blocks.iter().filter(|block| !block.is_damaged());
        let good: Vec<u16> = good.map(|block| block.host_id.get()).collect();
        assert_eq!(
            good,
            [1, 2000],
            "and not 999, which is among those that fail"
        );
        // The 4096 bytes around the one that fails.
        let failed = report.blocks.iter().filter(|block| block.is_damaged());
        let failed: Vec<(u16, u64)> = failed
            .inspect(|block| assert_eq!(block.sector, Err(Damage::Unreadable(EIO))))
            .map(|block| (block.host_id.get(), block.offset))
            .collect();
        let expected: Vec<(u16, u64)> = (1000..1008)
            .map(|sector| (sector - 1, u64::from(sector) * 512))
            .collect();
        assert_eq!(failed, expected);
    }

    #[test]
    fn storage_that_fails_or_hangs_throughout_is_an_error() {
        let storage = HangingDisk::new(1 << 20);
        lease(&storage);
        storage.fail_reads(0..1 << 20);
        let failed = area_at(&source(&storage), 0).unwrap_err();
        let (offset, error) = (0, EIO);
        assert_eq!(*failed.kind(), InspectErrorKind::Read { offset, error });
        storage.fail_reads(0..0);
        storage.hang(0);
        let hung = area_at(&source_with(&storage, Duration::from_millis(50)), 0).unwrap_err();
        assert!(matches!(
            hung.kind(),
            InspectErrorKind::Read {
                error: ReadError::TimedOut(_),
                offset: 0,
            }
        ));
        storage.release(0);
    }

    #[test]
    fn bytes_are_found_at_their_offsets_whatever_the_units() {
        let storage = HangingDisk::new(1300);
        storage.fill(0, &[1; 1300]);
        storage.fill(700, &[7; 600]);
        let chunk = source(&storage).read(700, 5000).unwrap();
        assert_eq!(chunk.from(700), [7; 600]);
        assert_eq!(chunk.sector(699, 2), Some(Ok(&[1, 7][..])));
        assert_eq!(chunk.sector(1299, 512), Some(Ok(&[7][..])));
        assert_eq!(chunk.sector(1300, 512), None);
        assert_eq!(chunk.sector(0, 512), None);
        let all = source(&storage).read(2000, 512).unwrap();
        assert_eq!(all.sector(2000, 512), None);
    }
}
