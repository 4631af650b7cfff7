//! Leases that were initialised anew, put back to an older state, cut off or overwritten while a host
//! held them or had still to reconcile something on them (INV-AS-WRITTEN).

use std::sync::Arc;

use disklease::__sim::host::{LeaseTable, NotReserved, reconcile, reread_held};
use disklease::__sim::paxos_lease::{
    AcquireError, GiveBackError, HeldLease, LeaseArea, LeaseIoError, LeftBehind, Patience,
    Reconciled, VerifyError, has_ended_elsewhere, release, retract, verify,
};
use disklease::LossReason;
use disklease::format::{Dblock, LeaseVersion, ResourceName};
use parking_lot::Mutex;

use super::setup::{is_block_write, is_leader_read, is_leader_write, joined, lease_writes};
use disklease_sim::rig::{LEASE, LEASE_AT, formatted, host_id, secs};
use disklease_sim::{Member, Rig};

/// All of the lease as it is now.
fn copy_of(rig: &Rig) -> Vec<u8> {
    let mut bytes = vec![0; LEASE.lease_len(3)];
    rig.sim.core.borrow().disks[0].read(LEASE_AT, &mut bytes);
    bytes
}

/// An operator writes these bytes over the lease.
fn put_back(rig: &Rig, bytes: &[u8]) {
    rig.sim.core.borrow_mut().disks[0].write(LEASE_AT, bytes);
}

fn initialise(rig: &Rig) {
    let mut bytes = vec![0; LEASE.lease_len(3)];
    formatted(3).read(LEASE_AT, &mut bytes);
    put_back(rig, &bytes);
}

fn clean_up(member: &Member, pending: &LeftBehind) -> Reconciled {
    let (me, pending) = (member.clone(), pending.clone());
    let cleaned_up = member.world.sim.run_on(member.host, async move {
        retract(&me.world, &me.membership, &me.lease, &pending).await
    });
    cleaned_up.unwrap()
}

fn look(member: &Member, held: &HeldLease) -> Result<(), VerifyError> {
    let (me, held) = (member.clone(), held.clone());
    member.world.sim.run_on(member.host, async move {
        verify(&me.world, &me.membership, &me.lease, &held).await
    })
}

/// `a` has the lease for the third time.
fn third_time(a: &Member) -> HeldLease {
    for _ in 0..2 {
        let held = a.acquire().unwrap();
        a.release(&held).unwrap();
    }
    a.acquire().unwrap()
}

/// Two at once without the rule: the block of version 3, written into the new lease, makes its leader
/// look stale, and the owner of version 1 is not asked for.
#[test]
fn what_is_owed_is_void_in_a_lease_that_was_made_anew() {
    let (rig, [a, b, c]) = joined();
    let held = third_time(&a);
    let pending = LeftBehind::of_release(&held);
    initialise(&rig);
    let theirs = b.acquire().unwrap();
    assert_eq!(theirs.version(), LeaseVersion::new(1));
    let from = rig.sim.log_len();
    assert_eq!(clean_up(&a, &pending), Reconciled::Void);
    assert_eq!(lease_writes(&rig, &a, from).len(), 0);
    assert!(matches!(c.acquire_error(), AcquireError::Held(_)));
    look(&b, &theirs).unwrap();
}

/// The same for an acquire that failed in each of its writes.
#[test]
fn what_an_acquire_owes_is_void_in_a_lease_that_was_made_anew() {
    for lands in [false, true] {
        for is_commit in [false, true] {
            let (rig, [a, b, c]) = joined();
            let held = third_time(&a);
            a.release(&held).unwrap();
            // Its write hangs, so that the retraction does not come through at once.
            let wanted = if is_commit {
                is_leader_write
            } else {
                is_block_write
            };
            let hung = rig.sim.hold_next(a.host, wanted);
            let failure = rig.sim.run(&a.start_acquire(Patience::Refuse));
            let pending = failure.unwrap_err().pending.unwrap();
            if lands {
                rig.sim.release_held(&hung);
            } else {
                rig.sim.fail_held(&hung, false);
            }
            initialise(&rig);
            let theirs = b.acquire().unwrap();
            let from = rig.sim.log_len();
            assert_eq!(clean_up(&a, &pending), Reconciled::Void);
            assert_eq!(lease_writes(&rig, &a, from).len(), 0);
            assert!(matches!(c.acquire_error(), AcquireError::Held(_)));
            look(&b, &theirs).unwrap();
        }
    }
}

