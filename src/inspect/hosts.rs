//! The hosts of a lockspace, as an observer sees them who takes no part.

use std::time::Duration;

use super::local::{LocalRenewal, Machine};
use crate::delta_lease::{HostState, HostTable};
use crate::format::{FormatError, Generation, HostId, HostNote, NameBytes};
use crate::world::Timestamp;

/// What an observer has seen of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostStatus {
    /// The host id.
    pub host_id: HostId,
    /// Which generation of the host id.
    pub generation: Generation,
    /// The name of the host; of the last one if the host id is free.
    pub host_name: NameBytes,
    /// The clock of the host at its last renewal, in seconds; 0 if the host id is free. Says nothing on other machines.
    pub timestamp_secs: u64,
    /// The io timeout of the host.
    pub io_timeout: Duration,
    /// What a disklease host says of itself.
    pub note: Option<HostNote>,
    /// Whether the host lives, as far as was seen.
    pub state: HostState,
    /// For how long the sector has been seen unchanged, where the host is silent, failing or dead.
    pub silent_for: Option<Duration>,
    /// What this machine's clock tells of the last renewal, of a disklease host that joined on this machine since
    /// this boot.
    pub local: Option<LocalRenewal>,
    /// What was wrong with the sector at the last read. The other fields then show what was seen before, or
    /// nothing.
    pub damage: Option<FormatError>,
}

/// All hosts of which `table` knows something.
pub(super) fn all(table: &HostTable, machine: &Machine, now: Timestamp) -> Vec<HostStatus> {
    let all = table.iter().map(|(host_id, record)| {
        let (seen, state) = (record.seen(), table.state(host_id, now));
        let is_silent = matches!(
            state,
            HostState::Silent | HostState::Failing | HostState::Dead
        );
        HostStatus {
            host_id,
            generation: seen.leader.generation(),
            host_name: seen.leader.host_name(),
            timestamp_secs: seen.leader.timestamp_secs(),
            io_timeout: record.silence.timing().io_timeout().as_duration(),
            note: seen.note,
            state,
            silent_for: is_silent.then(|| record.silence.unchanged_for()),
            local: machine.renewal(record),
            damage: record.damage,
        }
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta_lease::ReadSpan;
    use crate::format::{DeltaLeader, Geometry, HostName, LockspaceName, lockspace_image};
    use crate::timing::FireTimeout;

    const G: Geometry = Geometry::S512_A1M;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_nanos(secs.saturating_mul(1_000_000_000))
    }

    /// A lockspace in which host 2 has the id since `clock`, with an io timeout of 5 s.
    fn area(clock: u64) -> Vec<u8> {
        let name = LockspaceName::new("LS").unwrap();
        let mut area = lockspace_image(G, &name, 5, None);
        let host = HostId::new(2).unwrap();
        DeltaLeader::free(G, &name, 5)
            .acquired(host, &HostName::new("h2").unwrap(), clock, 5)
            .unwrap()
            .write_to(area[512..].first_chunk_mut().unwrap());
        area
    }

    fn seen(scans: &[(u64, u64)], now: u64) -> (HostState, Option<Duration>) {
        let name = LockspaceName::new("LS").unwrap();
        let mut table = HostTable::new(G, name, FireTimeout::DEFAULT, None);
        for &(clock, when) in scans {
            let (started, completed) = (at(when), at(when));
            table.observe(&area(clock), ReadSpan { started, completed });
        }
        let all = all(&table, &Machine::now(), at(now));
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].host_name.text(), b"h2");
        (all[0].state, all[0].silent_for)
    }

    #[test]
    fn one_read_tells_nothing_and_a_change_shows_that_a_host_lives() {
        assert_eq!(seen(&[(100, 1)], 1), (HostState::Unknown, None));
        assert_eq!(seen(&[(100, 1)], 11), (HostState::Unknown, None));
        assert_eq!(seen(&[(100, 1), (110, 11)], 12), (HostState::Live, None));
    }

    #[test]
    fn silence_is_told_by_its_length() {
        for (secs, state) in [
            (12, HostState::Silent),
            (41, HostState::Failing),
            (102, HostState::Dead),
        ] {
            let seen = seen(&[(100, 1), (100, 1 + secs)], 1 + secs);
            assert_eq!(seen, (state, Some(Duration::from_secs(secs))));
        }
    }
}
