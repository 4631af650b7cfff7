//! Whether the owner's time has ended.

use std::time::Duration;

use disklease::__sim::delta_lease::EarlierIncarnation;
use disklease::__sim::paxos_lease::{AcquireError, Holder, OwnerSeen, Patience};
use disklease::format::{Commit, DeltaLeader, Generation, HolderNote, HostName, LeaseVersion};
use disklease::timing::FireTimeout;

use super::setup::{joined, lease_writes};
use disklease_sim::rig::{LEASE_AT, SPACE, host_id, secs, timing};
use disklease_sim::{Member, Pending, Rig};

const FOR_EVER: Patience = Patience::WaitForDeath { until: None };

fn held_by(error: AcquireError) -> Holder {
    match error {
        AcquireError::Held(holder) => *holder,
        other => panic!("{other}"),
    }
}

/// A live owner is reported after three I/Os: the lease, the owner's sector, and the note that says
/// for whom. Nothing is written.
#[test]
fn a_live_owner_is_reported_at_once_by_name() {
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    rig.sim.run_for(secs(45));
    let from = rig.sim.log_len();
    let before = rig.sim.now();
    let holder = held_by(b.acquire_error());
    let log = rig.sim.log_since(from);
    assert_eq!(log.iter().filter(|io| io.host == b.host).count(), 3);
    assert_eq!(rig.sim.now(), before);
    assert_eq!(lease_writes(&rig, &b, from).len(), 0);
    assert_eq!(
        (holder.host_id, holder.generation),
        (host_id(1), Generation::new(1))
    );
    assert_eq!(
        (holder.host_name.text(), holder.version),
        (&b"host-1"[..], held.version())
    );
    assert_eq!(holder.note.unwrap().guest_name, "guest");
    assert!(matches!(holder.seen, OwnerSeen::Alive { renewed_ago } if renewed_ago <= secs(20)));
}

/// An owner of which nothing is known yet is not taken for dead; the refusal says how long it
/// would have to stay silent, by its own io timeout.
#[test]
fn an_unknown_owner_is_reported_with_the_time_it_has_left() {
    let (rig, [b]) = joined();
    let (_, world) = rig.add_host();
    let c = rig.join_on(&world, rig.claimant(2, "c", 20));
    c.acquire().unwrap();
    let holder = held_by(b.acquire_error());
    let OwnerSeen::Silent {
        takeable_in,
        for_at_least,
    } = holder.seen
    else {
        panic!("{holder}")
    };
    assert_eq!(takeable_in + for_at_least, timing(20, 60).dead_after());
}

/// What this host owned in an earlier incarnation is taken at once: the id was taken only after that incarnation.
#[test]
fn an_own_earlier_generation_is_taken_at_once() {
    let (rig, [a]) = joined();
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    let mut claimant = rig.claimant(1, "host-1", 10);
    claimant.earlier_incarnation = EarlierIncarnation::ProvenEnded(a.membership.incarnation());
    let again = rig.join_on(&a.world, claimant);
    let before = rig.sim.now();
    assert_eq!(again.acquire().unwrap().version(), LeaseVersion::new(2));
    assert_eq!(rig.sim.now(), before);
    assert_eq!(rig.leader().generation(), Generation::new(2));
}

/// What this incarnation owns without a holder is taken at once, as a new version.
#[test]
fn an_own_lease_without_a_holder_is_taken_at_once() {
    let (rig, [a]) = joined();
    a.acquire().unwrap();
    let before = rig.sim.now();
    assert_eq!(a.acquire().unwrap().version(), LeaseVersion::new(2));
    assert_eq!(rig.sim.now(), before);
}

/// A lease that names this host in a generation it has not reached is not touched.
#[test]
fn a_lease_of_a_generation_to_come_is_refused() {
    let (rig, [a]) = joined();
    let leader = rig.leader().committed(commit(1, 9));
    rig.put_leader(&leader);
    assert!(matches!(
        a.acquire_error(),
        AcquireError::FromTheFuture { .. }
    ));
    assert_eq!(rig.leader(), leader);
}

