//! Second links that are missing, or are other files.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use disklease::libvirt::lease_name;
use disklease::{
    AcquireErrorKind, LeaseDirectory, LeaseFault, LockManager as _, LossReason, PaxosManager,
    WaitLimit,
};

use super::{lease_of, mode_of};
use disklease_fixtures::host::{
    Child, N, SOON, child_role, disks, host_id, manager, options, overwrite, say, scratch,
    wait_for_parent, wait_until,
};
use disklease_fixtures::records;

fn second_of(dir: &Path, disk: &str) -> PathBuf {
    let name = lease_name(Path::new(disk)).to_string();
    dir.join(".disklease/leases").join(name)
}

/// The sector of host 3, which is free, and the same as a sanlock host writes it that joins.
fn sector_of_3(lockspace: &Path) -> (Vec<u8>, Vec<u8>) {
    let free = fs::read(lockspace).unwrap()[2 * 512..][..512].to_vec();
    let mut joined = free.clone();
    records::join(&mut joined, 3, "sanlock", 7, 1);
    (free, joined)
}

fn is_one_file(dir: &Path, disk: &str) -> bool {
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    inode(lease_of(dir, disk)) == inode(second_of(dir, disk))
}

/// What it holds itself may be removed as well, and the next host would make it anew.
#[test]
fn a_host_that_holds_a_lease_is_not_alone() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    let guard = host.acquire(disks(&["/held"])).unwrap();
    assert!(is_one_file(dir.path(), "/held"));
    // The holder puts back what it misses, perhaps meanwhile.
    wait_until("the removal", SOON, || {
        let removed = fs::remove_dir_all(dir.path().join(".disklease"));
        removed.map_or_else(
            |error| {
                assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty, "{error}");
                None
            },
            Some,
        )
    });
    let error = host.acquire(disks(&["/new"])).unwrap_err();
    let fault = error.fault().unwrap_or_else(|| panic!("{error}"));
    assert!(matches!(fault, LeaseFault::MayBeHeld { .. }), "{fault}");
    assert!(!lease_of(dir.path(), "/new").exists());
    // Without anybody who could hold one nobody is waited for.
    guard.release().unwrap();
    drop(host.acquire(disks(&["/new"])).unwrap());
    assert!(is_one_file(dir.path(), "/new"));
}

/// At whatever step the one who waits is.
#[test]
fn who_waits_for_a_disk_is_not_disturbed_by_removals() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    let until = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                let _ = fs::remove_file(lease_of(dir.path(), "/d"));
                let _ = fs::remove_file(second_of(dir.path(), "/d"));
                let _ = fs::remove_dir_all(dir.path().join(".disklease"));
            }
        });
        while Instant::now() < until {
            let request = disks(&["/d"]).wait(WaitLimit::For(Duration::from_secs(30)));
            let guard = host
                .acquire(request)
                .unwrap_or_else(|error| panic!("{error}"));
            // It may be lost already.
            let _ = guard.release();
        }
    });
    let missing = disks(&["/d"]).wait(WaitLimit::For(Duration::from_secs(30)));
    drop(host.acquire(missing).unwrap());
    assert!(is_one_file(dir.path(), "/d"));
}

/// As a copy of the directory has them.
#[test]
fn a_second_name_of_an_old_file_that_nobody_holds_is_put_right() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    drop(host.acquire(disks(&["/d"])).unwrap());
    let copy = dir.path().join("copy");
    fs::copy(lease_of(dir.path(), "/d"), &copy).unwrap();
    fs::rename(&copy, second_of(dir.path(), "/d")).unwrap();
    assert!(!is_one_file(dir.path(), "/d"));
    let guard = host.acquire(disks(&["/d"])).unwrap();
    assert!(guard.is_held());
    assert!(is_one_file(dir.path(), "/d"));
}

/// What is no lease may be one that is damaged.
#[test]
fn a_second_name_of_something_else_is_refused_by_its_path() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    drop(host.acquire(disks(&["/d"])).unwrap());
    let second = second_of(dir.path(), "/d");
    fs::remove_file(&second).unwrap();
    fs::write(&second, "something else").unwrap();
    let error = host.acquire(disks(&["/d"])).unwrap_err().to_string();
    assert!(error.contains(".disklease/leases/"), "{error}");
    assert_eq!(fs::read(&second).unwrap(), b"something else");
}

