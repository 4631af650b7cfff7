//! Storage that fails half-way, and writes that land late: no ownership may be left without a
//! holder, and nothing may be decided over a write in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use disklease::__sim::host::{LeaseTable, NotReserved, reconcile};
use disklease::__sim::paxos_lease::{
    AcquireError, GiveBackError, LeaseShape, LeftBehind, Patience, Reconciled, retract,
};
use disklease::format::LeaseVersion;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::setup::{
    announced, is_area_read, is_block_write, is_leader_read, is_leader_write, joined, lease_writes,
};
use super::shared::share;
use disklease_sim::rig::{LEASE, LEASE_AT, host_id, secs};
use disklease_sim::{Hold, Member, Rig, nth};

fn clean_up(rig: &Rig, member: &Member, pending: &LeftBehind) -> Result<Reconciled, GiveBackError> {
    let (me, pending) = (member.clone(), pending.clone());
    rig.sim.run_on(member.host, async move {
        retract(&me.world, &me.membership, &me.lease, &pending).await
    })
}

/// Nothing is left of A's acquire: its block, if it wrote one, says RELEASED, it owns nothing, and
/// another host can take the lease at once.
fn nothing_is_left(rig: &Rig, other: &Member) {
    if let Some(block) = rig.block_sector(1).block.unwrap() {
        assert!(block.released);
    }
    assert!(rig.leader().is_free());
    let before = rig.sim.now();
    other.acquire().unwrap();
    assert_eq!(rig.sim.now(), before);
}

/// Whatever I/O of an acquire fails, it is retracted: the block keeps its values and says RELEASED,
/// and a leader that names us and that we wrote is freed.
#[test]
fn an_error_anywhere_is_retracted() {
    for step in 1..=6 {
        for lands in [false, true] {
            let (rig, [a, b]) = joined();
            let task = a.start_acquire(Patience::Refuse);
            rig.sim
                .fail_next(a.host, lands, nth(step, |io| io.offset >= LEASE_AT));
            let failure = rig.sim.run(&task).unwrap_err();
            assert!(
                matches!(failure.error, AcquireError::Lease(_)),
                "step {step}"
            );
            assert!(failure.pending.is_none(), "step {step}: cleaned_up at once");
            // What others may have adopted is inspected for some time.
            assert_eq!(failure.cleaned_up.is_some(), step > 3, "step {step}");
            // A first write that has not landed has left nothing.
            if step > 2 || step == 2 && lands {
                let block = rig.block(1);
                assert_eq!(block.version, LeaseVersion::new(1));
                assert_eq!(
                    block.input.is_some(),
                    step > 4 || step == 4 && lands,
                    "step {step}: values are kept"
                );
            }
            nothing_is_left(&rig, &b);
        }
    }
}

/// The same with time-outs whose write lands late or not at all. The write may be in the way of the
/// retraction: then the pending cleanup is handed to the caller, who reconciles it later.
#[test]
fn a_timeout_anywhere_is_retracted_sooner_or_later() {
    for step in 1..=6 {
        for lands in [false, true] {
            let (rig, [a, b]) = joined();
            let held = rig
                .sim
                .hold_next(a.host, nth(step, |io| io.offset >= LEASE_AT));
            let failure = rig.sim.run(&a.start_acquire(Patience::Refuse)).unwrap_err();
            let is_write = step % 2 == 0;
            assert_eq!(failure.pending.is_some(), is_write, "step {step}");
            if let Some(pending) = failure.pending {
                assert_eq!(
                    clean_up(&rig, &a, &pending),
                    Err(GiveBackError::WriteInFlight)
                );
                finish(&rig, &held, lands);
                clean_up(&rig, &a, &pending).unwrap();
                clean_up(&rig, &a, &pending).unwrap();
            } else {
                finish(&rig, &held, lands);
            }
            nothing_is_left(&rig, &b);
        }
    }
}

fn finish(rig: &Rig, held: &Hold, lands: bool) {
    if lands {
        rig.sim.release_held(held);
    } else {
        rig.sim.fail_held(held, false);
    }
}

