//! Where a lease lies, and reading and writing its sectors. The only file that knows how many disks
//! it lies on, and the only one that writes.

use std::fmt;
use std::time::Duration;

use super::error::{AcquireError, LeaseIoError, NotWritten};
use super::image::{BlockSeen, LeaseImage, PhaseRead};
use super::rules;
use super::shape::LeaseShape;
use crate::delta_lease::Membership;
use crate::delta_lease::rules::decode_leader;
use crate::format::{
    Dblock, DblockSector, FormatError, FormatErrorKind, Generation, HolderNote, HostId,
    LockspaceName, PaxosLeader, ResourceName, Structure,
};
use crate::world::{SectorBuf, Timestamp, World};

/// A record that changes its shape at each of so many reads is not believed.
const SHAPES_MAX: u32 = 3;

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

/// I/O of one member host on one lease.
pub(super) struct LeaseIo<'a, W: World> {
    pub(super) world: &'a W,
    pub(super) membership: &'a Membership<W::Disk>,
    pub(super) area: &'a LeaseArea<W::Disk>,
    /// How the lease is laid out, as far as is known.
    pub(super) shape: LeaseShape,
}

impl<D: Clone + fmt::Debug> LeaseArea<D> {
    /// Whether a write of this host to any sector of the lease has not completed yet, from whatever
    /// acquire or release.
    ///
    /// What is read meanwhile may still be overwritten by that write, so nothing may be decided on
    /// such a read.
    pub(super) fn has_write_in_flight<W: World<Disk = D>>(
        &self,
        world: &W,
        shape: LeaseShape,
    ) -> bool {
        world.is_write_in_flight(&self.disk, self.offset, shape.len())
    }
}

impl<'a, W: World> LeaseIo<'a, W> {
    pub(super) const fn new(
        world: &'a W,
        membership: &'a Membership<W::Disk>,
        area: &'a LeaseArea<W::Disk>,
        shape: LeaseShape,
    ) -> Self {
        Self {
            world,
            membership,
            area,
            shape,
        }
    }

    /// This host.
    pub(super) const fn me(&self) -> HostId {
        self.membership.host_id()
    }

