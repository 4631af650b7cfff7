//! The two disks of a small world, and its sectors by number.

use std::ops::Range;
use std::time::Duration;

use disklease::__sim::delta_lease::{Claimant, EarlierIncarnation, LockspaceArea};
use disklease::__sim::paxos_lease::{LeaseArea, LeaseShape};
use disklease::format::{
    Geometry, HostId, HostName, Incarnation, LockspaceName, ResourceName, lease_image,
    lockspace_image,
};
use disklease::timing::{FireTimeout, IoTimeout, Timing};

/// Hosts of a world at most.
pub const HOSTS_MAX: usize = 3;
/// Sectors of a world at most: the leader, and two for each host.
pub const SLOTS_MAX: usize = 1 + 2 * HOSTS_MAX;
/// Both disks have small sectors.
pub const GEOMETRY: Geometry = Geometry::S512_A1M;
pub const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepDisk {
    /// The lease alone, at its beginning.
    Lease,
    /// The lockspace alone, at its beginning.
    Space,
}

/// A sector that hosts write: the leader is 0, then come the hosts' blocks, then their delta
/// sectors.
pub type Slot = usize;

#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub hosts: usize,
    /// The last host has the host id, the name and the generation of the first.
    pub twin: bool,
}

/// The host id of this number.
pub fn host_id(id: usize) -> HostId {
    HostId::new(id as u64 + 1).unwrap()
}

impl Layout {
    pub const LEADER: Slot = 0;

    /// Host ids: twins share one.
    pub fn ids(self) -> usize {
        self.hosts - usize::from(self.twin)
    }

    /// Which of the ids is this host's.
    pub fn id_of(self, host: usize) -> usize {
        if host < self.ids() { host } else { 0 }
    }

    pub fn twin_of(self, host: usize) -> Option<usize> {
        let last = self.hosts - 1;
        match host {
            _ if !self.twin => None,
            0 => Some(last),
            _ => (host == last).then_some(0),
        }
    }

    pub fn slots(self) -> usize {
        1 + 2 * self.ids()
    }

    pub fn block(self, host: usize) -> Slot {
        1 + self.id_of(host)
    }

    pub fn delta(self, host: usize) -> Slot {
        self.deltas().start + self.id_of(host)
    }

    /// The leader and all blocks.
    pub fn lease(self) -> Range<Slot> {
        0..1 + self.ids()
    }

    pub fn deltas(self) -> Range<Slot> {
        1 + self.ids()..1 + 2 * self.ids()
    }

    /// The sectors in some bytes of a disk. The request record, which nobody writes, is none.
    pub fn slots_of(self, disk: StepDisk, offset: u64, len: usize) -> Range<Slot> {
        let first = usize::try_from(offset).unwrap() / SECTOR;
        let end = first + len / SECTOR;
        match disk {
            StepDisk::Lease => first.saturating_sub(1)..(end - 1).max(1),
            StepDisk::Space => self.deltas().start + first..self.deltas().start + end,
        }
    }

    /// Where the sector is in a read that begins at `offset`.
    pub fn place(self, slot: Slot, offset: u64) -> usize {
        let sector = match slot {
            0 => 0,
            _ if slot < self.deltas().start => slot + 1,
            _ => slot - self.deltas().start,
        };
        sector * SECTOR - usize::try_from(offset).unwrap()
    }

    /// All sectors as they are when nobody has used them, and the request record.
    pub fn formatted(self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (space, resource) = names();
        let ids = u16::try_from(self.ids()).unwrap();
        let lease = lease_image(GEOMETRY, &space, &resource, ids);
        let deltas = lockspace_image(GEOMETRY, &space, IO_SECS, None);
        let sector = |bytes: &[u8], at: usize| bytes[at * SECTOR..(at + 1) * SECTOR].to_vec();
        let mut sectors = vec![sector(&lease, 0)];
        sectors.extend((0..self.ids()).map(|id| sector(&lease, 2 + id)));
        sectors.extend((0..self.ids()).map(|id| sector(&deltas, id)));
        (sectors, sector(&lease, 1))
    }

    pub fn lease_area(self) -> LeaseArea<StepDisk> {
        let (lockspace, resource) = names();
        LeaseArea {
            disk: StepDisk::Lease,
            offset: 0,
            lockspace,
            resource,
            expected_shape: LeaseShape {
                geometry: GEOMETRY,
                num_hosts: u16::try_from(self.ids()).unwrap(),
            },
        }
    }

    pub fn lockspace_area(self) -> LockspaceArea<StepDisk> {
        LockspaceArea {
            disk: StepDisk::Space,
            offset: 0,
            geometry: GEOMETRY,
            name: names().0,
            scanned_hosts: u16::try_from(self.ids()).unwrap(),
        }
    }
}

/// N of all hosts.
const IO_SECS: u16 = 10;

fn names() -> (LockspaceName, ResourceName) {
    (
        LockspaceName::new("LS").unwrap(),
        ResourceName::new("disk-1").unwrap(),
    )
}

pub fn timing() -> Timing {
    let io = IoTimeout::new(Duration::from_secs(u64::from(IO_SECS))).unwrap();
    Timing::new(io, FireTimeout::DEFAULT)
}

/// A host that claims its id, with proof that nothing of its earlier incarnation is left.
pub fn claimant(host: usize, id: usize) -> Claimant {
    let incarnation = Incarnation::new([1 + host as u8; 16]).unwrap();
    Claimant {
        host_id: host_id(id),
        host_name: HostName::new(&format!("host-{}", id + 1)).unwrap(),
        timing: timing(),
        pid: 4711,
        boot_id: [7; 16],
        incarnation,
        process_token: 99,
        earlier_incarnation: EarlierIncarnation::ProvenEnded(incarnation),
    }
}
