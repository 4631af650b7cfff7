//! Where a lease lies, and reading and writing its sectors. The only file that knows how many disks
//! it lies on.

use std::fmt;
use std::time::Duration;

use super::rules::decode_block;
use crate::delta_lease::rules::decode_leader;
use crate::format::{
    Dblock, DblockSector, FormatError, Generation, Geometry, HolderNote, HostId, LeaseVersion,
    LockspaceName, PaxosLeader, ResourceName,
};
use crate::probe::mutation;
use crate::world::{OsError, ReadError, SectorBuf, World, WriteError};

/// How a lease is laid out: its geometry, and how many hosts take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseShape {
    /// Sector size, area size, number of hosts at most.
    pub geometry: Geometry,
    /// How many blocks are in use: host ids above cannot take the lease.
    pub num_hosts: u16,
}

impl LeaseShape {
    /// The shape to begin with when nothing is known of a lease but its lockspace's geometry.
    #[must_use]
    pub const fn of_lockspace(geometry: Geometry) -> Self {
        Self {
            geometry,
            num_hosts: geometry.max_hosts(),
        }
    }

    /// Whether a read of this shape shows all of a lease of the other.
    pub(super) fn covers(self, other: Self) -> bool {
        self.geometry == other.geometry && other.num_hosts <= self.num_hosts
    }
}

/// Where a lease lies and what it is called.
#[derive(Clone, Debug)]
pub struct LeaseArea<D> {
    /// The disk or file that holds it.
    pub disk: D,
    /// Byte offset of its first sector on that disk.
    pub offset: u64,
    /// The lockspace whose hosts may take it.
    pub lockspace: LockspaceName,
    /// What it protects.
    pub resource: ResourceName,
    /// The shape to try first. The lease's own record has the last word.
    pub expected_shape: LeaseShape,
}

/// Why a sector of a lease could not be read, believed or written. Offsets are bytes from the start
/// of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseIoError {
    /// The storage did not give it.
    #[error("the lease cannot be read at byte {offset}: {error}")]
    Read {
        /// Where the read began.
        offset: u64,
        /// Why.
        error: ReadError,
    },
    /// The storage gave something that is not this lease.
    #[error("the lease at byte {offset} is not valid: {error}")]
    Format {
        /// Where the sector begins.
        offset: u64,
        /// What is wrong with it.
        error: FormatError,
    },
    /// The storage did not report the write as done.
    #[error("the lease cannot be written at byte {offset}: {error}")]
    Write {
        /// Where the sector begins.
        offset: u64,
        /// Why.
        error: WriteError,
    },
}

impl LeaseIoError {
    /// Whether something else than this lease lies there, or nothing: the file was cut off, cleared
    /// or overwritten, or is gone on its server. Damage within a record is none of these: no host
    /// can take a lease that is damaged.
    pub(super) const fn shows_other_content(self) -> bool {
        match self {
            Self::Read { error, .. } => match error {
                ReadError::EndOfFile { .. } => true,
                ReadError::Failed(OsError(errno)) => errno == libc::ESTALE,
                ReadError::TimedOut(_) => false,
            },
            Self::Format { error, .. } => matches!(
                error,
                FormatError::Magic { .. }
                    | FormatError::Cleared { .. }
                    | FormatError::LockspaceName { .. }
                    | FormatError::ResourceName { .. }
            ),
            Self::Write { .. } => false,
        }
    }
}

/// Whether two blocks have the same part in the same ballot. The flags are left out: no checksum
/// covers them.
pub(super) fn same_values(a: Dblock, b: Dblock) -> bool {
    (a.version, a.mbal, a.bal, a.input) == (b.version, b.mbal, b.bal, b.input)
}

/// One read of a lease: the leader and all blocks in use, checked.
#[derive(Clone, Debug)]
pub(super) struct LeaseImage {
    pub(super) shape: LeaseShape,
    pub(super) leader: PaxosLeader,
    pub(super) blocks: Vec<BlockSeen>,
}

/// One read of all blocks, checked; and of the leader, which is not looked at where it is damaged.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) leader: Option<PaxosLeader>,
    pub(super) blocks: Vec<BlockSeen>,
}

/// What one read showed of one host's sector, where it showed anything.
#[derive(Clone, Debug)]
pub(super) struct BlockSeen {
    pub(super) host: HostId,
    pub(super) block: Option<Dblock>,
    pub(super) shared: Option<Generation>,
    pub(super) note: Option<HolderNote>,
}

impl LeaseImage {
    pub(super) fn block_of(&self, host: HostId) -> Option<Dblock> {
        self.blocks
            .iter()
            .find(|seen| seen.host == host)
            .and_then(|seen| seen.block)
    }

