//! A life that ends with I/O under way: the next one does not begin before that has ended.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use disklease::{
    JoinError, JoinErrorKind, LeaseDirectory, LeaveError, LockManager as _, Lockspace, PaxosManager,
};

use rustix::fs::{FlockOperation, flock};

use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};
use disklease_fixtures::host::{SOON, disks, host_id, lockspace_in, options, scratch, wait_until};

const WRITES_HANG: Fault = Fault {
    target: Target::All,
    reads: false,
    writes: true,
    mode: Mode::Hold,
};

fn join(dir: &Path, lockspace: &Path) -> Result<Lockspace, JoinError> {
    let options = options(dir, "alpha").fire_timeout(Duration::from_secs(2));
    options.join(lockspace, host_id(1))
}

/// Nor may another process, which knows nothing of the I/O of this one: at no time can it have the lock.
fn other_processes_are_kept_out(dir: &Path) {
    let mut locks = std::fs::read_dir(dir.join("run/alpha")).unwrap();
    let lock = locks.find_map(|entry| {
        let path = entry.unwrap().path();
        let is_it = path.extension().is_some_and(|kind| kind == "process");
        is_it.then_some(path)
    });
    let lock = File::open(lock.unwrap()).unwrap();
    // More than once: a child that another test is just starting may have a copy of what was given up.
    for _ in 0..20 {
        let taken = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        assert!(taken.is_err(), "the process lock is free");
        sleep(Duration::from_millis(10));
    }
}

/// `end` an incarnation in which writes hang; then nobody joins until they have ended.
fn ends_with_a_write_under_way(end: impl FnOnce(&Path, &Path, &Mount)) {
    let dir = scratch();
    let behind = dir.path().join("behind");
    std::fs::create_dir(&behind).unwrap();
    let lockspace = lockspace_in(&behind);
    let mount = Mount::new(&behind, &dir.path().join("mount"), |_| {});
    let path = mount.path().join(lockspace.file_name().unwrap());
    end(dir.path(), &path, &mount);
    let error = join(dir.path(), &path).unwrap_err();
    assert!(matches!(error.kind(), JoinErrorKind::IoInFlight), "{error}");
    other_processes_are_kept_out(dir.path());
    mount.gate().go_on();
    let joined = wait_until("the join", SOON, || match join(dir.path(), &path) {
        Ok(joined) => Some(joined),
        Err(error) if matches!(error.kind(), JoinErrorKind::IoInFlight) => None,
        Err(other) => panic!("{other}"),
    });
    joined.leave().unwrap();
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn no_life_begins_while_a_write_of_a_claim_that_failed_is_under_way() {
    ends_with_a_write_under_way(|dir, path, mount| {
        mount.gate().set(WRITES_HANG);
        let error = join(dir, path).unwrap_err();
        let is_in_flight = matches!(error.kind(), JoinErrorKind::IoInFlight);
        assert!(!is_in_flight, "{error}");
    });
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn no_life_begins_while_a_renewal_of_the_one_that_left_is_under_way() {
    ends_with_a_write_under_way(|dir, path, mount| {
        let joined = join(dir, path).unwrap();
        mount.gate().set(WRITES_HANG);
        wait_until("a renewal that hangs", SOON, || {
            (mount.gate().held_since_before(Instant::now()) > 0).then_some(())
        });
        let handle = joined.clone();
        let error = joined.leave().unwrap_err();
        assert!(matches!(error, LeaveError::IoInFlight { .. }), "{error}");
        assert!(!handle.is_held() && handle.held_for().is_zero());
    });
}

/// Also one for a lease, which others would believe: what it says of the id is so for its present life alone.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn an_id_is_not_freed_while_a_write_to_a_lease_is_under_way() {
    let dir = scratch();
    let behind = dir.path().join("behind");
    std::fs::create_dir(&behind).unwrap();
    let lockspace = lockspace_in(&behind);
    let first = join(dir.path(), &lockspace).unwrap();
    let first = PaxosManager::new(first, LeaseDirectory::new(&behind)).unwrap();
    first.acquire(disks(&["/a"])).unwrap().release().unwrap();
    first.lockspace().clone().leave().unwrap();
    drop(first);

    let mount = Mount::new(&behind, &dir.path().join("mount"), |_| {});
    let joined = join(dir.path(), &mount.path().join("__LIBVIRT__DISKS__")).unwrap();
    let manager = PaxosManager::new(joined, LeaseDirectory::new(mount.path())).unwrap();
    let guard = manager.acquire(disks(&["/a"])).unwrap();
    mount.gate().set(Fault {
        target: Target::AllBut("__LIBVIRT__DISKS__"),
        ..WRITES_HANG
    });
    guard.release().unwrap_err();
    let left = manager.lockspace().clone().leave().unwrap_err();
    assert!(matches!(left, LeaveError::IoInFlight { .. }), "{left}");
    // Its time is not over, and nobody renews it any more.
    assert!(!manager.lockspace().is_held());
    drop(manager);
    mount.gate().go_on();
}