/// The same of another host's. Its host id looks free, but in a lockspace that is not the one in
/// which the owner renewed: it may run still.
#[test]
fn a_lease_of_a_generation_to_come_is_refused_whoevers_it_is() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    let renewed = rig.delta(1).leader;
    let free = DeltaLeader::free(SPACE, &rig.area.name, 10);
    for delta in [free, renewed] {
        let leader = rig.leader().committed(commit(1, 2));
        rig.put_leader(&leader);
        rig.put_delta(1, &delta);
        let error = b.acquire_error();
        assert!(
            matches!(error, AcquireError::FromTheFuture { host_id, .. } if u64::from(host_id) == 1),
            "{error}"
        );
        assert_eq!(rig.leader(), leader);
    }
}

fn commit(owner: u64, generation: u64) -> Commit {
    Commit {
        version: LeaseVersion::new(1),
        owner: host_id(owner),
        generation: Generation::new(generation),
        timestamp_secs: 50,
        writer: host_id(owner),
        writer_generation: Generation::new(generation),
        writer_clock_secs: 50,
        clear_short_hold: true,
    }
}

/// Takes the lease from an owner that has ended, without any wait.
fn taken_at_once(rig: &Rig, by: &Member) {
    let before = rig.sim.now();
    assert_eq!(by.acquire().unwrap().version(), LeaseVersion::new(2));
    assert_eq!(rig.sim.now(), before);
}

/// An owner whose host id is free has ended.
#[test]
fn an_owner_that_freed_its_host_id_is_over() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    rig.put_delta(1, &rig.delta(1).leader.released());
    taken_at_once(&rig, &b);
}

/// An owner that has joined again since has ended, though its host id is alive.
#[test]
fn an_owner_in_a_later_life_is_over() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    let mut claimant = rig.claimant(1, "host-1", 10);
    claimant.earlier_incarnation = EarlierIncarnation::ProvenEnded(a.membership.incarnation());
    rig.join_on(&a.world, claimant).keep_alive(&rig.sim);
    rig.sim.run_for(secs(60));
    taken_at_once(&rig, &b);
}

/// A silent owner is waited for, by its own io timeout: never shorter than 8N + F and a margin from
/// when its last renewal was seen, and hardly longer.
#[test]
fn a_silent_owner_is_taken_after_its_own_8n_f_and_margin() {
    for owner_n in [5, 20] {
        let (rig, [b]) = joined();
        let (_, world) = rig.add_host();
        let a = rig.join_on(&world, rig.claimant(2, "a", owner_n));
        a.keep_alive(&rig.sim);
        rig.sim.run_for(secs(30));
        a.acquire().unwrap();
        rig.sim.crash(a.host, Pending::Vanish);
        let crashed = rig.sim.now();
        // Until it is not alive any more, it would be reported as the holder.
        rig.sim.run_for(secs(8 * owner_n + 21));
        let seen = b.membership.observed(host_id(2)).unwrap();
        let seen = seen.silence.changed_at();
        let from = rig.sim.log_len();
        let task = b.start_acquire(FOR_EVER);
        assert_eq!(rig.sim.run(&task).unwrap().version(), LeaseVersion::new(2));
        let waited = b.now().since(seen);
        let dead_after = timing(owner_n, 60).dead_after();
        assert!(
            waited > dead_after && waited <= dead_after + secs(1),
            "{waited:?}"
        );
        let first_write = lease_writes(&rig, &b, from)[0].begun;
        assert!(first_write.since(crashed) > dead_after - secs(2 * owner_n));
    }
}

/// The owner's times are not believed to be shorter than they were seen to be, nor those of a host
/// of sanlock's to be shorter than sanlock's: neither is covered by a checksum. It does not matter
/// whether the longer or the shorter was seen first.
#[test]
fn an_owner_is_not_dead_the_sooner_for_a_damaged_io_timeout() {
    for damaged_first in [false, true] {
        not_dead_the_sooner(damaged_first);
    }
}

