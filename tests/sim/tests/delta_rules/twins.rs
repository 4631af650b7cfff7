//! Hosts that were given one host id and one name by mistake, and that do everything at the same
//! time: only their incarnations tell them apart (INV-INCARNATION).

use disklease::__sim::delta_lease::{ClaimError, EarlierIncarnation, HostIdLoss, RenewError};
use disklease::__sim::paxos_lease::{AcquireError, Patience};
use disklease::HostState;
use disklease::format::{Generation, HostNote, Incarnation};

use super::hosts::{Watch, at};
use disklease_sim::clock::HostClock;
use disklease_sim::io::IoRecord;
use disklease_sim::rig::{LEASE_AT, formatted, host_id, host_now, incarnation, secs, timing};
use disklease_sim::world::SimWorld;
use disklease_sim::{First, IoKind, Member, Paths, Rig, Seeded, Sim, Task};

fn rig() -> Rig {
    Rig::new(Sim::new(First), 3)
}

/// A world with the clock of every other that is made so.
fn twin(rig: &Rig) -> SimWorld {
    let host = rig.sim.add_host(HostClock::default());
    SimWorld::new(&rig.sim, host)
}

/// As if another run of the host had written its delta sector, with the same record. `None`: one
/// that writes no note, or an old one.
fn rewritten_by(rig: &Rig, id: u64, run: Option<u64>) {
    rig.patch(Rig::delta_at(id), 4096, |sector| {
        let mut note = HostNote::read_from(sector).present().unwrap();
        note.incarnation = run.map(incarnation);
        note.write_to(sector.first_chunk_mut().unwrap());
    });
}

fn renew(member: &Member) -> Result<(), RenewError> {
    let me = member.clone();
    let (sim, host) = (&member.world.sim, member.host);
    sim.run_on(host, async move { me.renew().await })
}

/// Same id, same name, same N, same clock, started at the same instant: their records are the same to
/// the byte, in every order of their steps, and exactly one has the id.
#[test]
fn of_twins_that_claim_an_id_at_once_exactly_one_wins_in_every_order() {
    let disk = formatted(3);
    let mut named = 0;
    let paths = Paths::explore(10_000, |paths| {
        let rig = Rig::on(Sim::new(paths), 3, disk.clone());
        let claims = [(); 2].map(|()| {
            let world = twin(&rig);
            rig.claim(&world, rig.claimant(1, "me", 10))
        });
        rig.sim.run_for(secs(25));
        // One that has read the other's claim waits still.
        let done = claims.iter().filter(|claim| claim.is_done());
        let outcomes: Vec<_> = done.map(Task::take).collect();
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{outcomes:?} {}", rig.sim.log_text());
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert!(
                matches!(error, ClaimError::Twin { owner, .. } if owner.text() == b"me"),
                "{error}"
            );
            named += 1;
        }
    });
    assert!(paths >= 6 && named >= 4, "{paths} paths, {named} named");
}

/// Whoever waits for a dead owner is notified of a twin that has claimed the id meanwhile and has the
/// very record of the dead one.
#[test]
fn a_twin_of_a_dead_owner_is_a_sign_of_life() {
    let rig = rig();
    rig.join_on(&twin(&rig), rig.claimant(1, "me", 10));
    let claim = rig.claim(&twin(&rig), rig.claimant(1, "me", 10));
    rig.sim.run_for(secs(60));
    rewritten_by(&rig, 1, Some(77));
    let error = rig.sim.run(&claim).unwrap_err();
    assert!(matches!(error, ClaimError::Twin { .. }), "{error}");
}

/// A renewal whose record is on the disk as it was written, but with another's note, loses everything;
/// also where it does not know which of two records is there.
#[test]
fn a_renewal_of_a_twin_loses_the_leases_at_once() {
    for (run, after_failure) in [(Some(77), false), (Some(77), true), (None, true)] {
        let rig = rig();
        let world = twin(&rig);
        let member = rig.join_on(&world, rig.claimant(1, "me", 10));
        if after_failure {
            let me = member.clone();
            let renewal = rig.sim.spawn(member.host, async move { me.renew().await });
            rig.sim.fail_next(member.host, true, |io| io.is_write());
            assert!(matches!(rig.sim.run(&renewal), Err(RenewError::Write(_))));
        }
        rewritten_by(&rig, 1, run);
        let error = renew(&member).unwrap_err();
        assert!(error.is_fatal() && !member.is_held(), "{error}");
        match run {
            Some(_) => assert!(
                matches!(error, RenewError::Lost(HostIdLoss::Twin { .. })),
                "{error}"
            ),
            None => assert!(
                matches!(error, RenewError::Lost(HostIdLoss::Changed { .. })),
                "{error}"
            ),
        }
    }
}

