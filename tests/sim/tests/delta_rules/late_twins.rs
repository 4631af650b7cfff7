//! Hosts with one host id and one name, of which one's claim is late: over all instants at which it can
//! land, and what each host believes meanwhile.

use std::time::Duration;

use disklease::__sim::paxos_lease::{AcquireError, Patience};

use disklease_sim::clock::HostClock;
use disklease_sim::rig::secs;
use disklease_sim::world::SimWorld;
use disklease_sim::{First, Hold, Member, Rig, Sim};

const F: Duration = Duration::from_secs(60);

/// The clock of each is the same.
fn twin(rig: &Rig) -> SimWorld {
    let host = rig.sim.add_host(HostClock::default());
    SimWorld::new(&rig.sim, host)
}

/// A claim of host id 1 that has seen the id free, and whose write is under way.
fn late_claim(rig: &Rig, io_secs: u64) -> Hold {
    let world = twin(rig);
    let write = rig.sim.hold_next(world.host, |io| io.is_write());
    rig.claim(&world, rig.claimant(1, "me", io_secs));
    rig.sim.run_until_held(&write);
    write
}

/// Of twins whose claims begin at any two instants, and land at any others, never two are members at
/// once, and none is for longer than until its first renewal over the other's record.
#[test]
fn of_twins_with_late_claims_at_most_one_is_a_member_at_any_instant() {
    let lands_after = [0, 9, 12, 25, 45].map(secs);
    let mut joined = 0;
    for begins in [0, 1, 19, 20, 21].map(secs) {
        for first_lands in lands_after {
            for second_lands in lands_after {
                let rig = Rig::new(Sim::new(First), 3);
                let worlds = [twin(&rig), twin(&rig)];
                let of_write = |world: &SimWorld| rig.sim.hold_next(world.host, |io| io.is_write());
                let writes = [of_write(&worlds[0]), of_write(&worlds[1])];
                let lands = [first_lands, begins + second_lands];
                let mut landed = [false; 2];
                let mut claims = [None, None];
                let mut members: [Option<Member>; 2] = [None, None];
                for second in (0..120).map(secs) {
                    for n in 0..2 {
                        if second == [secs(0), begins][n] {
                            let claim = rig.claimant(1, "me", 10);
                            claims[n] = Some(rig.claim(&worlds[n], claim));
                        }
                        // Whoever has seen the other waits instead.
                        rig.sim.run_for(Duration::ZERO);
                        if second >= lands[n] && !landed[n] && writes[n].has_caught() {
                            landed[n] = true;
                            rig.sim.release_held(&writes[n]);
                        }
                    }
                    for n in 0..2 {
                        if claims[n].as_ref().is_some_and(|claim| claim.is_done())
                            && let Ok(delta) = claims[n].take().unwrap().take()
                        {
                            let member = rig.member(&worlds[n], delta);
                            member.keep_alive(&rig.sim);
                            members[n] = Some(member);
                            joined += 1;
                        }
                    }
                    let held = members.iter().flatten().filter(|member| member.is_held());
                    assert!(
                        held.count() <= 1,
                        "{begins:?} {first_lands:?} {second_lands:?} at {second:?}\n{}",
                        rig.sim.log_text()
                    );
                    rig.sim.run_for(secs(1));
                }
            }
        }
    }
    assert!(joined > 50, "only {joined} have joined");
}

/// A claim that lands over the record of a member ends that member's time at its next renewal: also one with
/// the same record to the byte, and one where the member does not know which of two records is its own.
#[test]
fn a_member_over_which_a_twins_claim_has_landed_is_none_after_its_next_renewal() {
    for fails_before in [false, true] {
        for lands_after in [None, Some(1), Some(19), Some(21), Some(45)] {
            let rig = Rig::new(Sim::new(First), 3);
            let late = late_claim(&rig, 10);
            // In the same second.
            let member = rig.join_on(&twin(&rig), rig.claimant(1, "me", 10));
            if let Some(after) = lands_after {
                member.keep_alive(&rig.sim);
                rig.sim.run_for(secs(after));
            }
            assert!(member.is_held());
            if fails_before {
                let me = member.clone();
                let renewal = rig
                    .sim
                    .spawn(member.host, async move { me.renew().await.is_err() });
                rig.sim.fail_next(member.host, false, |io| io.is_write());
                assert!(rig.sim.run(&renewal));
            }
            rig.sim.release_held(&late);
            if lands_after.is_none() {
                member.keep_alive(&rig.sim);
            }
            rig.sim.run_for(secs(21));
            assert!(!member.is_held(), "{fails_before} {lands_after:?}");
        }
    }
}

/// The claim of a twin with a short N lands over the record of a host with a long one that has had no storage since it
/// took a lease. Nobody has the lease before that host must have stopped, by its own N.
#[test]
fn a_twins_late_claim_gives_no_lease_away_before_its_holder_has_stopped() {
    for begins_to_wait in [0, 40, 90].map(secs) {
        for lands_after in [1, 5, 30, 60, 85].map(secs) {
            let rig = Rig::new(Sim::new(First), 3);
            let late = late_claim(&rig, 1);
            rig.sim.run_for(secs(3));
            let holder = rig.join_on(&twin(&rig), rig.claimant(1, "me", 20));
            holder.acquire().unwrap();
            rig.sim.hang_io(holder.host);
            let other = rig.join(2);
            let begun = rig.sim.now();
            let wait_to = |after: Duration| {
                let gone = rig.sim.now().since(begun);
                rig.sim.run_for(after.saturating_sub(gone));
            };
            let acquire = || other.start_acquire(Patience::WaitForDeath { until: None });
            let early = (begins_to_wait < lands_after).then(|| {
                wait_to(begins_to_wait);
                acquire()
            });
            wait_to(lands_after);
            rig.sim.release_held(&late);
            wait_to(begins_to_wait);
            let mut waiting = early.unwrap_or_else(acquire);
            // One that looks alive is not waited for.
            while let Err(failure) = rig.sim.run(&waiting) {
                let is_held = matches!(failure.error, AcquireError::Held(_));
                assert!(is_held, "{failure:?}");
                rig.sim.run_for(secs(1));
                waiting = acquire();
            }
            let stopped = holder.expires_at.get() + F;
            assert!(
                holder.now() > stopped,
                "{begins_to_wait:?} {lands_after:?}: {:?} is before {stopped:?}",
                holder.now()
            );
        }
    }
}
