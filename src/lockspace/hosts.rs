//! The other hosts, as the embedder sees them.

use std::time::Duration;

use super::guarantee::Peers;
use crate::delta_lease::{HostRecord, HostState, HostTable};
use crate::format::{FormatError, Generation, HostId, Incarnation, NameBytes};
use crate::world::Timestamp;

/// What is known of one host. All durations end at the moment of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostInfo {
    /// Its id.
    pub host_id: HostId,
    /// Which life of the id.
    pub generation: Generation,
    /// Its name.
    pub host_name: NameBytes,
    /// Whether it lives.
    pub life: HostLife,
    /// Its io timeout.
    pub io_timeout: Duration,
    /// For how long its sector has been seen unchanged.
    pub unchanged_for: Duration,
    /// The process, where a disklease host wrote the sector.
    pub pid: Option<u32>,
    /// The first half of the boot id of its machine, where a disklease host wrote the sector.
    pub boot: Option<[u8; 8]>,
    /// Which run of the host it is, where a disklease host wrote the sector that tells.
    pub incarnation: Option<Incarnation>,
    /// What is wrong with its sector, if anything.
    pub damage: Option<FormatError>,
}

/// Whether a host lives, from this host's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostLife {
    /// Nobody has the id.
    Free,
    /// It renewed not long ago, or is this host.
    Live,
    /// It was not yet seen to renew.
    Unknown {
        /// When it will count as dead, should it stay silent.
        dead_in: Duration,
    },
    /// It has not renewed for more than 8 of its io timeouts.
    Failing {
        /// When it will count as dead, should it stay silent.
        dead_in: Duration,
    },
    /// It is gone; what it held can be taken.
    Dead,
}

impl HostLife {
    /// The state's name: `free`, `live`, `unknown`, `failing` or `dead`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Live => "live",
            Self::Unknown { .. } => "unknown",
            Self::Failing { .. } => "failing",
            Self::Dead => "dead",
        }
    }

    fn of(state: HostState, now: Timestamp) -> Self {
        match state {
            HostState::Free => Self::Free,
            HostState::Live => Self::Live,
            HostState::Unknown { dead_at } => Self::Unknown {
                dead_in: dead_at.since(now),
            },
            HostState::Failing { dead_at } => Self::Failing {
                dead_in: dead_at.since(now),
            },
            HostState::Dead { .. } => Self::Dead,
        }
    }
}

/// Everything that `table` knows at `now`.
pub(super) fn all(table: &HostTable, now: Timestamp) -> Vec<HostInfo> {
    table
        .iter()
        .map(|(host_id, record)| HostInfo {
            host_id,
            generation: record.generation,
            host_name: record.name,
            life: HostLife::of(table.state(host_id, now), now),
            io_timeout: record.io_timeout.as_duration(),
            unchanged_for: now.since(record.changed_at),
            pid: record.note.as_ref().map(|note| note.pid),
            boot: record.note.as_ref().map(|note| note.boot),
            incarnation: record.incarnation(),
            damage: record.damage,
        })
        .collect()
}

/// Whether a host that has its id, or may, is none of ours. A free one does not count.
pub(super) fn peers(table: &HostTable) -> Peers {
    let foreign = table
        .iter()
        .any(|(_, record)| record.note.is_none() && record.timestamp_secs != 0);
    if foreign { Peers::Sanlock } else { Peers::Ours }
}

/// Which kinds of other hosts may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Others {
    /// disklease hosts, or hosts whose sectors cannot be read.
    pub(crate) of_ours: bool,
    /// Hosts that make no second links: sanlock's, and disklease's of a version before there were any.
    pub(crate) without_second_links: bool,
}

/// Those in `table`, apart from `own`. Of a damaged sector nothing is known: it may be either.
/// A note without an incarnation is of a version that had no second links either.
pub(super) fn others(table: &HostTable, own: HostId, now: Timestamp) -> Others {
    let may_run = |&(id, _): &(HostId, &HostRecord)| id != own && !table.state(id, now).is_over();
    let any = |is: fn(&HostRecord) -> bool| {
        let mut records = table.iter().filter(may_run);
        records.any(|(_, record)| record.damage.is_some() || is(record))
    };
    Others {
        of_ours: any(|record| record.note.is_some()),
        without_second_links: any(|record| record.incarnation().is_none()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{DeltaLeader, Geometry, HostName, HostNote};
    use crate::libvirt::lockspace_name;
    use crate::timing::FireTimeout;

    #[test]
    fn others_are_of_the_kind_that_wrote_the_sector_and_of_both_where_it_is_damaged() {
        let geometry = Geometry::S512_A1M;
        let host = |id| HostId::new(id).unwrap();
        let name = lockspace_name();
        let seen = |edit: &dyn Fn(&mut [u8])| {
            let mut area = vec![0; geometry.area_size()];
            for sector in area.chunks_exact_mut(512) {
                DeltaLeader::free(geometry, &name, 1).write_to(sector.first_chunk_mut().unwrap());
            }
            let held = |id| {
                let name = HostName::new("other").unwrap();
                let free = DeltaLeader::free(geometry, &lockspace_name(), 1);
                free.acquired(host(id), &name, 7, 1).unwrap()
            };
            // Our own sector never counts.
            held(1).write_to(area[..512].first_chunk_mut().unwrap());
            held(2).write_to(area[512..1024].first_chunk_mut().unwrap());
            edit(&mut area[512..1024]);
            let mut table = HostTable::new(geometry, name, FireTimeout::DEFAULT, Some(host(1)));
            let now = crate::world::clock::now();
            table.observe(&area, now, now);
            let found = others(&table, host(1), now);
            (found.of_ours, found.without_second_links)
        };
        assert_eq!(seen(&|_| {}), (false, true));
        assert_eq!(seen(&|sector| sector[40] ^= 1), (true, true));
        let generation = Generation::new(1);
        let noted = |incarnation| {
            move |sector: &mut [u8]| {
                let mut note = HostNote::new(host(2), generation);
                note.incarnation = incarnation;
                note.write_to(sector.first_chunk_mut().unwrap());
            }
        };
        let of_a_run = noted(Incarnation::new([1; 16]));
        assert_eq!(seen(&of_a_run), (true, false));
        assert_eq!(seen(&noted(None)), (true, true), "of an old version");
        let free = |sector: &mut [u8]| {
            sector.fill(0);
            DeltaLeader::free(geometry, &name, 1).write_to(sector.first_chunk_mut().unwrap());
        };
        assert_eq!(seen(&free), (false, false));
    }
}
