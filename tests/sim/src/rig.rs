//! A formatted lockspace with one lease, and hosts that join it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use disklease::__sim::delta_lease::{
    self, ClaimError, ClaimProgress, Claimant, DeltaLease, DeltaRecord, EarlierIncarnation,
    HostTable, LockspaceArea, Membership,
};
use disklease::__sim::paxos_lease::{
    self, AcquireError, AcquireFailure, GiveBackError, HeldLease, Holding, LeaseArea, LeaseShape,
    Patience,
};
use disklease::__sim::world::{Timestamp, World};
use disklease::CancelToken;
use disklease::format::{
    Dblock, DblockSector, DeltaLeader, Generation, Geometry, HolderNote, HostId, HostName,
    Incarnation, LeaseVersion, LockspaceName, PaxosLeader, ResourceName, lease_image,
    lockspace_image,
};
use disklease::timing::{FireTimeout, IoTimeout, Timing};

use super::clock::HostClock;
use super::disk::{Sectors, SimDisk};
use super::sched::{HostIx, Sim, Task};
use super::world::SimWorld;

/// Large sectors, few hosts: a scan of the lockspace is cheap.
pub const SPACE: Geometry = Geometry::S4K_A1M;
/// Small sectors: a read of the lease is cheap.
pub const LEASE: Geometry = Geometry::S512_A1M;
/// Where the lease begins.
pub const LEASE_AT: u64 = 1 << 20;
/// What stands in the lockspace as io timeout while nobody uses it.
pub const FORMATTED_N: u16 = 10;

#[derive(Clone)]
pub struct Rig {
    pub sim: Sim,
    pub disk: SimDisk,
    pub area: LockspaceArea<SimDisk>,
    pub lease: LeaseArea<SimDisk>,
    pub fire_timeout: FireTimeout,
    /// Claimants so far.
    claimants: Rc<Cell<u64>>,
}

/// A host that has joined.
#[derive(Clone)]
pub struct Member {
    pub world: SimWorld,
    pub host: HostIx,
    pub membership: Rc<Membership<SimDisk>>,
    pub delta: Rc<RefCell<DeltaLease>>,
    /// When its leases are or were lost, if no later renewal was good.
    pub expires_at: Rc<Cell<Timestamp>>,
    pub lease: LeaseArea<SimDisk>,
}

pub fn host_id(id: u64) -> HostId {
    HostId::new(id).unwrap()
}

