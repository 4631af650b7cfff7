//! Real sanlock, both ways: daemons of sanlock 3.8 and hosts of ours in one lockspace exclude each other,
//! whoever made the lockspace and the leases.
//!
//! Needs the programs of the packages `sanlock` and `python3-sanlock`, `losetup`, and root for the latter.

mod exchange;
mod geometries;
mod host_ids;
mod setup;
mod shared;

use disklease::format::LockspaceId;
use disklease::inspect::{LeaseDirectoryStatus, StatusOptions, Watch};
use disklease::libvirt::LOCKSPACE_NAME;
use disklease::{LockManager as _, OwnerSeen, PaxosManager};

use disklease_fixtures::sanlock::{Lockspace, ScratchLease, init_lockspace};
use exchange::{owner_on_disk, refusal, to_and_fro};
use setup::{Directory, LIMIT, Lease, Maker, OUR_ID, OUR_NAME, Sanlock};

const DISK: &str = "/var/lib/libvirt/images/demo.img";

#[test]
fn what_sanlock_made_serves_both() {
    both_ways(Maker::Sanlock);
}

#[test]
fn what_we_made_serves_both() {
    both_ways(Maker::Us);
}

fn id_of(directory: &Directory) -> Option<LockspaceId> {
    let options = StatusOptions::new().watch(Watch::Once);
    let status = LeaseDirectoryStatus::observe(&directory.leases, options);
    status.unwrap().lockspace_id
}

fn both_ways(maker: Maker) {
    let directory = Directory::new(maker);
    let id = id_of(&directory);
    let lease = directory.lease(DISK);
    let (mut sanlock, ours) = directory.hosts();
    to_and_fro(&directory.lockspace, &lease, &mut sanlock, &ours);

    // Free for everybody as soon as we have left: sanlock sees our host id free.
    ours.lockspace().clone().leave().unwrap();
    drop(ours);
    assert_eq!(sanlock.client.acquire(&lease.resource, LIMIT), Ok(()));
    let lver = owner_on_disk(&lease).lver;
    assert_eq!(lver, Some(6), "one for each acquire");
    // Both have joined and renewed by now: neither touches the id, where there is one.
    assert_eq!(id_of(&directory), id);
    assert_eq!(id.is_some(), matches!(maker, Maker::Us));
}

#[test]
fn right_after_joining_we_know_who_holds_a_lease() {
    let directory = Directory::new(Maker::Sanlock);
    let lease = directory.lease(DISK);
    let mut sanlock = Sanlock::join(&directory.lockspace);
    assert_eq!(sanlock.client.acquire(&lease.resource, LIMIT), Ok(()));
    let ours = disklease_fixtures::host_process::join(&directory.leases, OUR_ID, OUR_NAME);
    // Seen to renew while we joined, or not yet: in both cases there is a refusal, at once.
    match refusal(&lease, &ours) {
        OwnerSeen::Alive { .. } | OwnerSeen::Silent { .. } => {}
        seen => panic!("neither alive nor silent: {seen:?}"),
    }
}

#[test]
fn lockspace_and_leases_lie_in_one_file() {
    const MIB: u64 = 1 << 20;
    let scratch = ScratchLease::new();
    let file = scratch.file("everything", 4);
    let lockspace = Lockspace::new(LOCKSPACE_NAME, &file);
    init_lockspace(
        &lockspace,
        disklease_fixtures::host_process::IO_TIMEOUT_SECS,
    );
    let first = Lease::at(&lockspace, "first", file.clone(), MIB);
    let second = Lease::at(&lockspace, "second", file.clone(), 2 * MIB);
    let (mut sanlock, ours) = setup::hosts(&lockspace, || {
        let joined = disklease_fixtures::host_process::options(scratch.path(), OUR_NAME)
            .join(&file, disklease::HostId::new(OUR_ID).unwrap())
            .unwrap();
        PaxosManager::without_directory(joined)
    });
    to_and_fro(&lockspace, &first, &mut sanlock, &ours);
    to_and_fro(&lockspace, &second, &mut sanlock, &ours);

    // Neighbours do not touch each other.
    let guard = ours.acquire(first.request()).unwrap();
    assert_eq!(sanlock.client.acquire(&second.resource, LIMIT), Ok(()));
    refusal(&second, &ours);
    assert_eq!(owner_on_disk(&first).owner_id, OUR_ID);
    guard.verify().unwrap();
    guard.release().unwrap();
    assert_eq!(sanlock.client.release(&second.resource), Ok(()));
}
