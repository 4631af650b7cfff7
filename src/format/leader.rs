//! The 200 bytes that delta and paxos leaders have in common.

use bytemuck::{Pod, Zeroable};

use super::checksum::checksum;
use super::error::{FormatError, Structure};
use super::geometry::Geometry;
use super::le::{Le16, Le32, Le64};
use super::name::NameBytes;
use super::record;

/// Bytes that the checksum covers: all before it.
const CHECKED: usize = 168;

/// Area sizes by flag, in MiB. The first that is set counts.
const ALIGN_FLAGS: [(u32, u8); 4] = [(0x10, 1), (0x20, 2), (0x40, 4), (0x80, 8)];

/// A leader as it is on the disk. Fields that nobody changes are carried over from what was read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct RawLeader {
    pub(super) magic: Le32,
    pub(super) version: Le32,
    pub(super) flags: Le32,
    pub(super) sector_size: Le32,
    pub(super) num_hosts: Le64,
    pub(super) max_hosts: Le64,
    pub(super) owner_id: Le64,
    pub(super) owner_generation: Le64,
    pub(super) lver: Le64,
    pub(super) space_name: NameBytes,
    pub(super) resource_name: NameBytes,
    pub(super) timestamp: Le64,
    pub(super) unused1: Le64,
    pub(super) checksum: Le32,
    pub(super) unused2: Le16,
    pub(super) io_timeout: Le16,
    pub(super) write_id: Le64,
    pub(super) write_generation: Le64,
    pub(super) write_timestamp: Le64,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<RawLeader>() == 200 && align_of::<RawLeader>() == 1);
    assert!(offset_of!(RawLeader, flags) == 8);
    assert!(offset_of!(RawLeader, sector_size) == 12);
    assert!(offset_of!(RawLeader, num_hosts) == 16);
    assert!(offset_of!(RawLeader, max_hosts) == 24);
    assert!(offset_of!(RawLeader, owner_id) == 32);
    assert!(offset_of!(RawLeader, owner_generation) == 40);
    assert!(offset_of!(RawLeader, lver) == 48);
    assert!(offset_of!(RawLeader, space_name) == 56);
    assert!(offset_of!(RawLeader, resource_name) == 104);
    assert!(offset_of!(RawLeader, timestamp) == 152);
    assert!(offset_of!(RawLeader, unused1) == 160);
    assert!(offset_of!(RawLeader, checksum) == CHECKED);
    assert!(offset_of!(RawLeader, unused2) == 172);
    assert!(offset_of!(RawLeader, io_timeout) == 174);
    assert!(offset_of!(RawLeader, write_id) == 176);
    assert!(offset_of!(RawLeader, write_generation) == 184);
    assert!(offset_of!(RawLeader, write_timestamp) == 192);
};

/// Magic number and version of one kind of leader.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) magic: u32,
    pub(super) version: u32,
}

impl RawLeader {
    /// An otherwise empty leader of an area. Not sealed yet.
    pub(super) fn new(kind: Kind, geometry: Geometry) -> Self {
        let align = ALIGN_FLAGS
            .iter()
            .find(|&&(_, mib)| mib == geometry.area_mib());
        Self {
            magic: Le32::new(kind.magic),
            version: Le32::new(kind.version),
            flags: Le32::new(align.map_or(0, |&(flag, _)| flag)),
            sector_size: Le32::new(u32::from(geometry.sector_bytes())),
            ..Self::zeroed()
        }
    }

    /// The bytes at the start of `sector`, if they are of this kind and of a version that is
    /// understood.
    pub(super) fn read(
        structure: Structure,
        kind: Kind,
        sector: &[u8],
    ) -> Result<Self, FormatError> {
        let raw: Self = record::read(structure, sector, 0)?;
        raw.expect_kind(structure, kind)?;
        Ok(raw)
    }

    pub(super) fn expect_kind(&self, structure: Structure, kind: Kind) -> Result<(), FormatError> {
        record::expect_magic(structure, kind.magic, self.magic.get())?;
        record::expect_major(structure, kind.version, self.version.get())
    }

    pub(super) fn expect_checksum(&self, structure: Structure) -> Result<(), FormatError> {
        record::expect_checksum(structure, self.checksum.get(), self.computed_checksum())
    }

    /// Sector size and area size. Leaders of before the flags have none: their area is the default
    /// one.
    pub(super) fn geometry(&self, structure: Structure) -> Result<Geometry, FormatError> {
        let (flags, sector_size) = (self.flags.get(), self.sector_size.get());
        match ALIGN_FLAGS.iter().find(|&&(flag, _)| flags & flag != 0) {
            Some(&(_, mib)) => Geometry::of(structure, sector_size, u64::from(mib) << 20),
            None => Geometry::default_of(structure, sector_size),
        }
    }

    pub(super) fn expect_space(
        &self,
        structure: Structure,
        expected: NameBytes,
    ) -> Result<(), FormatError> {
        let found = self.space_name;
        if !found.same_text(&expected) {
            return Err(FormatError::LockspaceName {
                structure,
                expected,
                found,
            });
        }
        Ok(())
    }

    /// Fails if the record has a time, so is held, but no owner.
    pub(super) const fn expect_owner(&self, structure: Structure) -> Result<(), FormatError> {
        let timestamp_secs = self.timestamp.get();
        if self.owner_id.get() == 0 && timestamp_secs != 0 {
            return Err(FormatError::OwnerMissing {
                structure,
                timestamp_secs,
            });
        }
        Ok(())
    }

    /// With the checksum that belongs to the other bytes.
    pub(super) fn sealed(mut self) -> Self {
        self.checksum = Le32::new(self.computed_checksum());
        self
    }

    fn computed_checksum(&self) -> u32 {
        checksum(bytemuck::bytes_of(self).get(..CHECKED).unwrap_or_default())
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
        let mut raw: RawLeader = record::read(Structure::Area, &sector, 0).unwrap();
        change(&mut raw);
        record::write::<0, _>(&mut sector, &raw.sealed());
        sector
    }

    #[test]
    fn the_first_of_several_area_sizes_counts_and_none_is_the_default() {
        const KIND: Kind = Kind {
            magic: 1,
            version: 2,
        };
        let geometry = |sector_size, flags| {
            let raw = RawLeader {
                flags: Le32::new(flags),
                sector_size: Le32::new(sector_size),
                ..RawLeader::new(KIND, Geometry::S512_A1M)
            };
            raw.geometry(Structure::Area)
        };
        assert_eq!(geometry(512, 0x1), Ok(Geometry::S512_A1M));
        assert_eq!(geometry(4096, 0x1), Ok(Geometry::S4K_A8M));
        assert_eq!(geometry(4096, 0xf0), Ok(Geometry::S4K_A1M));
        assert_eq!(geometry(4096, 0xe1), Ok(Geometry::S4K_A2M));
        assert_eq!(geometry(4096, 0xc0), Ok(Geometry::S4K_A4M));
        assert_eq!(
            geometry(512, 0x20),
            Err(FormatError::AlignSize {
                structure: Structure::Area,
                sector_size: 512,
                align_size: 2 << 20
            })
        );
        for g in Geometry::ALL {
            assert_eq!(RawLeader::new(KIND, g).geometry(Structure::Area), Ok(g));
        }
    }
}
