//! Giving a lease back, and looking whether it is still ours.

use disklease::__sim::paxos_lease::{GiveBackError, HeldLease, VerifyError, verify};
use disklease::format::{Commit, Generation, LeaseVersion};

use super::setup::{is_block_write, is_leader_read, joined, lease_writes};
use disklease_sim::rig::{LEASE_AT, host_id};
use disklease_sim::{Member, Rig};

fn look(rig: &Rig, member: &Member, held: &HeldLease) -> Result<(), VerifyError> {
    let (me, held) = (member.clone(), held.clone());
    rig.sim.run_on(member.host, async move {
        verify(&me.world, &me.membership, &me.lease, &held).await
    })
}

fn taken_by_host_2(rig: &Rig, version: u64) {
    let leader = rig.leader().committed(Commit {
        version: LeaseVersion::new(version),
        owner: host_id(2),
        generation: Generation::new(1),
        timestamp_secs: 70,
        writer: host_id(2),
        writer_generation: Generation::new(1),
        writer_clock_secs: 70,
        clear_short_hold: true,
    });
    rig.put_leader(&leader);
}

/// A lease that another host has taken is reported as such, and its leader is left alone.
#[test]
fn the_release_of_a_lease_that_was_taken_is_an_error() {
    let (rig, [a, _]) = joined();
    let held = a.acquire().unwrap();
    taken_by_host_2(&rig, 2);
    let from = rig.sim.log_len();
    let error = a.release(&held).unwrap_err();
    assert_eq!(
        error,
        GiveBackError::NotOurs {
            version: LeaseVersion::new(2),
            writer: 2
        }
    );
    assert_eq!(lease_writes(&rig, &a, from).len(), 0);
}

/// So is one that this host has acquired anew since.
#[test]
fn the_release_of_an_older_ownership_is_an_error() {
    let (rig, [a]) = joined();
    let old = a.acquire().unwrap();
    a.acquire().unwrap();
    let before = rig.leader();
    let from = rig.sim.log_len();
    let version = LeaseVersion::new(2);
    assert_eq!(a.release(&old), Err(GiveBackError::NotThere { version }));
    assert_eq!(lease_writes(&rig, &a, from).len(), 0);
    assert_eq!(rig.leader(), before);
}

/// INV-WRITER: a leader that another host wrote late, for what was before, is left alone. The mark
/// in the block says that the lease is given back, and the version that it was.
#[test]
fn a_stale_leader_of_another_host_is_left_alone() {
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    let stale = rig.leader();
    a.release(&held).unwrap();
    let held = a.acquire().unwrap();
    rig.put_leader(&stale);
    rig.patch(LEASE_AT, 512, |sector| sector[176] = 2);
    let before = rig.leader();
    a.release(&held).unwrap();
    assert_eq!(rig.leader(), before);
    assert!(
        b.acquire().unwrap().version() > held.version(),
        "and the lease can be taken"
    );
}

/// INV-RELEASED-FIRST: the mark is on the disk before the leader is inspected.
#[test]
fn the_mark_comes_before_the_leader() {
    let (rig, [a]) = joined();
    let held = a.acquire().unwrap();
    let read = rig.sim.hold_next(a.host, is_leader_read);
    let task = a.start_release(&held);
    rig.sim.run_until_held(&read);
    assert!(rig.block(1).released && !rig.leader().is_free());
    rig.sim.release_held(&read);
    rig.sim.run(&task).unwrap();
}

/// INV-MEMBER: without the lockspace nothing is written, and half-way no more.
#[test]
fn without_the_lockspace_nothing_is_given_back() {
    let (rig, [a]) = joined();
    let held = a.acquire().unwrap();
    let before = rig.leader();
    let write = rig.sim.hold_next(a.host, is_block_write);
    let task = a.start_release(&held);
    rig.sim.run_until_held(&write);
    a.membership.expiry().lose();
    rig.sim.release_held(&write);
    assert_eq!(rig.sim.run(&task), Err(GiveBackError::LockspaceLost));
    assert_eq!(rig.leader(), before);
    let from = rig.sim.log_len();
    assert_eq!(a.release(&held), Err(GiveBackError::LockspaceLost));
    assert_eq!(lease_writes(&rig, &a, from).len(), 0);
}

/// A lease is ours as long as the leader shows what made us the owner, whoever wrote it.
#[test]
fn a_lease_is_verified_by_what_made_us_the_owner() {
    let (rig, [a, _]) = joined();
    let held = a.acquire().unwrap();
    look(&rig, &a, &held).unwrap();
    rig.patch(LEASE_AT, 512, |sector| sector[176] = 2);
    look(&rig, &a, &held).unwrap();
    let from = rig.sim.log_len();
    taken_by_host_2(&rig, 2);
    let owner = Some((host_id(2), Generation::new(1)));
    let taken = VerifyError::NotOurs {
        version: LeaseVersion::new(2),
        owner,
    };
    assert_eq!(look(&rig, &a, &held), Err(taken));
    assert_eq!(lease_writes(&rig, &a, from).len(), 0);

    taken_by_host_2(&rig, 1);
    let same_version = VerifyError::NotOurs {
        version: held.version(),
        owner,
    };
    assert_eq!(look(&rig, &a, &held), Err(same_version));

    let (rig, [a]) = joined();
    let held = a.acquire().unwrap();
    a.release(&held).unwrap();
    let free = VerifyError::NotOurs {
        version: LeaseVersion::new(1),
        owner: None,
    };
    assert_eq!(look(&rig, &a, &held), Err(free));
}

/// Where another host has committed our input late, the mark alone gives the lease to whoever comes. That is no
/// loss, however soon it is.
#[test]
fn a_lease_that_was_taken_after_the_mark_was_given_back() {
    let (rig, [a, b]) = joined();
    let held = a.acquire().unwrap();
    rig.patch(LEASE_AT, 512, |sector| sector[176] = 2);
    let read = rig.sim.hold_next(a.host, is_leader_read);
    let task = a.start_release(&held);
    rig.sim.run_until_held(&read);
    let theirs = b.acquire().unwrap();
    assert_eq!(theirs.version().get(), 2);
    rig.sim.release_held(&read);
    rig.sim.run(&task).unwrap();
    look(&rig, &b, &theirs).unwrap();
}