/// INV-WRITER: a leader that names us but that another host wrote is left alone; the mark speaks.
#[test]
fn a_leader_that_another_host_wrote_is_not_retracted() {
    let (rig, [a, b]) = joined();
    let look = rig.sim.hold_next(a.host, nth(3, is_area_read));
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&look);
    b.acquire_error();
    let leader = rig.leader();
    assert_eq!(
        (leader.last_owner(), leader.write_id()),
        (Some(a.membership.host_id()), 2)
    );
    rig.sim.fail_held(&look, false);
    assert!(rig.sim.run(&task).unwrap_err().pending.is_none());
    assert_eq!(rig.leader(), leader);
    assert!(rig.block(1).released);
    assert_eq!(b.acquire().unwrap().version(), LeaseVersion::new(2));
}

/// While a write of this host to the lease has not ended, nothing is decided: what is read may be
/// overwritten by it.
#[test]
fn nothing_is_decided_over_a_write_in_flight() {
    for step in [2, 4, 6] {
        let (rig, [a, _]) = joined();
        let held = rig
            .sim
            .hold_next(a.host, nth(step, |io| io.offset >= LEASE_AT));
        assert!(rig.sim.run(&a.start_acquire(Patience::Refuse)).is_err());
        let from = rig.sim.log_len();
        assert_eq!(a.acquire_error(), AcquireError::WriteInFlight);
        assert_eq!(lease_writes(&rig, &a, from).len(), 0);
        rig.sim.release_held(&held);
        a.acquire().unwrap();
    }
}

/// Also where the lease was expected to be smaller than it is, and the write is outside of that.
#[test]
fn a_write_in_flight_is_seen_in_all_of_the_lease() {
    let (rig, [_, b]) = joined();
    let held = rig.sim.hold_next(b.host, is_block_write);
    assert!(rig.sim.run(&b.start_acquire(Patience::Refuse)).is_err());
    let mut expects_less = b.clone();
    expects_less.lease.expected_shape = LeaseShape {
        geometry: LEASE,
        num_hosts: 1,
    };
    let from = rig.sim.log_len();
    assert_eq!(expects_less.acquire_error(), AcquireError::WriteInFlight);
    assert_eq!(lease_writes(&rig, &b, from).len(), 0);
    rig.sim.release_held(&held);
    expects_less.acquire().unwrap();
}

/// A release that fails leaves a pending cleanup; reconciled, it frees the lease.
#[test]
fn a_failed_release_is_reconciled_later() {
    for step in 1..=3 {
        for lands in [false, true] {
            let (rig, [a, b]) = joined();
            let held = a.acquire().unwrap();
            let task = a.start_release(&held);
            rig.sim
                .fail_next(a.host, lands, nth(step, |io| io.offset >= LEASE_AT));
            assert!(matches!(rig.sim.run(&task), Err(GiveBackError::Lease(_))));
            clean_up(&rig, &a, &LeftBehind::of_release(&held)).unwrap();
            nothing_is_left(&rig, &b);
        }
    }
}

/// INV-MEMBER: once the own delta lease is lost, an acquire writes nothing more, at whatever step
/// it is, and neither does its retraction. The pending cleanup is handed back.
#[test]
fn without_the_lockspace_nothing_is_written() {
    for step in 1..=6 {
        let (rig, [a]) = joined();
        let io = rig
            .sim
            .hold_next(a.host, nth(step, |io| io.offset >= LEASE_AT));
        let task = a.start_acquire(Patience::Refuse);
        rig.sim.run_until_held(&io);
        a.membership.expiry().lose();
        rig.sim.release_held(&io);
        let from = rig.sim.log_len();
        let failure = rig.sim.run(&task).unwrap_err();
        assert_eq!(failure.error, AcquireError::LockspaceLost);
        assert_eq!(failure.pending.is_some(), step > 1, "step {step}");
        if let Some(pending) = failure.pending {
            assert_eq!(
                clean_up(&rig, &a, &pending),
                Err(GiveBackError::LockspaceLost)
            );
        }
        assert_eq!(lease_writes(&rig, &a, from).len(), 0, "step {step}");
    }
    let (rig, [a]) = joined();
    a.membership.expiry().lose();
    let from = rig.sim.log_len();
    assert_eq!(a.acquire_error(), AcquireError::LockspaceLost);
    assert_eq!(rig.sim.log_len(), from, "not even read");
}

