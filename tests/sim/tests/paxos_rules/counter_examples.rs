//! Schedules by which the protocol without its hardened rules gives the lease to two hosts, gives a
//! version twice, or loses the lease for ever. Each is played up to the point at which things went
//! wrong; from there all orders of the hosts' remaining steps are tried, or many where all are too
//! many.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use disklease::__sim::delta_lease::EarlierIncarnation;
use disklease::__sim::paxos_lease::{
    AcquireError, GiveBackError, HeldLease, LeftBehind, Patience, retract,
};

use super::setup::{
    is_area_read, is_block_write, is_leader_read, is_leader_write, is_phase_2_write,
};
use disklease_sim::disk::Sectors;
use disklease_sim::rig::{formatted, secs};
use disklease_sim::{Member, Oracle, Paths, Pending, Rig, Seeded, Sim, Task, nth};

/// Hosts that have joined and, for the minute that this takes, need not renew.
struct Play {
    rig: Rig,
    oracle: Oracle,
}

impl Play {
    fn new(sim: Sim, disk: &Sectors) -> Self {
        let rig = Rig::on(sim, 3, disk.clone());
        let oracle = Oracle::new(&rig.sim);
        Self { rig, oracle }
    }

    fn joined<const N: usize>(&self) -> [Member; N] {
        let worlds: [_; N] = std::array::from_fn(|_| self.rig.add_host().1);
        std::array::from_fn(|n| {
            let id = n as u64 + 1;
            let claim = self.rig.claimant(id, &format!("host-{id}"), 10);
            (worlds[n].clone(), self.rig.claim(&worlds[n], claim))
        })
        .map(|(world, task)| {
            let delta = self.rig.sim.run(&task).unwrap();
            let member = self.rig.member(&world, delta);
            // Only renewals carry the process token, without which nobody comes back quickly.
            let me = member.clone();
            let renewed = self
                .rig
                .sim
                .run_on(world.host, async move { me.renew().await });
            renewed.unwrap();
            member
        })
    }

    /// Acquires up to `times` times until it is refused because somebody else holds the lease, and keeps
    /// what it gets.
    fn start(&self, member: &Member, times: usize) -> Task<Option<HeldLease>> {
        let (me, oracle) = (member.clone(), self.oracle.clone());
        self.rig.sim.spawn(member.host, async move {
            for _ in 0..times {
                if let Ok(held) = me.acquire_as(me.holding(Patience::Refuse)).await {
                    oracle.holds(&me, &held);
                    return Some(held);
                }
            }
            None
        })
    }

    fn acquire(&self, member: &Member) -> HeldLease {
        let task = self.start(member, 1);
        self.rig
            .sim
            .run(&task)
            .unwrap_or_else(|| panic!("{}", self.rig.sim.log_text()))
    }

    fn start_release(&self, member: &Member, held: &HeldLease) -> Task<Result<(), GiveBackError>> {
        self.oracle.no_longer_holds(member);
        member.start_release(held)
    }

    fn release(&self, member: &Member, held: &HeldLease) {
        let task = self.start_release(member, held);
        self.rig.sim.run(&task).unwrap();
    }

    /// When all have come to rest: whoever holds the lease gives it back, and then each of `all` can
    /// take it.
    fn nobody_is_stuck(&self, tasks: &[(&Member, Task<Option<HeldLease>>)], all: &[&Member]) {
        for (member, task) in tasks {
            if let Some(held) = self.rig.sim.run(task) {
                // In the order of the book, the last one holds it.
                self.release(member, &held);
            }
        }
        for member in all {
            let held = self.acquire(member);
            self.release(member, &held);
        }
    }

    fn clean_up(&self, member: &Member, pending: &LeftBehind) -> bool {
        let (me, pending) = (member.clone(), pending.clone());
        let retracted = self.rig.sim.run_on(member.host, async move {
            retract(&me.world, &me.membership, &me.lease, &pending).await
        });
        retracted.is_ok()
    }
}

/// Plays `script` with all orders that it leaves open; gives their number.
fn in_every_order(script: impl Fn(&Play)) -> usize {
    let disk = formatted(3);
    Paths::explore(50_000, |paths: Rc<RefCell<Paths>>| {
        script(&Play::new(Sim::new(paths), &disk));
    })
}

