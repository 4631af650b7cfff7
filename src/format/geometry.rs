//! Sector size, area size, number of hosts, and every offset.

use std::fmt;

use super::error::{FormatError, Structure};
use super::ids::HostId;

/// The sector of the value block, whatever the number of hosts is.
const VALUE_BLOCK_SECTOR: u64 = 2002;

/// Sectors of a lease before the dblocks: leader and request.
const SECTORS_BEFORE_DBLOCKS: u16 = 2;

/// One of the five sizes that a lockspace or a lease can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    sector_size: u16,
    area_mib: u8,
    max_hosts: u16,
}

impl Geometry {
    /// 512-byte sectors, 1 MiB: 2000 hosts.
    pub const S512_A1M: Self = Self::of_sizes(512, 1, HostId::MAX);
    /// 4096-byte sectors, 1 MiB: 250 hosts.
    pub const S4K_A1M: Self = Self::of_sizes(4096, 1, 250);
    /// 4096-byte sectors, 2 MiB: 500 hosts.
    pub const S4K_A2M: Self = Self::of_sizes(4096, 2, 500);
    /// 4096-byte sectors, 4 MiB: 1000 hosts.
    pub const S4K_A4M: Self = Self::of_sizes(4096, 4, 1000);
    /// 4096-byte sectors, 8 MiB: 2000 hosts.
    pub const S4K_A8M: Self = Self::of_sizes(4096, 8, HostId::MAX);
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::S512_A1M,
        Self::S4K_A1M,
        Self::S4K_A2M,
        Self::S4K_A4M,
        Self::S4K_A8M,
    ];

    const fn of_sizes(sector_size: u16, area_mib: u8, max_hosts: u16) -> Self {
        Self {
            sector_size,
            area_mib,
            max_hosts,
        }
    }

    /// The geometry of these sizes, in bytes.
    ///
    /// # Errors
    ///
    /// [`FormatError::SectorSize`] for a sector size other than 512 and 4096,
    /// [`FormatError::AlignSize`] for an area size that does not go with it.
    pub fn new(sector_size: u32, align_size: u64) -> Result<Self, FormatError> {
        Self::of(Structure::Area, sector_size, align_size)
    }

    /// The default geometry: 1 MiB for 512-byte sectors, 8 MiB for 4096-byte sectors. Both have room
    /// for 2000 hosts.
    ///
    /// # Errors
    ///
    /// [`FormatError::SectorSize`] for any other sector size.
    pub fn for_sector_size(sector_size: u32) -> Result<Self, FormatError> {
        Self::default_of(Structure::Area, sector_size)
    }

    pub(super) fn of(
        structure: Structure,
        sector_size: u32,
        align_size: u64,
    ) -> Result<Self, FormatError> {
        Self::default_of(structure, sector_size)?;
        Self::ALL
            .into_iter()
            .find(|g| u32::from(g.sector_bytes()) == sector_size && g.area() == align_size)
            .ok_or(FormatError::AlignSize {
                structure,
                sector_size,
                align_size,
            })
    }

    pub(super) const fn default_of(
        structure: Structure,
        sector_size: u32,
    ) -> Result<Self, FormatError> {
        match sector_size {
            512 => Ok(Self::S512_A1M),
            4096 => Ok(Self::S4K_A8M),
            found => Err(FormatError::SectorSize { structure, found }),
        }
    }

    pub(super) const fn sector_bytes(self) -> u16 {
        self.sector_size
    }

    /// The area in MiB.
    pub(super) const fn area_mib(self) -> u8 {
        self.area_mib
    }

    fn area(self) -> u64 {
        u64::from(self.area_mib()) << 20
    }

    /// Bytes of a sector.
    #[must_use]
    pub fn sector_size(self) -> usize {
        usize::from(self.sector_bytes())
    }

    /// Bytes of a lockspace or a lease.
    #[must_use]
    pub fn area_size(self) -> usize {
        usize::from(self.area_mib()) << 20
    }

    /// The largest host id.
    #[must_use]
    pub const fn max_hosts(self) -> u16 {
        self.max_hosts
    }

    /// Fails unless this host has a sector in such an area. **Call this before writing to the offset of
    /// a host's sector**: the offset for any other host lies behind the area, in somebody else's bytes.
    ///
    /// # Errors
    ///
    /// [`FormatError::NoSector`] for a host id above [`Geometry::max_hosts`].
    pub const fn check_host(self, host: HostId) -> Result<(), FormatError> {
        let max_hosts = self.max_hosts();
        if host.get() > max_hosts {
            return Err(FormatError::NoSector {
                structure: Structure::Area,
                host,
                max_hosts,
            });
        }
        Ok(())
    }

    /// Where the delta lease of this host is, in bytes from the start of the lockspace.
    /// See [`Geometry::check_host`].
    #[must_use]
    pub fn delta_offset(self, host: HostId) -> u64 {
        self.sector_offset(u64::from(host).saturating_sub(1))
    }

    /// Where the id of a lockspace is, in bytes from its start: in the last sector, which is behind
    /// those of all hosts.
    #[must_use]
    pub fn lockspace_id_offset(self) -> u64 {
        self.area().saturating_sub(u64::from(self.sector_bytes()))
    }

    /// Where the dblock of this host is, in bytes from the start of the lease. See
    /// [`Geometry::check_host`].
    #[must_use]
    pub fn dblock_offset(self, host: HostId) -> u64 {
        self.sector_offset(u64::from(host).saturating_add(1))
    }

    /// Where the request is, in bytes from the start of the lease. (The leader is at 0.)
    #[must_use]
    pub fn request_offset(self) -> u64 {
        self.sector_offset(1)
    }

    /// Where the value block is, in bytes from the start of the lease; one sector long.
    ///
    /// `None` where it would lie outside of the lease: areas of 4096-byte sectors below 8 MiB.
    /// sanlock uses it there all the same, and overwrites what lies behind.
    #[must_use]
    pub fn value_block_offset(self) -> Option<u64> {
        let offset = self.sector_offset(VALUE_BLOCK_SECTOR);
        (self.area() > offset).then_some(offset)
    }

    /// Bytes from the start of a lease to the end of its last dblock, if `num_hosts` hosts take
    /// part: leader, request and that many dblocks, but never more than there is room for.
    #[must_use]
    pub fn lease_len(self, num_hosts: u16) -> usize {
        let sectors = num_hosts
            .min(self.max_hosts())
            .saturating_add(SECTORS_BEFORE_DBLOCKS);
        usize::from(sectors).saturating_mul(self.sector_size())
    }

    /// Bytes from the start of a lockspace to the end of the sector of host `hosts`, but never more
    /// than there are hosts.
    #[must_use]
    pub fn lockspace_len(self, hosts: u16) -> usize {
        usize::from(hosts.min(self.max_hosts())).saturating_mul(self.sector_size())
    }

    /// The sector at byte `offset` of `area`, which may be the beginning of an area only.
    ///
    /// # Errors
    ///
    /// [`FormatError::Short`] if the bytes end before the sector does.
    pub fn sector(self, area: &[u8], offset: u64) -> Result<&[u8], FormatError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let needed = start.saturating_add(self.sector_size());
        area.get(start..needed).ok_or(FormatError::Short {
            structure: Structure::Area,
            needed,
            found: area.len(),
        })
    }

    fn sector_offset(self, index: u64) -> u64 {
        index.saturating_mul(u64::from(self.sector_bytes()))
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sector, area, hosts) = (self.sector_bytes(), self.area_mib(), self.max_hosts());
        write!(f, "{sector}-byte sectors, {area} MiB area, {hosts} hosts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: u64) -> HostId {
        HostId::new(id).unwrap()
    }

    #[test]
    fn the_table() {
        let rows = Geometry::ALL.map(|g| (g.sector_size(), g.area_size() >> 20, g.max_hosts()));
        assert_eq!(
            rows,
            [
                (512, 1, 2000),
                (4096, 1, 250),
                (4096, 2, 500),
                (4096, 4, 1000),
                (4096, 8, 2000)
            ]
        );
        for g in Geometry::ALL {
            assert_eq!(Geometry::new(u32::from(g.sector_bytes()), g.area()), Ok(g));
            assert!(g.lease_len(u16::MAX) <= g.area_size());
            assert_eq!(g.lease_len(u16::MAX), g.lease_len(g.max_hosts()));
            assert_eq!(g.lease_len(3), 5 * g.sector_size());
            assert_eq!(g.request_offset(), u64::from(g.sector_bytes()));
        }
        assert_eq!(Geometry::for_sector_size(512), Ok(Geometry::S512_A1M));
        assert_eq!(Geometry::for_sector_size(4096), Ok(Geometry::S4K_A8M));
        assert_eq!(
            Geometry::S4K_A2M.to_string(),
            "4096-byte sectors, 2 MiB area, 500 hosts"
        );
    }

    #[test]
    fn offsets_of_the_last_host() {
        let g = Geometry::S512_A1M;
        assert_eq!(g.delta_offset(HostId::FIRST), 0);
        assert_eq!(g.delta_offset(host(2000)), 1_023_488);
        assert_eq!(g.dblock_offset(HostId::FIRST), 1024);
        assert_eq!(g.dblock_offset(host(2000)), 1_024_512);
        assert_eq!(g.value_block_offset(), Some(1_025_024));
        assert_eq!(Geometry::S4K_A8M.dblock_offset(host(2000)), 8_196_096);
        assert_eq!(Geometry::S4K_A8M.value_block_offset(), Some(8_200_192));
    }

    #[test]
    fn small_areas_of_large_sectors_have_no_value_block() {
        for g in [Geometry::S4K_A1M, Geometry::S4K_A2M, Geometry::S4K_A4M] {
            assert_eq!(g.value_block_offset(), None);
        }
    }

    #[test]
    fn other_sizes_are_refused() {
        let structure = Structure::Area;
        let sector = |found| Err(FormatError::SectorSize { structure, found });
        let align = |sector_size, align_size| {
            Err(FormatError::AlignSize {
                structure,
                sector_size,
                align_size,
            })
        };
        assert_eq!(Geometry::new(1024, 1 << 20), sector(1024));
        assert_eq!(Geometry::for_sector_size(0), sector(0));
        assert_eq!(Geometry::new(512, 2 << 20), align(512, 2 << 20));
        assert_eq!(Geometry::new(4096, 0), align(4096, 0));
    }

    #[test]
    fn a_host_too_many_has_no_sector() {
        let g = Geometry::S4K_A1M;
        assert_eq!(g.check_host(host(250)), Ok(()));
        assert_eq!(
            g.check_host(host(251)),
            Err(FormatError::NoSector {
                structure: Structure::Area,
                host: host(251),
                max_hosts: 250
            })
        );
    }

    #[test]
    fn a_sector_beyond_the_bytes_is_short() {
        let g = Geometry::S512_A1M;
        let area = [0; 1536];
        assert_eq!(g.sector(&area, 1024).unwrap().len(), 512);
        let short = |needed| {
            Err(FormatError::Short {
                structure: Structure::Area,
                needed,
                found: 1536,
            })
        };
        assert_eq!(g.sector(&area, 1025), short(1537));
        assert_eq!(g.sector(&area, u64::MAX), short(usize::MAX));
    }
}
