//! Where a lockspace lies, and reading and writing its sectors.

use std::time::Duration;

use super::rules;
use crate::format::{
    DeltaLeader, FormatError, Geometry, HostBitmap, HostId, HostNote, Incarnation, LockspaceName,
    NoteState,
};
use crate::probe::mutation;
use crate::timing::{FireTimeout, IoTimeout, Timing};
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
    /// How many host ids a scan looks at, from 1 on: all that there are, but in simulations.
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
        error: FormatError,
    },
}

/// One delta sector, checked: the leader record and our note beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaRecord {
    /// The record proper.
    pub leader: DeltaLeader,
    /// What a disklease host adds to it, if one wrote the sector and the note belongs to this life
    /// of the host.
    pub note: Option<HostNote>,
}

impl DeltaRecord {
    /// Decodes and checks the sector of `host` in the lockspace `name`.
    ///
    /// # Errors
    ///
    /// Any [`FormatError`] of the record or its names. A damaged note is not an error: it is only
    /// dropped.
    pub fn decode(sector: &[u8], host: HostId, name: &LockspaceName) -> Result<Self, FormatError> {
        let decode = |sector: &_| DeltaLeader::decode(sector, host);
        let leader = rules::decode_leader(sector, decode)?.expect_space(name)?;
        let note = match HostNote::read_from(sector) {
            NoteState::Present(note)
                if note.host_id == host && note.generation == leader.generation() =>
            {
                Some(note)
            }
            _ => None,
        };
        Ok(Self { leader, note })
    }

    /// Which run of the host wrote it, where that is told.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.note.as_ref().and_then(|note| note.incarnation)
    }

    /// The io timeout N of the host that owns this sector.
    ///
    /// The field is not covered by the record's checksum. So where a note repeats it, the longer of
    /// the two counts, and a value that no host can have written stands for the longest there is: a
    /// takeover may be late, never early.
    #[must_use]
    pub fn io_timeout(&self) -> IoTimeout {
        let nonsense = mutation!(BadTimeoutDefaulted, IoTimeout::DEFAULT, IoTimeout::MAX);
        let field = IoTimeout::from_secs(self.leader.io_timeout_secs()).unwrap_or(nonsense);
        let noted = self
            .note
            .as_ref()
            .and_then(|note| IoTimeout::from_secs(note.io_timeout_secs))
            .filter(|_| !mutation!(TimeoutFieldTrusted));
        noted.map_or(field, |noted| noted.max(field))
    }

    /// The times of the host that owns this sector, for whoever waits for its death with this fire
    /// timeout.
    #[must_use]
    pub fn timing(&self, own_fire_timeout: FireTimeout) -> Timing {
        let fire_timeout = fire_timeout_of(self.note.as_ref(), own_fire_timeout);
        Timing::new(self.io_timeout(), fire_timeout)
    }
}

/// The fire timeout to wait for, of a host with this note: `own`, or what the note tells, or
/// sanlock's where there is no note, whichever is longest. A takeover may be late, never early.
pub(super) fn fire_timeout_of(note: Option<&HostNote>, own: FireTimeout) -> FireTimeout {
    if mutation!(FireTimeoutIsOwn) {
        return own;
    }
    let theirs = match note {
        Some(note) => FireTimeout::from_secs(note.fire_timeout_secs),
        None => Some(FireTimeout::DEFAULT),
    };
    theirs.map_or(own, |theirs| theirs.max(own))
}

impl<D: Clone + std::fmt::Debug> LockspaceArea<D> {
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
        DeltaRecord::decode(sector, host, &self.name).map_err(|error| DeltaSectorError::Format {
            host,
            offset: self.sector_offset(host),
            error,
        })
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
