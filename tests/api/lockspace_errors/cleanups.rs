//! Storage that fails under an acquire or a release: what is left is reconciled when it is there again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use disklease::format::DblockSector;
use disklease::libvirt::lease_name;
use disklease::{
    AcquireErrorKind, LeaseDirectory, LockManager as _, LossReason, PaxosManager, WaitLimit,
};
use tempfile::TempDir;

use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};
use disklease_fixtures::host::{
    N, SOON, bytes_of, disks, host_id, lockspace_in, manager, options, overwrite, scratch,
    wait_until,
};
use disklease_fixtures::records;

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

fn lease_of(dir: &TempDir, disk: &str) -> PathBuf {
    behind(dir).join(lease_name(Path::new(disk)).to_string())
}

/// A lease directory with the leases of these disks.
fn leases_of(names: &[&str]) -> TempDir {
    let dir = scratch();
    std::fs::create_dir(behind(&dir)).unwrap();
    let first = manager(&behind(&dir), 1, "alpha");
    drop(first.acquire(disks(names)).unwrap());
    let lockspace = first.lockspace().clone();
    drop(first);
    lockspace.leave().unwrap();
    dir
}

/// A lease directory with the leases of [`DISK`] and [`OTHER`], and the view that one host has of it. What is in it is gone
/// after the mount.
fn storage() -> (TempDir, Mount) {
    let dir = leases_of(&[DISK, OTHER]);
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
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_release_that_failed_is_reconciled_when_the_storage_is_there_again() {
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

/// While one lease hangs, the tries to reconcile it take no more workers than the first.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
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
    // Several tries would have started.
    std::thread::sleep(N * 6);
    let other = a.acquire(disks(&[OTHER])).unwrap();
    assert!(other.is_held());
    mount.gate().go_on();
    let wait = WaitLimit::For(SOON);
    drop(a.acquire(disks(&[DISK]).wait(wait)).unwrap());
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn an_acquire_that_failed_half_way_is_reconciled_before_the_next_one() {
    let (dir, mount) = storage();
    let a = through(&dir, &mount);
    mount.gate().set(Fault {
        mode: Mode::HoldAnswer,
        ..LEASE_WRITES
    });
    a.acquire(disks(&[DISK])).unwrap_err();
    let error = a.acquire(disks(&[DISK])).unwrap_err();
    assert!(
        matches!(error.kind(), AcquireErrorKind::CleanupPending),
        "{error}"
    );
    mount.gate().go_on();
    let wait = WaitLimit::For(SOON);
    let guard = a.acquire(disks(&[DISK]).wait(wait)).unwrap();
    assert!(guard.is_held());
}

/// The storage says that the second of two writes failed, takes what comes after it, and does that one all the
/// same: the lease would be this host's for ever, which does not know of it.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_lease_that_was_taken_back_is_looked_at_for_a_while() {
    let dir = leases_of(&[DISK]);
    let met = AtomicUsize::new(0);
    let mount = Arc::new_cyclic(|mount: &Weak<Mount>| {
        let mount = Weak::clone(mount);
        Mount::new(&behind(&dir), &dir.path().join("mount"), move |_| {
            let Some(mount) = mount.upgrade() else { return };
            match met.fetch_add(1, Ordering::Relaxed) {
                0 => mount.gate().set(LEASE_WRITES),
                _ => mount.gate().go_on(),
            }
        })
    });
    let a = through(&dir, &mount);
    mount.gate().set(Fault {
        mode: Mode::Delay(Duration::ZERO),
        ..LEASE_WRITES
    });
    a.acquire(disks(&[DISK])).unwrap_err();
    let block_at = 2 * 512;
    let block = || {
        let sector = bytes_of(&lease_of(&dir, DISK))[block_at..][..512].to_vec();
        DblockSector::decode(&sector, host_id(1))
            .block
            .unwrap()
            .unwrap()
    };
    assert!(block().released, "it was taken back");
    let late = block();
    let mut sector = bytes_of(&lease_of(&dir, DISK))[block_at..][..512].to_vec();
    sector[56..].fill(0);
    records::put_dblock(&mut sector, late.mbal, late.version.get(), false);
    overwrite(&lease_of(&dir, DISK), 2 * 512, &sector);
    wait_until("that it is taken back again", SOON, || {
        block().released.then_some(())
    });
}

/// All threads for the I/O of leases hang, and nobody can tell for how long.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn held_leases_are_read_again_though_all_else_hangs() {
    let names: Vec<_> = (0..16).map(|n| format!("/hangs/{n}")).collect();
    let mut all: Vec<_> = names.iter().map(String::as_str).collect();
    all.push(DISK);
    let dir = leases_of(&all);
    let before = bytes_of(&lease_of(&dir, DISK));
    let mount = Mount::new(&behind(&dir), &dir.path().join("mount"), |_| {});
    let a = through(&dir, &mount);
    let guard = a.acquire(disks(&[DISK])).unwrap();
    mount.gate().set(Fault {
        mode: Mode::Hold,
        ..LEASE_WRITES
    });
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| a.acquire(disks(&[name])).unwrap_err());
        }
    });
    let hang = || mount.gate().held_since_before(Instant::now());
    assert_eq!(hang(), names.len());
    assert!(guard.is_held());
    overwrite(&lease_of(&dir, DISK), 0, &before[..3 * 512]);
    wait_until("the loss", SOON, || guard.loss());
    assert_eq!(guard.loss(), Some(LossReason::LeaseOverwritten));
    assert_eq!(hang(), names.len(), "all the while");
    mount.gate().go_on();
}
