//! Hosts that want the same host id at the same time, and writes that come too late.

use disklease::__sim::delta_lease::{ClaimError, DeltaSectorErrorKind};
use disklease::__sim::paxos_lease::AcquireError;
use disklease::__sim::world::WriteError;

use disklease_sim::rig::{formatted, host_now, secs};
use disklease_sim::{Faults, First, IoKind, Paths, Rig, Seeded, Sim, nth};

/// Hosts that claim the same free id at once, by the order in which this run makes their steps.
/// Gives how many have it 30 s later.
fn winners(rig: &Rig, hosts: usize) -> usize {
    let claims: Vec<_> = (0..hosts)
        .map(|n| {
            let (_, world) = rig.add_host();
            // Io timeouts of their own, lest those that wait inspect the same instants.
            rig.claim(
                &world,
                rig.claimant(1, &format!("host-{n}"), [7, 11, 13][n]),
            )
        })
        .collect();
    rig.sim.run_for(secs(30));
    let done = claims.iter().filter(|claim| claim.is_done());
    done.filter(|claim| claim.take().is_ok()).count()
}

/// Of hosts that claim an id at the same time exactly one gets it, in every order of their steps.
#[test]
fn of_hosts_that_claim_an_id_at_once_exactly_one_wins_in_every_order() {
    let disk = formatted(3);
    for (hosts, at_least) in [(2, 6), (3, 90)] {
        let paths = Paths::explore(100_000, |paths| {
            let rig = Rig::on(Sim::new(paths), 3, disk.clone());
            assert_eq!(winners(&rig, hosts), 1, "{}", rig.sim.log_text());
        });
        assert!(paths >= at_least, "{paths} paths");
    }
}

/// Nor do two get it when every I/O takes its time: some of them longer than is allowed.
#[test]
fn slow_storage_never_gives_an_id_to_two() {
    let mut won = 0;
    for seed in 0..300 {
        let rig = Rig::new(Sim::new(Seeded::new(seed)), 3);
        rig.sim.set_faults(Faults {
            write_timeout: 100,
            late_max: secs(60),
            ..Faults::latency(secs(0), secs(12))
        });
        let winners = {
            let claims: Vec<_> = (0..3)
                .map(|n| {
                    let (_, world) = rig.add_host();
                    rig.claim(&world, rig.claimant(1, &format!("host-{n}"), 8 + n))
                })
                .collect();
            rig.sim.run_for(secs(100));
            claims
                .iter()
                .filter(|claim| claim.is_done() && claim.take().is_ok())
                .count()
        };
        assert!(winners <= 1, "seed {seed}\n{}", rig.sim.log_text());
        won += winners;
    }
    assert!(won > 50, "only {won} of 300 ever won");
}

/// From the read of the free sector to the end of the write not more than 2N may pass: whoever
/// began at the same time would not see it any more.
#[test]
fn a_write_that_comes_too_late_is_refused() {
    let rig = Rig::new(Sim::new(First), 3);
    let (host, world) = rig.add_host();
    let look = rig.sim.hold_next(host, |io| io.is_read());
    let write = rig.sim.hold_next(host, |io| io.is_write());
    let claim = rig.claim(&world, rig.claimant(1, "me", 20));
    rig.sim.run_for(secs(12));
    rig.sim.release_held(&look);
    rig.sim.run_for(secs(9));
    rig.sim.release_held(&write);
    let error = rig.sim.run(&claim).unwrap_err();
    assert!(matches!(error, ClaimError::TooSlow { took, limit, .. }
        if took == secs(21) && limit == secs(20)));
}

/// A claim that came too late may have landed over a host that has the id. It does not free it:
/// that would say that this host's leases have ended, while it holds them until its next renewal.
#[test]
fn a_claim_that_came_too_late_does_not_free_the_id_of_its_owner() {
    let rig = Rig::new(Sim::new(First), 3);
    let other = rig.join(2);
    let (late, late_world) = rig.add_host();
    let look = rig.sim.hold_next(late, |io| io.is_read());
    let write = rig.sim.hold_next(late, |io| io.is_write());
    let late_claim = rig.claim(&late_world, rig.claimant(1, "late", 20));
    rig.sim.run_until_held(&look);
    rig.sim.let_happen(&look);
    // The id is claimed by its owner 1 s before the other's write begins.
    let (_, world) = rig.add_host();
    let claim = rig.claim(&world, rig.claimant(1, "owner", 10));
    rig.sim.run_for(secs(1));
    rig.sim.release_held(&look);
    rig.sim.run_until_held(&write);
    let owner = rig.member(&world, rig.sim.run(&claim).unwrap());
    owner.keep_alive(&rig.sim);
    owner.acquire().unwrap();
    rig.sim.run_for(secs(1) / 2);
    rig.sim.release_held(&write);
    assert!(matches!(
        rig.sim.run(&late_claim),
        Err(ClaimError::TooSlow { .. })
    ));

    assert!(owner.is_held(), "it does not know yet");
    assert!(matches!(other.acquire_error(), AcquireError::Held(_)));
    rig.sim.run_for(secs(20));
    assert!(!owner.is_held(), "it has found out");
}

/// A claim that was inspected long ago is not renewed: it may be another host's by now.
#[test]
fn a_claim_is_not_renewed_long_after_it_was_looked_at() {
    let rig = Rig::new(Sim::new(First), 3);
    let (host, world) = rig.add_host();
    let look = rig.sim.hold_next(host, nth(2, |io| io.is_read()));
    let claim = rig.claim(&world, rig.claimant(1, "me", 1));
    rig.sim.run_until_held(&look);
    rig.sim.pause(host, true);
    rig.sim.release_held(&look);
    rig.sim.run_for(secs(3));
    rig.sim.pause(host, false);
    let error = rig.sim.run(&claim).unwrap_err();
    assert!(matches!(error, ClaimError::TooSlow { took, limit, .. }
        if took == secs(3) && limit == secs(2)));
}