fn not_dead_the_sooner(damaged_first: bool) {
    let flip = |rig: &Rig| rig.patch(Rig::delta_at(2), 4096, |sector| sector[174] ^= 8);
    let (mut rig, []) = joined();
    rig.fire_timeout = FireTimeout::new(secs(5)).unwrap();
    let (_, world) = rig.add_host();
    let a = rig.join_on(&world, rig.claimant(2, "a", 10));
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    // As a host of sanlock's writes it: without our note.
    rig.patch(Rig::delta_at(2), 4096, |sector| sector[200..256].fill(0));
    if damaged_first {
        flip(&rig);
    }
    let b = rig.join(1);
    let begun = b.now();
    let task = b.start_acquire(FOR_EVER);
    rig.sim.run_for(secs(2));
    flip(&rig);
    let now = rig.delta(2).leader.io_timeout_secs();
    assert_eq!(now, if damaged_first { 10 } else { 2 });
    rig.sim.run(&task).unwrap();
    assert!(b.now().since(begun) > timing(10, 60).dead_after() - secs(25));
}

/// The caller's patience may end before that.
#[test]
fn patience_has_an_end() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    let begun = b.now();
    let task = b.start_acquire(Patience::WaitForDeath {
        until: Some(begun + secs(30)),
    });
    let holder = held_by(rig.sim.run(&task).unwrap_err().error);
    assert!(matches!(holder.seen, OwnerSeen::Silent { .. }));
    assert!(b.now().since(begun) >= secs(30) && b.now().since(begun) <= secs(31));
}

/// Nobody waits for an owner's death who has lost his own lockspace meanwhile.
#[test]
fn who_is_lost_waits_no_longer() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    let task = b.start_acquire(FOR_EVER);
    rig.sim.run_for(secs(30));
    let lost = b.now();
    b.membership.expiry().lose();
    let failure = rig.sim.run(&task).unwrap_err();
    assert_eq!(failure.error, AcquireError::LockspaceLost);
    assert!(b.now().since(lost) <= secs(1));
}

/// An owner that renews while it is waited for is alive.
#[test]
fn an_owner_that_shows_life_meanwhile_is_reported() {
    let (rig, [a]) = joined();
    a.acquire().unwrap();
    rig.sim.pause(a.host, true);
    let b = rig.join(2);
    let task = b.start_acquire(FOR_EVER);
    rig.sim.run_for(secs(40));
    assert!(!task.is_done());
    rig.sim.pause(a.host, false);
    let holder = held_by(rig.sim.run(&task).unwrap_err().error);
    assert!(
        matches!(holder.seen, OwnerSeen::Alive { renewed_ago } if renewed_ago == Duration::ZERO)
    );
}

/// Silence is what a read shows that began after it was long enough. One that began before, and
/// ended late, has not seen a renewal in between.
#[test]
fn a_slow_read_is_no_proof_of_silence() {
    let mut rig = Rig::new(disklease_sim::Sim::new(disklease_sim::First), 3);
    rig.fire_timeout = FireTimeout::new(secs(5)).unwrap();
    let (_, world) = rig.add_host();
    let b = rig.join_on(&world, rig.claimant(2, "b", 30));
    let (_, world) = rig.add_host();
    rig.put_delta(1, &DeltaLeader::free(SPACE, &rig.area.name, 1));
    let a = rig.join_on(&world, rig.claimant(1, "a", 1));
    a.keep_alive(&rig.sim);
    a.acquire().unwrap();
    // Its renewals fail for 6 s: not long enough for its leases to be lost.
    rig.sim.run_for(secs(1));
    rig.sim.hang_io(a.host);
    let task = b.start_acquire(FOR_EVER);
    rig.sim.run_for(secs(4));
    let owner_sector = SPACE.delta_offset(host_id(1));
    let look = rig
        .sim
        .hold_next(b.host, move |io| io.is_read() && io.offset == owner_sector);
    rig.sim.run_until_held(&look);
    rig.sim.let_happen(&look);
    rig.sim.unhang_io(a.host);
    rig.sim.run_for(secs(20));
    assert!(a.is_held());
    rig.sim.release_held(&look);
    let holder = held_by(rig.sim.run(&task).unwrap_err().error);
    assert_eq!(holder.host_id, host_id(1));
    assert!(a.is_held());
}