/// In place of the lease somebody has put something else: it is not written to, and what is to be cleaned up does
/// not block the name.
#[test]
fn what_is_owed_is_void_where_something_else_lies() {
    for content in [0_u8, 0xab] {
        let (rig, [a, _]) = joined();
        let held = third_time(&a);
        let pending = LeftBehind::of_release(&held);
        put_back(&rig, &vec![content; LEASE.lease_len(3)]);
        let from = rig.sim.log_len();
        assert_eq!(clean_up(&a, &pending), Reconciled::Void);
        let released = a.release(&held).unwrap_err();
        assert!(matches!(
            released,
            GiveBackError::Lease(LeaseIoError::Format { .. })
        ));
        assert!(matches!(look(&a, &held), Err(VerifyError::NotThere(_))));
        assert_eq!(lease_writes(&rig, &a, from).len(), 0);
    }
}

/// A release writes nothing into a lease that was made anew or put back, and says so.
#[test]
fn a_lease_that_was_put_back_is_not_written_by_its_release() {
    for is_new in [false, true] {
        let (rig, [a, b, c]) = joined();
        let first = a.acquire().unwrap();
        a.release(&first).unwrap();
        let old = copy_of(&rig);
        let second = b.acquire().unwrap();
        b.release(&second).unwrap();
        let held = a.acquire().unwrap();
        if is_new {
            initialise(&rig);
        } else {
            put_back(&rig, &old);
        }
        let version = LeaseVersion::new(u64::from(!is_new));
        assert_eq!(look(&a, &held), Err(VerifyError::PutBack { version }));
        let theirs = b.acquire().unwrap();
        let from = rig.sim.log_len();
        let version = theirs.version();
        assert_eq!(a.release(&held), Err(GiveBackError::NotThere { version }));
        assert_eq!(
            clean_up(&a, &LeftBehind::of_release(&held)),
            Reconciled::Void
        );
        assert_eq!(lease_writes(&rig, &a, from).len(), 0);
        assert!(matches!(c.acquire_error(), AcquireError::Held(_)));
        look(&b, &theirs).unwrap();
        assert!(look(&a, &held).is_err());
    }
}

/// A leader alone that is older, by a late commit of another host or put back, is no loss: the block
/// keeps everybody else from the lease, and whoever tries mends the leader.
#[test]
fn a_holder_under_a_stale_leader_holds_on() {
    let (rig, [a, b]) = joined();
    let first = b.acquire().unwrap();
    let stale = rig.leader();
    b.release(&first).unwrap();
    for leader in [stale, rig.leader()] {
        let held = a.acquire().unwrap();
        rig.put_leader(&leader);
        look(&a, &held).unwrap();
        assert!(matches!(b.acquire_error(), AcquireError::Held(_)));
        assert_eq!(rig.leader().version(), held.version(), "mended");
        assert_eq!(rig.leader().last_owner(), Some(host_id(1)));
        look(&a, &held).unwrap();
        a.release(&held).unwrap();
    }
}

/// Also one that this host wrote itself: its release says so, and leaves the lease to be taken.
#[test]
fn a_lease_whose_leader_alone_was_put_back_can_be_released() {
    let (rig, [a, b]) = joined();
    let first = a.acquire().unwrap();
    a.release(&first).unwrap();
    let old = rig.leader();
    let held = a.acquire().unwrap();
    rig.put_leader(&old);
    look(&a, &held).unwrap();
    let version = old.version();
    let writer = 1;
    assert_eq!(
        a.release(&held),
        Err(GiveBackError::NotOurs { version, writer })
    );
    assert_eq!(rig.leader(), old);
    assert!(b.acquire().unwrap().version() > held.version());
}

