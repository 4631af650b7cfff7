//! Host 2 acquires a lease whose sectors, and whose lockspace's, were changed in places.

use disklease::__sim::paxos_lease::{
    self, AcquireError, AcquireFailure, HeldLease, LeaseIoError, Patience,
};
use disklease::__sim::world::World;
use disklease::format::{DblockSector, DeltaLeader, PaxosLeader};

use super::start::{Ended, History, LEASE_HOSTS, STARTS, Start, forget_hosts, put, stay};
use crate::bytes::{DBLOCK_CHECKED, LEADER_CHECKED, LEADER_LEN, u64_at};
use crate::edits::{self, Site};
use crate::input::Input;
use crate::shown;
use disklease_sim::rig::{LEASE, LEASE_AT, host_id, names, secs};
use disklease_sim::{First, IoKind, IoRecord, Member, Oracle, Rig, Sim};

/// Bytes that a checksum covers, and the checksum.
const LEADER_PROTECTED: usize = LEADER_CHECKED + 4;
const DBLOCK_PROTECTED: usize = DBLOCK_CHECKED + 4;

/// Both images, as they were and as they were changed.
struct Image {
    lease: Vec<Site>,
    lease_before: Vec<Site>,
    delta: Vec<Site>,
    delta_before: Vec<Site>,
}

/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (history, start) = &STARTS[usize::from(input.u8()) % STARTS.len()];
    let options = input.u8();
    let (lives, waits, is_new) = (options & 1 == 0, options & 2 != 0, options & 4 != 0);

    let image = Image::new(start, &mut input);
    let sim = Sim::new(First);
    let _ended = Ended(sim.clone());
    let (rig, members) = start.again(&sim);
    let [holder, taker] = &members[..] else {
        unreachable!()
    };
    put(&rig, &image.lease);
    put(&rig, &image.delta);
    if is_new {
        forget_hosts(&rig, taker);
    }
    let oracle = Oracle::new(&sim);
    if let Some(held) = &start.held {
        oracle.holds(holder, held);
    }
    if lives {
        sim.spawn(holder.host, stay(holder.clone()));
    }
    sim.spawn(taker.host, stay(taker.clone()));

    let patience = if waits {
        Patience::WaitForDeath {
            until: Some(taker.now() + secs(200)),
        }
    } else {
        Patience::Refuse
    };
    let acquired = sim.run(&taker.start_acquire(patience));

    let writes: Vec<IoRecord> = sim
        .log_since(0)
        .into_iter()
        .filter(|io| io.kind == IoKind::Write)
        .collect();
    image.writes_are_in_place(&writes, holder, taker);
    let wrote = writes
        .iter()
        .any(|io| io.host == taker.host && io.offset >= LEASE_AT);
    if let Some(offset) = image.first_invalid() {
        let told = match &acquired {
            Err(AcquireFailure {
                error: AcquireError::Lease(LeaseIoError::Format { offset, .. }),
                ..
            }) => Some(*offset),
            _ => None,
        };
        assert!(told == Some(offset) && !wrote, "{offset}: {acquired:?}");
    }
    let must_be_refused = *history == History::Held
        && (lives || !waits)
        && image.is_unchanged(0)
        && image.delta[0].bytes == image.delta_before[0].bytes
        && !image.has_newer_block();
    if must_be_refused {
        assert!(acquired.is_err() && !wrote, "{acquired:?}");
    }
    match acquired {
        Ok(held) => {
            if !image.is_forged() {
                oracle.holds(taker, &held);
            }
            image.is_held(&rig, taker, &held);
            is_given_back(&rig, taker, &held);
        }
        Err(failure) => image.is_refused(&rig, taker, &failure),
    }
}

impl Image {
    fn new(start: &Start, input: &mut Input<'_>) -> Self {
        let (lease_before, delta_before) = (start.lease_sites(), start.delta_sites());
        let mut sites = [&lease_before[..], &delta_before].concat();
        edits::apply(input, &mut sites);
        let delta = sites.split_off(lease_before.len());
        Self {
            lease: sites,
            lease_before,
            delta,
            delta_before,
        }
    }

