//! Hosts that go by different fire timeouts do not stay in one lockspace.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use disklease::__sim::delta_lease::{
    AgreeError, Agreement, InDoubt, agree_on_fire_timeout, compare_fire_timeouts, release,
};
use disklease::format::HostNote;
use disklease::timing::FireTimeout;

use super::hosts::{TICK, Watch, at};
use disklease_sim::rig::{formatted, host_id, host_now, secs, timing};
use disklease_sim::{Faults, First, Member, Pending, Rig, Seeded, Sim, Task};

const OURS: u16 = 60;
const THEIRS: u16 = 61;
/// How often a host that waits inspects its table.
const LOOK: Duration = Duration::from_millis(100);

fn fire(secs: u16) -> FireTimeout {
    FireTimeout::from_secs(secs).unwrap()
}

/// Host `id` joins with N = 10 s, and tells this fire timeout.
fn join_telling(watch: &mut Watch, id: u64, fire_secs: u16) {
    watch.join(id, 10);
    let generation = watch.leader(id).generation();
    let mut note = HostNote::new(host_id(id), generation);
    note.fire_timeout_secs = fire_secs;
    note.write_to(watch.sector(id).first_chunk_mut().unwrap());
    watch.sector(id)[256..512].fill(0);
}

/// What host 3 makes of its table.
fn verdict(watch: &Watch, when: Duration) -> Agreement {
    compare_fire_timeouts(&watch.table, host_id(3), fire(OURS), at(secs(0)), at(when))
}

fn broken_by(id: u64) -> Agreement {
    Agreement::Broken {
        host_id: host_id(id),
        theirs: fire(THEIRS),
    }
}

/// Of a host that was first seen at 0 s.
fn doubt_of(id: u64) -> Agreement {
    Agreement::InDoubt(InDoubt {
        host_id: host_id(id),
        theirs: fire(THEIRS),
        dead_at: at(timing(10, THEIRS.into()).dead_after()),
    })
}

/// One that was seen once, or was silent for long, may live. One that was seen to renew does. One
/// that left or is dead is of no account.
#[test]
fn a_host_is_in_doubt_until_it_renews_or_leaves_or_is_dead() {
    let dead_after = timing(10, THEIRS.into()).dead_after();
    let watch = || {
        let mut watch = Watch::new();
        join_telling(&mut watch, 1, THEIRS);
        watch.scan(secs(0));
        watch
    };
    let mut silent = watch();
    for when in [secs(0), secs(80), secs(81), dead_after] {
        silent.scan(when);
        assert_eq!(verdict(&silent, when), doubt_of(1));
    }
    // Time alone does not make it dead: a look does.
    assert_eq!(verdict(&silent, dead_after + TICK), doubt_of(1));
    silent.scan(dead_after + TICK);
    assert_eq!(verdict(&silent, dead_after + TICK), Agreement::Reached);

    let mut lively = watch();
    lively.renew(1);
    lively.scan(secs(20));
    assert_eq!(verdict(&lively, secs(100)), broken_by(1));
    assert!(matches!(
        verdict(&lively, secs(100) + TICK),
        Agreement::InDoubt(_)
    ));

    let mut leaving = watch();
    let left = leaving.leader(1).released();
    leaving.put(1, left);
    leaving.scan(secs(1));
    assert_eq!(verdict(&leaving, secs(1)), Agreement::Reached);
}

/// Those that tell the same fire timeout, or none, or one that no host can have, are of no account,
/// whether they live or not. Nor is an earlier incarnation of the own host.
#[test]
fn only_other_hosts_that_tell_another_one_count() {
    let mut watch = Watch::new();
    join_telling(&mut watch, 1, OURS);
    watch.join(2, 10);
    join_telling(&mut watch, 3, THEIRS);
    join_telling(&mut watch, 4, 0);
    join_telling(&mut watch, 5, 601);
    watch.scan(secs(0));
    assert_eq!(verdict(&watch, secs(0)), Agreement::Reached);
    (1..=5).for_each(|id| watch.renew(id));
    watch.scan(secs(1));
    assert_eq!(verdict(&watch, secs(1)), Agreement::Reached);
}

/// One that lives decides at once, wherever it stands among those in doubt.
#[test]
fn one_that_lives_outweighs_those_in_doubt() {
    for lively in [1, 2, 4] {
        let mut watch = Watch::new();
        for id in [1, 2, 4] {
            join_telling(&mut watch, id, THEIRS);
        }
        watch.scan(secs(0));
        assert_eq!(verdict(&watch, secs(0)), doubt_of(1));
        watch.renew(lively);
        watch.scan(secs(1));
        assert_eq!(verdict(&watch, secs(1)), broken_by(lively));
    }
}

/// A sector that gets damaged meanwhile proves no death, and nobody waits for ever.
#[test]
fn a_damaged_sector_is_waited_for_and_then_refused() {
    let dead_after = timing(10, THEIRS.into()).dead_after();
    let mut watch = Watch::new();
    join_telling(&mut watch, 1, THEIRS);
    watch.scan(secs(0));
    watch.sector(1)[60] ^= 1;
    for when in [secs(1), dead_after] {
        watch.scan(when);
        assert_eq!(verdict(&watch, when), doubt_of(1));
    }
    assert_eq!(verdict(&watch, dead_after + TICK), broken_by(1));
}

