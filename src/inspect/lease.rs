//! What a lease holds.

use super::error::Damage;
use super::source::Chunk;
use crate::format::{
    DblockSector, Geometry, HolderNote, HostId, NoteState, PaxosLeader, RequestRecord,
};

/// What a lease shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseLook {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// Its sizes.
    pub geometry: Geometry,
    /// Whether the sizes are a guess, since the leader record does not tell them.
    pub geometry_is_guessed: bool,
    /// Who owns it.
    pub leader: Result<PaxosLeader, Damage>,
    /// What is asked of its holder.
    pub request: Result<RequestRecord, Damage>,
    /// The sectors of hosts that ever took part, and those with anything wrong. All others are
    /// empty.
    pub blocks: Vec<HostBlock>,
    /// Where the file ends, in bytes from its start, if it does so before the lease.
    pub cut_at: Option<u64>,
}

/// The sector of one host in a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostBlock {
    /// The host id.
    pub host_id: HostId,
    /// Where the sector begins, in bytes from the start of the file.
    pub offset: u64,
    /// What is in it; an error only where the storage does not give it. What is wrong with its
    /// bytes is inside.
    pub sector: Result<DblockSector, Damage>,
}

impl LeaseLook {
    /// Whether anything in it is wrong. A damaged note counts: nobody writes one.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.cut_at.is_some()
            || self.leader.is_err()
            || self.request.is_err()
            || self.blocks.iter().any(HostBlock::is_damaged)
    }

    /// The sector of this host, if it is not empty.
    #[must_use]
    pub fn block(&self, host: HostId) -> Option<&HostBlock> {
        self.blocks.iter().find(|block| block.host_id == host)
    }

    pub(super) fn of(
        chunk: &Chunk,
        offset: u64,
        (geometry, geometry_is_guessed): (Geometry, bool),
        cut_at: Option<u64>,
    ) -> Self {
        let size = geometry.sector_size();
        // A file that ends before the record holds no bytes of it.
        let sector = |from: u64| {
            let at = offset.saturating_add(from);
            chunk.sector(at, size).unwrap_or(Ok(&[]))
        };
        let offset_of = |host| offset.saturating_add(geometry.dblock_offset(host));
        let blocks = chunk.host_sectors(geometry, offset_of);
        let blocks = blocks.map(|(host_id, offset, sector)| HostBlock {
            host_id,
            offset,
            sector: sector.map(|bytes| DblockSector::decode(bytes, host_id)),
        });
        Self {
            offset,
            geometry,
            geometry_is_guessed,
            leader: sector(0).and_then(|bytes| Ok(PaxosLeader::decode(bytes)?)),
            request: sector(geometry.request_offset())
                .and_then(|bytes| Ok(RequestRecord::decode(bytes)?)),
            blocks: blocks.filter(|block| !block.is_empty()).collect(),
            cut_at,
        }
    }
}

impl HostBlock {
    /// Whether anything in it is wrong.
    #[must_use]
    pub const fn is_damaged(&self) -> bool {
        match &self.sector {
            Ok(sector) => sector.block.is_err() || matches!(sector.note, NoteState::Damaged(_)),
            Err(_) => true,
        }
    }

    /// The holder note, if there is a good one. It may be out of date.
    #[must_use]
    pub fn note(&self) -> Option<&HolderNote> {
        match &self.sector {
            Ok(DblockSector {
                note: NoteState::Present(note),
                ..
            }) => Some(note),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(
            &self.sector,
            Ok(DblockSector {
                block: Ok(None),
                released: false,
                shared: None,
                note: NoteState::Absent,
            })
        )
    }
}