    fn is_unchanged(&self, site: usize) -> bool {
        self.lease[site].bytes == self.lease_before[site].bytes
    }

    /// The leader, if it is a good one of this lease.
    fn leader(&self) -> Option<PaxosLeader> {
        let (space, resource) = names();
        let leader = PaxosLeader::decode(&self.lease[0].bytes).ok()?;
        leader.expect_names(&space, &resource).ok()
    }

    /// The blocks of hosts 1 to 4, their numbers first.
    fn blocks(&self) -> impl Iterator<Item = (u64, DblockSector)> + '_ {
        (1..).zip(&self.lease[2..]).map(|(id, site)| {
            let sector = DblockSector::decode(&site.bytes, host_id(id));
            (id, sector)
        })
    }

    fn has_newer_block(&self) -> bool {
        let version = self.leader().map(|leader| leader.version());
        self.blocks().any(|(_, sector)| {
            sector
                .block
                .ok()
                .flatten()
                .is_some_and(|block| Some(block.version) > version)
        })
    }

    /// Whether the change is more than damage to one thing at a time: checksums that are right over
    /// other bytes, or bytes without a checksum beside the note that would tell.
    fn is_forged(&self) -> bool {
        let differ = |site: usize, range: std::ops::Range<usize>| {
            self.lease[site].bytes[range.clone()] != self.lease_before[site].bytes[range]
        };
        let leader = self.leader().is_some()
            && (differ(0, 0..LEADER_PROTECTED)
                || differ(0, LEADER_PROTECTED..LEADER_LEN) && !self.is_unchanged(2));
        let blocks = self.blocks().zip(2..).any(|((_, sector), site)| {
            sector.block.is_ok() && differ(site, 0..DBLOCK_PROTECTED - 4)
        });
        let deltas =
            (1..)
                .zip(self.delta.iter().zip(&self.delta_before))
                .any(|(id, (new, old))| {
                    let differ = |range: std::ops::Range<usize>| {
                        new.bytes[range.clone()] != old.bytes[range]
                    };
                    DeltaLeader::decode(&new.bytes, host_id(id)).is_ok()
                        && (differ(0..LEADER_PROTECTED)
                            || differ(LEADER_PROTECTED..LEADER_LEN) && differ(LEADER_LEN..256))
                });
        leader || blocks || deltas
    }

    /// Where the first sector is that no acquire may go beyond, if the lease is of its usual shape.
    fn first_invalid(&self) -> Option<u64> {
        let Some(leader) = self.leader() else {
            return Some(LEASE_AT);
        };
        if leader.geometry() != LEASE || leader.num_hosts() > LEASE_HOSTS {
            return None;
        }
        if leader.num_hosts() < 2 {
            return Some(LEASE_AT);
        }
        let mut in_use = self
            .blocks()
            .take_while(|&(id, _)| id <= u64::from(leader.num_hosts()));
        let (id, _) = in_use.find(|(_, sector)| sector.block.is_err())?;
        Some(Rig::block_at(id))
    }

    /// The holder writes its delta sector alone; the taker its own too, and leader and its own
    /// block of the lease. It empties another's block only where that has the mark of a shared
    /// lock.
    fn writes_are_in_place(&self, writes: &[IoRecord], holder: &Member, taker: &Member) {
        let leader = self.leader();
        let geometry = leader.map_or(LEASE, |leader| leader.geometry());
        let mut version = leader.map(|leader| leader.version());
        for io in writes {
            if io.host == holder.host {
                assert_eq!(io.offset, Rig::delta_at(1));
                continue;
            }
            assert_eq!(io.host, taker.host);
            if io.offset == Rig::delta_at(2) {
                continue;
            }
            assert_eq!(io.len, geometry.sector_size());
            if io.offset == LEASE_AT {
                let written = PaxosLeader::decode(&io.bytes).unwrap();
                let (space, resource) = names();
                let written = written.expect_names(&space, &resource).unwrap();
                assert_eq!(written.geometry(), geometry);
                assert!(Some(written.version()) >= version, "{io:?}");
                assert_eq!(written.write_id(), taker.id());
                version = Some(written.version());
            } else if io.offset == LEASE_AT + geometry.dblock_offset(host_id(2)) {
                let written = DblockSector::decode(&io.bytes, host_id(2));
                assert!(matches!(written.block, Ok(Some(_))) && written.shared.is_none());
            } else {
                let site = (2..self.lease.len()).find(|&site| self.lease[site].offset == io.offset);
                let id = u64::try_from(site.unwrap() - 1).unwrap();
                let sector = DblockSector::decode(&self.lease[site.unwrap()].bytes, host_id(id));
                assert!(sector.shared.is_some(), "{io:?}");
                assert!(io.bytes.iter().all(|&byte| byte == 0));
            }
        }
    }

    fn is_held(&self, rig: &Rig, taker: &Member, held: &HeldLease) {
        let before = self.leader().unwrap();
        assert!(held.version() > before.version());
        let leader = leader_on_disk(rig).unwrap();
        assert_eq!(leader.version(), held.version());
        assert_eq!(leader.last_owner(), Some(host_id(2)));
        assert_eq!(leader.generation(), taker.membership.generation());
        assert!(!leader.is_free());
    }

    fn is_refused(&self, rig: &Rig, taker: &Member, failure: &AcquireFailure) {
        let text = shown::one_line(&failure.error);
        if let AcquireError::Lease(
            LeaseIoError::Format { offset, .. }
            | LeaseIoError::Read { offset, .. }
            | LeaseIoError::Write { offset, .. },
        ) = failure.error
        {
            assert!(
                offset >= LEASE_AT && text.contains(&format!("byte {offset}")),
                "{text}"
            );
        }
        // The storage fails nothing.
        assert!(failure.pending.is_none() || !taker.is_held());
        let is_ours = |leader: &PaxosLeader| {
            leader.last_owner() == Some(host_id(2))
                && leader.generation() == taker.membership.generation()
                && !leader.is_free()
        };
        let before = PaxosLeader::decode(&self.lease[0].bytes);
        if failure.pending.is_some() || before.as_ref().is_ok_and(is_ours) {
            return;
        }
        // Nobody holds it who was refused.
        if let Some(leader) = leader_on_disk(rig).filter(is_ours) {
            let own = rig.block_sector(2);
            assert!(own.released && leader.write_id() != 2, "{leader:?} {own:?}");
        }
    }
}

