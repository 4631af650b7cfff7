//! The 200 bytes that delta and paxos leaders have in common.

use super::checksum::checksum;
use super::error::FormatErrorKind as Kind;
use super::geometry::Geometry;
use super::ids::{Generation, LeaseVersion};
use super::layout::{Record, ensure, expect_checksum, expect_magic, expect_major, part, record};
use super::name::{LockspaceName, NameBytes};

/// Where the checksum is. It covers all bytes before it.
const CHECKSUM_AT: usize = 168;

/// Area sizes by flag, in MiB. The first that is set counts.
const ALIGN_FLAGS: [(u32, u8); 4] = [(0x10, 1), (0x20, 2), (0x40, 4), (0x80, 8)];

record! {
    /// A leader as it is on the disk. Fields that no host changes are carried over from what was read.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct RawLeader: 0..200 {
        0 => pub(super) magic: u32,
        4 => pub(super) version: u32,
        8 => pub(super) flags: u32,
        12 => pub(super) sector_size: u32,
        16 => pub(super) num_hosts: u64,
        24 => pub(super) max_hosts: u64,
        32 => pub(super) owner_id: u64,
        40 => pub(super) owner_generation: Generation,
        48 => pub(super) lver: LeaseVersion,
        56 => pub(super) space_name: NameBytes,
        104 => pub(super) resource_name: NameBytes,
        152 => pub(super) timestamp: u64,
        160 => pub(super) unused1: u64,
        168 => pub(super) checksum: u32,
        172 => pub(super) unused2: u16,
        174 => pub(super) io_timeout: u16,
        176 => pub(super) write_id: u64,
        184 => pub(super) write_generation: Generation,
        192 => pub(super) write_timestamp: u64,
    }
}

/// Magic number and version of one kind of leader.
#[derive(Clone, Copy)]
pub(super) struct LeaderKind {
    pub(super) magic: u32,
    pub(super) version: u32,
}

impl RawLeader {
    /// An otherwise empty leader of an area in this lockspace. Not sealed yet.
    pub(super) fn new(kind: LeaderKind, geometry: Geometry, space: &LockspaceName) -> Self {
        let mut align = ALIGN_FLAGS.iter();
        let align = align.find(|&&(_, mib)| mib == geometry.area_mib);
        Self {
            magic: kind.magic,
            version: kind.version,
            flags: align.map_or(0, |&(flag, _)| flag),
            sector_size: u32::from(geometry.sector_bytes),
            space_name: space.as_name(),
            ..Self::default()
        }
    }

    /// The leader at the start of `sector`, if it is of this kind and of a version that is understood.
    pub(super) fn of_kind(kind: LeaderKind, sector: &[u8]) -> Result<Self, Kind> {
        let raw = Self::read(sector)?;
        expect_magic(kind.magic, raw.magic)?;
        expect_major(kind.version, raw.version)?;
        Ok(raw)
    }

    pub(super) fn expect_checksum(&self) -> Result<(), Kind> {
        expect_checksum(self.checksum, self.computed_checksum())
    }

    /// Sector size and area size. Leaders of before the flags have none: their area is the default
    /// one.
    pub(super) fn geometry(&self) -> Result<Geometry, Kind> {
        let mut align = ALIGN_FLAGS.iter();
        match align.find(|&&(flag, _)| self.flags & flag != 0) {
            Some(&(_, mib)) => Geometry::of(self.sector_size, u64::from(mib) << 20),
            None => Geometry::default_of(self.sector_size),
        }
    }

    pub(super) fn expect_space(&self, space: &LockspaceName) -> Result<(), Kind> {
        let (expected, found) = (space.as_name(), self.space_name);
        ensure(
            found.same_text(&expected),
            Kind::LockspaceName { expected, found },
        )
    }

    /// Fails if the record has a time, so is held, but no owner.
    pub(super) fn expect_owner(&self) -> Result<(), Kind> {
        let timestamp_secs = self.timestamp;
        let is_held_by_none = self.owner_id == 0 && timestamp_secs != 0;
        ensure(!is_held_by_none, Kind::OwnerMissing { timestamp_secs })
    }

    /// After a change, with the checksum that belongs to the other bytes.
    pub(super) fn changed(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self.checksum = self.computed_checksum();
        self
    }

    fn computed_checksum(&self) -> u32 {
        let mut sector = [0; 512];
        self.write(&mut sector);
        checksum(part(&sector, 0, CHECKSUM_AT).unwrap_or_default())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::format::SectorHead;

    /// The sector of `raw` after a change, with the checksum that belongs to it.
    pub(in crate::format) fn sector_with(
        write: impl FnOnce(&mut SectorHead),
        change: impl FnOnce(&mut RawLeader),
    ) -> SectorHead {
        let mut sector = [0; 512];
        write(&mut sector);
        let raw = RawLeader::read(&sector).unwrap();
        raw.changed(change).write(&mut sector);
        sector
    }

    #[test]
    fn the_first_of_several_area_sizes_counts_and_none_is_the_default() {
        const KIND: LeaderKind = LeaderKind {
            magic: 1,
            version: 2,
        };
        let geometry = |sector_size, flags| {
            let raw = RawLeader {
                flags,
                sector_size,
                ..RawLeader::default()
            };
            raw.geometry()
        };
        assert_eq!(geometry(512, 0x1), Ok(Geometry::S512_A1M));
        assert_eq!(geometry(4096, 0x1), Ok(Geometry::S4K_A8M));
        assert_eq!(geometry(4096, 0xf0), Ok(Geometry::S4K_A1M));
        assert_eq!(geometry(4096, 0xe1), Ok(Geometry::S4K_A2M));
        assert_eq!(geometry(4096, 0xc0), Ok(Geometry::S4K_A4M));
        assert_eq!(
            geometry(512, 0x20),
            Err(Kind::AlignSize {
                sector_size: 512,
                align_size: 2 << 20
            })
        );
        let space = LockspaceName::new("LS").unwrap();
        for g in Geometry::ALL {
            assert_eq!(RawLeader::new(KIND, g, &space).geometry(), Ok(g));
        }
    }
}
