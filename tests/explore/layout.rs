//! The two disks of a small world, and its sectors by number.

use std::ops::Range;
use std::time::Duration;

use disklease::__sim::delta_lease::{Claimant, EarlierLife, LockspaceArea};
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
}

pub fn host_id(host: usize) -> HostId {
    HostId::new(host as u64 + 1).unwrap()
}

impl Layout {
    pub const LEADER: Slot = 0;

    pub fn slots(self) -> usize {
        1 + 2 * self.hosts
    }

    pub fn block(host: usize) -> Slot {
        1 + host
    }

    pub fn delta(self, host: usize) -> Slot {
        1 + self.hosts + host
    }

    /// The leader and all blocks.
    pub fn lease(self) -> Range<Slot> {
        0..1 + self.hosts
    }

    pub fn deltas(self) -> Range<Slot> {
        1 + self.hosts..1 + 2 * self.hosts
    }

    /// The sectors in some bytes of a disk. The request record, which nobody writes, is none.
    pub fn slots_of(self, disk: StepDisk, offset: u64, len: usize) -> Range<Slot> {
        let first = usize::try_from(offset).unwrap() / SECTOR;
        let end = first + len / SECTOR;
        match disk {
            StepDisk::Lease => first.saturating_sub(1)..(end - 1).max(1),
            StepDisk::Space => self.delta(first)..self.delta(end),
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
        let mut lease = vec![0; GEOMETRY.area_size()];
        let mut deltas = lease.clone();
        let hosts = u16::try_from(self.hosts).unwrap();
        lease_image(&mut lease, GEOMETRY, &space, &resource, hosts).unwrap();
        lockspace_image(&mut deltas, GEOMETRY, &space, IO_SECS).unwrap();
        let sector = |bytes: &[u8], at: usize| bytes[at * SECTOR..(at + 1) * SECTOR].to_vec();
        let mut sectors = vec![sector(&lease, 0)];
        sectors.extend((0..self.hosts).map(|host| sector(&lease, 2 + host)));
        sectors.extend((0..self.hosts).map(|host| sector(&deltas, host)));
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
                num_hosts: u16::try_from(self.hosts).unwrap(),
            },
        }
    }

    pub fn lockspace_area(self) -> LockspaceArea<StepDisk> {
        LockspaceArea {
            disk: StepDisk::Space,
            offset: 0,
            geometry: GEOMETRY,
            name: names().0,
            scanned_hosts: u16::try_from(self.hosts).unwrap(),
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

/// A host that claims its id, with proof that nothing of its earlier life is left.
pub fn claimant(host: usize) -> Claimant {
    Claimant {
        host_id: host_id(host),
        host_name: HostName::new(&format!("host-{}", host + 1)).unwrap(),
        timing: timing(),
        pid: 4711,
        boot_id: [7; 16],
        incarnation: Incarnation::new([1 + host as u8; 16]).unwrap(),
        life_mark: 99,
        earlier_life: EarlierLife::ProvenOver,
    }
}
