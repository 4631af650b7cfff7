//! A lockspace and a lease with a history, from which a run starts.

use std::sync::LazyLock;
use std::time::Duration;

use disklease::__sim::delta_lease::{DeltaLease, DeltaSectorErrorKind, HostTable};
use disklease::__sim::paxos_lease::HeldLease;
use disklease::__sim::world::{Timestamp, World};
use disklease::format::{DeltaLeader, HostName};

use crate::edits::{Kind, Site};
use disklease_sim::clock::TrueTime;
use disklease_sim::disk::Sectors;
use disklease_sim::rig::{LEASE, LEASE_AT, SPACE, host_id, names, secs};
use disklease_sim::{First, Member, Rig, Sim};

/// Hosts that may take the lease.
pub const LEASE_HOSTS: u16 = 8;
/// How often hosts 1 and 2 joined before: their generation is one more.
const EARLIER_LIVES: u64 = 3;
/// A host id that was given back.
pub const LEFT: u64 = 4;
/// Bytes of a sector in which anything is.
const SITE: usize = 512;

/// What the lease has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Nothing.
    Fresh,
    /// Host 1 had it, then host 2.
    Used,
    /// The same, and host 1 has it again.
    Held,
}

/// Hosts 1 and 2 have joined, with an N of 10 and of 5 s, and have seen each other renew.
pub struct Start {
    pub disk: Sectors,
    pub at: TrueTime,
    members: Vec<(DeltaLease, HostTable)>,
    pub held: Option<HeldLease>,
}

pub static STARTS: LazyLock<[(History, Start); 3]> = LazyLock::new(|| {
    [History::Fresh, History::Used, History::Held].map(|history| (history, Start::new(history)))
});

impl Start {
    fn new(history: History) -> Self {
        let rig = Rig::new(Sim::new(First), LEASE_HOSTS);
        let sim = rig.sim.clone();
        let (space, _) = names();
        for id in [1, 2, LEFT] {
            let name = HostName::new("an-earlier-host").unwrap();
            let mut leader = DeltaLeader::free(SPACE, &space, 10);
            for life in 1..=EARLIER_LIVES {
                leader = leader
                    .acquired(host_id(id), &name, life, 10)
                    .unwrap()
                    .released();
            }
            rig.put_delta(id, &leader);
        }
        let worlds = [1, 2].map(|_| rig.add_host().1);
        let claims = [(1, 10), (2, 5)].map(|(id, n)| rig.claimant(id, &format!("host-{id}"), n));
        let claims: Vec<_> = worlds
            .iter()
            .zip(claims)
            .map(|(world, claimant)| rig.claim(world, claimant))
            .collect();
        let members: Vec<Member> = worlds
            .iter()
            .zip(&claims)
            .map(|(world, claim)| rig.member(world, sim.run(claim).unwrap()))
            .collect();
        let mut held = None;
        if history != History::Fresh {
            for member in &members {
                let lease = member.acquire().unwrap();
                member.release(&lease).unwrap();
            }
        }
        if history == History::Held {
            held = Some(members[0].acquire().unwrap());
        }
        for _ in 0..2 {
            for member in &members {
                let renewing = member.clone();
                sim.run_on(member.host, async move { renewing.renew().await })
                    .unwrap();
            }
            // No acquire of a run falls into the second of one before.
            sim.run_for(secs(15));
        }
        let of = |member: &Member| {
            let table = member.membership.hosts(|table| table.clone());
            (member.delta.borrow().clone(), table)
        };
        let core = sim.core.borrow();
        Self {
            disk: core.disks[0].clone(),
            at: core.now,
            members: members.iter().map(of).collect(),
            held,
        }
    }

    /// The same world again, in `sim`.
    pub fn again(&self, sim: &Sim) -> (Rig, Vec<Member>) {
        let rig = Rig::on(sim.clone(), LEASE_HOSTS, self.disk.clone());
        sim.core.borrow_mut().now = self.at;
        let members = self.members.iter().map(|(delta, table)| {
            let (_, world) = rig.add_host();
            let member = rig.member(&world, delta.clone());
            member.membership.hosts(|seen| *seen = table.clone());
            member
        });
        let members = members.collect();
        (rig, members)
    }