/// Nor does silence count from before the end of the read that showed it first: what that read shows
/// may have been written while it was under way.
#[test]
fn a_slow_first_read_is_no_beginning_of_silence() {
    let mut rig = Rig::new(disklease_sim::Sim::new(disklease_sim::First), 3);
    rig.fire_timeout = FireTimeout::new(secs(5)).unwrap();
    let (_, world) = rig.add_host();
    let b = rig.join_on(&world, rig.claimant(2, "b", 30));
    let (_, world) = rig.add_host();
    rig.put_delta(1, &DeltaLeader::free(SPACE, &rig.area.name, 1));
    let quick = rig.join_on(&world, rig.claimant(1, "quick", 1));
    quick.acquire().unwrap();
    let owner_sector = SPACE.delta_offset(host_id(1));
    let look = rig
        .sim
        .hold_next(b.host, move |io| io.is_read() && io.offset == owner_sector);
    let task = b.start_acquire(FOR_EVER);
    rig.sim.run_until_held(&look);
    rig.sim.run_for(secs(20));
    rig.sim.release_held(&look);
    rig.sim
        .run_for(rig.delta(1).timing(rig.fire_timeout).dead_after());
    assert!(!task.is_done());
    rig.sim.run(&task).unwrap();
}

/// The silence of an earlier incarnation is not that of the present one, though its first record shows the
/// same time: a machine that joins right after it has started may well repeat itself.
#[test]
fn the_silence_of_an_earlier_generation_does_not_count() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    // Of a host that tells its incarnation, that alone would do.
    rig.patch(Rig::delta_at(1), 4096, |sector| sector[200..256].fill(0));
    rig.sim.run_for(secs(200));
    let dead = rig.delta(1).leader;
    let seen = b.membership.observed(host_id(1)).unwrap();
    let seen = seen.seen().leader.timestamp_secs();
    assert_eq!(seen, dead.timestamp_secs());
    let name = HostName::new("host-1").unwrap();
    rig.put_delta(1, &dead.acquired(host_id(1), &name, seen, 10).unwrap());
    rig.put_leader(&rig.leader().committed(commit(1, 2)));
    let holder = held_by(b.acquire_error());
    assert_eq!(holder.generation, Generation::new(2));
    assert!(matches!(holder.seen, OwnerSeen::Silent { .. }));
}

/// A leader that changes while its owner is watched is inspected anew.
#[test]
fn a_leader_that_changes_meanwhile_is_judged_anew() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    let task = b.start_acquire(FOR_EVER);
    rig.sim.run_for(secs(10));
    let freed = rig.leader().freed(host_id(1), Generation::new(1), 60);
    rig.put_leader(&freed);
    rig.sim.run_for(secs(1));
    assert_eq!(task.take().unwrap().version(), LeaseVersion::new(2));
}

/// An owner whose own sector cannot be believed cannot be judged, so the lease is not taken.
#[test]
fn an_owner_whose_sector_is_damaged_cannot_be_judged() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    rig.sim.crash(a.host, Pending::Vanish);
    rig.patch(Rig::delta_at(1), 4096, |sector| sector[60] ^= 1);
    rig.sim.run_for(secs(1));
    let error = b.acquire_error();
    assert!(matches!(error, AcquireError::OwnerUnreadable { owner, .. } if owner == host_id(1)));
}