/// The lease ends by the clock alone: a host whose last I/O took until its deadline does not go on.
#[test]
fn the_deadline_is_looked_at_before_each_write() {
    let rig = Rig::new(disklease_sim::Sim::new(disklease_sim::First), 3);
    let (host, world) = rig.add_host();
    let a = rig.join_on(&world, rig.claimant(1, "a", 10));
    let left = a.membership.expiry().deadline().unwrap().since(a.now());
    rig.sim.run_for(left - secs(1));
    let read = rig.sim.hold_next(host, nth(2, is_area_read));
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&read);
    rig.sim.run_for(secs(1));
    rig.sim.release_held(&read);
    let from = rig.sim.log_len();
    assert_eq!(
        rig.sim.run(&task).unwrap_err().error,
        AcquireError::LockspaceLost
    );
    assert_eq!(lease_writes(&rig, &a, from).len(), 0);
}

/// A retraction that fails itself leaves the pending cleanup as it was.
#[test]
fn a_retraction_may_fail_and_be_repeated() {
    for step in 1..=3 {
        let (rig, [a, b]) = joined();
        let task = a.start_acquire(Patience::Refuse);
        // The commit fails, but has landed; and so does one step of its retraction.
        rig.sim.fail_next(a.host, true, is_leader_write);
        let wanted: fn(&disklease_sim::IoView<'_>) -> bool = match step {
            1 => is_block_write,
            2 => is_leader_read,
            _ => is_leader_write,
        };
        rig.sim.fail_next(a.host, false, wanted);
        let pending = rig
            .sim
            .run(&task)
            .unwrap_err()
            .pending
            .expect("not cleaned_up yet");
        assert!(!rig.leader().is_free());
        clean_up(&rig, &a, &pending).unwrap();
        nothing_is_left(&rig, &b);
    }
}

/// What was proposed for a version that nobody has got yet is retracted also by an acquire that has
/// started anew since, and has written nothing since.
#[test]
fn what_is_not_decided_is_retracted_after_a_new_beginning() {
    let (rig, [a, _]) = joined();
    let look = rig.sim.hold_next(a.host, nth(3, is_area_read));
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&look);
    // Another host ballots for a newer version.
    rig.put_block(2, &announced(2, 9002));
    let next_look = rig.sim.hold_next(a.host, is_leader_read);
    rig.sim.release_held(&look);
    rig.sim.run_until_held(&next_look);
    rig.sim.fail_held(&next_look, false);
    let failure = rig.sim.run(&task).unwrap_err();
    assert!(matches!(failure.error, AcquireError::Lease(_)));
    assert!(failure.pending.is_none() && rig.block(1).released);
}

/// So is what another host has carried through for this one: that the leader names this host decides
/// nothing, for nobody here holds the lease.
#[test]
fn what_was_decided_for_this_host_is_retracted_too() {
    let (rig, [a, b]) = joined();
    rig.sim.run_for(secs(45));
    let look = rig.sim.hold_next(a.host, nth(3, is_area_read));
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&look);
    // B adopts A's input and commits it, and C ballots for a newer version, which sends A back to the
    // start. There it is refused before it has written anything.
    b.acquire_error();
    assert_eq!(rig.leader().last_owner(), Some(a.membership.host_id()));
    rig.put_block(3, &announced(2, 9003));
    share(&rig, 2, 1);
    let from = rig.sim.log_len();
    rig.sim.release_held(&look);
    let failure = rig.sim.run(&task).unwrap_err();
    let is_shared = matches!(failure.error, AcquireError::HeldShared { .. });
    assert!(is_shared && failure.pending.is_none(), "{failure:?}");
    assert_eq!(lease_writes(&rig, &a, from).len(), 1);
    assert!(rig.block(1).released);
}

