//! The directory of leases as libvirt lays it out: names, modes, and what others leave behind in it.

mod leftovers;
mod second_links;
mod warnings;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use disklease::format::{Geometry, probe_lease, probe_lockspace};
use disklease::libvirt::{CreateErrorKind, LOCKSPACE_NAME, lease_name};
use disklease::{
    AcquireErrorKind, DirectoryError, LeaseDirectory, LeaseFault, LockManager as _, LossReason,
    PaxosManager,
};

use disklease_fixtures::host::{
    Child, N, SOON, bytes_of, child_role, disks, lockspace_in, manager, say, scratch, try_join,
    wait_for_parent,
};

/// The directory of the host that the tests share.
fn shared_dir() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = disklease_fixtures::host::shared_dir("lease_directory");
        lockspace_in(&dir);
        dir
    })
}

fn shared_host() -> &'static PaxosManager {
    static HOST: OnceLock<PaxosManager> = OnceLock::new();
    HOST.get_or_init(|| manager(shared_dir(), 1, "alpha"))
}

fn lease_of(dir: &Path, disk: &str) -> PathBuf {
    dir.join(lease_name(Path::new(disk)).to_string())
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_layout_is_libvirts() {
    let dir = shared_dir();
    let demo = "/var/lib/libvirt/images/demo.img";
    let guard = shared_host().acquire(disks(&[demo])).unwrap();
    let lease = dir.join("bfa0240911bc17753e0b473688822159");
    assert_eq!(LeaseDirectory::new(dir).lease_path(Path::new(demo)), lease);
    assert_eq!(guard.locks().next().unwrap().lease_path, Some(&*lease));
    assert_eq!(probe_lease(&bytes_of(&lease)), Ok(Geometry::S512_A1M));
    let space = dir.join("__LIBVIRT__DISKS__");
    assert_eq!(LeaseDirectory::new(dir).lockspace_path(), space);
    assert_eq!(probe_lockspace(&bytes_of(&space)), Ok(Geometry::S512_A1M));
    assert_eq!(LOCKSPACE_NAME, "__LIBVIRT__DISKS__");
    assert_eq!(shared_host().lockspace().name().to_string(), LOCKSPACE_NAME);
    for path in [lease, space] {
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    }
}

#[test]
fn files_have_the_mode_and_the_geometry_that_were_asked_for() {
    let dir = scratch();
    let leases = LeaseDirectory::new(dir.path())
        .mode(0o7660)
        .geometry(Geometry::S4K_A1M);
    let space = leases.create_lockspace(N).unwrap();
    assert_eq!(mode_of(&space), 0o660, "permission bits, and nothing else");
    assert_eq!(probe_lockspace(&bytes_of(&space)), Ok(Geometry::S4K_A1M));
    let lockspace = try_join(dir.path(), 250, "alpha").unwrap();
    let manager = PaxosManager::new(lockspace, leases).unwrap();
    let guard = manager.acquire(disks(&["/d"])).unwrap();
    let lease = lease_of(dir.path(), "/d");
    assert_eq!(mode_of(&lease), 0o660);
    assert_eq!(probe_lease(&bytes_of(&lease)), Ok(Geometry::S4K_A1M));
    guard.release().unwrap();
    manager.lockspace().clone().leave().unwrap();
}

#[test]
fn a_lockspace_that_is_there_is_left_as_it_is() {
    let dir = scratch();
    let leases = LeaseDirectory::new(dir.path());
    let path = leases.create_lockspace(Duration::from_secs(7)).unwrap();
    let before = bytes_of(&path);
    let again = leases.mode(0o666).geometry(Geometry::S4K_A8M);
    assert_eq!(again.create_lockspace(N), Ok(path.clone()));
    assert!(bytes_of(&path) == before && mode_of(&path) == 0o600);
    for bad in [
        Duration::ZERO,
        Duration::from_millis(1500),
        Duration::from_secs(256),
    ] {
        assert!(again.create_lockspace(bad).is_err(), "{bad:?}");
    }
}

/// Hosts that had joined the lockspace which was removed may still hold the leases.
#[test]
fn no_new_lockspace_is_made_beside_leases() {
    let dir = scratch();
    let lease = lease_of(dir.path(), "/a");
    std::fs::write(&lease, [0; 512]).unwrap();
    let leases = LeaseDirectory::new(dir.path());
    let error = leases.create_lockspace(N).unwrap_err();
    assert!(
        matches!(error.kind(), CreateErrorKind::LeasesWithoutLockspace),
        "{error}"
    );
    std::fs::remove_file(lease).unwrap();
    leases.create_lockspace(N).unwrap();
}

/// Another host that acquires the disks of its parent as fast as its parent does.
#[test]
fn child() {
    let Some((_, dir)) = child_role() else { return };
    let host = manager(&dir, 2, "beta");
    say("joined");
    wait_for_parent();
    create_all(&host);
}

fn create_all(host: &PaxosManager) {
    for n in 0..20 {
        let disk = format!("/race/{n}");
        match host.acquire(disks(&[&disk])) {
            Ok(guard) => guard.release().unwrap(),
            Err(error) => assert!(error.is_held() || error.is_contended(), "{error}"),
        }
    }
}

#[test]
fn two_hosts_that_create_the_same_leases_at_once_both_go_on() {
    let dir = scratch();
    lockspace_in(dir.path());
    let mut child = Child::start("lease_directory::child", "creator", dir.path());
    let host = manager(dir.path(), 1, "alpha");
    assert_eq!(child.hear(SOON), "joined");
    child.let_go();
    create_all(&host);
    assert!(child.ended_well());
    // Each is one lease, that both know.
    for n in 0..20 {
        let guard = host.acquire(disks(&[&format!("/race/{n}")])).unwrap();
        let version = guard.locks().next().unwrap().version.unwrap().get();
        assert!((2..=3).contains(&version), "{version}");
        guard.release().unwrap();
    }
    let names = std::fs::read_dir(dir.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let unknown: Vec<_> = names.filter(|name| name.contains(".tmp")).collect();
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn a_directory_that_is_gone_or_full_of_nothing_is_told_by_its_name() {
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = LeaseDirectory::new(&file).create_lockspace(N).unwrap_err();
    assert!(error.to_string().contains("/file\""), "{error}");
    // One that goes while a manager uses it.
    let leases = dir.path().join("leases");
    let host = manager(&leases, 1, "alpha");
    std::fs::rename(&leases, dir.path().join("gone")).unwrap();
    let error = host.acquire(disks(&["/d"])).unwrap_err();
    // The watch may come first.
    let reason = Some(LossReason::LockspaceReplaced);
    if *error.kind() != (AcquireErrorKind::LockspaceLost { reason }) {
        let replaced = matches!(error.kind(), AcquireErrorKind::LockspaceReplaced { .. });
        assert!(replaced, "{error}");
        assert!(error.to_string().contains("/leases/"), "{error}");
    }
    assert!(!leases.exists(), "nothing is made there");
}

/// Hosts of another lockspace would take the same leases for free.
#[test]
fn a_manager_of_one_lockspace_takes_no_leases_of_another_one_s_directory() {
    let dir = scratch();
    let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
    lockspace_in(&other);
    let lockspace = try_join(&one, 1, "alpha").unwrap();
    let in_one = lockspace.path().to_owned();
    let refused = |directory: &Path| {
        let leases = LeaseDirectory::new(directory);
        PaxosManager::new(lockspace.clone(), leases).unwrap_err()
    };
    let error = refused(&other);
    let in_other = other.join("__LIBVIRT__DISKS__");
    for path in [&in_one, &in_other] {
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    let expected = DirectoryError::OtherLockspace {
        found: in_other,
        joined: in_one,
        offset: 0,
    };
    assert_eq!(error, expected);
    // Nor of one that has none, as where the share is not mounted.
    let missing = dir.path().join("__LIBVIRT__DISKS__");
    let error = refused(dir.path());
    assert_eq!(error, DirectoryError::Missing { path: missing });

    // By another name it is the same directory.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let manager = PaxosManager::new(lockspace.clone(), LeaseDirectory::new(&link)).unwrap();
    drop(manager.acquire(disks(&["/d"])).unwrap());

    let none = PaxosManager::without_directory(lockspace);
    let error = none.acquire(disks(&["/d"])).unwrap_err();
    let disk = "/d".into();
    assert_eq!(*error.kind(), AcquireErrorKind::NoLeaseDirectory { disk });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whoever comes next opens what the path names, so a lock on what it named before is worth nothing.
#[test]
fn a_lease_file_that_is_replaced_meanwhile_is_not_taken_for_the_lease() {
    let host = shared_host();
    let disk = "/replaced/disk";
    drop(host.acquire(disks(&[disk])).unwrap());
    let path = lease_of(shared_dir(), disk);
    let other = path.with_extension("other");
    let stop = AtomicBool::new(false);
    let mut refused = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Two good leases change places, again and again.
            std::fs::copy(&path, &other).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat_with(cwd, &path, cwd, &other, flags).unwrap();
                std::thread::sleep(Duration::from_micros(700));
            }
        });
        // Also when what follows panics: the scope waits for the thread.
        let _stop = StopOnDrop(&stop);
        for _ in 0..60 {
            match host.acquire(disks(&[disk])) {
                // Whoever inspects the path now and then may have found the other one there by now.
                Ok(guard) => assert!(
                    guard.is_held() || guard.loss() == Some(LossReason::LeaseReplaced),
                    "{guard:?}"
                ),
                Err(error) => {
                    let fault = error.fault().unwrap_or_else(|| panic!("{error}"));
                    let replaced = matches!(fault, LeaseFault::Replaced);
                    let opened = fault.to_string().contains("replaced while it was opened");
                    let second = matches!(fault, LeaseFault::SecondLink { .. });
                    assert!(replaced || opened || second, "{fault}");
                    refused += 1;
                }
            }
        }
    });
    assert!(
        refused > 0,
        "a path that changes all the time was never noticed"
    );
    drop(host.acquire(disks(&[disk])).unwrap());
}