/// Only a scan that was started when the own note was on the disk shows everybody who does not see it.
#[test]
fn there_is_no_agreement_before_a_scan_that_is_late_enough() {
    let mut watch = Watch::new();
    let at_secs = |watch: &Watch, claimed| {
        compare_fire_timeouts(
            &watch.table,
            host_id(3),
            fire(OURS),
            at(secs(claimed)),
            at(secs(9)),
        )
    };
    assert_eq!(at_secs(&watch, 5), Agreement::NotSeen);
    watch.scan_taking(secs(4), secs(6));
    assert_eq!(at_secs(&watch, 5), Agreement::NotSeen);
    assert_eq!(at_secs(&watch, 4), Agreement::Reached);
    // What is seen already counts already.
    join_telling(&mut watch, 1, THEIRS);
    watch.scan(secs(0));
    assert_eq!(at_secs(&watch, 5), doubt_of(1));
}

/// A lockspace with host 1, which has joined with N = 10 s and renews, and the same for hosts with
/// another fire timeout.
fn beside_host_1() -> (Rig, Member, Rig) {
    let rig = Rig::new(Sim::new(First), 3);
    let theirs = rig.join(1);
    let mut ours = rig.clone();
    ours.fire_timeout = fire(5);
    (rig, theirs, ours)
}

type Waits = Rc<RefCell<Vec<InDoubt>>>;

/// Has `member`, which renews, wait for agreement; and what it says that it waits for.
fn start_agreeing(rig: &Rig, member: &Member) -> (Task<Result<(), AgreeError>>, Waits) {
    let heard = Waits::default();
    let (me, into) = (member.clone(), heard.clone());
    let claimed_at = me.delta.borrow().claimed_at();
    let task = rig.sim.spawn(member.host, async move {
        let progress = |doubt| into.borrow_mut().push(doubt);
        agree_on_fire_timeout(&me.world, &me.membership, claimed_at, &progress).await
    });
    (task, heard)
}

/// Host 2 claims its id, with N = 1 s, and renews.
fn claim_as_host_2(rig: &Rig) -> Member {
    let (_, world) = rig.add_host();
    let member = rig.join_on(&world, rig.claimant(2, "host-2", 1));
    member.keep_alive(&rig.sim);
    member
}

fn elapsed(rig: &Rig, task: &Task<Result<(), AgreeError>>) -> (Duration, Result<(), AgreeError>) {
    let begun = rig.sim.now();
    let agreed = rig.sim.run(task);
    (rig.sim.now().since(begun), agreed)
}

/// A host that renews rarely is not seen to do so while another joins. It is waited for, for as long
/// as that takes and no longer, and the one that waits keeps its own id meanwhile.
#[test]
fn a_host_that_lives_is_waited_for_until_it_renews() {
    let (_, theirs, rig) = beside_host_1();
    let ours = claim_as_host_2(&rig);
    // Just after a renewal: nearly the whole of 20 s without another.
    let renewed = theirs.delta.borrow().renewed_at();
    rig.sim
        .run_until(|| theirs.delta.borrow().renewed_at() > renewed);
    let (task, heard) = start_agreeing(&rig, &ours);
    let (took, refused) = elapsed(&rig, &task);
    assert_eq!(
        refused,
        Err(AgreeError::Differs {
            host_id: host_id(1),
            theirs: fire(60)
        })
    );
    assert!(took > secs(10) && took <= secs(20 + 2) + LOOK, "{took:?}");
    let heard = heard.borrow();
    assert_eq!(heard.len(), 1);
    assert_eq!((heard[0].host_id, heard[0].theirs), (host_id(1), fire(60)));
    assert!(ours.is_held());
}

/// A dead host is waited for until it is dead for certain, by its own N and the longer F.
#[test]
fn a_dead_host_is_waited_for_and_no_longer() {
    let (_, theirs, rig) = beside_host_1();
    rig.sim.crash(theirs.host, Pending::Land);
    let ours = claim_as_host_2(&rig);
    let (task, heard) = start_agreeing(&rig, &ours);
    let (took, agreed) = elapsed(&rig, &task);
    assert_eq!(agreed, Ok(()));
    let dead_after = timing(10, 60).dead_after();
    assert!(
        took > dead_after && took <= dead_after + secs(2 + 2) + LOOK,
        "{took:?}"
    );
    assert_eq!(heard.borrow().len(), 1);
    assert!(ours.is_held());
}

