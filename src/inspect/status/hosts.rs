//! The hosts of a lockspace, as somebody sees them who only looks.

use std::time::Duration;

use super::local::{LocalRenewal, Machine};
use crate::delta_lease::{HostState, HostTable};
use crate::format::{FormatError, Generation, HostId, HostNote, NameBytes};
use crate::world::Timestamp;

/// What was seen of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostStatus {
    /// Its id.
    pub host_id: HostId,
    /// Which life of the id.
    pub generation: Generation,
    /// Its name; that of the last host if the id is free.
    pub host_name: NameBytes,
    /// Its clock at the last renewal, in seconds; 0 if the id is free. Says nothing on other machines.
    pub timestamp_secs: u64,
    /// Its io timeout.
    pub io_timeout: Duration,
    /// What a disklease host says of itself.
    pub note: Option<HostNote>,
    /// Whether it lives, as far as was seen.
    pub seen: HostSeen,
    /// What this machine's clock tells of its last renewal, if it is a disklease host that was begun
    /// on this machine since it was booted.
    pub local: Option<LocalRenewal>,
    /// What is wrong with its sector at the last look. The rest is then what was seen before, or
    /// nothing.
    pub damage: Option<FormatError>,
}

/// Whether a host lives, as far as was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostSeen {
    /// Nobody has the id.
    Free,
    /// It was seen to renew.
    Live,
    /// It was not watched, or its sector is damaged.
    Unknown,
    /// It was not seen to renew, but it may still live.
    Silent {
        /// For how long its sector has been seen unchanged.
        for_at_least: Duration,
    },
    /// It was not seen to renew for so long that its own leases must be lost to it.
    Failing {
        /// For how long its sector has been seen unchanged.
        for_at_least: Duration,
    },
    /// It was not seen to renew for so long that it is gone, and what it held can be taken.
    Dead {
        /// For how long its sector has been seen unchanged.
        for_at_least: Duration,
    },
}

impl HostSeen {
    /// The state's name: `free`, `live`, `unknown`, `silent`, `failing` or `dead`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Live => "live",
            Self::Unknown => "unknown",
            Self::Silent { .. } => "silent",
            Self::Failing { .. } => "failing",
            Self::Dead { .. } => "dead",
        }
    }

    /// For how long the host's sector has been seen unchanged, where that is what is known of it.
    #[must_use]
    pub const fn silent_for(self) -> Option<Duration> {
        match self {
            Self::Silent { for_at_least }
            | Self::Failing { for_at_least }
            | Self::Dead { for_at_least } => Some(for_at_least),
            Self::Free | Self::Live | Self::Unknown => None,
        }
    }
}

/// All hosts of which `table` knows something.
///
/// Silence counts up to the begin of the last look, not up to now. Less than a whole interval
/// between renewals proves none: a host is called silent only beyond it.
pub(super) fn all(table: &HostTable, machine: &Machine, now: Timestamp) -> Vec<HostStatus> {
    let all = table.iter().map(|(host_id, record)| {
        let for_at_least = record.unchanged_until.since(record.changed_at);
        let interval = record.io_timeout.as_duration().saturating_mul(2);
        let seen = match table.state(host_id, now) {
            HostState::Free => HostSeen::Free,
            HostState::Live => HostSeen::Live,
            HostState::Failing { .. } => HostSeen::Failing { for_at_least },
            HostState::Dead { .. } => HostSeen::Dead { for_at_least },
            HostState::Unknown { .. } if record.damage.is_none() && for_at_least > interval => {
                HostSeen::Silent { for_at_least }
            }
            HostState::Unknown { .. } => HostSeen::Unknown,
        };
        HostStatus {
            host_id,
            generation: record.generation,
            host_name: record.name,
            timestamp_secs: record.timestamp_secs,
            io_timeout: record.io_timeout.as_duration(),
            note: record.note,
            seen,
            local: machine.renewal(record),
            damage: record.damage,
        }
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn seen(scans: &[(u64, u64)], now: u64) -> HostSeen {
        let name = LockspaceName::new("LS").unwrap();
        let mut table = HostTable::new(G, name, FireTimeout::DEFAULT, None);
        for &(clock, when) in scans {
            table.observe(&area(clock), at(when), at(when));
        }
        let all = all(&table, &Machine::now(), at(now));
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].host_name.text(), b"h2");
        all[0].seen
    }

    #[test]
    fn one_look_tells_nothing_and_a_change_tells_life() {
        assert_eq!(seen(&[(100, 1)], 1), HostSeen::Unknown);
        assert_eq!(seen(&[(100, 1)], 11), HostSeen::Unknown);
        assert_eq!(seen(&[(100, 1), (110, 11)], 12), HostSeen::Live);
    }

    #[test]
    fn silence_is_told_by_its_length() {
        let secs = Duration::from_secs;
        let silent = |time: u64| seen(&[(100, 1), (100, 1 + time)], 1 + time);
        assert_eq!(
            silent(12),
            HostSeen::Silent {
                for_at_least: secs(12)
            }
        );
        assert_eq!(
            silent(41),
            HostSeen::Failing {
                for_at_least: secs(41)
            }
        );
        assert_eq!(
            silent(102),
            HostSeen::Dead {
                for_at_least: secs(102)
            }
        );
    }
}