/// The leader as it is now.
fn leader_on_disk(rig: &Rig) -> Option<PaxosLeader> {
    let mut found = None;
    rig.patch(LEASE_AT, 512, |sector| {
        found = PaxosLeader::decode(sector).ok();
    });
    found
}

fn is_given_back(rig: &Rig, taker: &Member, held: &HeldLease) {
    let (member, lease) = (taker.clone(), held.clone());
    let verified = rig.sim.run_on(taker.host, async move {
        paxos_lease::verify(&member.world, &member.membership, &member.lease, &lease).await
    });
    assert_eq!(verified, Ok(()));
    if !taker.is_held() {
        return;
    }
    taker.release(held).unwrap();
    let leader = leader_on_disk(rig).unwrap();
    assert!(leader.is_free() && leader.version() == held.version());
    let own = LEASE_AT + leader.geometry().dblock_offset(host_id(2));
    rig.patch(own, 512, |sector| {
        assert_eq!(u64_at(sector, 40), held.version().get());
    });
    assert!(taker.world.now() >= taker.delta.borrow().renewed_at());
}

/// Each history with each kind of host 1, unchanged and with the usual changes.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for history in 0..3 {
        for options in 0..8 {
            seeds.push(vec![history, options]);
            for sample in edits::samples(10)
                .into_iter()
                .skip(usize::from(options) % 2)
                .step_by(2)
            {
                seeds.push([&[history, options][..], &sample].concat());
            }
        }
    }
    // An owner that has crashed, with a short N in the field that no checksum covers.
    seeds.push([&[2, 7][..], &edits::write(6, 174, &[1, 0], false)].concat());
    seeds
}
