//! The leader in the sector of a host id: who is this host, and is it alive.

use super::error::{FormatError, Structure};
use super::geometry::Geometry;
use super::ids::{Generation, HostId};
use super::le::{Le16, Le64};
use super::leader::{Kind, RawLeader};
use super::name::{HostName, LockspaceName, NameBytes};
use super::record;

pub(super) const DELTA: Kind = Kind {
    magic: 0x1221_2010,
    version: 0x0003_0004,
};

/// The lease on a host id, bytes 0 to 200 of the host's sector in the lockspace.
///
/// Its checksum is right, its geometry is one that there is, and it belongs to the host whose sector it was read
/// from. `==` compares all 200 bytes; so whoever sees two equal ones has seen no sign of life in between. Bytes
/// without a meaning are carried over from what was read.
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
    /// The lockspace's name is not compared, see [`DeltaLeader::expect_space`]. Minor versions and the absence
    /// of the area size are accepted.
    ///
    /// # Errors
    ///
    /// In this order: [`FormatError::Short`], [`FormatError::Magic`], [`FormatError::Version`],
    /// [`FormatError::Checksum`], [`FormatError::SectorSize`], [`FormatError::AlignSize`];
    /// [`FormatError::OwnerId`] if it belongs to another host, [`FormatError::OwnerMissing`] if it is in use by
    /// none.
    pub fn decode(sector: &[u8], host: HostId) -> Result<Self, FormatError> {
        let structure = Structure::DeltaLeader(Some(host));
        let raw = RawLeader::read(structure, DELTA, sector)?;
        raw.expect_checksum(structure)?;
        let geometry = raw.geometry(structure)?;
        let (owner, timestamp_secs) = (raw.owner_id.get(), raw.timestamp.get());
        if owner == 0 && timestamp_secs != 0 {
            return Err(FormatError::OwnerMissing {
                structure,
                timestamp_secs,
            });
        }
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

    /// The name of the host that used the host id last; empty if none ever did. A host of sanlock's may have
    /// left the end of an older name behind the NUL.
    #[must_use]
    pub const fn host_name(&self) -> NameBytes {
        self.raw.resource_name
    }

    /// The host id whose sector this is, or 0 if it was never used.
    #[must_use]
    pub const fn owner_id(&self) -> u64 {
        self.raw.owner_id.get()
    }

    /// How often the host id was joined.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        Generation::new(self.raw.owner_generation.get())
    }

    /// The owner's clock at its last renewal, in seconds; 0 if the host id is not in use. Says nothing to other
    /// hosts but whether it changed.
    #[must_use]
    pub const fn timestamp_secs(&self) -> u64 {
        self.raw.timestamp.get()
    }

    /// Whether nobody uses the host id: never used, or released.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.timestamp_secs() == 0
    }

    /// The io timeout of the owner in seconds, as it is on the disk; not covered by the checksum. While nobody
    /// ever used the host id, that of whoever initialised the lockspace.
    #[must_use]
    pub const fn io_timeout_secs(&self) -> u16 {
        self.raw.io_timeout.get()
    }

    /// The sizes of the lockspace.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What `host` writes to take its host id: the next generation, under this name. `None` if there is no next
    /// generation.
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
        Some(self.changed(|raw| {
            raw.owner_id = Le64::new(u64::from(host));
            raw.owner_generation = Le64::new(generation.get());
            raw.resource_name = name.as_name();
            raw.timestamp = Le64::new(clock_secs.max(1));
            raw.io_timeout = Le16::new(io_timeout_secs);
        }))
    }

    /// What the owner writes to show that it lives. The fields of events, which we never send, are zeroed.
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

    /// Copies the record to the start of `sector`, which the caller has zeroed. The rest is left alone.
    ///
    /// # Errors
    ///
    /// [`FormatError::Short`] if it does not fit; nothing is written then.
    pub fn write_to(&self, sector: &mut [u8]) -> Result<(), FormatError> {
        record::write(self.structure(), sector, 0, &self.raw)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::le::Le32;
    use crate::format::leader::tests::sector_with;

    fn host(id: u64) -> HostId {
        HostId::new(id).unwrap()
    }

    fn space() -> LockspaceName {
        LockspaceName::new("LS").unwrap()
    }

    fn free() -> DeltaLeader {
        DeltaLeader::free(Geometry::S512_A1M, &space(), 10)
    }

    fn held() -> DeltaLeader {
        free()
            .acquired(host(3), &HostName::new("h3").unwrap(), 700, 5)
            .unwrap()
    }

    /// What decoding says of a held sector of host 3 after a change that the checksum covers.
    fn decode_with(change: impl FnOnce(&mut RawLeader)) -> Result<DeltaLeader, FormatError> {
        DeltaLeader::decode(&sector_with(|s| held().write_to(s), change), host(3))
    }

    fn structure() -> Structure {
        Structure::DeltaLeader(HostId::new(3).ok())
    }

    #[test]
    fn the_life_of_a_host_id() {
        let free = free();
        assert!(free.is_free() && free.host_name().is_empty());
        assert_eq!(
            (free.owner_id(), free.generation()),
            (0, Generation::new(0))
        );
        let held = held();
        assert_eq!(
            (held.owner_id(), held.generation()),
            (3, Generation::new(1))
        );
        assert_eq!((held.timestamp_secs(), held.io_timeout_secs()), (700, 5));
        let renewed = held.renewed(710, 5);
        assert_eq!(
            (renewed.timestamp_secs(), renewed.generation()),
            (710, Generation::new(1))
        );
        assert_ne!(renewed, held);
        let released = renewed.released();
        assert!(released.is_free());
        assert_eq!(
            (released.owner_id(), released.host_name()),
            (3, held.host_name())
        );
        let again = released
            .acquired(host(3), &HostName::new("x").unwrap(), 0, 10)
            .unwrap();
        assert_eq!(
            (again.generation(), again.timestamp_secs()),
            (Generation::new(2), 1)
        );
        assert_eq!(again.host_name().as_bytes()[1..], [0; 47]);
        for leader in [free, held, renewed, released, again] {
            let mut sector = [0; 512];
            leader.write_to(&mut sector).unwrap();
            assert_eq!(DeltaLeader::decode(&sector, host(3)), Ok(leader));
        }
    }

    #[test]
    fn bytes_without_a_meaning_are_carried_over() {
        let odd = decode_with(|raw| {
            raw.unused1 = Le64::new(11);
            raw.unused2 = Le16::new(12);
            raw.flags = Le32::new(0x8000_0010);
            raw.lver = Le64::new(13);
            raw.write_id = Le64::new(14);
        })
        .unwrap();
        let name = HostName::new("n").unwrap();
        let next = odd.released().acquired(host(3), &name, 9, 10).unwrap();
        assert_eq!((next.raw.unused1.get(), next.raw.unused2.get()), (11, 12));
        assert_eq!(
            (next.raw.flags.get(), next.raw.lver.get()),
            (0x8000_0010, 13)
        );
        assert_eq!(
            (
                next.raw.write_id.get(),
                next.renewed(10, 10).raw.write_id.get()
            ),
            (14, 0)
        );
    }

    #[test]
    fn the_last_generation_has_no_next() {
        let last = decode_with(|raw| raw.owner_generation = Le64::new(u64::MAX)).unwrap();
        assert_eq!(
            last.acquired(host(3), &HostName::new("n").unwrap(), 1, 10),
            None
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let structure = structure();
        let short = FormatError::Short {
            structure,
            needed: 200,
            found: 199,
        };
        assert_eq!(DeltaLeader::decode(&[0; 199], host(3)), Err(short));
        assert_eq!(held().write_to(&mut [0; 199]), Err(short));
        assert_eq!(
            DeltaLeader::decode(&[0; 512], host(3)),
            Err(FormatError::Magic {
                structure,
                expected: DELTA.magic,
                found: 0
            })
        );
        assert_eq!(
            decode_with(|raw| raw.version = Le32::new(0x0004_0004)),
            Err(FormatError::Version {
                structure,
                expected: 3,
                found: 4
            })
        );
        assert_eq!(
            decode_with(|raw| raw.sector_size = Le32::new(513)),
            Err(FormatError::SectorSize {
                structure,
                found: 513
            })
        );
        assert_eq!(
            decode_with(|raw| raw.flags = Le32::new(0x80)),
            Err(FormatError::AlignSize {
                structure,
                sector_size: 512,
                align_size: 8 << 20
            })
        );
        assert_eq!(
            decode_with(|raw| raw.owner_id = Le64::new(4)),
            Err(FormatError::OwnerId {
                structure,
                expected: host(3),
                found: 4
            })
        );
        assert_eq!(
            decode_with(|raw| raw.owner_id = Le64::new(0)),
            Err(FormatError::OwnerMissing {
                structure,
                timestamp_secs: 700
            })
        );
        let mut sector = sector_with(|s| held().write_to(s), |_| ());
        sector[167] ^= 1;
        assert!(matches!(
            DeltaLeader::decode(&sector, host(3)),
            Err(FormatError::Checksum { structure: s, stored, computed })
                if s == structure && stored != computed
        ));
    }

    #[test]
    fn older_minor_versions_without_an_area_size_are_accepted() {
        let old = decode_with(|raw| {
            raw.version = Le32::new(0x0003_0003);
            raw.flags = Le32::new(0);
        });
        assert_eq!(old.unwrap().geometry(), Geometry::S512_A1M);
    }

    #[test]
    fn another_lockspace_or_geometry_is_refused() {
        let other = LockspaceName::new("LS2").unwrap();
        assert_eq!(held().expect_space(&space()), Ok(held()));
        assert_eq!(
            held().expect_space(&other),
            Err(FormatError::LockspaceName {
                structure: structure(),
                expected: other.as_name(),
                found: space().as_name()
            })
        );
        assert_eq!(held().expect_geometry(Geometry::S512_A1M), Ok(held()));
        assert_eq!(
            held().expect_geometry(Geometry::S4K_A1M),
            Err(FormatError::Geometry {
                structure: structure(),
                expected: Geometry::S4K_A1M,
                found: Geometry::S512_A1M
            })
        );
    }
}