/// The own sector alone was put back, or cleared, while the leader names the holder for the very input that
/// it had there: the lease is given back all the same, whoever wrote that leader.
#[test]
fn a_lease_whose_own_block_alone_was_put_back_is_given_back() {
    for is_cleared in [false, true] {
        for is_late in [false, true] {
            for by_cleanup in [false, true] {
                let (rig, [a, b]) = joined();
                let first = a.acquire().unwrap();
                a.release(&first).unwrap();
                let old = rig.block(1);
                let held = a.acquire().unwrap();
                let ours = rig.block(1);
                rig.put_block(1, &old);
                if is_cleared {
                    rig.patch(Rig::block_at(1), 512, |sector| sector.fill(0));
                }
                if is_late {
                    rig.patch(LEASE_AT, 512, |sector| sector[176] = 2);
                }
                look(&a, &held).unwrap();
                assert!(matches!(b.acquire_error(), AcquireError::Held(_)));
                if by_cleanup {
                    assert_eq!(
                        clean_up(&a, &LeftBehind::of_release(&held)),
                        Reconciled::TakenBack
                    );
                } else {
                    a.release(&held).unwrap();
                }
                assert_eq!(rig.leader().is_free(), !is_late);
                // What others may rely on is there again.
                let left = rig.block(1);
                assert!(left.released && left.input == ours.input && left.bal == ours.bal);
                assert!(b.acquire().unwrap().version() > held.version());
            }
        }
    }
}

/// A block of this host that is newer than what it wrote, under its own leader, is a twin's.
#[test]
fn a_newer_block_of_this_host_is_not_written_over_by_a_release() {
    let (rig, [a]) = joined();
    let held = a.acquire().unwrap();
    let ours = rig.block(1);
    let newer = LeaseVersion::new(2);
    for (version, mbal) in [(newer, ours.mbal), (ours.version, ours.mbal + 1)] {
        let of_twin = Dblock {
            version,
            mbal,
            ..ours
        };
        rig.put_block(1, &of_twin);
        let from = rig.sim.log_len();
        let version = held.version();
        assert_eq!(a.release(&held), Err(GiveBackError::NotThere { version }));
        assert_eq!(lease_writes(&rig, &a, from).len(), 0);
        assert_eq!(rig.block(1), of_twin);
    }
}

/// Damage is no proof of anything: nobody can take a lease that is damaged.
#[test]
fn a_damaged_leader_is_in_doubt() {
    let (rig, [a]) = joined();
    let held = a.acquire().unwrap();
    rig.patch(LEASE_AT, 512, |sector| sector[40] ^= 0xff);
    assert!(matches!(look(&a, &held), Err(VerifyError::Lease(_))));
}

/// What is to be cleaned up on a lease that is damaged stands, but is not in the way of who wants to know what is
/// wrong with it; on one whose file is gone it is forgotten.
#[test]
fn nothing_that_is_owed_blocks_a_name_for_ever() {
    let (rig, [a, _]) = joined();
    let held = a.acquire().unwrap();
    let table = Arc::new(LeaseTable::default());
    let reserve = || table.reserve(1, a.lease.resource);
    reserve()
        .unwrap()
        .clean_up(a.lease.clone(), LeftBehind::of_release(&held));
    let (me, cleanups) = (a.clone(), Arc::clone(&table));
    rig.sim.spawn(a.host, async move {
        reconcile(&me.world, &me.membership, &cleanups).await;
    });
    a.keep_alive(&rig.sim);
    let good = copy_of(&rig);
    rig.patch(LEASE_AT, 512, |sector| sector[40] ^= 0xff);
    assert_eq!(reserve().unwrap_err(), NotReserved::CleanupPending);
    rig.sim.run_for(secs(60));
    let reservation = reserve().unwrap();
    assert!(matches!(a.acquire_error(), AcquireError::Lease(_)));
    drop(reservation);
    assert_eq!(table.pending(), 1, "pending again");
    put_back(&rig, &good);
    rig.sim.run_for(secs(60));
    assert_eq!(table.pending(), 0);
    assert!(rig.leader().is_free());

    reserve()
        .unwrap()
        .clean_up(a.lease.clone(), LeftBehind::of_release(&held));
    table.forget_gone(|_| false);
    assert_eq!(reserve().unwrap_err(), NotReserved::CleanupPending);
    table.forget_gone(|_| true);
    drop(reserve().unwrap());
}

