//! The leader in the sector of a host id: which host owns it, and when the owner renewed it.

use super::error::{FormatError, FormatErrorKind as Kind, Structure};
use super::geometry::Geometry;
use super::ids::{Generation, HostId};
use super::layout::{Record, SectorHead, ensure, readers, writers};
use super::leader::{LeaderKind, RawLeader};
use super::name::{HostName, LockspaceName, NameBytes};

#[cfg(test)]
mod tests;

pub(super) const DELTA: LeaderKind = LeaderKind {
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
    pub const LEN: usize = <RawLeader as Record>::LEN;

    /// Reads the sector of `host`.
    ///
    /// The lockspace's name is not compared, see [`DeltaLeader::expect_space`]. Minor versions and
    /// the absence of the area size are accepted.
    ///
    /// # Errors
    ///
    /// [`FormatError`], in this order: `Short`, `Magic`, `Version`,
    /// `Checksum`, `SectorSize`, `AlignSize`;
    /// `OwnerId` if it belongs to another host, `OwnerMissing` if it
    /// is in use by none.
    pub fn decode(sector: &[u8], host: HostId) -> Result<Self, FormatError> {
        let read = || {
            let raw = RawLeader::of_kind(DELTA, sector)?;
            raw.expect_checksum()?;
            let geometry = raw.geometry()?;
            raw.expect_owner()?;
            let (expected, found) = (host, raw.owner_id);
            let is_its_sector = found == 0 || found == u64::from(host);
            ensure(is_its_sector, Kind::OwnerId { expected, found })?;
            Ok(Self { raw, geometry })
        };
        Structure::DeltaLeader(Some(host)).of(read())
    }

    /// This leader, if it belongs to this lockspace.
    ///
    /// # Errors
    ///
    /// [`FormatError`] of kind `LockspaceName` otherwise.
    pub fn expect_space(self, space: &LockspaceName) -> Result<Self, FormatError> {
        self.structure().of(self.raw.expect_space(space))?;
        Ok(self)
    }

    /// This leader, if it has these sizes.
    ///
    /// # Errors
    ///
    /// [`FormatError`] of kind `Geometry` otherwise.
    pub fn expect_geometry(self, expected: Geometry) -> Result<Self, FormatError> {
        let found = self.geometry;
        let same = ensure(found == expected, Kind::Geometry { expected, found });
        self.structure().of(same)?;
        Ok(self)
    }

    readers! {
        self;
        /// The name of the lockspace.
        space_name: NameBytes = self.raw.space_name;
        /// The name of the host that used the host id last; empty if none ever did. A host of sanlock's
        /// may have left the end of an older name behind the NUL.
        host_name: NameBytes = self.raw.resource_name;
        /// The host id whose sector this is, or 0 if it was never used.
        owner_id: u64 = self.raw.owner_id;
        /// How often a host joined under this host id.
        generation: Generation = self.raw.owner_generation;
        /// The owner's clock at its last renewal, in seconds; 0 if the host id is not in use. Says
        /// nothing to other hosts but whether it changed.
        timestamp_secs: u64 = self.raw.timestamp;
        /// Whether no host owns the host id: never used, or released.
        is_free: bool = self.timestamp_secs() == 0;
        /// The io timeout of the owner in seconds, as it is on the disk; not covered by the checksum.
        /// While nobody ever used the host id, that of the host that initialised the lockspace.
        io_timeout_secs: u16 = self.raw.io_timeout;
        /// The sizes of the lockspace.
        geometry: Geometry = self.geometry;
    }

    fn structure(&self) -> Structure {
        Structure::DeltaLeader(HostId::new(self.owner_id()).ok())
    }

    fn changed(&self, change: impl FnOnce(&mut RawLeader)) -> Self {
        Self {
            raw: self.raw.changed(change),
            ..*self
        }
    }

    writers! {
        /// The leader of a host id that was never used. It is the same for all host ids of a lockspace.
        #[must_use]
        fn free(geometry: Geometry, space: &LockspaceName, io_timeout_secs: u16) -> Self {
            let raw = RawLeader::new(DELTA, geometry, space).changed(|raw| {
                raw.max_hosts = 1;
                raw.io_timeout = io_timeout_secs;
            });
            Self { raw, geometry }
        }

        /// What `host` writes to acquire its host id in this generation, under this name.
        ///
        /// A clock at 0 counts as 1, since 0 says that the host id is free.
        #[must_use]
        fn acquired_in(
            &self,
            generation: Generation,
            host: HostId,
            name: &HostName,
            clock_secs: u64,
            io_timeout_secs: u16,
        ) -> Self {
            self.changed(|raw| {
                raw.owner_id = u64::from(host);
                raw.owner_generation = generation;
                raw.resource_name = name.as_name();
                raw.timestamp = clock_secs.max(1);
                raw.io_timeout = io_timeout_secs;
            })
        }

        /// What the owner writes to renew. The fields of events, which disklease never sends, are zeroed.
        #[must_use]
        fn renewed(&self, clock_secs: u64, io_timeout_secs: u16) -> Self {
            self.changed(|raw| {
                raw.timestamp = clock_secs.max(1);
                raw.io_timeout = io_timeout_secs;
                raw.write_id = 0;
                raw.write_generation = Generation::default();
                raw.write_timestamp = 0;
            })
        }

        /// What the owner writes to leave: no timestamp, all else kept.
        #[must_use]
        fn released(&self) -> Self {
            self.changed(|raw| raw.timestamp = 0)
        }

        /// Copies the record to the start of `sector`. The rest is left alone.
        fn write_to(&self, sector: &mut SectorHead) {
            self.raw.write(sector);
        }
    }

    /// As [`acquired_in`](Self::acquired_in) the next generation; `None` if there is none.
    #[cfg(any(test, feature = "__sim"))]
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
}
