//! What one read of a lease shows: the leader and all blocks in use, checked.

use super::rules;
use super::shape::LeaseShape;
use crate::format::{
    Dblock, DblockSector, FormatError, Generation, HolderNote, HostId, LeaseVersion, PaxosLeader,
};

/// One read of a lease.
#[derive(Clone, Debug)]
pub(super) struct LeaseImage {
    pub(super) shape: LeaseShape,
    pub(super) leader: PaxosLeader,
    pub(super) blocks: Vec<BlockSeen>,
}

/// One read of all blocks, checked; and of the leader, `None` where it is damaged: a phase goes by the blocks,
/// and inspects the leader only to find a twin's commit.
#[derive(Clone, Debug)]
pub(super) struct PhaseRead {
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

impl BlockSeen {
    /// `None` where the sector holds neither block nor shared mark.
    ///
    /// # Errors
    ///
    /// The block is damaged.
    pub(super) fn decode(sector: &[u8], host: HostId) -> Result<Option<Self>, FormatError> {
        let found = rules::decode_block(sector, host);
        let shared = sharer(&found, host);
        let block = rules::undamaged(found.block)?;
        let seen = Self {
            host,
            block,
            shared,
            note: found.note.present(),
        };
        Ok(Some(seen).filter(|seen| seen.block.is_some() || seen.shared.is_some()))
    }
}

/// In which generation `host` holds the lease shared, if it does.
pub(super) fn sharer(sector: &DblockSector, host: HostId) -> Option<Generation> {
    let marked = sector.shared?;
    let input = sector.block.ok().flatten().and_then(|block| block.input);
    let proposed = input.filter(|input| input.owner == u64::from(host));
    let proposed = proposed.map(|input| Generation::new(input.generation));
    Some(rules::sharer(marked, proposed))
}

/// The dblocks among `blocks`.
pub(super) fn dblocks(blocks: &[BlockSeen]) -> impl Iterator<Item = Dblock> + Clone {
    blocks.iter().filter_map(|seen| seen.block)
}

/// Who holds the lease in shared mode, by what stands there.
pub(super) fn sharers(blocks: &[BlockSeen]) -> impl Iterator<Item = (HostId, Generation)> {
    let sharer = |seen: &BlockSeen| Some((seen.host, seen.shared?));
    blocks.iter().filter_map(sharer)
}

/// The note beside the block of `host`.
pub(super) fn note_of(blocks: &[BlockSeen], host: HostId) -> Option<&HolderNote> {
    let seen = blocks.iter().find(|seen| seen.host == host)?;
    seen.note.as_ref()
}

/// Who owns the lease, by its leader.
pub(super) fn owner_of(leader: &PaxosLeader) -> Option<HostId> {
    leader.last_owner().filter(|_| !leader.is_free())
}

impl LeaseImage {
    pub(super) fn block_of(&self, host: HostId) -> Option<Dblock> {
        let seen = self.blocks.iter().find(|seen| seen.host == host)?;
        seen.block
    }

    /// The largest ballot number in any block, of whatever version. That is more than Paxos asks for, which
    /// compares only the numbers of one version.
    pub(super) fn max_mbal(&self) -> u64 {
        let mbals = dblocks(&self.blocks).map(|block| block.mbal);
        mbals.max().unwrap_or(0)
    }

    pub(super) fn newest_version(&self) -> LeaseVersion {
        rules::newest_version(dblocks(&self.blocks))
    }

    /// All that an acquire without a version precondition still asks of this read once `me` has
    /// checked it: what a waypoint tells.
    #[cfg(feature = "__sim")]
    pub(super) fn essence(&self, me: HostId) -> impl std::fmt::Debug {
        (
            (self.leader, self.block_of(me), self.max_mbal()),
            self.newest_version(),
            sharers(&self.blocks).collect::<Vec<_>>(),
        )
    }
}