/// What is to be cleaned up in a file that was moved aside is in nobody's way, unless a write to it is under way. By the
/// other path it may still be the same lease: nothing is reconciled while somebody has that.
#[test]
fn what_is_owed_aside_blocks_no_other_file_and_takes_nothing_back() {
    let (rig, [a, _]) = joined();
    let held = a.acquire().unwrap();
    let table = Arc::new(LeaseTable::default());
    let name = a.lease.resource;
    let inspect = |is_elsewhere: bool| {
        table.inspect_pending(&a.world, &name, |_| false, |_| is_elsewhere);
    };
    let other = || table.reserve(2, name);
    let hung = rig.sim.hold_next(a.host, is_block_write);
    let (me, of) = (a.clone(), held.clone());
    rig.sim.spawn(a.host, async move {
        let _ = release(&me.world, &me.membership, &me.lease, &of, None).await;
    });
    rig.sim.run_until_held(&hung);
    let pending = table.reserve(1, name).unwrap();
    pending.clean_up(a.lease.clone(), LeftBehind::of_release(&held));
    inspect(false);
    assert_eq!(
        other().unwrap_err(),
        NotReserved::CleanupPending,
        "in its place"
    );
    inspect(true);
    assert_eq!(
        other().unwrap_err(),
        NotReserved::CleanupPending,
        "written to"
    );
    rig.sim.fail_held(&hung, false);
    assert_eq!(
        other().unwrap_err(),
        NotReserved::CleanupPending,
        "not inspected"
    );
    inspect(true);
    let reservation = other().unwrap();
    assert!(table.reserve(1, name).is_err(), "one at a time");

    let again = a.acquire().unwrap();
    let (me, cleanups) = (a.clone(), Arc::clone(&table));
    rig.sim.spawn(a.host, async move {
        reconcile(&me.world, &me.membership, &cleanups).await;
    });
    a.keep_alive(&rig.sim);
    rig.sim.run_for(secs(60));
    look(&a, &again).unwrap();
    assert!(!rig.block(1).released);
    assert_eq!(table.pending(), 1);
    drop(reservation);
    rig.sim.run_for(secs(60));
    assert_eq!(table.pending(), 0, "it is not kept for ever");
}

/// Held leases are read again at least once in 2N, though the read of another hangs.
#[test]
fn a_held_lease_that_is_put_back_is_lost_within_2_n() {
    for hangs in [false, true] {
        let (rig, [a, b]) = joined();
        let held = third_time(&a);
        let table = Arc::new(LeaseTable::default());
        let (me, kept) = (a.clone(), Arc::clone(&table));
        rig.sim.spawn(a.host, async move {
            reread_held(&me.world, &me.membership, &kept).await;
        });
        a.keep_alive(&rig.sim);
        let lost: Arc<Mutex<Vec<_>>> = Arc::default();
        let keep = |key: u64, name: &str| {
            let mut reservation = table
                .reserve(key, ResourceName::new(name).unwrap())
                .unwrap();
            let lost = Arc::clone(&lost);
            let on_loss = move |reason: &LossReason| lost.lock().push((key, reason.clone()));
            reservation.hold(a.lease.clone(), held.clone(), Arc::new(on_loss));
            reservation
        };
        let reservations = [keep(1, "one"), keep(2, "two")];
        rig.sim.run_for(secs(100));
        assert!(lost.lock().is_empty());
        // Their lease is one and the same here: the look of one of them hangs.
        let hung = hangs.then(|| rig.sim.hold_next(a.host, is_leader_read));
        if let Some(hung) = &hung {
            rig.sim.run_until_held(hung);
        }
        initialise(&rig);
        b.acquire().unwrap();
        let of_2 = |lost: &[(u64, LossReason)]| lost.iter().filter(|(key, _)| *key == 2).count();
        rig.sim.run_for(secs(20));
        assert_eq!(of_2(&lost.lock()), 1, "{hangs}");
        rig.sim.run_for(secs(100));
        assert_eq!(of_2(&lost.lock()), 1, "told once");
        drop(reservations);
        let count = lost.lock().len();

        // What is being given back is no loss.
        let reservation = keep(3, "three");
        reservation.give_back();
        rig.sim.run_for(secs(100));
        assert_eq!(lost.lock().len(), count);
    }
}