    /// This host in this generation.
    pub(super) const fn us(&self) -> (HostId, Generation) {
        (self.membership.host_id(), self.membership.generation())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// How long one read may take.
    pub(super) fn timeout(&self) -> Duration {
        self.membership.timing().io()
    }

    /// INV-INCARNATION: whether `note`, which stands in the own sector, is of a twin.
    pub(super) fn is_twins(&self, note: Option<&HolderNote>) -> bool {
        let (generation, ours) = (self.membership.generation(), self.membership.incarnation());
        note.is_some_and(|note| rules::is_of_twin(note, generation, ours))
    }

    /// Whether this host still is a member; to be asked where there is nothing to write.
    pub(super) fn check_member(&self) -> Result<(), AcquireError> {
        if rules::is_member(self.membership.expiry().is_held(self.now())) {
            return Ok(());
        }
        tracing::debug!(name: "lost_in_acquire", resource = %self.area.resource,
            "the leases of this host were lost in the middle of an acquire");
        Err(AcquireError::LockspaceLost)
    }

    // Writes in flight.

    pub(super) fn is_lease_in_flight(&self) -> bool {
        self.area.has_write_in_flight(self.world, self.shape)
    }

    pub(super) fn is_leader_in_flight(&self) -> bool {
        self.is_sector_in_flight(0)
    }

    pub(super) fn is_own_block_in_flight(&self) -> bool {
        self.is_sector_in_flight(self.shape.geometry.dblock_offset(self.me()))
    }

    fn is_sector_in_flight(&self, at: u64) -> bool {
        let len = self.shape.geometry.sector_size();
        self.world
            .is_write_in_flight(&self.area.disk, self.on_disk(at), len)
    }

    // Reading.

    /// Reads the leader and all blocks in one read. Where the record tells of another shape than
    /// was expected, that shape is adopted and the lease read again.
    ///
    /// A sector that is wrong in any way is an error: nothing is decided on the rest.
    pub(super) async fn read_all(&self) -> Result<LeaseImage, LeaseIoError> {
        let mut shape = self.shape;
        for _ in 0..SHAPES_MAX {
            let bytes = self.read(0, shape.len()).await?;
            let leader = self.decode_leader(&bytes)?;
            let found = LeaseShape {
                geometry: leader.geometry(),
                num_hosts: leader.num_hosts(),
            };
            if shape.covers(found) {
                let leader = leader.expect_host(self.me());
                return Ok(LeaseImage {
                    shape: found,
                    leader: leader.map_err(|error| self.invalid(0, error))?,
                    blocks: self.decode_blocks(&bytes, found)?,
                });
            }
            shape = found;
        }
        let unstable = FormatError::new(Structure::PaxosLeader, FormatErrorKind::Unstable);
        Err(self.invalid(0, unstable))
    }

    /// Reads all blocks in use, with the leader, which comes along in the same read. A damaged block is an
    /// error; a damaged leader is not, since a phase goes by the blocks.
    pub(super) async fn read_blocks(&self) -> Result<PhaseRead, LeaseIoError> {
        let bytes = self.read(0, self.shape.len()).await?;
        Ok(PhaseRead {
            leader: self.decode_leader(&bytes).ok(),
            blocks: self.decode_blocks(&bytes, self.shape)?,
        })
    }

    /// Reads and checks the leader record.
    pub(super) async fn read_leader(&self) -> Result<PaxosLeader, LeaseIoError> {
        let sector = self.read(0, self.shape.geometry.sector_size()).await?;
        self.decode_leader(&sector)
    }

    /// Reads the sector of one host.
    pub(super) async fn read_block(&self, host: HostId) -> Result<DblockSector, LeaseIoError> {
        let geometry = self.shape.geometry;
        let at = geometry.dblock_offset(host);
        let sector = self.read(at, geometry.sector_size()).await?;
        Ok(rules::decode_block(&sector, host))
    }

    /// Reads the leader and the own block, with all that lies between, in one read.
    pub(super) async fn read_leader_and_own_block(
        &self,
    ) -> Result<(PaxosLeader, DblockSector), LeaseIoError> {
        let (geometry, me) = (self.shape.geometry, self.me());
        let bytes = self.read(0, geometry.lease_len(me.get())).await?;
        let leader = self.decode_leader(&bytes)?;
        let at = geometry.dblock_offset(me);
        let sector = geometry.sector(&bytes, at);
        let sector = sector.map_err(|error| self.invalid(at, error))?;
        Ok((leader, rules::decode_block(sector, me)))
    }

    /// The own block in its sector, which must be undamaged.
    pub(super) fn own_block(&self, sector: &DblockSector) -> Result<Option<Dblock>, LeaseIoError> {
        let at = self.shape.geometry.dblock_offset(self.me());
        sector.block.map_err(|error| self.invalid(at, error))
    }

    /// The error that says what is wrong with the sector at `at` in the area.
    pub(super) fn invalid(&self, at: u64, error: FormatError) -> LeaseIoError {
        LeaseIoError::Format {
            offset: self.on_disk(at),
            error,
        }
    }

    async fn read(&self, at: u64, len: usize) -> Result<SectorBuf, LeaseIoError> {
        let (offset, buf) = (self.on_disk(at), SectorBuf::zeroed(len));
        let timeout = self.timeout();
        let read = self.world.read(&self.area.disk, offset, buf, timeout).await;
        read.map_err(|error| LeaseIoError::Read { offset, error })
    }

    fn on_disk(&self, at: u64) -> u64 {
        self.area.offset.saturating_add(at)
    }

    fn decode_leader(&self, sector: &[u8]) -> Result<PaxosLeader, LeaseIoError> {
        decode_leader(sector, PaxosLeader::decode)
            .and_then(|leader| leader.expect_names(&self.area.lockspace, &self.area.resource))
            .map_err(|error| self.invalid(0, error))
    }

    fn decode_blocks(
        &self,
        bytes: &[u8],
        shape: LeaseShape,
    ) -> Result<Vec<BlockSeen>, LeaseIoError> {
        let hosts = (1..=u64::from(shape.num_hosts)).map_while(|id| HostId::new(id).ok());
        let blocks = hosts.map(|host| {
            let at = shape.geometry.dblock_offset(host);
            let sector = shape.geometry.sector(bytes, at);
            sector
                .and_then(|sector| BlockSeen::decode(sector, host))
                .map_err(|error| self.invalid(at, error))
        });
        blocks.filter_map(Result::transpose).collect()
    }

    // Writing.

    /// Writes the leader record.
    pub(super) async fn write_leader(&self, leader: &PaxosLeader) -> Result<(), NotWritten> {
        let mut head = [0; 512];
        leader.write_to(&mut head);
        self.write(0, SectorBuf::sector(self.shape.geometry, &head))
            .await
    }

    /// Writes the own sector: block, note, and no shared mark.
    pub(super) async fn write_own_block(
        &self,
        block: &Dblock,
        note: Option<&HolderNote>,
    ) -> Result<(), NotWritten> {
        let geometry = self.shape.geometry;
        let mut head = [0; 512];
        block.write_to(&mut head);
        if let Some(note) = note {
            note.write_to(&mut head);
        }
        let sector = SectorBuf::sector(geometry, &head);
        self.write(geometry.dblock_offset(self.me()), sector).await
    }

    /// Empties the sector of a host that is dead. Only for a holder of the lease: see
    /// `sharers::respect_or_clear`.
    pub(super) async fn clear_sector_of(&self, host: HostId) -> Result<(), NotWritten> {
        let geometry = self.shape.geometry;
        let sector = SectorBuf::zeroed(geometry.sector_size());
        self.write(geometry.dblock_offset(host), sector).await
    }

    /// INV-MEMBER: no write is asked for unless this host's delta lease is held at this instant, and none
    /// is started later than it is.
    async fn write(&self, at: u64, sector: SectorBuf) -> Result<(), NotWritten> {
        let limit = self.membership.write_limit(self.now());
        let limit = limit.ok_or(NotWritten::LockspaceLost)?;
        let offset = self.on_disk(at);
        let written = self.world.write(&self.area.disk, offset, sector, limit);
        written
            .await
            .map_err(|error| NotWritten::Unknown(LeaseIoError::Write { offset, error }))
    }
}
