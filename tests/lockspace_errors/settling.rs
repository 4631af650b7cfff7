//! Storage that fails under an acquire or a release: what is left is settled when it is there again.

use std::path::{Path, PathBuf};

use disklease::libvirt::lease_name;
use disklease::{AcquireError, LeaseDirectory, LockManager as _, PaxosManager, WaitLimit};
use tempfile::TempDir;

use crate::storage::Mount;
use crate::storage::gate::{Fault, Mode, Target};
use crate::support::{N, SOON, disks, host_id, lockspace_in, manager, options, scratch};

const LOCKSPACE: &str = "__LIBVIRT__DISKS__";
const DISK: &str = "/disk";
const OTHER: &str = "/other";

/// Writes to leases, not to the lockspace.
const LEASE_WRITES: Fault = Fault {
    target: Target::AllBut(LOCKSPACE),
    reads: false,
    writes: true,
    mode: Mode::Fail,
};

fn behind(dir: &TempDir) -> PathBuf {
    dir.path().join("behind")
}

/// A lease directory with the leases of [`DISK`] and [`OTHER`], and the view that one host has of it. What is in it is gone
/// after the mount.
fn storage() -> (TempDir, Mount) {
    let dir = scratch();
    std::fs::create_dir(behind(&dir)).unwrap();
    let first = manager(&behind(&dir), 1, "alpha");
    drop(first.acquire(disks(&[DISK, OTHER])).unwrap());
    let lockspace = first.lockspace().clone();
    drop(first);
    lockspace.leave().unwrap();
    let mount = Mount::new(&behind(&dir), &dir.path().join("mount"), |_| {});
    (dir, mount)
}

/// A host that has only this view.
fn through(dir: &TempDir, mount: &Mount) -> PaxosManager {
    let lockspace = lockspace_in(&behind(dir));
    let path = mount.path().join(lockspace.file_name().unwrap());
    let joined = options(dir.path(), "alpha").join(path, host_id(1)).unwrap();
    PaxosManager::new(joined, LeaseDirectory::new(mount.path())).unwrap()
}

#[test]
fn a_release_that_failed_is_settled_when_the_storage_is_there_again() {
    let (dir, mount) = storage();
    let a = through(&dir, &mount);
    let guard = a.acquire(disks(&[DISK])).unwrap();
    mount.gate().set(LEASE_WRITES);
    guard.release().unwrap_err();
    mount.gate().go_on();
    // The host lives, so nobody else gets the lease before it has given it back.
    let b = manager(&behind(&dir), 2, "beta");
    let wait = WaitLimit::For(SOON);
    let guard = b.acquire(disks(&[DISK]).wait(wait)).unwrap();
    assert!(guard.is_held());
}

/// While one lease hangs, the tries to settle it take no more workers than the first.
#[test]
fn what_hangs_is_not_tried_again_before_it_has_ended() {
    let (dir, mount) = storage();
    let lockspace = lockspace_in(&behind(&dir));
    let path = mount.path().join(lockspace.file_name().unwrap());
    let options = options(dir.path(), "alpha").lease_threads(2);
    let joined = options.join(path, host_id(1)).unwrap();
    let a = PaxosManager::new(joined, LeaseDirectory::new(mount.path())).unwrap();
    let guard = a.acquire(disks(&[DISK])).unwrap();
    let name = lease_name(Path::new(DISK)).to_string();
    mount.gate().set(Fault {
        target: Target::Only(Box::leak(name.into_boxed_str())),
        reads: true,
        writes: true,
        mode: Mode::Hold,
    });
    guard.release().unwrap_err();
    // Several tries would have begun.
    std::thread::sleep(N * 6);
    let other = a.acquire(disks(&[OTHER])).unwrap();
    assert!(other.is_held());
    mount.gate().go_on();
    let wait = WaitLimit::For(SOON);
    drop(a.acquire(disks(&[DISK]).wait(wait)).unwrap());
}

#[test]
fn an_acquire_that_failed_half_way_is_settled_before_the_next_one() {
    let (dir, mount) = storage();
    let a = through(&dir, &mount);
    mount.gate().set(Fault {
        mode: Mode::HoldAnswer,
        ..LEASE_WRITES
    });
    a.acquire(disks(&[DISK])).unwrap_err();
    let error = a.acquire(disks(&[DISK])).unwrap_err();
    assert!(matches!(error, AcquireError::NotSettled { .. }), "{error}");
    mount.gate().go_on();
    let wait = WaitLimit::For(SOON);
    let guard = a.acquire(disks(&[DISK]).wait(wait)).unwrap();
    assert!(guard.is_held());
}
