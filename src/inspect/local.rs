//! The hosts that run on this very machine, whose clock is known here.

use std::time::Duration;

use crate::delta_lease::HostRecord;
use crate::format::HostNote;
use crate::runtime::clock;

/// What the clock of this machine tells of a host that runs on this machine since this boot.
///
/// To the second, as sectors have timestamps. Time in which the machine was suspended does not
/// count: leases that a host held at the suspend may be lost although `lost_in` says that time is left.
/// A process in a time namespace has another clock; what is shown of such a host is wrong, or
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalRenewal {
    /// How long before the last read the host has renewed.
    pub ago: Duration,
    /// How many renewals were due since, one every 2N, and are missing.
    pub missed: u64,
    /// How long after the last read the leases of the host are lost, 8N after the renewal. `None`: the leases
    /// were lost by then, whether the host knows or not.
    pub lost_in: Option<Duration>,
}

/// This machine, at one read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// `None` where the boot id cannot be read: then nothing is known of any host.
    boot_id: Option<[u8; 16]>,
    clock_secs: u64,
}

impl Machine {
    /// To be called before the read: what a host renews meanwhile was renewed just now.
    pub(super) fn now() -> Self {
        Self {
            boot_id: clock::boot_id().ok(),
            clock_secs: clock::monotonic_secs(),
        }
    }

    fn is_of(&self, note: &HostNote) -> bool {
        self.boot_id.map(|id| HostNote::boot_of(&id)) == Some(note.boot)
    }

    /// `None` for a host of another machine, of an earlier boot, without a note; for one whose
    /// sector is free or damaged; and where the clock of the sector cannot be ours.
    pub(super) fn renewal(&self, record: &HostRecord) -> Option<LocalRenewal> {
        let (seen, timing) = (record.seen(), record.silence.timing());
        let is_owned = record.damage.is_none() && !seen.leader.is_free();
        let is_here = seen.note.as_ref().is_some_and(|note| self.is_of(note));
        if !is_owned || !is_here {
            return None;
        }
        let lost_after = timing.lost_after();
        // The timestamp of a retry within a second is one ahead of the clock, but not more and more.
        let ahead = seen.leader.timestamp_secs().saturating_sub(self.clock_secs);
        if Duration::from_secs(ahead) > lost_after {
            return None;
        }
        let secs = self.clock_secs.saturating_sub(seen.leader.timestamp_secs());
        let interval = timing.renewal_interval().as_secs();
        let ago = Duration::from_secs(secs);
        Some(LocalRenewal {
            ago,
            // Both clocks are rounded down: the renewal is that long ago for certain.
            missed: secs.saturating_sub(1).checked_div(interval).unwrap_or(0),
            lost_in: lost_after.checked_sub(ago),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta_lease::{HostTable, ReadSpan};
    use crate::format::{
        DeltaLeader, Generation, Geometry, HostId, HostName, LockspaceName, lockspace_image,
    };
    use crate::timing::FireTimeout;
    use crate::world::Timestamp;

    const G: Geometry = Geometry::S512_A1M;
    const BOOT: [u8; 16] = [0xb0; 16];

    /// What a host with an io timeout of 5 s shows that has renewed at `timestamp`, at `clock_secs` here. 0: the host has left.
    fn seen(timestamp: u64, boot_id: Option<[u8; 16]>, clock_secs: u64) -> Option<LocalRenewal> {
        let name = LockspaceName::new("LS").unwrap();
        let mut area = lockspace_image(G, &name, 5, None);
        let host = HostId::new(2).unwrap();
        let leader = DeltaLeader::free(G, &name, 5)
            .acquired(host, &HostName::new("h2").unwrap(), timestamp, 5)
            .unwrap();
        let leader = if timestamp == 0 {
            leader.released()
        } else {
            leader
        };
        leader.write_to(area[512..].first_chunk_mut().unwrap());
        if let Some(boot_id) = boot_id {
            let mut note = HostNote::new(host, Generation::new(1));
            note.io_timeout_secs = 5;
            note.boot = HostNote::boot_of(&boot_id);
            note.write_to(area[512..].first_chunk_mut().unwrap());
        }
        let mut table = HostTable::new(G, name, FireTimeout::DEFAULT, None);
        let (started, completed) = (Timestamp::from_nanos(1), Timestamp::from_nanos(2));
        table.observe(&area, ReadSpan { started, completed });
        let machine = Machine {
            boot_id: Some(BOOT),
            clock_secs,
        };
        machine.renewal(table.record(host).unwrap())
    }

    fn local(ago: u64, missed: u64, lost_in: Option<u64>) -> LocalRenewal {
        LocalRenewal {
            ago: Duration::from_secs(ago),
            missed,
            lost_in: lost_in.map(Duration::from_secs),
        }
    }

    #[test]
    fn renewals_are_counted_by_the_clock_of_this_machine() {
        for (now, expected) in [
            (100, local(0, 0, Some(40))),
            (110, local(10, 0, Some(30))),
            (111, local(11, 1, Some(29))),
            (121, local(21, 2, Some(19))),
            (140, local(40, 3, Some(0))),
            (141, local(41, 4, None)),
        ] {
            assert_eq!(seen(100, Some(BOOT), now), Some(expected), "at {now}");
        }
    }

    #[test]
    fn nothing_is_known_of_other_machines_and_free_ids() {
        assert_eq!(seen(100, Some([0xb1; 16]), 100), None);
        assert_eq!(seen(100, None, 100), None);
        assert_eq!(seen(0, Some(BOOT), 100), None);
        let machine = Machine::now();
        assert!(machine.boot_id.is_some() && machine.clock_secs > 0);
    }

    #[test]
    fn any_timestamp_and_any_clock_are_accepted() {
        let just_now = Some(local(0, 0, Some(40)));
        assert_eq!(seen(140, Some(BOOT), 100), just_now);
        assert_eq!(seen(141, Some(BOOT), 100), None);
        assert_eq!(seen(u64::MAX, Some(BOOT), 0), None);
        assert_eq!(seen(u64::MAX, Some(BOOT), u64::MAX), just_now);
        let ago = u64::MAX - 1;
        assert_eq!(
            seen(1, Some(BOOT), u64::MAX),
            Some(local(ago, (ago - 1) / 10, None))
        );
    }
}