/// Once it has left there is nothing to wait for.
#[test]
fn a_host_that_leaves_is_not_waited_for() {
    let (_, theirs, rig) = beside_host_1();
    let ours = claim_as_host_2(&rig);
    let (task, _) = start_agreeing(&rig, &ours);
    rig.sim.run_for(secs(3));
    assert!(!task.is_done());
    let (me, delta) = (theirs.clone(), theirs.delta.borrow().clone());
    let left = rig.sim.run_on(theirs.host, async move {
        release(&me.world, &me.membership, &delta).await
    });
    left.unwrap();
    let (took, agreed) = elapsed(&rig, &task);
    assert_eq!(agreed, Ok(()));
    assert!(took <= secs(2) + LOOK, "{took:?}");
}

/// A host that loses its id while it waits for another learns it by the clock, at 8N.
#[test]
fn who_loses_his_id_meanwhile_waits_no_longer() {
    let (_, theirs, rig) = beside_host_1();
    rig.sim.crash(theirs.host, Pending::Land);
    let ours = claim_as_host_2(&rig);
    let (task, _) = start_agreeing(&rig, &ours);
    rig.sim.run_for(secs(5));
    rig.sim.hang_io(ours.host);
    let expires_at = ours.expires_at.get();
    assert_eq!(rig.sim.run(&task), Err(AgreeError::Lost));
    assert!(ours.now() >= expires_at && ours.now() <= expires_at + LOOK);
}

/// Who has not inspected all waits for the first look.
#[test]
fn nobody_agrees_without_having_looked() {
    let rig = Rig::new(Sim::new(First), 3);
    let (_, world) = rig.add_host();
    let member = rig.join_on(&world, rig.claimant(1, "me", 10));
    let (task, heard) = start_agreeing(&rig, &member);
    rig.sim.run_for(secs(30));
    assert!(!task.is_done());
    let me = member.clone();
    rig.sim
        .run_on(member.host, async move { me.renew().await })
        .unwrap();
    let (took, agreed) = elapsed(&rig, &task);
    assert_eq!(agreed, Ok(()));
    assert!(took <= LOOK, "{took:?}");
    assert_eq!(heard.borrow().len(), 0);
}

/// What counts is when the own note was on the disk, not when it was sent there.
#[test]
fn an_id_is_claimed_when_the_write_has_ended() {
    let rig = Rig::new(Sim::new(First), 3);
    let (host, world) = rig.add_host();
    let write = rig.sim.hold_next(host, |io| io.is_write());
    let claim = rig.claim(&world, rig.claimant(1, "me", 10));
    rig.sim.run_until_held(&write);
    let begun = host_now(&world);
    rig.sim.run_for(secs(3));
    rig.sim.release_held(&write);
    let claimed = rig.sim.run(&claim).unwrap();
    assert_eq!(claimed.renewed_at(), begun);
    assert_eq!(claimed.claimed_at(), begun + secs(3));
}

/// Two hosts that differ and join at about the same time: at most one of them stays, whatever the
/// order and however long each I/O takes.
#[test]
fn of_two_hosts_that_join_at_once_at_most_one_stays() {
    let disk = formatted(3);
    let mut stayed = [0; 3];
    for seed in 0..400 {
        let rig = Rig::on(Sim::without_log(Seeded::new(seed)), 3, disk.clone());
        rig.sim.set_faults(Faults {
            torn_read: 300,
            read_error: 100,
            ..Faults::latency(secs(0), secs(4))
        });
        let joins: Vec<_> = [(1, 60), (2, 61)]
            .into_iter()
            .map(|(id, fire_secs)| {
                let mut rig = rig.clone();
                rig.fire_timeout = fire(fire_secs);
                let (host, world) = rig.add_host();
                let claimant = rig.claimant(id, &format!("host-{id}"), 10);
                let later = seed / 7 % 30 * (id - 1);
                rig.sim.clone().spawn(host, async move {
                    join_and_agree(&rig, &world, claimant, secs(later)).await
                })
            })
            .collect();
        rig.sim.run_for(secs(400));
        let stay = joins.iter().filter(|join| join.take() == Some(Ok(())));
        stayed[stay.count()] += 1;
    }
    assert_eq!(stayed[2], 0, "none, one, both: {stayed:?}");
    assert!(
        stayed[0] > 20 && stayed[1] > 20,
        "none, one, both: {stayed:?}"
    );
}

/// The whole of a join, started after `pause`: `None` where the claim fails. One that is refused
/// leaves.
async fn join_and_agree(
    rig: &Rig,
    world: &disklease_sim::SimWorld,
    claimant: disklease::__sim::delta_lease::Claimant,
    pause: Duration,
) -> Option<Result<(), AgreeError>> {
    use disklease::__sim::delta_lease::claim;
    use disklease::__sim::world::World as _;
    world.sleep(pause).await;
    let delta = claim(world, &rig.area, &claimant, &|_| {}).await.ok()?;
    let claimed_at = delta.claimed_at();
    let member = rig.member(world, delta);
    member.keep_alive(&rig.sim);
    let agreed = agree_on_fire_timeout(world, &member.membership, claimed_at, &|_| {}).await;
    if agreed.is_err() {
        let delta = member.delta.borrow().clone();
        drop(release(world, &member.membership, &delta).await);
    }
    Some(agreed)
}