/// What is left to be settled in a damaged lease stays with its file, and does not block the name.
#[test]
fn a_damaged_lease_that_was_moved_aside_blocks_no_new_one() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    let guard = host.acquire(disks(&["/d"])).unwrap();
    let (lease, aside) = (lease_of(dir.path(), "/d"), dir.path().join("aside"));
    overwrite(&lease, 40, &[0xff; 16]);
    guard.release().unwrap_err();
    let error = host.acquire(disks(&["/d"])).unwrap_err();
    assert!(
        matches!(error.kind(), AcquireErrorKind::CleanupPending),
        "{error}"
    );
    fs::remove_file(second_of(dir.path(), "/d")).unwrap();
    fs::rename(&lease, &aside).unwrap();
    // A try to settle it may be under way for a moment.
    let wait = WaitLimit::For(SOON);
    let guard = host.acquire(disks(&["/d"]).wait(wait)).unwrap();
    assert!(is_one_file(dir.path(), "/d"));
    std::thread::sleep(N * 4);
    assert!(guard.is_held());
    guard.verify().unwrap();
    guard.release().unwrap();

    // Where it is put back, it says what is wrong with it again.
    fs::remove_file(second_of(dir.path(), "/d")).unwrap();
    fs::rename(&aside, &lease).unwrap();
    wait_until("the damage", SOON, || match host.acquire(disks(&["/d"])) {
        Ok(guard) => panic!("{guard:?}"),
        Err(error) if *error.kind() == AcquireErrorKind::CleanupPending => None,
        Err(error) => Some(error.fault().unwrap_or_else(|| panic!("{error}")).clone()),
    });
}

/// The holder of a disk.
#[test]
fn child() {
    let Some((disk, dir)) = child_role() else {
        return;
    };
    let host = manager(&dir, 2, "beta");
    let guard = host.acquire(disks(&[&disk])).unwrap();
    say("held");
    wait_for_parent();
    drop(guard);
    host.lockspace().clone().leave().unwrap();
}

/// As an operator's script does: `rm` of the lease, and a new file of its name by `touch` or `fallocate`.
fn replace_by(dir: &Path, disk: &str, content: &[u8]) {
    let new = dir.join("new");
    fs::write(&new, content).unwrap();
    // At once: a holder may link its lease back in between, and would be written over.
    fs::rename(new, lease_of(dir, disk)).unwrap();
}

#[test]
fn an_empty_file_in_the_place_of_a_lease_gives_way_to_its_second_link() {
    let dir = scratch();
    let dir = dir.path();
    let host = manager(dir, 1, "alpha");
    for (disk, content) in [("/empty", vec![]), ("/zeros", vec![0; 1 << 20])] {
        drop(host.acquire(disks(&[disk])).unwrap());
        replace_by(dir, disk, &content);
        let guard = host.acquire(disks(&[disk])).unwrap();
        assert!(is_one_file(dir, disk));
        let version = guard.locks().next().unwrap().version.unwrap().get();
        assert!(version > 1, "the lease that was, and no new one");
        drop(guard);

        // Such a file may also be one that a sanlock host is about to initialise.
        replace_by(dir, disk, &content);
        let (free, joined) = sector_of_3(host.lockspace().path());
        let write = |sector: &[u8]| overwrite(host.lockspace().path(), 2 * 512, sector);
        write(&joined);
        let error = host.acquire(disks(&[disk])).unwrap_err();
        assert!(
            matches!(error.kind(), AcquireErrorKind::Lease(_)),
            "{error}"
        );
        assert_eq!(fs::read(lease_of(dir, disk)).unwrap(), content);
        write(&free);
        drop(host.acquire(disks(&[disk])).unwrap());
        assert!(is_one_file(dir, disk));
    }
}

/// Whoever holds what the second link leads to is asked.
#[test]
fn an_empty_file_in_the_place_of_a_held_lease_gives_nothing_away() {
    let dir = scratch();
    let (dir, disk) = (dir.path(), "/held");
    let host = manager(dir, 1, "alpha");
    let mut holder = Child::start("lease_directory::second_links::child", disk, dir);
    assert_eq!(holder.hear(SOON), "held");
    replace_by(dir, disk, b"");
    let error = host.acquire(disks(&[disk])).unwrap_err();
    assert!(error.is_held(), "{error}");
    assert_eq!(fs::read(lease_of(dir, disk)).unwrap(), b"");
    holder.let_go();
    let wait = WaitLimit::For(SOON);
    let guard = host.acquire(disks(&[disk]).wait(wait)).unwrap();
    assert!(guard.is_held() && is_one_file(dir, disk));
    assert!(holder.ended_well());
}

