//! A lease directory that is not, or not any more, the one of the lockspace that was joined.

use std::fs::{self, File};
use std::path::Path;

use disklease::{AcquireErrorKind, DirectoryError, LeaseDirectory, LockManager as _, PaxosManager};

use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::host::{
    N, copy_dir, disks, host_id, lockspace_in, manager, options, scratch,
};

const LOCKSPACE: &str = "__LIBVIRT__DISKS__";

fn names_in(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// Nothing is watched of a lockspace that was joined by its descriptor.
#[test]
fn a_directory_that_is_mounted_over_gives_no_lease() {
    let dir = scratch();
    let [leases, aside, copy] = ["leases", "aside", "copy"].map(|name| dir.path().join(name));
    let path = lockspace_in(&leases);
    copy_dir(&leases, &copy);
    let lockspace = File::options().read(true).write(true).open(&path).unwrap();
    let options = options(dir.path(), "alpha");
    let joined = options.join_fd(lockspace.into(), host_id(1)).unwrap();
    let host = PaxosManager::new(joined, LeaseDirectory::new(&leases)).unwrap();
    drop(host.acquire(disks(&["/a"])).unwrap());

    fs::rename(&leases, &aside).unwrap();
    let refused = |disk: &str| match host.acquire(disks(&[disk])) {
        Err(error) => match error.kind() {
            AcquireErrorKind::Directory(error) => error.clone(),
            _ => panic!("{error}"),
        },
        Ok(guard) => panic!("{guard:?}"),
    };
    // As where it was unmounted: what it was mounted on is empty.
    fs::create_dir(&leases).unwrap();
    for disk in ["/a", "/new"] {
        assert_eq!(
            refused(disk),
            DirectoryError::Missing { path: path.clone() }
        );
        assert_eq!(names_in(&leases), 0, "nothing is made there");
    }
    fs::remove_dir(&leases).unwrap();
    fs::rename(&copy, &leases).unwrap();
    let before = names_in(&leases);
    for disk in ["/a", "/new"] {
        let error = refused(disk);
        assert!(
            matches!(error, DirectoryError::OtherLockspace { .. }),
            "{error}"
        );
        assert_eq!(names_in(&leases), before, "nothing is made there");
    }
    fs::rename(&leases, &copy).unwrap();
    fs::rename(&aside, &leases).unwrap();
    drop(host.acquire(disks(&["/a", "/new"])).unwrap());
}

/// The same storage has other numbers by another mount. A copy has the same random id, and is another one.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_second_mount_of_the_same_storage_is_the_same_directory_and_a_copy_is_not() {
    let dir = scratch();
    let [behind, copy] = ["behind", "copy"].map(|name| dir.path().join(name));
    let host = manager(&behind, 1, "alpha");
    drop(host.acquire(disks(&["/a"])).unwrap());
    let mount = Mount::new(&behind, &dir.path().join("mount"), |_| {});
    let lockspace = host.lockspace().clone();
    let by_mount = LeaseDirectory::new(mount.path());
    let again = PaxosManager::new(lockspace.clone(), by_mount).unwrap();
    let guard = again.acquire(disks(&["/a"])).unwrap();
    assert!(guard.is_held());
    let error = host.acquire(disks(&["/a"])).unwrap_err();
    assert!(error.is_held(), "by one name it is one lease: {error}");
    guard.release().unwrap();

    copy_dir(&behind, &copy);
    // Until the next renewal, nothing tells them apart.
    std::thread::sleep(N * 4);
    let error = PaxosManager::new(lockspace, LeaseDirectory::new(&copy)).unwrap_err();
    let DirectoryError::OtherLockspace { found, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*found, copy.join(LOCKSPACE));
    drop((host, again));
}
