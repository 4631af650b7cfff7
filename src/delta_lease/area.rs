//! Where a lockspace lies, and reading and writing its sectors.

use std::fmt;
use std::time::Duration;

use super::record::DeltaRecord;
use crate::format::{DeltaLeader, FormatError, Geometry, HostId, HostNote, LockspaceName};
use crate::world::{ReadError, SectorBuf, World, WriteError};

/// Where a lockspace lies, how its sectors are laid out, and what it is called.
#[derive(Clone, Debug)]
pub struct LockspaceArea<D> {
    /// The disk or file that holds it.
    pub disk: D,
    /// Byte offset of its first sector on that disk.
    pub offset: u64,
    /// Sector size, area size, number of hosts.
    pub geometry: Geometry,
    /// Its name, which stands in every sector.
    pub name: LockspaceName,
    /// How many host ids a scan reads, from 1 on: all that there are, but in simulations.
    pub scanned_hosts: u16,
}

/// A host's sector in the lockspace that could not be read, believed or written, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the delta lease of host {host} at byte {offset} {kind}")]
#[non_exhaustive]
pub struct DeltaSectorError {
    /// Whose sector.
    pub host: HostId,
    /// Where it lies on the disk.
    pub offset: u64,
    #[source]
    kind: DeltaSectorErrorKind,
}

impl DeltaSectorError {
    /// Why.
    #[must_use]
    pub const fn kind(&self) -> &DeltaSectorErrorKind {
        &self.kind
    }
}

/// Why a host's sector could not be read, believed or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaSectorErrorKind {
    /// The storage did not give the sector.
    #[error("cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The storage gave something that is no delta lease of this lockspace.
    #[error("is not valid: {0}")]
    Format(#[from] FormatError),
    /// The storage did not report the write as done.
    #[error("cannot be written: {0}")]
    Write(#[from] WriteError),
}

impl<D: Clone + fmt::Debug> LockspaceArea<D> {
    /// Byte offset on the disk of the sector of `host`.
    #[must_use]
    pub fn sector_offset(&self, host: HostId) -> u64 {
        self.offset.saturating_add(self.geometry.delta_offset(host))
    }

    /// Reads and checks the sector of `host`.
    ///
    /// # Errors
    ///
    /// [`DeltaSectorError`].
    pub async fn read_sector<W: World<Disk = D>>(
        &self,
        world: &W,
        host: HostId,
        timeout: Duration,
    ) -> Result<DeltaRecord, DeltaSectorError> {
        let into = SectorBuf::zeroed(self.geometry.sector_size());
        let sector = world
            .read(&self.disk, self.sector_offset(host), into, timeout)
            .await
            .map_err(|error| self.error(host, error))?;
        self.decode_sector(&sector, host)
    }

    /// Checks the sector of `host`, found in `sector`.
    ///
    /// # Errors
    ///
    /// [`DeltaSectorError`] of kind `Format`.
    pub fn decode_sector(
        &self,
        sector: &[u8],
        host: HostId,
    ) -> Result<DeltaRecord, DeltaSectorError> {
        DeltaRecord::decode(sector, host, &self.name).map_err(|error| self.error(host, error))
    }

    /// The error about the sector of `host`.
    pub(super) fn error(
        &self,
        host: HostId,
        kind: impl Into<DeltaSectorErrorKind>,
    ) -> DeltaSectorError {
        DeltaSectorError {
            host,
            offset: self.sector_offset(host),
            kind: kind.into(),
        }
    }

    /// Reads the sectors of all hosts at once.
    ///
    /// # Errors
    ///
    /// As [`World::read`].
    pub async fn read_all<W: World<Disk = D>>(
        &self,
        world: &W,
        timeout: Duration,
    ) -> Result<SectorBuf, ReadError> {
        world
            .read(
                &self.disk,
                self.offset,
                SectorBuf::zeroed(self.geometry.lockspace_len(self.scanned_hosts)),
                timeout,
            )
            .await
    }

    /// Writes the sector of this host: record, note and an empty bitmap in one.
    ///
    /// # Errors
    ///
    /// As [`World::write`].
    pub async fn write_sector<W: World<Disk = D>>(
        &self,
        world: &W,
        host: HostId,
        leader: &DeltaLeader,
        note: Option<&HostNote>,
        timeout: Duration,
    ) -> Result<(), WriteError> {
        let mut head = [0; 512];
        leader.write_to(&mut head);
        if let Some(note) = note {
            note.write_to(&mut head);
        }
        let sector = SectorBuf::sector(self.geometry, &head);
        world
            .write(&self.disk, self.sector_offset(host), sector, timeout)
            .await
    }
}
