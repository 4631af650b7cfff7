//! Where a lockspace lies, and reading and writing its sectors.

use std::fmt;
use std::time::Duration;

use super::record::DeltaRecord;
use crate::format::{
    DeltaLeader, FormatError, Geometry, HostBitmap, HostId, HostNote, LockspaceName,
};
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

/// Why the sector of a host could not be read or believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaSectorError {
    /// The storage did not give it.
    #[error("the delta lease of host {host} cannot be read at byte {offset}: {error}")]
    Read {
        /// Whose sector.
        host: HostId,
        /// Where it lies on the disk.
        offset: u64,
        /// Why.
        #[source]
        error: ReadError,
    },
    /// The storage gave something that is no delta lease of this lockspace.
    #[error("the delta lease of host {host} at byte {offset} is not valid: {error}")]
    Format {
        /// Whose sector.
        host: HostId,
        /// Where it lies on the disk.
        offset: u64,
        /// What is wrong with it.
        #[source]
        error: FormatError,
    },
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
        let offset = self.sector_offset(host);
        let into = SectorBuf::zeroed(self.geometry.sector_size());
        let sector = world
            .read(&self.disk, offset, into, timeout)
            .await
            .map_err(|error| DeltaSectorError::Read {
                host,
                offset,
                error,
            })?;
        self.decode_sector(&sector, host)
    }

    /// Checks the sector of `host`, found in `sector`.
    ///
    /// # Errors
    ///
    /// [`DeltaSectorError::Format`].
    pub fn decode_sector(
        &self,
        sector: &[u8],
        host: HostId,
    ) -> Result<DeltaRecord, DeltaSectorError> {
        DeltaRecord::decode(sector, host, &self.name).map_err(|error| self.invalid(host, error))
    }

    /// The error about what was found in the sector of `host`.
    pub(super) fn invalid(&self, host: HostId, error: FormatError) -> DeltaSectorError {
        DeltaSectorError::Format {
            host,
            offset: self.sector_offset(host),
            error,
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

    /// Writes the sector of this host: record, note and bitmap in one.
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
        bitmap: &HostBitmap,
        timeout: Duration,
    ) -> Result<(), WriteError> {
        let mut head = [0; 512];
        leader.write_to(&mut head);
        bitmap.write_to(&mut head);
        if let Some(note) = note {
            note.write_to(&mut head);
        }
        let sector = SectorBuf::sector(self.geometry, &head);
        world
            .write(&self.disk, self.sector_offset(host), sector, timeout)
            .await
    }
}