/// What the scans saw of an owner before its sector was damaged is no beginning of a silence: the owner may have
/// renewed behind the damage.
#[test]
fn a_silence_does_not_count_across_damage() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    rig.sim.run_for(secs(30));
    rig.sim.crash(a.host, Pending::Vanish);
    let spoil = || rig.patch(Rig::delta_at(1), 4096, |sector| sector[60] ^= 1);
    spoil();
    rig.sim.run_for(secs(200));
    let record = b.membership.observed(host_id(1)).unwrap();
    assert!(record.damage.is_some());
    // Readable again, and no scan has seen that yet.
    spoil();
    let holder = held_by(b.acquire_error());
    assert!(matches!(holder.seen, OwnerSeen::Silent { .. }), "{holder}");
}

/// The leader as if another host had committed what made A the owner.
fn committed_by(rig: &Rig, writer: u8) {
    rig.patch(LEASE_AT, 512, |sector| sector[176] = writer);
}

fn mark_released(rig: &Rig, with_note: bool) {
    rig.patch(Rig::block_at(1), 512, |sector| {
        sector[52] |= 1;
        if !with_note {
            sector[256..].fill(0);
        }
    });
}

/// A live owner that says RELEASED is believed where another host wrote the leader: it came late.
#[test]
fn released_is_believed_where_another_host_wrote_the_leader() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    committed_by(&rig, 2);
    rig.sim.run_for(secs(45));
    assert!(
        matches!(b.acquire_error(), AcquireError::Held(_)),
        "not without the mark"
    );
    mark_released(&rig, false);
    taken_at_once(&rig, &b);
}

/// It is not believed where the owner itself wrote the leader: it may be about to free it.
#[test]
fn released_is_not_believed_where_the_owner_wrote_the_leader() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    mark_released(&rig, false);
    rig.sim.run_for(secs(45));
    assert!(matches!(b.acquire_error(), AcquireError::Held(_)));
}

/// No checksum covers the mark. It is not believed where the owner's note, which has one, says that
/// this very version is held.
#[test]
fn released_is_not_believed_against_the_owners_note() {
    let (rig, [a, b]) = joined();
    a.acquire().unwrap();
    committed_by(&rig, 2);
    mark_released(&rig, true);
    rig.sim.run_for(secs(45));
    assert!(matches!(b.acquire_error(), AcquireError::Held(_)));
}

/// The holder's own sector alone is put back to what an earlier release has left there. A block that
/// was never written, but for the flag, says the same as ever: sanlock leaves that behind.
#[test]
fn released_is_not_believed_of_a_block_that_was_put_back() {
    let (rig, [a, b]) = joined();
    let first = a.acquire().unwrap();
    a.release(&first).unwrap();
    let old = rig.block(1);
    let held = a.acquire().unwrap();
    committed_by(&rig, 2);
    rig.put_block(1, &old);
    rig.sim.run_for(secs(45));
    assert!(matches!(b.acquire_error(), AcquireError::Held(_)));
    rig.patch(Rig::block_at(1), 512, |sector| sector.fill(0));
    mark_released(&rig, false);
    assert!(b.acquire().unwrap().version() > held.version());
}

/// A note that the owner has left beside its block for another ownership, or that another host has, is
/// no word of this one: neither against the mark, nor for people.
#[test]
fn a_note_of_another_ownership_says_nothing() {
    for (host, generation, version, counts) in [
        (1, 1, 1, true),
        (2, 1, 1, false),
        (1, 2, 1, false),
        (1, 1, 2, false),
    ] {
        let (rig, [a, b]) = joined();
        a.acquire().unwrap();
        let mut note = HolderNote::new(
            host_id(host),
            Generation::new(generation),
            LeaseVersion::new(version),
        );
        note.pid = 12;
        rig.patch(Rig::block_at(1), 512, |sector| {
            note.write_to(sector.first_chunk_mut().unwrap())
        });
        rig.sim.run_for(secs(45));
        assert_eq!(held_by(b.acquire_error()).note.is_some(), counts);
        committed_by(&rig, 2);
        mark_released(&rig, true);
        assert_eq!(
            b.acquire().is_err(),
            counts,
            "{host} {generation} {version}"
        );
    }
}