/// Plays `script` in orders that are drawn, where all of them are too many.
fn in_many_orders(script: impl Fn(&Play)) {
    let disk = formatted(3);
    for seed in 0..500 {
        let play = Play::new(Sim::new(Seeded::new(seed)), &disk);
        let played = catch_unwind(AssertUnwindSafe(|| script(&play)));
        assert!(played.is_ok(), "seed {seed}");
    }
}

/// T1 and T2: a slow commit of version 1 lands after its owner has released and taken version 2,
/// which is thereby forgotten by the leader. Then both hosts want the lease.
#[test]
fn t1_t2_a_slow_commit_lands_over_a_newer_version() {
    in_many_orders(|play| {
        let sim = &play.rig.sim;
        let [a, b] = play.joined();
        let phase_1 = sim.hold_next(b.host, is_block_write);
        let commit = sim.hold_next(b.host, is_leader_write);
        let of_b = play.start(&b, 3);
        sim.run_until_held(&phase_1);
        let v1 = play.acquire(&a);
        play.release(&a, &v1);
        sim.release_held(&phase_1);
        sim.run_until_held(&commit);
        let v2 = play.acquire(&a);
        let look = sim.hold_next(a.host, is_leader_read);
        let releasing = play.start_release(&a, &v2);
        sim.run_until_held(&look);
        sim.release_held(&commit);
        assert_eq!(
            (
                play.rig.leader().version().get(),
                play.rig.leader().write_id()
            ),
            (1, 2)
        );
        // From here on in any order: A's release, its next acquire, and B's.
        sim.release_held(&look);
        let me = (play.oracle.clone(), a.clone());
        let again = sim.spawn(a.host, async move {
            let (oracle, a) = me;
            for _ in 0..2 {
                if let Ok(held) = a.acquire_as(a.holding(Patience::Refuse)).await {
                    oracle.holds(&a, &held);
                    return Some(held);
                }
            }
            None
        });
        sim.run_until(|| releasing.is_done() && again.is_done() && of_b.is_done());
        releasing.take().unwrap();
        play.nobody_is_stuck(&[(&a, again), (&b, of_b)], &[&a, &b]);
    });
}

/// T3: B adopts what A proposed in its former incarnation. A, in its new incarnation, finds that, and must not
/// take the commit of its former life's proposal for its own success.
#[test]
fn t3_a_proposal_of_a_former_life_is_committed() {
    in_every_order(|play| {
        let sim = &play.rig.sim;
        let [a, b] = play.joined();
        let look = sim.hold_next(a.host, nth(3, is_area_read));
        play.start(&a, 1);
        sim.run_until_held(&look);
        let commit = sim.hold_next(b.host, is_leader_write);
        let of_b = play.start(&b, 3);
        sim.run_until_held(&commit);
        sim.crash(a.host, Pending::Vanish);
        // B's write is slow: it lands while A is joining again.
        let mut claimant = play.rig.claimant(1, "host-1", 10);
        claimant.earlier_incarnation = EarlierIncarnation::ProvenEnded(a.membership.incarnation());
        let claim = play.rig.claim(&a.world, claimant);
        sim.run_for(secs(9));
        sim.release_held(&commit);
        let delta = sim.run(&claim).unwrap();
        let a = play.rig.member(&a.world, delta);
        let of_a = play.start(&a, 3);
        sim.run_until(|| of_a.is_done() && of_b.is_done());
        play.nobody_is_stuck(&[(&a, of_a), (&b, of_b)], &[&a, &b]);
    });
}

/// T3, as it was found: the commit is A's own, in its new incarnation.
#[test]
fn t3_a_host_commits_the_proposal_of_its_own_former_life() {
    in_many_orders(|play| {
        let sim = &play.rig.sim;
        let [a, b] = play.joined();
        let look = sim.hold_next(a.host, nth(3, is_area_read));
        play.start(&a, 1);
        sim.run_until_held(&look);
        sim.crash(a.host, Pending::Vanish);
        let mut claimant = play.rig.claimant(1, "host-1", 10);
        claimant.earlier_incarnation = EarlierIncarnation::ProvenEnded(a.membership.incarnation());
        let a = play.rig.join_on(&a.world, claimant);
        let (of_a, of_b) = (play.start(&a, 2), play.start(&b, 2));
        sim.run_until(|| of_a.is_done() && of_b.is_done());
        assert!(play.oracle.holds_so_far() > 0, "one of them gets it");
        play.nobody_is_stuck(&[(&a, of_a), (&b, of_b)], &[&a, &b]);
    });
}