    pub(super) fn note_of(&self, host: HostId) -> Option<&HolderNote> {
        let seen = self.blocks.iter().find(|seen| seen.host == host)?;
        seen.note.as_ref()
    }

    /// The largest ballot number that any host ever used here.
    pub(super) fn max_mbal(&self) -> u64 {
        self.blocks
            .iter()
            .filter_map(|seen| seen.block)
            .map(|block| block.mbal)
            .max()
            .unwrap_or(0)
    }

    /// The newest version that any host ever balloted for.
    pub(super) fn max_version(&self) -> LeaseVersion {
        let versions = self
            .blocks
            .iter()
            .filter_map(|seen| seen.block)
            .map(|block| block.version);
        versions.max().unwrap_or(LeaseVersion::new(0))
    }

    /// Who holds the lease in shared mode, by what stands there.
    pub(super) fn sharers(&self) -> impl Iterator<Item = (HostId, Generation)> {
        self.blocks
            .iter()
            .filter_map(|seen| Some((seen.host, seen.shared?)))
    }
}

/// In which generation `host` holds the lease shared, if it does.
///
/// The mark has no checksum. The block beside it has, and was written by the same host in the same
/// life: where that proposes a later generation, the mark's own is damaged, and would make a live
/// sharer look dead.
pub(super) fn sharer(sector: &DblockSector, host: HostId) -> Option<Generation> {
    let marked = sector.shared?;
    let block = sector.block.ok().flatten();
    let proposed = block
        .and_then(|block| block.input)
        .filter(|input| input.owner == u64::from(host))
        .map(|input| Generation::new(input.generation));
    let proposed = proposed.filter(|_| !mutation!(SharerMarkTrusted));
    Some(proposed.map_or(marked, |proposed| proposed.max(marked)))
}

impl<D: Clone + fmt::Debug> LeaseArea<D> {
    fn at(&self, offset_in_area: u64) -> u64 {
        self.offset.saturating_add(offset_in_area)
    }

    /// The error that says what is wrong at `offset_in_area`.
    pub(super) fn format_error(&self, offset_in_area: u64, error: FormatError) -> LeaseIoError {
        LeaseIoError::Format {
            offset: self.at(offset_in_area),
            error,
        }
    }

    async fn read_at<W: World<Disk = D>>(
        &self,
        world: &W,
        offset: u64,
        len: usize,
        timeout: Duration,
    ) -> Result<SectorBuf, LeaseIoError> {
        let read = world
            .read(&self.disk, offset, SectorBuf::zeroed(len), timeout)
            .await;
        read.map_err(|error| LeaseIoError::Read { offset, error })
    }

    fn decode_leader(&self, sector: &[u8]) -> Result<PaxosLeader, LeaseIoError> {
        decode_leader(sector, PaxosLeader::decode)
            .and_then(|leader| leader.expect_names(&self.lockspace, &self.resource))
            .map_err(|error| LeaseIoError::Format {
                offset: self.offset,
                error,
            })
    }

