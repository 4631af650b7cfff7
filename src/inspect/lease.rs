//! What a lease holds.

use super::error::Damage;
use super::source::Sectors;
use crate::format::{
    DblockSector, Geometry, HolderNote, HostId, NoteState, PaxosLeader, RequestRecord,
};

/// What a lease holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseReport {
    /// Where the lease starts, in bytes from the start of the file.
    pub offset: u64,
    /// Its sizes.
    pub geometry: Geometry,
    /// Whether the sizes are a guess, since the leader record does not have them.
    pub geometry_is_guessed: bool,
    /// The owner.
    pub leader: Result<PaxosLeader, Damage>,
    /// What another host asks of the owner.
    pub request: Result<RequestRecord, Damage>,
    /// The sectors of hosts that ever took part, and the damaged ones. All others are empty.
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
    /// Where the sector starts, in bytes from the start of the file.
    pub offset: u64,
    /// The records in the sector; an error only where the storage does not give the bytes. What is wrong with
    /// the bytes is inside.
    pub sector: Result<DblockSector, Damage>,
}

impl LeaseReport {
    /// All that is wrong with the records, each with the byte of the file at which its sector starts. A damaged
    /// note counts: no host writes one.
    pub fn damages(&self) -> impl Iterator<Item = (u64, Damage)> {
        let request_at = self.offset.saturating_add(self.geometry.request_offset());
        let leader = self.leader.err().map(|damage| (self.offset, damage));
        let request = self.request.err().map(|damage| (request_at, damage));
        let blocks = self.blocks.iter().flat_map(HostBlock::damages);
        leader.into_iter().chain(request).chain(blocks)
    }

    /// Whether the file ends before the lease, or any record is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.cut_at.is_some() || self.damages().next().is_some()
    }

    /// The sector of this host, if it is not empty.
    #[must_use]
    pub fn block(&self, host: HostId) -> Option<&HostBlock> {
        self.blocks.iter().find(|block| block.host_id == host)
    }

    pub(super) fn of(sectors: &Sectors) -> Self {
        let geometry = sectors.geometry;
        let blocks = sectors.of_hosts(|host| geometry.dblock_offset(host));
        let blocks = blocks.map(|(host_id, offset, sector)| HostBlock {
            host_id,
            offset,
            sector: sector.map(|bytes| DblockSector::decode(bytes, host_id)),
        });
        let request = sectors.at(geometry.request_offset());
        Self {
            offset: sectors.offset,
            geometry,
            geometry_is_guessed: false,
            leader: sectors
                .at(0)
                .and_then(|bytes| Ok(PaxosLeader::decode(bytes)?)),
            request: request.and_then(|bytes| Ok(RequestRecord::decode(bytes)?)),
            blocks: blocks.filter(|block| !block.is_empty()).collect(),
            cut_at: sectors.cut_at,
        }
    }
}

impl HostBlock {
    /// Whether any record in the sector is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damages().next().is_some()
    }

    /// The holder note, if there is a good one. The note may be out of date.
    #[must_use]
    pub fn note(&self) -> Option<&HolderNote> {
        self.sector.as_ref().ok()?.note.get()
    }

    fn damages(&self) -> impl Iterator<Item = (u64, Damage)> {
        let both = match &self.sector {
            Ok(sector) => {
                [sector.block.err(), sector.note.error()].map(|it| it.map(Damage::Format))
            }
            Err(damage) => [Some(*damage), None],
        };
        both.into_iter()
            .flatten()
            .map(|damage| (self.offset, damage))
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
