//! Two hosts acquire and release one lease, in an order and on storage that the input makes.
//!
//! At no time may both hold it, and no version is held twice: whatever the order of their steps,
//! whatever I/O fails, comes late or hangs, whichever host stands still, or crashes and joins
//! again; and whatever **one** of these is on the disk from the start:
//!
//! * a record whose checksum is not right any more: leader, block, delta leader;
//! * other bytes in one place that no checksum covers;
//! * anything at all in the blocks of hosts that never took part. Two of them, with right
//!   checksums, are as two hosts that began ballots and died. But a lease that is held is then held
//!   by whoever the newest block makes the owner: such blocks come only where nobody holds it.

use std::time::Duration;

use disklease::__sim::delta_lease::{self, EarlierIncarnation};
use disklease::__sim::paxos_lease::{self, GiveBackError, HeldLease, LeftBehind, Patience};
use disklease::__sim::world::World;
use disklease::format::{DblockSector, DeltaLeader, PaxosLeader};

use super::chooser::Bytes;
use super::start::{Ended, History, STARTS, Start, stay};
use crate::bytes::{self, DBLOCK_CHECKED, LEADER_CHECKED, LEADER_LEN};
use crate::input::Input;
use disklease_sim::rig::{LEASE_AT, host_id, secs};
use disklease_sim::{Faults, Member, Oracle, Pending, Rig, Sim, SimWorld, Task};

/// Runs are ended after so many steps.
const STEPS_MAX: u32 = 20_000;

/// Makes a run keep a log of its I/O, which is shown when it fails.
const LOG: &str = "DISKLEASE_FUZZ_LOG";

/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (history, start) = &STARTS[usize::from(input.u8()) % STARTS.len()];
    let faults = faults(&mut input);
    let damage: [u8; 24] = input.array();
    let actions: [[u8; 4]; 3] = std::array::from_fn(|_| input.array());

    let (chooser, used_up) = Bytes::new(input.rest());
    let sim = if std::env::var_os(LOG).is_some() {
        Sim::new(chooser)
    } else {
        Sim::without_log(chooser)
    };
    let _ended = Ended(sim.clone());
    let (rig, members) = start.again(&sim);
    put_damage(&rig, start, *history, &damage);
    sim.set_faults(faults);
    let oracle = Oracle::new(&sim);
    let mut run = Run {
        users: Vec::new(),
        members,
        rig,
        oracle,
    };
    for host in 0..run.members.len() {
        run.begin(host, start.held.clone().filter(|_| host == 0));
    }

    let mut actions = actions.map(|[low, high, action, host]| {
        let at = u32::from(u16::from_le_bytes([low, high]) % 2000);
        (at, action, usize::from(host) % 2)
    });
    actions.sort_unstable();
    let mut actions = actions.into_iter().peekable();
    for step in 0..STEPS_MAX {
        while let Some((_, action, host)) = actions.next_if(|(at, ..)| *at <= step) {
            run.act(action, host);
        }
        if used_up.get() {
            sim.set_faults(Faults::default());
        }
        if run.users.iter().all(Task::is_done) {
            return;
        }
        if !sim.step() {
            // Only those who stand still are left.
            let Some((_, action, host)) = actions.next() else {
                return;
            };
            run.act(action, host);
        }
    }
}

/// From no faults at all to a disk that is hardly of any use; latencies of all orders.
fn faults(input: &mut Input<'_>) -> Faults {
    let badness = input.one_of(&[0, 10, 60, 200]);
    let latency = input.one_of(&[0, 5, 50, 3000]);
    let mut rate = || (u64::from(input.u8()) * badness) >> 8;
    Faults {
        latency_min: Duration::ZERO,
        latency_max: Duration::from_millis(latency),
        read_error: rate(),
        read_timeout: rate(),
        write_error: rate(),
        write_timeout: rate(),
        late_max: secs(20),
        torn_read: 300,
        ..Faults::default()
    }
}

struct Run {
    rig: Rig,
    oracle: Oracle,
    members: Vec<Member>,
    /// What each host is doing in its present life.
    users: Vec<Task<()>>,
}

impl Run {
    /// A host renews, and uses the lease.
    fn begin(&mut self, host: usize, held: Option<HeldLease>) {
        let member = self.members[host].clone();
        if let Some(held) = &held {
            self.oracle.holds(&member, held);
        }
        let sim = &self.rig.sim;
        sim.spawn(member.host, stay(member.clone()));
        let task = sim.spawn(member.host, use_lease(member, self.oracle.clone(), held));
        self.users.push(task);
    }

    fn act(&mut self, action: u8, host: usize) {
        let sim = &self.rig.sim;
        let at = self.members[host].host;
        match action % 8 {
            1 => sim.pause(at, true),
            2 => sim.pause(at, false),
            3 => sim.hang_io(at),
            4 => sim.unhang_io(at),
            5..=7 => {
                let pending = [Pending::GoOn, Pending::Land, Pending::Vanish];
                self.oracle.no_longer_holds(&self.members[host]);
                sim.crash(at, pending[usize::from(action % 8 - 5)]);
                self.rejoin(host);
            }
            _ => {}
        }
    }