    /// Whether a write of this host to any sector of the lease has not ended yet, from whatever
    /// acquire or release.
    ///
    /// What is read meanwhile may still be overwritten by it, so nothing may be decided on such a
    /// read.
    pub(super) fn has_write_in_flight<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
    ) -> bool {
        world.is_write_in_flight(
            &self.disk,
            self.offset,
            shape.geometry.lease_len(shape.num_hosts),
        )
    }

    /// The same for the leader's sector alone.
    pub(super) fn has_leader_write_in_flight<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
    ) -> bool {
        world.is_write_in_flight(&self.disk, self.offset, shape.geometry.sector_size())
    }

    /// The same for the sector of `host` alone.
    pub(super) fn has_block_write_in_flight<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
        host: HostId,
    ) -> bool {
        let offset = self.at(shape.geometry.dblock_offset(host));
        world.is_write_in_flight(&self.disk, offset, shape.geometry.sector_size())
    }

    /// Reads the leader and the sector of `host`, with all that lies between, in one read.
    pub(super) async fn read_leader_and_block<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
        host: HostId,
        timeout: Duration,
    ) -> Result<(PaxosLeader, DblockSector), LeaseIoError> {
        let geometry = shape.geometry;
        let len = geometry.lease_len(host.get());
        let area = self.read_at(world, self.offset, len, timeout).await?;
        let leader = self.decode_leader(&area)?;
        let at = geometry.dblock_offset(host);
        let sector = geometry.sector(&area, at);
        let sector = sector.map_err(|error| self.format_error(at, error))?;
        Ok((leader, decode_block(sector, host)))
    }

    /// Reads the leader and all blocks in one read. Where the record tells of another shape than
    /// was expected, that shape is adopted and the lease read again.
    ///
    /// A sector that is wrong in any way is an error: nothing is decided on the rest.
    pub(super) async fn read_image<W: World<Disk = D>>(
        &self,
        world: &W,
        expected: LeaseShape,
        host: HostId,
        timeout: Duration,
    ) -> Result<LeaseImage, LeaseIoError> {
        let mut shape = expected;
        // Twice at most with other shapes: a record that changes its shape at each read is not
        // believed.
        for _ in 0..3 {
            let len = shape.geometry.lease_len(shape.num_hosts);
            let area = self.read_at(world, self.offset, len, timeout).await?;
            let leader = self.decode_leader(&area)?;
            let found = LeaseShape {
                geometry: leader.geometry(),
                num_hosts: leader.num_hosts(),
            };
            if shape.covers(found) {
                let leader = leader
                    .expect_host(host)
                    .map_err(|error| LeaseIoError::Format {
                        offset: self.offset,
                        error,
                    })?;
                let blocks = self.decode_blocks(&area, found)?;
                return Ok(LeaseImage {
                    shape: found,
                    leader,
                    blocks,
                });
            }
            shape = found;
        }
        Err(LeaseIoError::Format {
            offset: self.offset,
            error: FormatError::Unstable {
                structure: crate::format::Structure::PaxosLeader,
            },
        })
    }

    fn decode_blocks(
        &self,
        area: &[u8],
        shape: LeaseShape,
    ) -> Result<Vec<BlockSeen>, LeaseIoError> {
        let mut blocks = Vec::new();
        for id in 1..=u64::from(shape.num_hosts) {
            let Ok(host) = HostId::new(id) else { break };
            let in_area = shape.geometry.dblock_offset(host);
            let format = |error| LeaseIoError::Format {
                offset: self.at(in_area),
                error,
            };
            let sector = shape.geometry.sector(area, in_area).map_err(format)?;
            let found = decode_block(sector, host);
            let block = match found.block {
                Err(_) if mutation!(DamagedBlockSkipped) => None,
                block => block.map_err(format)?,
            };
            if block.is_some() || found.shared.is_some() {
                blocks.push(BlockSeen {
                    host,
                    block,
                    shared: sharer(&found, host),
                    note: found.note.present(),
                });
            }
        }
        Ok(blocks)
    }

    /// Reads all blocks in use, with the leader, which comes along in the same read.
    pub(super) async fn read_blocks<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
        timeout: Duration,
    ) -> Result<Look, LeaseIoError> {
        let area = self
            .read_at(
                world,
                self.offset,
                shape.geometry.lease_len(shape.num_hosts),
                timeout,
            )
            .await?;
        Ok(Look {
            leader: self.decode_leader(&area).ok(),
            blocks: self.decode_blocks(&area, shape)?,
        })
    }

    /// Reads the sector of one host.
    pub(super) async fn read_block<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
        host: HostId,
        timeout: Duration,
    ) -> Result<DblockSector, LeaseIoError> {
        let offset = self.at(shape.geometry.dblock_offset(host));
        let sector = self
            .read_at(world, offset, shape.geometry.sector_size(), timeout)
            .await?;
        Ok(decode_block(&sector, host))
    }

    /// Reads and checks the leader record.
    pub(super) async fn read_leader<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
        timeout: Duration,
    ) -> Result<PaxosLeader, LeaseIoError> {
        let sector = self
            .read_at(world, self.offset, shape.geometry.sector_size(), timeout)
            .await?;
        self.decode_leader(&sector)
    }

    /// Writes the leader record.
    pub(super) async fn write_leader<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
        leader: &PaxosLeader,
        timeout: Duration,
    ) -> Result<(), LeaseIoError> {
        let mut sector = SectorBuf::zeroed(shape.geometry.sector_size());
        // A sector has room for the record.
        let _ = leader.write_to(&mut sector);
        let written = world.write(&self.disk, self.offset, sector, timeout).await;
        written.map_err(|error| LeaseIoError::Write {
            offset: self.offset,
            error,
        })
    }

    /// Writes the sector of `host`: its block, our note beside it, and no shared lock. `None`
    /// empties the sector.
    pub(super) async fn write_block<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
        host: HostId,
        content: Option<(&Dblock, Option<&HolderNote>)>,
        timeout: Duration,
    ) -> Result<(), LeaseIoError> {
        let offset = self.at(shape.geometry.dblock_offset(host));
        let mut sector = SectorBuf::zeroed(shape.geometry.sector_size());
        if let Some((block, note)) = content {
            // A sector has room for both.
            let _ = block.write_to(&mut sector);
            if let Some(note) = note {
                let _ = note.write_to(&mut sector);
            }
        }
        let written = world.write(&self.disk, offset, sector, timeout).await;
        written.map_err(|error| LeaseIoError::Write { offset, error })
    }
}