/// A lease that is taken keeps its lockspace; one with a pending cleanup is given to nobody before it is reconciled.
#[test]
fn a_lease_is_reserved_for_one_and_not_while_it_owes() {
    let (rig, [a, _]) = joined();
    let held = a.acquire().unwrap();
    let table = Arc::new(LeaseTable::default());
    let name = a.lease.resource;
    let reserve = || table.reserve(1, name);
    let reservation = reserve().unwrap();
    assert_eq!(reserve().unwrap_err(), NotReserved::InUse);
    assert_eq!(table.close(), Err(1));
    reservation.clean_up(a.lease.clone(), LeftBehind::of_release(&held));
    assert_eq!(reserve().unwrap_err(), NotReserved::CleanupPending);
    assert_eq!(table.pending(), 1);
    let (me, cleanups) = (a.clone(), Arc::clone(&table));
    rig.sim.spawn(a.host, async move {
        reconcile(&me.world, &me.membership, &cleanups).await;
    });
    rig.sim.run_until(|| table.pending() == 0);
    drop(reserve().unwrap());
    assert_eq!(table.close(), Ok(()));
    assert_eq!(reserve().unwrap_err(), NotReserved::Left);
}

/// What a device that is gone has left is tried for as long as the join lives, and said once.
#[test]
fn a_cleanup_that_stays_pending_is_said_once_for_each_kind_of_failure() {
    let (rig, [a, _]) = joined();
    let held = a.acquire().unwrap();
    let table = Arc::new(LeaseTable::default());
    let reservation = table.reserve(1, a.lease.resource).unwrap();
    reservation.clean_up(a.lease.clone(), LeftBehind::of_release(&held));
    let (me, cleanups) = (a.clone(), Arc::clone(&table));
    rig.sim.spawn(a.host, async move {
        reconcile(&me.world, &me.membership, &cleanups).await;
    });
    a.keep_alive(&rig.sim);
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        for _ in 0..5 {
            let of_lease = nth(1, |io| io.offset >= LEASE_AT);
            rig.sim.fail_next(a.host, false, of_lease);
            rig.sim.run_for(secs(15));
            assert_eq!(table.pending(), 1);
            assert_eq!(warnings.count(), 1, "of a read that failed");
        }
        let write = nth(1, is_block_write);
        rig.sim.fail_next(a.host, false, write);
        rig.sim.run_for(secs(15));
        assert_eq!(table.pending(), 1);
        assert_eq!(warnings.count(), 2, "of a write that failed");
        rig.sim.run_for(secs(20));
        assert_eq!(table.pending(), 0);
    });
}

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Warnings {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A write that the storage reports as failed, and does later all the same, can bring an ownership back that was
/// reconciled. It is looked for until 8N + F have ended, and reconciled again, unless somebody reserves the lease.
#[test]
fn what_was_reconciled_is_observed_for_some_time() {
    let (rig, [a, _]) = joined();
    let held = a.acquire().unwrap();
    let owned = rig.leader();
    let table = Arc::new(LeaseTable::default());
    let reserve = || table.reserve(1, a.lease.resource).unwrap();
    let (me, cleanups) = (a.clone(), Arc::clone(&table));
    rig.sim.spawn(a.host, async move {
        reconcile(&me.world, &me.membership, &cleanups).await;
    });
    a.keep_alive(&rig.sim);
    let comes_back = || rig.put_leader(&owned);

    // Reconciled by the lockspace; twice it comes back.
    reserve().clean_up(a.lease.clone(), LeftBehind::of_release(&held));
    for wait in [35, 130] {
        rig.sim.run_for(secs(wait));
        assert!(rig.leader().is_free());
        comes_back();
    }
    rig.sim.run_for(secs(25));
    assert!(rig.leader().is_free());

    // Reconciled by who failed to acquire it. One that is in use is nobody's business.
    reserve().observe(a.lease.clone(), LeftBehind::of_release(&held));
    rig.sim.run_for(secs(30));
    let in_use = reserve();
    comes_back();
    rig.sim.run_for(secs(60));
    assert!(!rig.leader().is_free());

    // And no longer than it takes until anybody may have it.
    rig.put_leader(&owned.freed(host_id(1), owned.generation(), 99));
    in_use.observe(a.lease.clone(), LeftBehind::of_release(&held));
    rig.sim.run_for(secs(200));
    comes_back();
    rig.sim.run_for(secs(60));
    assert!(!rig.leader().is_free());
}
