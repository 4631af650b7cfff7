//! What a lockspace holds.

use std::collections::BTreeMap;

use super::error::Damage;
use super::source::Sectors;
use crate::format::{
    DeltaLeader, Geometry, HostBitmap, HostId, HostNote, LockspaceId, LockspaceName, NameBytes,
    NoteState,
};

/// What a lockspace holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockspaceReport {
    /// Where the lockspace starts, in bytes from the start of the file.
    pub offset: u64,
    /// Its sizes.
    pub geometry: Geometry,
    /// Its name: that of most of its sectors. Empty where no sector is good.
    pub name: NameBytes,
    /// What distinguishes the lockspace from others of this name. A lockspace that sanlock made has no id.
    pub id: NoteState<LockspaceId>,
    /// The sectors of host ids that were ever used, and the damaged ones. All others are good and were
    /// never used.
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
    /// Where the sector starts, in bytes from the start of the file.
    pub offset: u64,
    /// The lease on the host id.
    pub leader: Result<DeltaLeader, Damage>,
    /// What the host says of itself. Out of date unless it is of the leader's generation.
    pub note: NoteState<HostNote>,
    /// The hosts that this host calls; empty where the bytes are missing.
    pub bitmap: HostBitmap,
}

impl LockspaceReport {
    /// All that is wrong with the records, each with the byte of the file at which its sector starts. A damaged
    /// note counts: no host writes one.
    pub fn damages(&self) -> impl Iterator<Item = (u64, Damage)> {
        let id_at = self
            .offset
            .saturating_add(self.geometry.lockspace_id_offset());
        let hosts = self.hosts.iter().flat_map(HostSector::damages);
        let id = self.id.error().map(|error| (id_at, error.into()));
        hosts.chain(id)
    }

    /// Whether the file ends before the lockspace, or any record is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.cut_at.is_some() || self.damages().next().is_some()
    }

    pub(super) fn of(sectors: &Sectors) -> Self {
        let geometry = sectors.geometry;
        let hosts = sectors.of_hosts(|host| geometry.delta_offset(host));
        let mut hosts: Vec<HostSector> = hosts
            .map(|(host, at, sector)| HostSector::of(sector, host, at, geometry))
            .collect();
        let name = most_frequent_name(&hosts);
        let space = LockspaceName::from_disk(name);
        for host in &mut hosts {
            host.leader = host
                .leader
                .and_then(|leader| Ok(leader.expect_space(&space)?));
        }
        hosts.retain(|host| !host.is_untouched());
        let id = match sectors.at(geometry.lockspace_id_offset()) {
            Ok(sector) if !sector.is_empty() => LockspaceId::read_from(sector),
            // The report tells of the cut, or of the other sectors that cannot be read.
            Ok(_) | Err(_) => NoteState::Absent,
        };
        Self {
            offset: sectors.offset,
            geometry,
            name,
            id,
            hosts,
            cut_at: sectors.cut_at,
        }
    }
}

impl HostSector {
    /// Whether any record in the sector is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damages().next().is_some()
    }

    fn damages(&self) -> impl Iterator<Item = (u64, Damage)> {
        let note = self.note.error().map(Damage::Format);
        let both = self.leader.err().into_iter().chain(note);
        both.map(|damage| (self.offset, damage))
    }

    fn of(sector: Result<&[u8], Damage>, host_id: HostId, offset: u64, geometry: Geometry) -> Self {
        let leader = sector.and_then(|bytes| {
            let leader = DeltaLeader::decode(bytes, host_id)?;
            Ok(leader.expect_geometry(geometry)?)
        });
        Self {
            host_id,
            offset,
            leader,
            note: sector.map_or(NoteState::Absent, HostNote::read_from),
            bitmap: sector
                .ok()
                .and_then(|bytes| HostBitmap::read_from(bytes).ok())
                .unwrap_or_default(),
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
