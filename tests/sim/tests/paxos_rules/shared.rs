//! Hosts that hold the lease in shared mode, as sanlock's do.

use disklease::__sim::paxos_lease::{AcquireError, Patience};
use disklease::format::{Dblock, Generation, LeaseVersion, ModeBlock};

use super::setup::{joined, lease_writes};
use disklease_sim::rig::{host_id, secs};
use disklease_sim::{Member, Pending, Rig};

/// Host `id` shares the lease, in this generation.
pub(super) fn share(rig: &Rig, id: u64, generation: u64) {
    rig.patch(Rig::block_at(id), 512, |sector| {
        let block = Dblock {
            released: true,
            mbal: id,
            version: LeaseVersion::new(0),
            ..Dblock::default()
        };
        block.write_to(sector.first_chunk_mut().unwrap());
        ModeBlock {
            shared: Generation::new(generation),
        }
        .write_to(sector.first_chunk_mut().unwrap());
    });
}

fn sharers(error: AcquireError) -> Vec<u64> {
    match error {
        AcquireError::HeldShared { hosts } => {
            hosts.iter().map(|(host, _)| u64::from(*host)).collect()
        }
        other => panic!("{other}"),
    }
}

/// A sharer that is alive is respected before any ballot.
#[test]
fn a_live_sharer_is_respected_and_nothing_is_written() {
    let (rig, [a, _, _]) = joined();
    share(&rig, 2, 1);
    rig.sim.run_for(secs(45));
    let from = rig.sim.log_len();
    assert_eq!(sharers(a.acquire_error()), [2]);
    assert_eq!(lease_writes(&rig, &a, from).len(), 0);
}

/// One that may be alive is respected after the ballot: the lease is given back.
#[test]
fn a_sharer_that_may_be_alive_is_respected() {
    let (rig, [a]) = joined();
    let (_, world) = rig.add_host();
    rig.join_on(&world, rig.claimant(2, "never seen to renew", 10));
    share(&rig, 2, 1);
    assert_eq!(sharers(a.acquire_error()), [2]);
    assert!(rig.leader().is_free() && rig.block(1).released);
    assert_eq!(rig.leader().version(), LeaseVersion::new(1));
    assert_eq!(
        rig.block_sector(2).shared,
        Some(Generation::new(1)),
        "still there"
    );
}

/// One that no scan has shown yet may be alive.
#[test]
fn a_sharer_that_was_never_seen_is_respected() {
    let (rig, [a]) = joined();
    share(&rig, 2, 1);
    assert!(a.membership.observed(host_id(2)).is_none());
    assert_eq!(sharers(a.acquire_error()), [2]);
    assert_eq!(rig.block_sector(2).shared, Some(Generation::new(1)));
}

fn cleared(rig: &Rig, a: &Member) {
    a.acquire().unwrap();
    let sector = rig.block_sector(2);
    assert_eq!((sector.shared, sector.block), (None, Ok(None)), "all zero");
}

/// The mark of a sharer that is dead, that has left, or whose incarnation has ended is cleared away.
#[test]
fn the_mark_of_a_dead_sharer_is_cleared() {
    let (rig, [a, b]) = joined();
    share(&rig, 2, 1);
    rig.sim.crash(b.host, Pending::Vanish);
    rig.sim.run_for(secs(200));
    cleared(&rig, &a);

    let (rig, [a, b]) = joined();
    share(&rig, 2, 1);
    rig.sim.crash(b.host, Pending::Vanish);
    rig.put_delta(2, &rig.delta(2).leader.released());
    rig.sim.run_for(secs(25));
    cleared(&rig, &a);

    let (rig, [a, b]) = joined();
    share(&rig, 2, 1);
    rig.sim.crash(b.host, Pending::Vanish);
    let mut again = rig.claimant(2, "host-2", 10);
    let earlier = b.membership.incarnation();
    again.earlier_incarnation =
        disklease::__sim::delta_lease::EarlierIncarnation::ProvenEnded(earlier);
    rig.join_on(&b.world, again).keep_alive(&rig.sim);
    rig.sim.run_for(secs(60));
    cleared(&rig, &a);
}

