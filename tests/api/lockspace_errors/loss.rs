//! Our own sector overwritten behind our back.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use disklease::format::DeltaLeader;
use disklease::{
    AcquireErrorKind, LockGuard, LockManager as _, LossReason, ReleaseErrorKind, VerifyErrorKind,
};

use disklease_fixtures::host::{
    N, SOON, bytes_of, disks, host_id, is_readable, lockspace_in, manager, overwrite, scratch,
    wait_for_process_token, wait_until,
};
use disklease_fixtures::records;

/// Loses the lockspace of a host by writing `sector` over its own, and returns why it was lost.
fn lose(dir: &Path, spoil: impl FnOnce(&mut [u8])) -> LossReason {
    let host = manager(dir, 1, "alpha");
    let guard = host.acquire(disks(&["/a", "/b"])).unwrap();
    let other = host.acquire(disks(&["/c"])).unwrap();
    let (tell, told) = channel();
    guard.on_lost(move |reason| tell.send(reason.clone()).unwrap());
    let path = lockspace_in(dir);
    wait_for_process_token(&path, 1);
    let before = &bytes_of(&path)[..512];
    let mut spoilt = before.to_vec();
    spoilt[200..].fill(0);
    spoil(&mut spoilt);
    // By the next renewal. Of one that does not come they would be lost for another reason.
    wait_until("the loss", 8 * N, || {
        overwrite_own_sector(&path, &spoilt);
        (!guard.is_held()).then_some(())
    });
    let reason = told.recv_timeout(SOON).unwrap();
    for guard in [&guard, &other] {
        assert!(!guard.is_held() && is_readable(guard.event_fd()));
        assert_eq!(guard.loss(), Some(reason.clone()));
        let lost = VerifyErrorKind::Lost(reason.clone());
        assert_eq!(*guard.verify().unwrap_err().kind(), lost);
    }
    assert!(!host.lockspace().is_held());
    assert_eq!(host.lockspace().held_for(), Duration::ZERO);
    assert_eq!(host.lockspace().loss(), Some(reason.clone()));

    // Also of a disk that a guard of before still has.
    for disk in ["/d", "/a"] {
        let error = host.acquire(disks(&[disk])).unwrap_err();
        assert_eq!(
            *error.kind(),
            AcquireErrorKind::LockspaceLost {
                reason: Some(reason.clone())
            }
        );
        assert!(
            error.to_string().contains("leave it and join again"),
            "{error}"
        );
    }
    let late = other.release().unwrap_err();
    assert!(
        matches!(late.kind(), ReleaseErrorKind::LockspaceLost),
        "{late}"
    );
    // A callback that comes late is called all the same.
    let (tell, told_late) = channel();
    guard.on_lost(move |reason| tell.send(reason.clone()).unwrap());
    assert_eq!(
        told_late.recv_timeout(Duration::from_secs(10)),
        Ok(reason.clone())
    );
    assert!(told.try_recv().is_err(), "called twice");

    // What was lost stays so, though the sector is ours again.
    overwrite(&path, 0, before);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!guard.is_held() && !host.lockspace().is_held());
    assert!(host.lockspace().clone().leave().is_err(), "a guard is left");
    drop(guard);
    // Left, though not freed on the disk.
    let left = host.lockspace().clone().leave().unwrap_err();
    assert!(
        left.to_string().contains("was left as host 1, but"),
        "{left}"
    );
    reason
}

/// Writes `sector` over that of host 1, if it is not there. A renewal that had inspected its sector before, and
/// wrote it afterwards, has overwritten it in its turn.
fn overwrite_own_sector(path: &Path, sector: &[u8]) {
    if bytes_of(path)[..sector.len()] != *sector {
        overwrite(path, 0, sector);
    }
}

#[test]
fn a_sector_that_another_host_took() {
    let dir = scratch();
    let reason = lose(dir.path(), |own| records::join(own, 1, "beta", 77, 1));
    assert!(matches!(reason, LossReason::HostIdLost(_)));
    let text = reason.to_string();
    assert!(text.contains("\"beta\" (generation 2)"), "{text}");

    // By a copy of this machine, perhaps: whatever is found there later is no life that is proven to have ended.
    let record = std::fs::read(super::incarnations::process_lock_file(dir.path())).unwrap();
    assert!(record.is_empty(), "{record:?}");
}