    /// The sectors of the lease that are of interest: leader, request, blocks of hosts 1 to 4.
    pub fn lease_sites(&self) -> Vec<Site> {
        let blocks = (1..=4).map(|id| (Kind::Block, LEASE.dblock_offset(host_id(id))));
        let rest = [(Kind::Leader, 0), (Kind::Request, LEASE.request_offset())];
        rest.into_iter()
            .chain(blocks)
            .map(|(kind, offset)| self.site(kind, LEASE_AT + offset))
            .collect()
    }

    /// The sectors of host ids 1 to 4.
    pub fn delta_sites(&self) -> Vec<Site> {
        let offset = |id| SPACE.delta_offset(host_id(id));
        (1..=4)
            .map(|id| self.site(Kind::Delta, offset(id)))
            .collect()
    }

    fn site(&self, kind: Kind, offset: u64) -> Site {
        let mut bytes = vec![0; SITE];
        self.disk.read(offset, &mut bytes);
        Site {
            kind,
            offset,
            bytes,
        }
    }
}

/// Takes from a host what it has seen of the others: as if it had only just joined.
pub fn forget_hosts(rig: &Rig, member: &Member) {
    let own = Some(member.membership.host_id());
    let table = HostTable::new(SPACE, rig.area.name, rig.fire_timeout, own);
    member.membership.hosts(|seen| *seen = table);
}

/// Puts what was changed on the disk.
pub fn put(rig: &Rig, sites: &[Site]) {
    for site in sites {
        rig.patch(site.offset, site.bytes.len(), |sector| {
            sector.copy_from_slice(&site.bytes);
        });
    }
}

/// Renews for as long as that is of any use.
///
/// The first time as a lockspace does it. After that without inspecting the other hosts, which
/// takes most of a run's time.
pub async fn stay(member: Member) {
    let world = &member.world;
    let interval = member.membership.timing().renewal_interval();
    let mut last = member.delta.borrow().renewed_at();
    world.sleep_until(last + interval).await;
    while member.is_held() {
        match member.renew().await {
            Ok(()) => break,
            Err(error) if error.is_fatal() => return,
            Err(_) => world.sleep(PAUSE).await,
        }
    }
    last = member.delta.borrow().renewed_at();
    let mut ours = None;
    while member.is_held() {
        world.sleep_until(last + interval).await;
        match renew_lightly(&member, &mut ours).await {
            Some(begun) => last = begun,
            None => world.sleep(PAUSE).await,
        }
    }
}

const PAUSE: Duration = Duration::from_millis(500);

/// Gives the instant from which the renewal counts, if it was good. `ours` is what the sector must
/// hold, where that is known.
async fn renew_lightly(member: &Member, ours: &mut Option<DeltaLeader>) -> Option<Timestamp> {
    let timing = member.membership.timing();
    let id = member.membership.host_id();
    let area = member.membership.area();
    let world = &member.world;
    let found = match area.read_sector(world, id, timing.io()).await {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), DeltaSectorErrorKind::Read(_)) => return None,
        Err(_) => {
            member.membership.expiry().lose();
            return None;
        }
    };
    if ours.is_some_and(|ours| ours != found.leader) {
        member.membership.expiry().lose();
    }
    if !member.is_held() {
        return None;
    }
    let n = u16::from(timing.io_timeout().as_secs());
    let next = found.leader.renewed(world.clock_secs(), n);
    let begun = world.now();
    let note = found.note.as_ref();
    let left = member.expires_at.get().since(begun);
    let written = area.write_sector(world, id, &next, note, left).await;
    *ours = written.is_ok().then_some(next);
    written.ok()?;
    member.extend(begun + timing.lost_after());
    Some(begun)
}

/// Ends all tasks when a run has ended, lest they and the run keep each other.
pub struct Ended(pub Sim);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}