/// A sharer whose present life the scans have not seen is respected, whatever became of the life
/// before: they saw the id free, and it is in use again.
#[test]
fn a_sharer_in_a_life_not_seen_yet_is_respected() {
    let (rig, [a]) = joined();
    let (_, world) = rig.add_host();
    rig.join_on(&world, rig.claimant(2, "quick", 1));
    rig.put_delta(2, &rig.delta(2).leader.released());
    rig.sim.run_for(secs(25));
    // Between two scans of A's.
    let scanned_from = || a.membership.hosts(|table| table.scanned_from());
    let scanned = scanned_from();
    rig.sim.run_until(|| scanned_from() > scanned);
    let again = rig.join_on(&world, rig.claimant(2, "quick", 1));
    assert_eq!(again.membership.generation(), Generation::new(2));
    assert_eq!(
        a.membership
            .observed(host_id(2))
            .unwrap()
            .seen()
            .leader
            .generation(),
        Generation::new(1)
    );
    share(&rig, 2, 2);
    assert_eq!(sharers(a.acquire_error()), [2]);
    assert_eq!(rig.block_sector(2).shared, Some(Generation::new(2)));
}

/// A mark without a generation says nothing, and is left where it is.
#[test]
fn a_mark_without_a_generation_is_ignored() {
    let (rig, [a, _]) = joined();
    share(&rig, 2, 0);
    rig.sim.run_for(secs(45));
    a.acquire().unwrap();
    assert_eq!(rig.block_sector(2).shared, Some(Generation::new(0)));
}

/// Also where nothing is known of its host.
#[test]
fn a_mark_without_a_generation_of_an_unknown_host_is_ignored() {
    let (rig, [a]) = joined();
    share(&rig, 2, 0);
    a.acquire().unwrap();
    assert_eq!(rig.block_sector(2).shared, Some(Generation::new(0)));
}

/// Whoever cannot look again at a sharer's sector gives the lease back: the sharer may be alive.
#[test]
fn a_lease_is_given_back_when_a_sharer_cannot_be_looked_at() {
    let (rig, [a]) = joined();
    share(&rig, 2, 1);
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.fail_next(a.host, false, |io| {
        io.is_read() && io.offset == Rig::block_at(2)
    });
    let failure = rig.sim.run(&task).unwrap_err();
    assert!(
        matches!(failure.error, AcquireError::Lease(_)),
        "{failure:?}"
    );
    assert!(rig.leader().is_free() && rig.block(1).released);
}

/// No single bit of a live sharer's mark, which no checksum covers, makes it look gone or dead.
#[test]
fn a_live_sharer_is_respected_though_a_bit_of_its_mark_is_damaged() {
    // Flags and generation; between them is padding.
    for bit in (0..32).chain(64..128) {
        for generation in [1, 2] {
            let (rig, [a, b, _]) = joined();
            let mut b = b;
            if generation == 2 {
                rig.sim.crash(b.host, Pending::Vanish);
                rig.put_delta(2, &rig.delta(2).leader.released());
                b = rig.join(2);
            }
            let held = b.acquire().unwrap();
            b.release(&held).unwrap();
            rig.patch(Rig::block_at(2), 512, |sector| {
                let shared = Generation::new(generation);
                ModeBlock { shared }.write_to(sector.first_chunk_mut().unwrap());
                sector[128 + bit / 8] ^= 1 << (bit % 8);
            });
            rig.sim.run_for(secs(45));
            assert_eq!(sharers(a.acquire_error()), [2], "bit {bit} of {generation}");
        }
    }
}

/// The own mark goes with the first write of the own block.
#[test]
fn the_own_mark_is_no_obstacle() {
    let (rig, [a]) = joined();
    share(&rig, 1, 1);
    a.acquire().unwrap();
    assert_eq!(rig.block_sector(1).shared, None);
}