fn put_run(watch: &mut Watch, id: u64, run: Option<Incarnation>) {
    let mut note = HostNote::new(host_id(id), watch.leader(id).generation());
    note.io_timeout_secs = watch.leader(id).io_timeout_secs();
    note.fire_timeout_secs = 60;
    note.incarnation = run;
    note.write_to(watch.sector(id).first_chunk_mut().unwrap());
}

/// In the table of hosts a change of incarnation is another host of which nothing is known, with
/// whatever time: never a renewal, and never silence.
#[test]
fn another_run_in_the_same_generation_is_no_renewal() {
    let (first, second) = (Some(incarnation(1)), Some(incarnation(2)));
    for (before, after) in [(first, second), (None, second), (first, None)] {
        for renewed in [false, true] {
            let mut watch = Watch::new();
            watch.join(1, 10);
            put_run(&mut watch, 1, before);
            watch.scan(secs(0));
            if renewed {
                watch.renew(1);
            }
            put_run(&mut watch, 1, after);
            watch.scan(secs(30));
            let state = watch.table.state(host_id(1), at(secs(30)));
            assert_eq!(state, HostState::Unknown);
            let record = watch.table.record(host_id(1)).unwrap();
            assert_eq!(record.silence.changed_at(), at(secs(30)));
        }
    }
}

/// A claim of another run that landed late, over a host that lives still, does not make the wait for that
/// one shorter: its own N counts.
#[test]
fn another_run_in_the_same_generation_makes_no_wait_shorter() {
    let mut watch = Watch::new();
    watch.join(1, 20);
    put_run(&mut watch, 1, Some(incarnation(1)));
    watch.scan(secs(0));
    watch.join_again(1, 1);
    put_run(&mut watch, 1, Some(incarnation(2)));
    watch.scan(secs(1));
    let dead_at = secs(1) + timing(20, 60).dead_after();
    for (after, is_over) in [(dead_at - secs(1), false), (dead_at + secs(1), true)] {
        watch.scan(after);
        let state = watch.table.state(host_id(1), at(after));
        assert_eq!(state.has_ended(), is_over, "{after:?} {state:?}");
    }
}

/// The same while the owner of a lease is watched, by a host whose table does not see it: the silence
/// begins anew.
#[test]
fn another_run_under_the_owners_id_is_waited_for_anew() {
    let rig = rig();
    let owner = rig.join_on(&rig.add_host().1, rig.claimant(1, "me", 10));
    owner.acquire().unwrap();
    let other = rig.join(2);
    let begun = rig.sim.now();
    let acquire = other.start_acquire(Patience::WaitForDeath { until: None });
    rig.sim.run_for(secs(100));
    rewritten_by(&rig, 1, Some(77));
    rig.sim.run(&acquire).unwrap();
    let took = rig.sim.now().since(begun);
    assert!(took >= secs(100) + timing(10, 60).dead_after(), "{took:?}");
}

/// A lease that names this host in this generation, with the note of another run in its block, is a
/// twin's, and not a leftover of our own.
#[test]
fn a_lease_of_a_twin_is_not_our_own() {
    for run in [Some(77), None] {
        let rig = rig();
        let member = rig.join(1);
        member.acquire().unwrap();
        let mut note = rig.block_sector(1).note.present().unwrap();
        note.incarnation = run.map(incarnation);
        rig.patch(Rig::block_at(1), 512, |sector| {
            note.write_to(sector.first_chunk_mut().unwrap());
        });
        let from = rig.sim.log_len();
        let error = member.acquire_error();
        assert!(
            matches!(error, AcquireError::HeldByTwin { generation, .. } if generation == Generation::new(1)),
            "{error}"
        );
        let log = rig.sim.log_since(from);
        let in_lease = |offset| offset >= LEASE_AT;
        let written = log
            .iter()
            .filter(|io| io.kind == IoKind::Write && in_lease(io.offset));
        assert_eq!(written.count(), 0);
    }
}

