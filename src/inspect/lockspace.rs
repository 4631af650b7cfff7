//! What a lockspace holds.

use std::collections::BTreeMap;

use super::error::Damage;
use super::source::Chunk;
use crate::format::{
    DeltaLeader, Geometry, HostBitmap, HostId, HostNote, LockspaceId, LockspaceName, NameBytes,
    NoteState,
};

/// What a lockspace shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockspaceLook {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// Its sizes.
    pub geometry: Geometry,
    /// Its name: that of most of its sectors. Empty if not one of them is good.
    pub name: NameBytes,
    /// What tells it from others of this name. One that sanlock made has none.
    pub id: NoteState<LockspaceId>,
    /// The sectors of host ids that were ever used, and those with anything wrong. All others are
    /// good and were never used.
    pub hosts: Vec<HostSector>,
    /// Where the file ends, in bytes from its start, if it does so before the lockspace.
    pub cut_at: Option<u64>,
}

/// The sector of one host id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostSector {
    /// The host id.
    pub host_id: HostId,
    /// Where the sector begins, in bytes from the start of the file.
    pub offset: u64,
    /// The lease on the host id.
    pub leader: Result<DeltaLeader, Damage>,
    /// What the host says of itself. Out of date unless it is of the leader's generation.
    pub note: NoteState<HostNote>,
    /// The hosts that it calls; empty where the bytes are not there.
    pub bitmap: HostBitmap,
}

impl LockspaceLook {
    /// Whether anything in it is wrong. A damaged note counts: nobody writes one.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.cut_at.is_some()
            || matches!(self.id, NoteState::Damaged(_))
            || self.hosts.iter().any(HostSector::is_damaged)
    }

    pub(super) fn of(chunk: &Chunk, offset: u64, geometry: Geometry, cut_at: Option<u64>) -> Self {
        let offset_of = |host| offset.saturating_add(geometry.delta_offset(host));
        let mut hosts: Vec<HostSector> = chunk
            .host_sectors(geometry, offset_of)
            .map(|(host, at, sector)| HostSector::of(sector, host, at, geometry))
            .collect();
        let name = most_frequent_name(&hosts);
        for host in &mut hosts {
            host.leader = host.leader.and_then(|leader| {
                let checked = leader.expect_space(&LockspaceName::from_disk(name))?;
                Ok(checked)
            });
        }
        let id_at = offset.saturating_add(geometry.lockspace_id_offset());
        let id = match chunk.sector(id_at, geometry.sector_size()) {
            Some(Ok(sector)) => LockspaceId::read_from(sector),
            Some(Err(_)) | None => NoteState::Absent,
        };
        hosts.retain(|host| !host.is_untouched());
        Self {
            offset,
            geometry,
            name,
            id,
            hosts,
            cut_at,
        }
    }
}

impl HostSector {
    /// Whether anything in it is wrong.
    #[must_use]
    pub const fn is_damaged(&self) -> bool {
        self.leader.is_err() || matches!(self.note, NoteState::Damaged(_))
    }

    /// The note, if it is a good one of this host in its present generation.
    #[must_use]
    pub fn current_note(&self) -> Option<&HostNote> {
        let NoteState::Present(note) = &self.note else {
            return None;
        };
        let generation = self.leader.ok()?.generation();
        (note.host_id == self.host_id && note.generation == generation).then_some(note)
    }

    fn of(sector: Result<&[u8], Damage>, host_id: HostId, offset: u64, geometry: Geometry) -> Self {
        let (leader, note, bitmap) = match sector {
            Ok(bytes) => {
                let leader = DeltaLeader::decode(bytes, host_id)
                    .and_then(|leader| leader.expect_geometry(geometry));
                let note = HostNote::read_from(bytes);
                let bitmap = HostBitmap::read_from(bytes).unwrap_or_default();
                (leader.map_err(Damage::Format), note, bitmap)
            }
            Err(damage) => (Err(damage), NoteState::Absent, HostBitmap::new()),
        };
        Self {
            host_id,
            offset,
            leader,
            note,
            bitmap,
        }
    }

    fn is_untouched(&self) -> bool {
        let unused = self
            .leader
            .is_ok_and(|leader| leader.owner_id() == 0 && leader.generation().get() == 0);
        unused && self.note == NoteState::Absent && self.bitmap.is_empty()
    }
}

fn most_frequent_name(hosts: &[HostSector]) -> NameBytes {
    let mut counts: BTreeMap<Vec<u8>, (usize, NameBytes)> = BTreeMap::new();
    let leaders = hosts.iter().filter_map(|host| host.leader.as_ref().ok());
    for name in leaders.map(DeltaLeader::space_name) {
        let (count, _) = counts.entry(name.text().to_vec()).or_insert((0, name));
        *count = count.saturating_add(1);
    }
    let most = counts.into_values().max_by_key(|&(count, _)| count);
    most.map_or(NameBytes::EMPTY, |(_, name)| name)
}
