//! The leader in the sector of a host id: which host owns it, and when the owner renewed it.

use super::error::{FormatError, Structure};
use super::geometry::Geometry;
use super::ids::{Generation, HostId};
use super::le::{Le16, Le64};
use super::leader::{Kind, RawLeader};
use super::name::{HostName, LockspaceName, NameBytes};
use super::record::{self, SectorHead};

#[cfg(test)]
mod tests;

pub(super) const DELTA: Kind = Kind {
    magic: 0x1221_2010,
    version: 0x0003_0004,
};

/// The lease on a host id, bytes 0 to 200 of the host's sector in the lockspace.
///
/// The checksum is right, the geometry exists, and the record belongs to the host whose sector it was
/// read from. `==` compares all 200 bytes: between two reads that give equal records the reader has
/// seen no renewal. Bytes without a meaning are carried over from what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaLeader {
    raw: RawLeader,
    /// Follows from `raw`.
    geometry: Geometry,
}

impl DeltaLeader {
    /// Bytes of the record.
    pub const LEN: usize = size_of::<RawLeader>();

    /// The leader of a host id that was never used. It is the same for all host ids of a lockspace.
    #[must_use]
    pub fn free(geometry: Geometry, space: &LockspaceName, io_timeout_secs: u16) -> Self {
        let raw = RawLeader {
            max_hosts: Le64::new(1),
            space_name: space.as_name(),
            io_timeout: Le16::new(io_timeout_secs),
            ..RawLeader::new(DELTA, geometry)
        };
        Self {
            raw: raw.sealed(),
            geometry,
        }
    }

    /// Reads the sector of `host`.
    ///
    /// The lockspace's name is not compared, see [`DeltaLeader::expect_space`]. Minor versions and
    /// the absence of the area size are accepted.
    ///
    /// # Errors
    ///
    /// In this order: [`FormatError::Short`], [`FormatError::Magic`], [`FormatError::Version`],
    /// [`FormatError::Checksum`], [`FormatError::SectorSize`], [`FormatError::AlignSize`];
    /// [`FormatError::OwnerId`] if it belongs to another host, [`FormatError::OwnerMissing`] if it
    /// is in use by none.
    pub fn decode(sector: &[u8], host: HostId) -> Result<Self, FormatError> {
        let structure = Structure::DeltaLeader(Some(host));
        let raw = RawLeader::read(structure, DELTA, sector)?;
        raw.expect_checksum(structure)?;
        let geometry = raw.geometry(structure)?;
        raw.expect_owner(structure)?;
        let owner = raw.owner_id.get();
        if owner != 0 && owner != u64::from(host) {
            return Err(FormatError::OwnerId {
                structure,
                expected: host,
                found: owner,
            });
        }
        Ok(Self { raw, geometry })
    }

    /// This leader, if it belongs to this lockspace.
    ///
    /// # Errors
    ///
    /// [`FormatError::LockspaceName`] otherwise.
    pub fn expect_space(self, space: &LockspaceName) -> Result<Self, FormatError> {
        self.raw.expect_space(self.structure(), space.as_name())?;
        Ok(self)
    }

    /// This leader, if it has these sizes.
    ///
    /// # Errors
    ///
    /// [`FormatError::Geometry`] otherwise.
    pub fn expect_geometry(self, expected: Geometry) -> Result<Self, FormatError> {
        let (structure, found) = (self.structure(), self.geometry);
        if found != expected {
            return Err(FormatError::Geometry {
                structure,
                expected,
                found,
            });
        }
        Ok(self)
    }

    /// The name of the lockspace.
    #[must_use]
    pub const fn space_name(&self) -> NameBytes {
        self.raw.space_name
    }

    /// The name of the host that used the host id last; empty if none ever did. A host of sanlock's
    /// may have left the end of an older name behind the NUL.
    #[must_use]
    pub const fn host_name(&self) -> NameBytes {
        self.raw.resource_name
    }

    /// The host id whose sector this is, or 0 if it was never used.
    #[must_use]
    pub const fn owner_id(&self) -> u64 {
        self.raw.owner_id.get()
    }

    /// How often a host joined under this host id.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        Generation::new(self.raw.owner_generation.get())
    }

    /// The owner's clock at its last renewal, in seconds; 0 if the host id is not in use. Says
    /// nothing to other hosts but whether it changed.
    #[must_use]
    pub const fn timestamp_secs(&self) -> u64 {
        self.raw.timestamp.get()
    }

    /// Whether no host owns the host id: never used, or released.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.timestamp_secs() == 0
    }

    /// The io timeout of the owner in seconds, as it is on the disk; not covered by the checksum.
    /// While nobody ever used the host id, that of whoever initialised the lockspace.
    #[must_use]
    pub const fn io_timeout_secs(&self) -> u16 {
        self.raw.io_timeout.get()
    }

    /// The sizes of the lockspace.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What `host` writes to acquire its host id: the next generation, under this name. `None` if
    /// there is no next generation.
    ///
    /// A clock at 0 counts as 1, since 0 says that the host id is free.
    #[must_use]
    pub fn acquired(
        &self,
        host: HostId,
        name: &HostName,
        clock_secs: u64,
        io_timeout_secs: u16,
    ) -> Option<Self> {
        let generation = self.generation().next()?;
        Some(self.acquired_in(generation, host, name, clock_secs, io_timeout_secs))
    }

    /// The same, in this generation.
    pub(crate) fn acquired_in(
        &self,
        generation: Generation,
        host: HostId,
        name: &HostName,
        clock_secs: u64,
        io_timeout_secs: u16,
    ) -> Self {
        self.changed(|raw| {
            raw.owner_id = Le64::new(u64::from(host));
            raw.owner_generation = Le64::new(generation.get());
            raw.resource_name = name.as_name();
            raw.timestamp = Le64::new(clock_secs.max(1));
            raw.io_timeout = Le16::new(io_timeout_secs);
        })
    }

    /// What the owner writes to renew. The fields of events, which disklease never sends, are zeroed.
    #[must_use]
    pub fn renewed(&self, clock_secs: u64, io_timeout_secs: u16) -> Self {
        self.changed(|raw| {
            raw.timestamp = Le64::new(clock_secs.max(1));
            raw.io_timeout = Le16::new(io_timeout_secs);
            raw.write_id = Le64::new(0);
            raw.write_generation = Le64::new(0);
            raw.write_timestamp = Le64::new(0);
        })
    }

    /// What the owner writes to leave: no timestamp, all else kept.
    #[must_use]
    pub fn released(&self) -> Self {
        self.changed(|raw| raw.timestamp = Le64::new(0))
    }

    /// Copies the record to the start of `sector`, which the caller has zeroed. The rest is left
    /// alone.
    pub fn write_to(&self, sector: &mut SectorHead) {
        record::write::<0, _>(sector, &self.raw);
    }

    fn changed(&self, change: impl FnOnce(&mut RawLeader)) -> Self {
        let mut raw = self.raw;
        change(&mut raw);
        Self {
            raw: raw.sealed(),
            geometry: self.geometry,
        }
    }

    fn structure(&self) -> Structure {
        Structure::DeltaLeader(HostId::new(self.owner_id()).ok())
    }
}