/// Nobody who comes and goes waits for long enough: a host that stays does.
#[test]
fn an_idle_host_settles_the_directory_of_the_second_links() {
    let dir = scratch();
    let path = LeaseDirectory::new(dir.path()).create_lockspace(N).unwrap();
    let fire = Duration::from_secs(2);
    let joined = options(dir.path(), "alpha").fire_timeout(fire);
    let joined = joined.join(path, host_id(1)).unwrap();
    let _host = PaxosManager::new(joined, LeaseDirectory::new(dir.path())).unwrap();
    let settled = dir.path().join(".disklease/leases/settled");
    assert!(settled.exists());
    let removed = Instant::now();
    // Moved, not emptied: the host makes it again as soon as it is missing.
    fs::rename(dir.path().join(".disklease"), dir.path().join("removed")).unwrap();
    // 8N + F + margin + 2 s.
    let quarantine = Duration::from_secs(13);
    wait_until("the directory", SOON, || {
        settled.parent().unwrap().exists().then_some(())
    });
    wait_until("its end", quarantine + SOON, || {
        settled.exists().then_some(())
    });
    assert!(removed.elapsed() >= quarantine, "{:?}", removed.elapsed());
}

#[test]
fn who_may_use_the_directory_may_use_the_second_links() {
    let dir = scratch();
    let mode = 0o2770;
    fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(mode),
    )
    .unwrap();
    LeaseDirectory::new(dir.path()).create_lockspace(N).unwrap();
    for made in [".disklease", ".disklease/leases"] {
        assert_eq!(mode_of(&dir.path().join(made)), mode);
    }
}

/// The holder of a disk, which gives it back when it has lost it, and stays.
#[test]
fn child_that_stays() {
    let Some((disk, dir)) = child_role() else {
        return;
    };
    let host = manager(&dir, 2, "beta");
    let guard = host.acquire(disks(&[&disk])).unwrap();
    say("held");
    wait_until("the loss", SOON, || (!guard.is_held()).then_some(()));
    assert_eq!(guard.loss(), Some(LossReason::LeaseReplaced));
    guard.release().unwrap();
    say("given back");
    wait_for_parent();
    host.lockspace().clone().leave().unwrap();
}

/// As `cp X Y; mv Y X` does, or `rsync`: the copy names its owner, and nobody gives it back.
#[test]
fn a_copy_in_the_place_of_a_held_lease_gives_way_when_that_was_given_back() {
    let dir = scratch();
    let (dir, disk) = (dir.path(), "/copied");
    let host = manager(dir, 1, "alpha");
    let mut holder = Child::start("lease_directory::second_links::child_that_stays", disk, dir);
    assert_eq!(holder.hear(SOON), "held");
    let copy = fs::read(lease_of(dir, disk)).unwrap();
    replace_by(dir, disk, &copy);
    match host.acquire(disks(&[disk])) {
        Err(error) => assert!(error.is_held(), "{error}"),
        // On a machine that was busy for as long as the holder took to give it back.
        Ok(guard) => drop(guard),
    }
    assert_eq!(holder.hear(SOON), "given back");
    let mut versions = vec![0];
    // Also a copy that is put there once more, or later on.
    for _ in 0..2 {
        replace_by(dir, disk, &copy);
        let guard = host.acquire(disks(&[disk])).unwrap();
        assert!(guard.is_held() && is_one_file(dir, disk));
        versions.push(guard.locks().next().unwrap().version.unwrap().get());
        guard.release().unwrap();
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");

    // A sanlock host would take what the first name leads to.
    replace_by(dir, disk, &copy);
    let (_, joined) = sector_of_3(host.lockspace().path());
    overwrite(host.lockspace().path(), 2 * 512, &joined);
    let error = host.acquire(disks(&[disk])).unwrap_err();
    assert!(error.is_held(), "{error}");
    assert_eq!(fs::read(lease_of(dir, disk)).unwrap(), copy);
    assert!(holder.ended_well());
}
