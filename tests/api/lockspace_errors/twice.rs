//! A lockspace and a host id are joined once.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use disklease::{
    ClaimError, JoinErrorKind, LeaseDirectory, LeaveError, LockManager as _, PaxosManager,
};

use rustix::fs::{FlockOperation, flock};

use disklease_fixtures::host::{
    AT_ONCE, Child, N, SOON, bytes_of, child_role, disks, host_id, lockspace_in, manager, options,
    say, scratch, timed, try_join, wait_for_parent, wait_until,
};

#[test]
fn a_process_joins_a_lockspace_once_by_whatever_name() {
    let dir = scratch();
    let path = lockspace_in(dir.path());
    let other_name = dir.path().join("other_name");
    std::fs::hard_link(&path, &other_name).unwrap();
    let joined = try_join(dir.path(), 1, "alpha").unwrap();
    let before = bytes_of(&path);
    for name in [&path, &other_name] {
        let (took, again) = timed(|| options(dir.path(), "beta").join(name, host_id(2)));
        let error = again.unwrap_err();
        assert!(
            matches!(error.kind(), JoinErrorKind::AlreadyJoined { as_host } if as_host.get() == 1),
            "{error}"
        );
        assert!(took < AT_ONCE, "{took:?}");
    }
    let fd = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let again = options(dir.path(), "beta").join_fd(fd.into(), host_id(2));
    let error = again.unwrap_err();
    assert!(matches!(error.kind(), JoinErrorKind::AlreadyJoined { .. }));
    // But for the renewals that may have come meanwhile, nothing was written.
    assert!(bytes_of(&path)[512..] == before[512..]);
    assert!(joined.is_held());
    joined.leave().unwrap();
}

#[test]
fn who_left_may_come_again_at_once_and_is_somebody_else() {
    let dir = scratch();
    for generation in 1..=3 {
        let (took, joined) = timed(|| try_join(dir.path(), 1, "alpha").unwrap());
        assert_eq!(joined.generation().get(), generation);
        assert!(took >= 2 * N && took < 2 * N + AT_ONCE, "{took:?}");
        joined.leave().unwrap();
    }
    // Under another name, too: the id is free.
    let (took, joined) = timed(|| try_join(dir.path(), 1, "beta").unwrap());
    assert!(took < 2 * N + AT_ONCE, "{took:?}");
    assert_eq!(joined.generation().get(), 4);
    // The last handle that is dropped leaves as well.
    drop(joined);
    let joined = try_join(dir.path(), 1, "alpha").unwrap();
    assert_eq!(joined.generation().get(), 5);
}

/// Waits until nobody holds the process lock of the one host called `name`: children that other tests
/// of this process started meanwhile may have inherited it.
pub(crate) fn wait_for_process_lock(dir: &Path, name: &str) {
    let locks: Vec<_> = std::fs::read_dir(dir.join("run").join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "incarnation"))
        .map(|path| File::open(path).unwrap())
        .collect();
    assert_eq!(locks.len(), 1);
    wait_until("the process lock", 4 * SOON, || {
        flock(&locks[0], FlockOperation::NonBlockingLockExclusive).ok()
    });
    // Not by closing it: a child that is just being started may have it open, too.
    flock(&locks[0], FlockOperation::Unlock).unwrap();
}

#[test]
fn nobody_leaves_while_guards_hold_leases() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    let guards = [
        host.acquire(disks(&["/a", "/b"])).unwrap(),
        host.acquire(disks(&["/c"])).unwrap(),
    ];
    let error = host.lockspace().clone().leave().unwrap_err();
    assert!(matches!(error, LeaveError::InUse { leases: 3 }), "{error}");
    assert!(
        guards
            .iter()
            .all(|guard| guard.is_held() && guard.verify() == Ok(()))
    );
    assert!(host.lockspace().is_held());
    drop(host.acquire(disks(&["/d"])).unwrap());
    drop(guards);

    let (took, left) = timed(|| host.lockspace().clone().leave());
    left.unwrap();
    assert!(took < N + AT_ONCE, "{took:?}");
    assert!(!host.lockspace().is_held());
    assert_eq!(host.lockspace().held_for(), Duration::ZERO);
    host.lockspace().clone().leave().unwrap();

    // The process lock is free though a handle is left.
    wait_for_process_lock(dir.path(), "alpha");

    // The old handle is of no use, and in nobody's way.
    let error = host.acquire(disks(&["/a"])).unwrap_err();
    assert!(error.to_string().contains("left"), "{error}");
    let again = try_join(dir.path(), 1, "alpha").unwrap();
    assert!(host.acquire(disks(&["/a"])).is_err());
    let anew = PaxosManager::new(again, LeaseDirectory::new(dir.path())).unwrap();
    drop(host);
    drop(anew.acquire(disks(&["/a"])).unwrap());
}

/// An acquire that overlaps a leave either comes first, and the leave is refused, or gets nothing.
#[test]
fn no_guard_is_ever_held_by_a_host_that_has_left() {
    let dirs: Vec<_> = (0..8).map(|_| scratch()).collect();
    std::thread::scope(|scope| {
        for dir in &dirs {
            scope.spawn(|| {
                let host = manager(dir.path(), 1, "alpha");
                drop(host.acquire(disks(&["/a"])).unwrap());
                std::thread::scope(|scope| {
                    let acquirer = scope.spawn(|| {
                        let mut rounds = 0;
                        while let Ok(guard) = host.acquire(disks(&["/a"])) {
                            assert_eq!(guard.verify(), Ok(()), "in round {rounds}");
                            guard.release().unwrap();
                            rounds += 1;
                        }
                    });
                    let until = Instant::now() + 2 * SOON;
                    while host.lockspace().clone().leave().is_err() {
                        assert!(Instant::now() < until, "it cannot leave");
                        // Time for the others, and for other tests.
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    acquirer.join().unwrap();
                });
            });
        }
    });
}

/// The other process: host 1, under a name of its own.
#[test]
fn child() {
    let Some((_, dir)) = child_role() else { return };
    let _joined = try_join(&dir, 1, "beta").unwrap();
    say("joined");
    wait_for_parent();
}

#[test]
fn a_host_id_that_another_host_uses_is_refused_as_soon_as_that_host_renews() {
    let dir = scratch();
    let mut child = Child::start("lockspace_errors::twice::child", "holder", dir.path());
    assert_eq!(child.hear(SOON), "joined");
    for _ in 0..2 {
        let (took, refused) = timed(|| try_join(dir.path(), 1, "alpha"));
        let error = refused.unwrap_err();
        let JoinErrorKind::Claim(ClaimError::InUse { owner, generation }) = error.kind() else {
            panic!("{error}");
        };
        assert_eq!((owner.text(), generation.get()), (&b"beta"[..], 1));
        assert!(error.to_string().contains("host id 1"), "{error}");
        // It renews every 2N, and is inspected every N.
        assert!(took < 3 * N + AT_ONCE, "{took:?}");
    }
    // The two did not disturb it, nor do they stand in the way of another id.
    let joined = try_join(dir.path(), 2, "alpha").unwrap();
    joined.leave().unwrap();
    assert!(child.ended_well());
}