/// T4: A's phase 2 write fails, is retracted, and A begins anew, which takes its mark away. B had
/// committed A's proposal, and read the mark.
#[test]
fn t4_a_mark_is_taken_away_by_the_next_acquire() {
    in_many_orders(|play| {
        let sim = &play.rig.sim;
        let [a, b] = play.joined();
        let failing = play.start(&a, 1);
        sim.fail_next(a.host, true, is_phase_2_write);
        assert!(sim.run(&failing).is_none());
        let phase_1 = sim.hold_next(a.host, is_block_write);
        let of_a = play.start(&a, 2);
        sim.run_until_held(&phase_1);
        // B commits A's proposal, sees the mark, and is about to go for the next version.
        let next = sim.hold_next(b.host, nth(3, is_block_write));
        let of_b = play.start(&b, 2);
        sim.run_until_held(&next);
        sim.release_held(&phase_1);
        sim.release_held(&next);
        sim.run_until(|| of_a.is_done() && of_b.is_done());
        play.nobody_is_stuck(&[(&a, of_a), (&b, of_b)], &[&a, &b]);
    });
}

/// T5: after a failed attempt at version 2 A's block must still show that version 1 is used up.
#[test]
fn t5_a_retraction_does_not_forget_what_was_agreed() {
    in_every_order(|play| {
        let sim = &play.rig.sim;
        let [a, b] = play.joined();
        let phase_1 = sim.hold_next(b.host, is_block_write);
        let of_b = play.start(&b, 1);
        sim.run_until_held(&phase_1);
        let v1 = play.acquire(&a);
        play.release(&a, &v1);
        let failing = play.start(&a, 1);
        sim.fail_next(a.host, false, is_phase_2_write);
        assert!(sim.run(&failing).is_none());
        sim.release_held(&phase_1);
        let held = sim.run(&of_b).unwrap();
        assert!(held.version() > v1.version());
        play.nobody_is_stuck(&[], &[]);
        play.release(&b, &held);
        play.nobody_is_stuck(&[], &[&a, &b]);
    });
}

/// T6: A's commit of version 1 times out and lands only after B has adopted it and gone on to the
/// next version. Until it has ended, A decides nothing.
#[test]
fn t6_a_commit_that_timed_out_lands_over_another_owner() {
    in_every_order(|play| {
        let sim = &play.rig.sim;
        let [a, b] = play.joined();
        let commit = sim.hold_next(a.host, is_leader_write);
        let me = a.clone();
        let timed_out = sim.spawn(a.host, async move {
            me.acquire_as(me.holding(Patience::Refuse)).await
        });
        let pending = sim.run(&timed_out).unwrap_err().pending.unwrap();
        assert_eq!(a.acquire_error(), AcquireError::WriteInFlight);
        let held = play.acquire(&b);
        sim.release_held(&commit);
        assert_eq!(
            (
                play.rig.leader().version().get(),
                play.rig.leader().write_id()
            ),
            (1, 1)
        );
        // A reconciles its pending cleanup, and wants the lease; B holds it all the time.
        let of_a = play.start(&a, 2);
        assert!(sim.run(&of_a).is_none());
        assert!(play.clean_up(&a, &pending));
        let of_a = play.start(&a, 2);
        assert!(sim.run(&of_a).is_none());
        play.release(&b, &held);
        play.nobody_is_stuck(&[], &[&a, &b]);
    });
}

/// T6b: B's commit of what it adopted from A times out. Both begin anew and must not forget it.
#[test]
fn t6b_what_was_accepted_is_not_forgotten_by_a_new_ballot() {
    in_many_orders(|play| {
        let sim = &play.rig.sim;
        let [a, b] = play.joined();
        let failing = play.start(&a, 1);
        sim.fail_next(a.host, false, nth(3, is_area_read));
        assert!(sim.run(&failing).is_none());
        let commit = sim.hold_next(b.host, is_leader_write);
        let of_b = play.start(&b, 1);
        assert!(sim.run(&of_b).is_none(), "timed out");
        let of_a = play.start(&a, 2);
        let phase_2 = sim.hold_next(a.host, is_phase_2_write);
        sim.run_until_held(&phase_2);
        sim.release_held(&commit);
        let of_b = play.start(&b, 2);
        sim.release_held(&phase_2);
        sim.run_until(|| of_a.is_done() && of_b.is_done());
        play.nobody_is_stuck(&[(&a, of_a), (&b, of_b)], &[&a, &b]);
    });
}