/// The timer of a claimant that stands still right before it writes goes by when it has last written.
#[test]
fn a_claim_is_not_renewed_long_after_it_was_last_written() {
    let claimed = |fails: usize| {
        let rig = Rig::new(Sim::new(First), 3);
        rig.patch(Rig::delta_at(1), 512, |sector| {
            sector[174..176].copy_from_slice(&75_u16.to_le_bytes());
        });
        let (host, world) = rig.add_host();
        let claim = rig.claim(&world, rig.claimant(1, "me", 10));
        rig.sim.run_for(secs(19));
        // One in half a second.
        for _ in 0..fails {
            rig.sim.fail_next(host, false, |io| io.is_read());
        }
        rig.sim.run(&claim)
    };
    claimed(30).unwrap();
    let error = claimed(45).unwrap_err();
    assert!(
        matches!(error, ClaimError::TooSlow { took, limit, .. }
            if took > secs(40) && took < secs(50) && limit == secs(40)),
        "{error:?}"
    );
}

/// Where the sector has no good N, claimants have only their own to go by, and one with a long N
/// must not take longer than one with the shortest waits: here it would write over an owner that
/// was confirmed, and hold its leases beside it.
#[test]
fn without_a_good_n_on_disk_the_longest_own_one_gives_no_more_time() {
    for nonsense in [0_u16, 256, u16::MAX] {
        let rig = Rig::new(Sim::new(First), 3);
        rig.patch(Rig::delta_at(1), 512, |sector| {
            sector[174..176].copy_from_slice(&nonsense.to_le_bytes());
        });
        let (late, late_world) = rig.add_host();
        let write = rig.sim.hold_next(late, |io| io.is_write());
        let late_claim = rig.claim(&late_world, rig.claimant(1, "late", 30));
        rig.sim.run_until_held(&write);
        let (_, world) = rig.add_host();
        let claim = rig.claim(&world, rig.claimant(1, "owner", 10));
        let owner = rig.member(&world, rig.sim.run(&claim).unwrap());
        owner.keep_alive(&rig.sim);
        owner.acquire().unwrap();
        rig.sim.run_for(secs(2));
        // The owner cannot reach the storage any more, and does not see who comes.
        rig.sim.hang_io(owner.host);
        rig.sim.release_held(&write);
        match rig.sim.run(&late_claim) {
            Err(ClaimError::Sector(error)) => {
                let timed_out = DeltaSectorErrorKind::Write(WriteError::TimedOut(secs(2)));
                assert_eq!(*error.kind(), timed_out);
            }
            Err(other) => panic!("{other}"),
            Ok(delta) => {
                let late = rig.member(&late_world, delta);
                let held = late.acquire();
                panic!("{held:?} while the owner holds it: {}", owner.is_held());
            }
        }
    }
}

/// Nor is a claim renewed once it has expired, though it was just inspected: others may be about to take
/// the id as that of a dead host.
#[test]
fn a_claim_that_has_expired_is_not_renewed() {
    let rig = Rig::new(Sim::new(First), 3);
    let (host, world) = rig.add_host();
    let claim = rig.claim(&world, rig.claimant(1, "me", 1));
    rig.sim.run_for(secs(3));
    rig.sim.pause(host, true);
    rig.sim.run_for(secs(9));
    rig.sim.pause(host, false);
    let from = rig.sim.log_len();
    let error = rig.sim.run(&claim).unwrap_err();
    assert!(
        matches!(error, ClaimError::TooSlow { took, limit, .. }
            if took == secs(10) && limit == secs(4)),
        "{error}"
    );
    let log = rig.sim.log_since(from);
    assert!(log.iter().all(|io| io.kind == IoKind::Read), "{log:?}");
}

/// A claim that is renewed while it is confirmed is counted from before the renewal's write, too.
#[test]
fn the_expiry_of_a_renewed_claim_counts_from_before_the_write() {
    let rig = Rig::new(Sim::new(First), 3);
    let (host, world) = rig.add_host();
    // The claim itself, then one every 2 s until 20 s have ended: the last before the last look.
    let write = rig.sim.hold_next(host, nth(10, |io| io.is_write()));
    let claim = rig.claim(&world, rig.claimant(1, "me", 1));
    rig.sim.run_until_held(&write);
    let begun = host_now(&world);
    rig.sim.run_for(secs(1) / 2);
    rig.sim.release_held(&write);
    let delta = rig.sim.run(&claim).unwrap();
    assert_eq!(delta.renewed_at(), begun);
}

/// What confirms a claim is a look that was started when the delay was over. One that was started before
/// may not show who wrote meanwhile, however late it ends.
#[test]
fn a_claim_is_confirmed_by_a_look_that_was_begun_after_the_delay() {
    let rig = Rig::new(Sim::new(First), 3);
    let (host, world) = rig.add_host();
    let look = rig.sim.hold_next(host, nth(2, |io| io.is_read()));
    let claim = rig.claim(&world, rig.claimant(1, "me", 7));
    let begun = rig.sim.now();
    rig.sim.run_until_held(&look);
    assert_eq!(rig.sim.now().since(begun), secs(14));
    rig.sim.let_happen(&look);
    rig.sim.run_for(secs(13) / 2);
    rig.sim.release_held(&look);
    rig.sim.run(&claim).unwrap();
    let log = rig.sim.log_since(0);
    let last = log.iter().rfind(|io| io.kind == IoKind::Read).unwrap();
    assert!(
        last.begun.since(begun) >= secs(20),
        "{}",
        rig.sim.log_text()
    );
}