/// Two runs of one host id, name, generation and clock that are both members, as by themselves they never are: an
/// operator has put the sector of the first back.
fn both_members(rig: &Rig) -> [Member; 2] {
    let worlds = [twin(rig), twin(rig)];
    let before = rig.delta(1).leader;
    let first = rig.join_on(&worlds[0], rig.claimant(1, "me", 10));
    rig.put_delta(1, &before);
    [first, rig.join_on(&worlds[1], rig.claimant(1, "me", 10))]
}

/// Twins that propose the same input for one version at the same time, in many orders of their reads and
/// writes: both hold the lease only where both have read their proposal back before either has made its own
/// known. Whoever is refused takes nothing back, and a third host gets nothing.
#[test]
fn of_twins_that_acquire_at_once_the_second_to_come_is_refused() {
    let disk = formatted(3);
    let (mut both, mut one) = (0, 0);
    for seed in 0..5000 {
        let rig = Rig::on(Sim::new(First), 3, disk.clone());
        let members = both_members(&rig);
        let other = rig.join_on(&twin(&rig), rig.claimant(2, "other", 10));
        rig.sim.core.borrow_mut().chooser = Box::new(Seeded::new(seed));
        let from = rig.sim.log_len();
        let acquires = [0, 1].map(|n: usize| members[n].start_acquire(Patience::Refuse));
        let results = acquires.map(|acquire| rig.sim.run(&acquire));
        rig.sim.core.borrow_mut().chooser = Box::new(First);
        let log = rig.sim.log_since(from);
        let of_lease = |io: &&IoRecord| io.offset >= LEASE_AT && io.host != other.host;
        let is_commit = |io: &IoRecord| io.kind == IoKind::Write && io.offset == LEASE_AT;
        let ios: Vec<_> = log.iter().filter(of_lease).collect();
        let first_commit = ios
            .iter()
            .filter(|io| is_commit(io))
            .map(|io| io.order)
            .min();
        let read_back = members.iter().map(|member| {
            let reads = ios
                .iter()
                .filter(|io| io.host == member.host && io.kind == IoKind::Read);
            reads.map(|io| io.order).max()
        });
        match &results {
            [Ok(_), Ok(_)] => {
                both += 1;
                let last = read_back.max().unwrap();
                assert!(last < first_commit, "{}", rig.sim.log_text());
            }
            [Ok(_), Err(refused)] | [Err(refused), Ok(_)] => {
                one += 1;
                let is_told = matches!(refused.error, AcquireError::HeldByTwin { .. });
                assert!(is_told && refused.pending.is_none(), "{refused:?}");
            }
            [Err(_), Err(_)] => {}
        }
        if results.iter().any(Result::is_ok) {
            assert!(matches!(other.acquire_error(), AcquireError::Held(_)));
        }
        // Of two holders the one whose note was written over gives nothing back.
        let note = rig.block_sector(1).note.present();
        let there = note.and_then(|note| note.incarnation);
        for (member, held) in members.iter().zip(&results) {
            if let Ok(held) = held
                && there != Some(member.membership.incarnation())
            {
                assert!(member.release(held).is_err());
                assert!(matches!(other.acquire_error(), AcquireError::Held(_)));
            }
        }
    }
    assert!(both > 0 && one > 10 * both, "{both} {one}");
}

/// Each claim and each renewal carries the incarnation, and the next join has another.
#[test]
fn the_incarnation_is_on_the_disk_from_the_claim_on() {
    let rig = rig();
    let world = twin(&rig);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut claimant = rig.claimant(1, "me", 10);
        claimant.earlier_incarnation = seen.last().map_or(EarlierIncarnation::MayRun, |&run| {
            EarlierIncarnation::ProvenEnded(run)
        });
        let member = rig.join_on(&world, claimant);
        let claimed = rig.delta(1).incarnation().unwrap();
        renew(&member).unwrap();
        assert_eq!(rig.delta(1).incarnation(), Some(claimed));
        assert_eq!(member.membership.incarnation(), claimed);
        seen.push(claimed);
        let _ = host_now(&world);
    }
    assert_ne!(seen[0], seen[1]);
}
