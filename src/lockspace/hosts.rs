//! The other hosts, as the embedder sees them.

use std::time::Duration;

use super::guarantee::Peers;
use crate::delta_lease::{DeltaRecord, HostRecord, HostState, HostTable};
use crate::format::{FormatError, Generation, HostId, Incarnation, NameBytes};
use crate::world::Timestamp;

/// What is known of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostInfo {
    /// Its id.
    pub host_id: HostId,
    /// Which generation of the id.
    pub generation: Generation,
    /// Its name.
    pub host_name: NameBytes,
    /// Whether the host lives. This host itself is live.
    pub state: HostState,
    /// When the host will count as dead, should it stay silent; `None` where nobody has the id, where it is
    /// live or dead.
    pub dead_in: Option<Duration>,
    /// Its io timeout.
    pub io_timeout: Duration,
    /// For how long its sector has been seen unchanged.
    pub unchanged_for: Duration,
    /// The process, where a disklease host wrote the sector.
    pub pid: Option<u32>,
    /// The first half of the boot id of its machine, where a disklease host wrote the sector.
    pub boot: Option<[u8; 8]>,
    /// Which incarnation of the host it is, where a disklease host wrote the sector with it.
    pub incarnation: Option<Incarnation>,
    /// What is wrong with its sector, if anything.
    pub damage: Option<FormatError>,
}

/// Everything that `table` knows at `now`.
pub(super) fn all(table: &HostTable, now: Timestamp) -> Vec<HostInfo> {
    table
        .iter()
        .map(|(host_id, record)| {
            let state = table.state(host_id, now);
            let (silence, seen) = (&record.silence, record.seen());
            let may_die = state != HostState::Live && !state.has_ended();
            HostInfo {
                host_id,
                generation: seen.leader.generation(),
                host_name: seen.leader.host_name(),
                state,
                dead_in: may_die.then(|| silence.dead_at().since(now)),
                io_timeout: silence.timing().io_timeout().as_duration(),
                unchanged_for: silence.unchanged_for(),
                pid: seen.note.as_ref().map(|note| note.pid),
                boot: seen.note.as_ref().map(|note| note.boot),
                incarnation: seen.incarnation(),
                damage: record.damage,
            }
        })
        .collect()
}

/// Whether a host that has its id, or may, is none of ours. A free one does not count.
pub(super) fn peers(table: &HostTable) -> Peers {
    let foreign = table
        .iter()
        .any(|(_, record)| record.seen().note.is_none() && !record.seen().leader.is_free());
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
    let may_run = |&(id, _): &(HostId, &HostRecord)| id != own && !table.state(id, now).has_ended();
    let any = |is: fn(&DeltaRecord) -> bool| {
        let mut records = table.iter().filter(may_run);
        records.any(|(_, record)| record.damage.is_some() || is(record.seen()))
    };
    Others {
        of_ours: any(|seen| seen.note.is_some()),
        without_second_links: any(|seen| seen.incarnation().is_none()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta_lease::ReadSpan;
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
            let now = crate::runtime::clock::now();
            let read = ReadSpan {
                started: now,
                completed: now,
            };
            table.observe(&area, read);
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