/// T7: C's slow commit of version 1 lands while B gives back version 3. The leader is two versions
/// behind; nobody may be stuck.
#[test]
fn t7_a_slow_commit_of_a_third_host_lands_two_versions_late() {
    let disk = formatted(3);
    let play = Play::new(Sim::new(disklease_sim::First), &disk);
    let sim = &play.rig.sim;
    let [a, b, c] = play.joined();
    let phase_1 = sim.hold_next(c.host, is_block_write);
    let commit = sim.hold_next(c.host, is_leader_write);
    let of_c = play.start(&c, 1);
    sim.run_until_held(&phase_1);
    let v1 = play.acquire(&a);
    play.release(&a, &v1);
    sim.release_held(&phase_1);
    sim.run_until_held(&commit);
    let v2 = play.acquire(&b);
    // A tries for version 2 in vain: its mark for version 1 is gone.
    let of_a = play.start(&a, 1);
    assert!(sim.run(&of_a).is_none());
    play.release(&b, &v2);
    let v3 = play.acquire(&b);
    let look = sim.hold_next(b.host, is_leader_read);
    let releasing = play.start_release(&b, &v3);
    sim.run_until_held(&look);
    sim.release_held(&commit);
    sim.release_held(&look);
    sim.run(&releasing).unwrap();
    play.nobody_is_stuck(&[(&c, of_c)], &[&a, &b, &c]);
}

/// T8: A's write that frees version 1 times out and lands late. It is not repeated while it may
/// still land, so it cannot take the leader back; a block that B left behind stops nobody.
#[test]
fn t8_a_late_release_and_a_host_that_died_in_its_ballot() {
    let disk = formatted(3);
    let play = Play::new(Sim::new(disklease_sim::First), &disk);
    let sim = &play.rig.sim;
    let [a, b, c] = play.joined();
    let v1 = play.acquire(&a);
    let free = sim.hold_next(a.host, is_leader_write);
    let releasing = play.start_release(&a, &v1);
    assert!(matches!(sim.run(&releasing), Err(GiveBackError::Lease(_))));
    let pending = LeftBehind::of_release(&v1);
    assert!(
        !play.clean_up(&a, &pending),
        "not while the write is in flight"
    );
    sim.release_held(&free);
    let v2 = play.acquire(&b);
    play.release(&b, &v2);
    assert!(play.clean_up(&a, &pending));
    assert_eq!(play.rig.leader().version(), v2.version(), "not taken back");
    let phase_1 = sim.hold_next(b.host, is_block_write);
    play.start(&b, 1);
    sim.run_until_held(&phase_1);
    sim.crash(b.host, Pending::Land);
    play.nobody_is_stuck(&[], &[&a, &c]);
}

/// T9: A's phase 1 write hangs. As long as it may land, A does not ballot again, in this incarnation; and a
/// new incarnation is only started when no I/O of the old one is left.
#[test]
fn t9_a_phase_1_write_that_hangs() {
    let disk = formatted(3);
    let play = Play::new(Sim::new(disklease_sim::First), &disk);
    let sim = &play.rig.sim;
    let [a, b] = play.joined();
    let hung = sim.hold_next(a.host, is_block_write);
    let of_a = play.start(&a, 2);
    assert!(sim.run(&of_a).is_none());
    let phase_2 = sim.hold_next(b.host, nth(2, is_block_write));
    let of_b = play.start(&b, 1);
    sim.run_until_held(&phase_2);
    assert_eq!(a.acquire_error(), AcquireError::WriteInFlight);
    sim.release_held(&hung);
    let of_a = play.start(&a, 1);
    sim.release_held(&phase_2);
    sim.run_until(|| of_a.is_done() && of_b.is_done());
    play.nobody_is_stuck(&[(&a, of_a), (&b, of_b)], &[&a, &b]);
}