/// While the mark of a release may still land, nothing is written over it.
#[test]
fn a_release_is_not_repeated_while_its_mark_is_under_way() {
    let (rig, [a]) = joined();
    let held = a.acquire().unwrap();
    let hung = rig.sim.hold_next(a.host, is_block_write);
    let first = rig.sim.run(&a.start_release(&held));
    assert!(matches!(first, Err(GiveBackError::Lease(_))));
    let from = rig.sim.log_len();
    let second = rig.sim.run(&a.start_release(&held));
    assert!(matches!(second, Err(GiveBackError::Lease(_))), "{second:?}");
    assert_eq!(lease_writes(&rig, &a, from).len(), 0);
    rig.sim.release_held(&hung);
    a.release(&held).unwrap();
}

/// A read that hangs keeps a thread; another one of the same lease would take one more.
#[test]
fn a_held_lease_is_not_read_while_an_earlier_read_of_it_hangs() {
    let (rig, [a]) = joined();
    let held = a.acquire().unwrap();
    let table = Arc::new(LeaseTable::default());
    let (me, kept) = (a.clone(), Arc::clone(&table));
    rig.sim.spawn(a.host, async move {
        reread_held(&me.world, &me.membership, &kept).await;
    });
    a.keep_alive(&rig.sim);
    let mut reservation = table.reserve(1, a.lease.resource).unwrap();
    reservation.hold(a.lease.clone(), held, Arc::new(|_: &LossReason| {}));
    for is_busy in [true, false] {
        rig.sim.core.borrow_mut().busy.clear();
        if is_busy {
            rig.sim.core.borrow_mut().busy.push(a.lease.disk);
        }
        let from = rig.sim.log_len();
        rig.sim.run_for(secs(100));
        let mut log = rig.sim.log_since(from);
        log.retain(|io| io.offset == LEASE_AT);
        assert_eq!(log.is_empty(), is_busy);
    }
}

/// Only what the owner itself has ended, in the lease, makes a mere copy of what names it as the owner.
#[test]
fn a_copy_is_known_by_the_owners_block_in_the_lease() {
    const COPY_AT: u64 = LEASE_AT + (1 << 19);
    let (rig, [a, b, c]) = joined();
    let put_copy = || {
        let bytes = copy_of(&rig);
        rig.sim.core.borrow_mut().disks[0].write(COPY_AT, &bytes);
    };
    let held = a.acquire().unwrap();
    let area = |offset| LeaseArea {
        offset,
        expected_shape: held.shape(),
        ..a.lease.clone()
    };
    let has_ended = |asker: &Member| {
        let (me, copy, lease) = (asker.clone(), area(COPY_AT), area(LEASE_AT));
        rig.sim.run_on(asker.host, async move {
            has_ended_elsewhere(&me.world, &me.membership, &copy, &lease).await
        })
    };
    put_copy();
    assert_eq!(has_ended(&c), Ok(false), "it is held");
    let block = rig.block(1);
    a.release(&held).unwrap();
    assert_eq!(has_ended(&c), Ok(true));
    assert_eq!(
        has_ended(&a),
        Ok(false),
        "of its own copy a host takes the lease"
    );
    let given_back = rig.block(1);
    for (what, other) in [
        (
            "another input",
            Dblock {
                input: None,
                ..given_back
            },
        ),
        (
            "no mark",
            Dblock {
                released: false,
                ..given_back
            },
        ),
        (
            "another version",
            Dblock {
                version: LeaseVersion::new(7),
                ..given_back
            },
        ),
    ] {
        rig.put_block(1, &other);
        assert_eq!(has_ended(&c), Ok(false), "{what}");
    }
    rig.put_block(1, &given_back);
    a.release(&a.acquire().unwrap()).unwrap();
    assert_eq!(has_ended(&c), Ok(true), "it came back and went again");
    let theirs = b.acquire().unwrap();
    assert_eq!(has_ended(&c), Ok(true), "and others had it");
    b.release(&theirs).unwrap();

    // The other way round: the copy is newer than what the lease knows of its owner.
    let held = a.acquire().unwrap();
    put_copy();
    for older in [block, given_back] {
        rig.put_block(1, &older);
        assert_eq!(has_ended(&c), Ok(false));
    }
    a.release(&held).unwrap();
    assert_eq!(has_ended(&c), Ok(true));
    // The flag alone, beside a note that says held.
    a.acquire().unwrap();
    put_copy();
    rig.patch(Rig::block_at(1), 512, |sector| sector[52] |= 1);
    assert_eq!(has_ended(&c), Ok(false));
}