/// The run of a host that has this number.
pub fn incarnation(number: u64) -> Incarnation {
    let mut bytes = [1; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Incarnation::new(bytes).unwrap()
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A host's clock, as a function of its own.
pub fn host_now(world: &SimWorld) -> Timestamp {
    world.now()
}

pub fn timing(io_secs: u64, fire_secs: u64) -> Timing {
    Timing::new(
        IoTimeout::new(secs(io_secs)).unwrap(),
        FireTimeout::new(secs(fire_secs)).unwrap(),
    )
}

/// The disk as it is before anybody uses it.
pub fn formatted(num_hosts: u16) -> Sectors {
    let (space, resource) = names();
    let mut sectors = Sectors::new(2 << 20);
    let lockspace = lockspace_image(SPACE, &space, FORMATTED_N, None);
    sectors.write(0, &lockspace);
    let lease = lease_image(LEASE, &space, &resource, num_hosts);
    sectors.write(LEASE_AT, &lease);
    sectors
}

pub fn names() -> (LockspaceName, ResourceName) {
    (
        LockspaceName::new("LS").unwrap(),
        ResourceName::new("disk-1").unwrap(),
    )
}

impl Rig {
    pub fn new(sim: Sim, num_hosts: u16) -> Self {
        Self::on(sim, num_hosts, formatted(num_hosts))
    }

    /// With the disk in a state that is already there.
    pub fn on(sim: Sim, num_hosts: u16, sectors: Sectors) -> Self {
        let disk = sim.add_disk(sectors);
        let (space, resource) = names();
        Self {
            sim,
            disk,
            area: LockspaceArea {
                disk,
                offset: 0,
                geometry: SPACE,
                name: space,
                scanned_hosts: SPACE.max_hosts(),
            },
            lease: LeaseArea {
                disk,
                offset: LEASE_AT,
                lockspace: space,
                resource,
                expected_shape: LeaseShape {
                    geometry: LEASE,
                    num_hosts,
                },
            },
            fire_timeout: FireTimeout::DEFAULT,
            claimants: Rc::default(),
        }
    }

    pub fn add_host(&self) -> (HostIx, SimWorld) {
        // Clocks that have nothing to do with each other.
        let number = self.sim.core.borrow().hosts.len() as u64;
        let host = self.sim.add_host(HostClock {
            starts_at: 1_000_000_000 + number * 77_777_777_777,
            secs_ahead: number * 1000,
            ppm_fast: 0,
        });
        (host, SimWorld::new(&self.sim, host))
    }

    pub fn claimant(&self, id: u64, name: &str, io_secs: u64) -> Claimant {
        Claimant {
            host_id: host_id(id),
            host_name: HostName::new(name).unwrap(),
            timing: Timing::new(IoTimeout::new(secs(io_secs)).unwrap(), self.fire_timeout),
            pid: 4711,
            boot_id: [7; 16],
            incarnation: incarnation(self.claimants.replace(self.claimants.get() + 1)),
            process_token: 99,
            earlier_incarnation: EarlierIncarnation::MayRun,
        }
    }

    /// Starts to claim a host id; what is waited for goes to `progress`.
    pub fn claim_telling(
        &self,
        world: &SimWorld,
        claimant: Claimant,
        progress: impl Fn(ClaimProgress) + 'static,
    ) -> Task<Result<DeltaLease, ClaimError>> {
        let (world, area) = (world.clone(), self.area.clone());
        self.sim.spawn(world.host, async move {
            delta_lease::claim(&world, &area, &claimant, &progress).await
        })
    }

    pub fn claim(
        &self,
        world: &SimWorld,
        claimant: Claimant,
    ) -> Task<Result<DeltaLease, ClaimError>> {
        self.claim_telling(world, claimant, |_| {})
    }

    /// The membership that begins with `delta`. Nothing renews it.
    pub fn member(&self, world: &SimWorld, delta: DeltaLease) -> Member {
        let table = HostTable::new(
            SPACE,
            self.area.name,
            self.fire_timeout,
            Some(delta.host_id()),
        );
        Member {
            world: world.clone(),
            host: world.host,
            membership: Rc::new(Membership::new(self.area.clone(), &delta, table)),
            expires_at: Rc::new(Cell::new(delta.expires_at())),
            delta: Rc::new(RefCell::new(delta)),
            lease: self.lease.clone(),
        }
    }

    /// A new host joins, with an io timeout of 10 s, and renews from then on.
    pub fn join(&self, id: u64) -> Member {
        let (_, world) = self.add_host();
        let member = self.join_on(&world, self.claimant(id, &format!("host-{id}"), 10));
        member.keep_alive(&self.sim);
        member
    }

    /// A host joins. Nothing renews it.
    pub fn join_on(&self, world: &SimWorld, claimant: Claimant) -> Member {
        let delta = self.sim.run(&self.claim(world, claimant)).unwrap();
        self.member(world, delta)
    }

    fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.sim.core.borrow().disks[self.disk.0].read(offset, &mut bytes);
        bytes
    }

    pub fn leader(&self) -> PaxosLeader {
        PaxosLeader::decode(&self.bytes(LEASE_AT, 512)).unwrap()
    }

    pub fn block_at(id: u64) -> u64 {
        LEASE_AT + LEASE.dblock_offset(host_id(id))
    }

    pub fn block_sector(&self, id: u64) -> DblockSector {
        DblockSector::decode(&self.bytes(Self::block_at(id), 512), host_id(id))
    }

    pub fn block(&self, id: u64) -> Dblock {
        self.block_sector(id).block.unwrap().unwrap()
    }

    pub fn delta_at(id: u64) -> u64 {
        SPACE.delta_offset(host_id(id))
    }

    pub fn delta(&self, id: u64) -> DeltaRecord {
        let sector = self.bytes(Self::delta_at(id), 4096);
        DeltaRecord::decode(&sector, host_id(id), &self.area.name).unwrap()
    }

    /// Changes a sector behind everyone's back.
    pub fn patch(&self, offset: u64, len: usize, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.bytes(offset, len);
        change(&mut bytes);
        self.sim.core.borrow_mut().disks[self.disk.0].write(offset, &bytes);
    }

    pub fn put_leader(&self, leader: &PaxosLeader) {
        self.patch(LEASE_AT, 512, |sector| {
            leader.write_to(sector.first_chunk_mut().unwrap())
        });
    }

    /// The block of a host; the rest of its sector is zero.
    pub fn put_block(&self, id: u64, block: &Dblock) {
        self.patch(Self::block_at(id), 512, |sector| {
            sector.fill(0);
            block.write_to(sector.first_chunk_mut().unwrap());
        });
    }

    pub fn put_delta(&self, id: u64, leader: &DeltaLeader) {
        self.patch(Self::delta_at(id), 4096, |sector| {
            leader.write_to(sector.first_chunk_mut().unwrap())
        });
    }
}

impl Member {
    pub fn id(&self) -> u64 {
        u64::from(self.membership.host_id())
    }

    pub fn is_held(&self) -> bool {
        self.membership.expiry().is_held(self.world.now())
    }

    /// One renewal, as the loop of a lockspace does it.
    pub async fn renew(&self) -> Result<(), delta_lease::RenewError> {
        let mut delta = self.delta.borrow().clone();
        let renewed = delta_lease::renew(&self.world, &self.membership, &mut delta).await;
        let expires_at = delta.expires_at();
        *self.delta.borrow_mut() = delta;
        match &renewed {
            Ok(()) => self.extend(expires_at),
            Err(error) if error.is_fatal() => self.membership.expiry().lose(),
            Err(_) => {}
        }
        renewed
    }

    /// A renewal was good.
    pub fn extend(&self, expires_at: Timestamp) {
        if self
            .membership
            .expiry()
            .extend(self.world.now(), expires_at)
        {
            self.expires_at.set(expires_at);
        }
    }

    /// Renews when it is due, until that is no use any more.
    pub fn keep_alive(&self, sim: &Sim) {
        let me = self.clone();
        sim.spawn(self.host, async move {
            let interval = me.membership.timing().renewal_interval();
            let mut due = me.delta.borrow().renewed_at() + interval;
            while me.is_held() {
                me.world.sleep_until(due).await;
                match me.renew().await {
                    Ok(()) => due = me.delta.borrow().renewed_at() + interval,
                    Err(error) if error.is_fatal() => return,
                    Err(_) => due = me.world.now() + Duration::from_millis(500),
                }
            }
        });
    }

    /// Holding with a note, that may wait for a dead owner.
    pub fn holding(&self, patience: Patience) -> Holding {
        let note = HolderNote::new(
            self.membership.host_id(),
            Generation::new(0),
            LeaseVersion::new(0),
        )
        .with_guest_name("guest");
        Holding {
            patience,
            note: Some(note),
            expected: None,
            cancel: CancelToken::new(),
        }
    }

    pub async fn acquire_as(&self, holding: Holding) -> Result<HeldLease, AcquireFailure> {
        paxos_lease::acquire(&self.world, &self.membership, &self.lease, &holding).await
    }

    pub fn start_acquire(&self, patience: Patience) -> Task<Result<HeldLease, AcquireFailure>> {
        let (me, holding) = (self.clone(), self.holding(patience));
        self.world
            .sim
            .spawn(self.host, async move { me.acquire_as(holding).await })
    }

    /// Acquires without waiting for owners, and comes back when that has ended.
    pub fn acquire(&self) -> Result<HeldLease, AcquireFailure> {
        self.world.sim.run(&self.start_acquire(Patience::Refuse))
    }

    /// The error of an acquire that leaves no pending cleanup.
    pub fn acquire_error(&self) -> AcquireError {
        let failure = self.acquire().unwrap_err();
        assert!(failure.pending.is_none(), "{failure:?}");
        failure.error
    }

    pub fn start_release(&self, held: &HeldLease) -> Task<Result<(), GiveBackError>> {
        let (me, held) = (self.clone(), held.clone());
        self.world.sim.spawn(self.host, async move {
            paxos_lease::release(&me.world, &me.membership, &me.lease, &held, None).await
        })
    }

    pub fn release(&self, held: &HeldLease) -> Result<(), GiveBackError> {
        self.world.sim.run(&self.start_release(held))
    }

    pub fn now(&self) -> Timestamp {
        self.world.now()
    }
}