#[test]
fn a_sector_that_was_freed() {
    let dir = scratch();
    let reason = lose(dir.path(), |own| {
        records::change_leader(own, &[(records::TIMESTAMP, 0)]);
    });
    assert!(matches!(reason, LossReason::HostIdLost(_)), "{reason}");
}

#[test]
fn a_sector_that_somebody_else_renews() {
    let dir = scratch();
    let reason = lose(dir.path(), |own| {
        let leader = DeltaLeader::decode(own, host_id(1)).unwrap();
        let next = leader.timestamp_secs() + 1000;
        records::change_leader(own, &[(records::TIMESTAMP, next)]);
    });
    let text = reason.to_string();
    assert!(text.contains("changed by somebody else"), "{text}");
}

#[test]
fn a_sector_of_zeros_or_of_anything() {
    let dirs = [scratch(), scratch()];
    std::thread::scope(|scope| {
        for (dir, byte) in dirs.iter().zip([0, 0xa5]) {
            scope.spawn(move || {
                let reason = lose(dir.path(), |own| own.fill(byte));
                assert!(reason.to_string().contains("byte 0"), "{reason}");
            });
        }
    });
}

#[test]
fn whoever_waits_for_ever_is_told_when_the_lockspace_is_lost() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    // Held here, and never given back: what the waiter waits for does not come.
    let _guard = host.acquire(disks(&["/a"])).unwrap();
    let (tell, told) = channel();
    let waiter = host.clone();
    std::thread::spawn(move || {
        let request = disks(&["/a"]).wait(disklease::WaitLimit::Forever);
        tell.send(waiter.acquire(request).map(drop)).unwrap();
    });
    assert!(told.recv_timeout(Duration::from_millis(300)).is_err());
    let path = lockspace_in(dir.path());
    let told = wait_until("the refusal", SOON, || {
        overwrite_own_sector(&path, &[0xff; 512]);
        told.try_recv().ok()
    });
    let error = told.unwrap_err();
    assert!(
        matches!(error.kind(), AcquireErrorKind::LockspaceLost { .. }),
        "{error}"
    );
}

#[test]
fn nothing_is_acquired_in_a_lockspace_that_was_replaced() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    drop(host.acquire(disks(&["/a"])).unwrap());
    let path = lockspace_in(dir.path());
    let old = dir.path().join("old");
    std::fs::rename(&path, &old).unwrap();
    let refused = || {
        let error = host.acquire(disks(&["/a"])).unwrap_err();
        // The watch may come first.
        let reason = Some(LossReason::LockspaceReplaced);
        assert!(
            matches!(error.kind(), AcquireErrorKind::LockspaceReplaced { path: at } if *at == path)
                || *error.kind() == AcquireErrorKind::LockspaceLost { reason },
            "{error}"
        );
    };
    refused();
    std::fs::copy(&old, &path).unwrap();
    refused();
}

/// Whoever opens the path next sees another file, or none: both would hold the same disk.
#[test]
fn a_lockspace_or_lease_that_is_removed_or_replaced_is_lost() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    let [removed, replaced, kept] =
        ["/a", "/b", "/c"].map(|disk| host.acquire(disks(&[disk])).unwrap());
    let (tell, told) = channel();
    removed.on_lost(move |reason| tell.send(reason.clone()).unwrap());
    let file_of = |guard: &LockGuard| guard.locks().next().unwrap().lease_path.unwrap().to_owned();
    let lease = file_of(&removed);
    // Both names: one alone is linked back.
    let second = dir.path().join(".disklease/leases");
    std::fs::remove_file(second.join(lease.file_name().unwrap())).unwrap();
    std::fs::remove_file(lease).unwrap();
    let copy = dir.path().join("copy");
    std::fs::copy(file_of(&replaced), &copy).unwrap();
    std::fs::rename(&copy, file_of(&replaced)).unwrap();
    for guard in [&removed, &replaced] {
        wait_until("the loss", SOON, || (!guard.is_held()).then_some(()));
        assert_eq!(guard.loss(), Some(LossReason::LeaseReplaced));
    }
    assert_eq!(told.recv_timeout(SOON), Ok(LossReason::LeaseReplaced));
    assert!(kept.is_held() && host.lockspace().is_held());

    std::fs::remove_file(host.lockspace().path()).unwrap();
    wait_until("the loss", SOON, || (!kept.is_held()).then_some(()));
    assert_eq!(host.lockspace().loss(), Some(LossReason::LockspaceReplaced));
}