    /// The host joins anew after its crash, and uses the lease again.
    fn rejoin(&mut self, host: usize) {
        let member = &self.members[host];
        let (rig, oracle, world) = (self.rig.clone(), self.oracle.clone(), member.world.clone());
        let mut claimant = rig.claimant(member.id(), &format!("host-{}", member.id()), 10);
        claimant.earlier_incarnation = EarlierIncarnation::MayRun;
        let sim = self.rig.sim.clone();
        let at = world.host;
        let world = SimWorld::new(&sim, at);
        // What it did before will never be done.
        self.users[host] = sim.clone().spawn(at, async move {
            let claimed = delta_lease::claim(&world, &rig.area, &claimant, &|_| {}).await;
            let Ok(delta) = claimed else { return };
            let member = rig.member(&world, delta);
            sim.spawn(at, stay(member.clone()));
            use_lease(member, oracle, None).await;
        });
    }
}

/// Acquires, holds for a moment, releases; again and again. Pending cleanups are reconciled before the next
/// acquire is made, mostly.
async fn use_lease(member: Member, oracle: Oracle, mut held: Option<HeldLease>) {
    let world = &member.world;
    let pause = |below_millis| world.sleep(Duration::from_millis(world.random(below_millis)));
    for _ in 0..3 {
        pause(30).await;
        let acquired = if let Some(held) = held.take() {
            Ok(held)
        } else {
            let patience = match world.random(4) {
                0..=2 => Patience::Refuse,
                _ => Patience::WaitForDeath {
                    until: Some(world.now() + secs(3)),
                },
            };
            let acquired = member.acquire_as(member.holding(patience)).await;
            if let Ok(held) = &acquired {
                oracle.holds(&member, held);
            }
            acquired
        };
        let pending = match acquired {
            Ok(held) => {
                pause(20).await;
                oracle.no_longer_holds(&member);
                match paxos_lease::release(world, &member.membership, &member.lease, &held, None)
                    .await
                {
                    Err(GiveBackError::Lease(_)) => Some(LeftBehind::of_release(&held)),
                    _ => None,
                }
            }
            Err(failure) => failure.pending,
        };
        if world.random(8) != 7
            && let Some(pending) = pending
        {
            clean_up(&member, pending).await;
        }
    }
}

async fn clean_up(member: &Member, pending: LeftBehind) {
    while member.is_held() {
        let cleaned_up =
            paxos_lease::retract(&member.world, &member.membership, &member.lease, &pending).await;
        if cleaned_up.is_ok() {
            return;
        }
        member.world.sleep(Duration::from_millis(500)).await;
    }
}

/// Puts one wrong thing on the disk, or none.
fn put_damage(rig: &Rig, start: &Start, history: History, damage: &[u8]) {
    let mut input = Input::new(damage);
    let kind = input.u8() % 4;
    if kind == 3 {
        if history != History::Held {
            for id in [3, 4] {
                put_unused_block(rig, id, &mut input);
            }
        }
        return;
    }
    // Leader; blocks of hosts 1 and 2; their delta leaders.
    let which = input.u8() % 5;
    let sites = [start.lease_sites(), start.delta_sites()].concat();
    let mut site = sites[[0, 2, 3, 6, 7][usize::from(which)]].clone();
    let is_block = matches!(which, 1 | 2);
    let place = match (kind, is_block) {
        (1, true) => 0..DBLOCK_CHECKED + 4,
        (1, false) => 0..LEADER_CHECKED + 4,
        (2, true) => DBLOCK_CHECKED + 4..144,
        (2, false) => LEADER_CHECKED + 4..LEADER_LEN,
        _ => return,
    };
    let at = place.start + usize::from(input.u8()) % place.len();
    let end = place.end.min(at + 1 + usize::from(input.u8()) % 8);
    for byte in &mut site.bytes[at..end] {
        *byte ^= input.u8();
    }
    let id = host_id(if matches!(which, 2 | 4) { 2 } else { 1 });
    let is_good = match which {
        0 => PaxosLeader::decode(&site.bytes).is_ok(),
        1 | 2 => DblockSector::decode(&site.bytes, id).block.is_ok(),
        _ => DeltaLeader::decode(&site.bytes, id).is_ok(),
    };
    // By chance the checksum may be right over other bytes: that is no damage that anybody sees.
    if kind == 2 || !is_good {
        rig.patch(site.offset, site.bytes.len(), |sector| {
            sector.copy_from_slice(&site.bytes);
        });
    }
}

/// The block of a host that never took part: small numbers, which are near those in use.
fn put_unused_block(rig: &Rig, id: u64, input: &mut Input<'_>) {
    let mut sector = [0; 512];
    let mut put = |at: usize, value: u64| sector[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let number = |input: &mut Input<'_>| {
        // In the order of ballot numbers: rounds of 2000 hosts.
        let byte = u64::from(input.u8());
        (byte >> 3) * 2000 + (byte & 7)
    };
    put(0, number(input));
    put(8, number(input));
    put(16, u64::from(input.u8()));
    put(24, u64::from(input.u8()));
    put(32, u64::from(input.u16()));
    put(40, u64::from(input.u8()));
    let flags = input.u8();
    sector[52] = flags & 1;
    sector[128] = flags >> 1 & 1;
    if flags & 4 == 0 {
        bytes::seal_dblock(&mut sector);
    }
    rig.patch(Rig::block_at(id), 512, |bytes| {
        bytes.copy_from_slice(&sector);
    });
    debug_assert!(Rig::block_at(id) > LEASE_AT);
}

/// Some runs of each kind, from a fixed sequence of numbers.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut state = 7_u64;
    let mut number = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let mut seeds = Vec::new();
    for history in 0..3_u8 {
        for latency in 0..4 {
            for kind in 0..4 {
                let mut seed: Vec<u8> = (0..700).map(|_| number()).collect();
                seed[..3].copy_from_slice(&[history, latency, latency]);
                seed[7] = kind;
                seeds.push(seed);
            }
        }
    }
    seeds
}
