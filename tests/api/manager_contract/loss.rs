//! Locks that are lost: who is notified, how often, and what still works.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use disklease::libvirt::lease_name;
use disklease::{
    Access, AcquireError, LeaseFault, LockGuard, LockManager as _, LockRequest, LossReason, Owner,
    PaxosManager, ReleaseErrorKind, VerifyErrorKind, WaitLimit,
};

use super::{shared_dir, shared_host};
use disklease_fixtures::host::{
    Child, SOON, bytes_of, child_role, disks, is_readable, manager, overwrite, say, scratch,
    wait_for_parent, wait_until,
};

/// Bytes up to the end of host 1's own sector.
const MINE: usize = 3 * 512;

fn lease_path(disk: &str) -> PathBuf {
    shared_dir().join(lease_name(Path::new(disk)).to_string())
}

/// Puts the lease back to what it was before the guard.
fn lose_lease(disk: &str, guard: &LockGuard, before: &[u8]) {
    overwrite(&lease_path(disk), 0, &before[..MINE]);
    let error = guard.verify().unwrap_err();
    // Unless the look in the background was quicker.
    let is_told = matches!(
        error.kind(),
        VerifyErrorKind::NotHeld(_) | VerifyErrorKind::Lost(_)
    );
    assert!(is_told, "{error}");
}

/// A guard over `disk`, and its lease file as it was before.
fn guard_and_before(disk: &str) -> (LockGuard, Vec<u8>) {
    drop(shared_host().acquire(disks(&[disk])).unwrap());
    let before = bytes_of(&lease_path(disk));
    (shared_host().acquire(disks(&[disk])).unwrap(), before)
}

#[test]
fn a_lease_that_was_taken_is_noticed_by_verify_and_stays_lost() {
    let disk = "/loss/verify";
    let (guard, before) = guard_and_before(disk);
    assert_eq!(guard.verify(), Ok(()));
    let held = bytes_of(&lease_path(disk));
    assert!(!is_readable(guard.event_fd()));

    lose_lease(disk, &guard, &before);
    assert!(!guard.is_held());
    assert!(is_readable(guard.event_fd()));
    assert_eq!(guard.loss(), Some(LossReason::LeaseOverwritten));

    // Though the disk says the opposite again.
    overwrite(&lease_path(disk), 0, &held[..MINE]);
    let error = guard.verify().unwrap_err();
    assert!(matches!(error.kind(), VerifyErrorKind::Lost(_)), "{error}");
    assert!(!guard.is_held() && is_readable(guard.event_fd()));
    assert!(shared_host().lockspace().is_held(), "the lockspace is not");
}

#[test]
fn a_lease_that_cannot_be_read_is_not_lost() {
    let disk = "/loss/unreadable";
    let (guard, _) = guard_and_before(disk);
    let held = bytes_of(&lease_path(disk));
    // Damage: nobody can take it.
    let mut damaged = held[..512].to_vec();
    damaged[40] ^= 0xff;
    overwrite(&lease_path(disk), 0, &damaged);
    let error = guard.verify().unwrap_err();
    assert!(
        matches!(error.kind(), VerifyErrorKind::Unconfirmed(_)),
        "{error}"
    );
    assert!(guard.is_held() && !is_readable(guard.event_fd()));
    overwrite(&lease_path(disk), 0, &held[..MINE]);
    assert_eq!(guard.verify(), Ok(()));
    guard.release().unwrap();
}

/// What is open can be read for ever, but nobody else sees it.
#[test]
fn a_lease_file_that_was_replaced_is_noticed_by_verify_and_one_that_was_removed_is_linked_back() {
    let disk = "/loss/removed";
    let (guard, before) = guard_and_before(disk);
    let path = lease_path(disk);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(guard.verify(), Ok(()));
    assert!(guard.is_held());
    let other = path.with_extension("other");
    std::fs::write(&other, before).unwrap();
    std::fs::rename(&other, &path).unwrap();
    let error = guard.verify().unwrap_err();
    // Unless the look in the background was quicker.
    let is_told = match error.kind() {
        VerifyErrorKind::NotHeld(LeaseFault::Replaced) => error.lease_path() == Some(&path),
        kind => matches!(kind, VerifyErrorKind::Lost(_)),
    };
    assert!(is_told, "{error}");
    assert!(!guard.is_held() && is_readable(guard.event_fd()));
    assert_eq!(guard.loss(), Some(LossReason::LeaseReplaced));
}

#[test]
fn a_release_of_what_is_another_s_writes_nothing_of_it_and_says_so() {
    let disk = "/loss/release";
    let (guard, before) = guard_and_before(disk);
    overwrite(&lease_path(disk), 0, &before[..MINE]);
    let error = guard.release().unwrap_err();
    assert!(
        matches!(error.kind(), ReleaseErrorKind::NotThere { .. }),
        "{error}"
    );
    assert_eq!(bytes_of(&lease_path(disk))[..MINE], before[..MINE]);
}

/// Nobody asks: the lease is read again in the background.
#[test]
fn a_lease_that_was_put_back_is_noticed_by_itself() {
    let disk = "/loss/put_back";
    let (guard, before) = guard_and_before(disk);
    overwrite(&lease_path(disk), 0, &before[..MINE]);
    wait_until("the loss", SOON, || guard.loss());
    assert_eq!(guard.loss(), Some(LossReason::LeaseOverwritten));
    assert!(!guard.is_held() && is_readable(guard.event_fd()));
    assert_eq!(bytes_of(&lease_path(disk))[..MINE], before[..MINE]);
}

/// A host that takes a disk when it is let go, and gives it back when it is asked to.
#[test]
fn child() {
    let Some((disk, dir)) = child_role() else {
        return;
    };
    let host = manager(&dir, 2, "beta");
    say("joined");
    wait_for_parent();
    let wait = WaitLimit::For(SOON);
    let guard = host.acquire(disks(&[&disk]).wait(wait)).unwrap();
    say("taken");
    wait_until("the end", SOON, || dir.join("end").exists().then_some(()));
    guard.release().unwrap();
    host.lockspace().clone().leave().unwrap();
}

/// The lease of the first disk is put back while the second one is waited for, and perhaps taken by another
/// host: the wait begins anew.
#[test]
fn what_was_acquired_early_is_looked_at_once_more() {
    // Leases are taken in the order of their names.
    let [early, late] = {
        let mut both = ["/loss/early", "/loss/late"];
        both.sort_by_key(|disk| lease_path(disk));
        both
    };
    for is_taken in [false, true] {
        let dir = scratch();
        let dir = dir.path();
        let host = manager(dir, 1, "alpha");
        let mut other = Child::start("manager_contract::loss::child", early, dir);
        assert_eq!(other.hear(SOON), "joined");
        let lease = dir.join(lease_path(early).file_name().unwrap());
        drop(host.acquire(disks(&[early])).unwrap());
        let before = bytes_of(&lease);
        let in_the_way = host.acquire(disks(&[late])).unwrap();
        let waiting = {
            let (host, request) = (host.clone(), disks(&[early, late]).wait(WaitLimit::Forever));
            std::thread::spawn(move || host.acquire(request))
        };
        wait_until("the first lease", SOON, || {
            (bytes_of(&lease)[..512] != before[..512]).then_some(())
        });
        std::thread::sleep(Duration::from_millis(1200));
        overwrite(&lease, 0, &before[..MINE]);
        if is_taken {
            other.let_go();
            assert_eq!(other.hear(SOON), "taken");
            in_the_way.release().unwrap();
            std::thread::sleep(Duration::from_secs(1));
            assert!(!waiting.is_finished(), "the other host has it");
            std::fs::write(dir.join("end"), "").unwrap();
            assert!(other.ended_well());
        } else {
            in_the_way.release().unwrap();
        }
        wait_until("the locks", SOON, || waiting.is_finished().then_some(()));
        let guard = waiting.join().unwrap().unwrap();
        guard.verify().unwrap();
    }
}

/// Whoever releases while the locks are given back for another reason comes back when that is done.
#[test]
fn a_release_waits_for_the_one_under_way() {
    let mut owner = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let (tell, hook_runs) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let mut request = LockRequest::new(Owner::process("guest-1", owner.id()));
    request = request
        .disk("/loss/under_way", Access::Exclusive)
        .on_owner_end(move || {
            tell.send(()).unwrap();
            let _ = may_go_on.lock().unwrap().recv_timeout(SOON);
        });
    let guard = shared_host().acquire(request);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let guard = guard.unwrap();
    hook_runs.recv_timeout(SOON).unwrap();
    assert!(!guard.is_held(), "its owner has ended");
    let (answer, answered) = channel();
    std::thread::spawn(move || answer.send(guard.release()).unwrap());
    let too_soon = answered.recv_timeout(Duration::from_millis(300));
    assert!(too_soon.is_err(), "{too_soon:?}");
    go_on.send(()).unwrap();
    answered.recv_timeout(SOON).unwrap().unwrap();
}

/// What is left to be reconciled on a lease that is damaged does not hide the damage, and is forgotten with
/// its file.
#[test]
fn a_release_that_failed_does_not_block_a_lease_that_is_made_anew() {
    let disk = "/loss/made_anew";
    let (guard, _) = guard_and_before(disk);
    let mut damaged = bytes_of(&lease_path(disk))[..512].to_vec();
    damaged[40] ^= 0xff;
    overwrite(&lease_path(disk), 0, &damaged);
    let error = guard.release().unwrap_err();
    assert!(
        matches!(error.kind(), ReleaseErrorKind::Lease(_)),
        "{error}"
    );
    let is_damaged = |error: &AcquireError| {
        let fault = matches!(error.fault(), Some(LeaseFault::Damaged { .. }));
        fault.then_some(())
    };
    wait_until("the damage", SOON, || {
        is_damaged(&shared_host().acquire(disks(&[disk])).unwrap_err())
    });
    let second = shared_dir().join(".disklease/leases");
    std::fs::remove_file(second.join(lease_path(disk).file_name().unwrap())).unwrap();
    std::fs::remove_file(lease_path(disk)).unwrap();
    let request = disks(&[disk]).wait(WaitLimit::For(SOON));
    shared_host().acquire(request).unwrap().release().unwrap();
}

#[test]
fn each_callback_is_called_once_whenever_it_was_given() {
    let disk = "/loss/callbacks";
    drop(shared_host().acquire(disks(&[disk])).unwrap());
    let before = bytes_of(&lease_path(disk));
    let calls = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let (tell, told) = channel();
    let count = |n: usize| {
        let (calls, tell) = (Arc::clone(&calls), tell.clone());
        move |reason: &LossReason| {
            calls[n].fetch_add(1, Ordering::SeqCst);
            tell.send((n, reason.clone())).unwrap();
        }
    };
    let guard = shared_host()
        .acquire(disks(&[disk]).on_lost(count(0)))
        .unwrap();
    guard.on_lost(count(1));
    lose_lease(disk, &guard, &before);
    for _ in 0..2 {
        let (n, reason) = told.recv_timeout(SOON).unwrap();
        assert!(n < 2);
        assert_eq!(reason, LossReason::LeaseOverwritten);
    }
    guard.on_lost(count(2));
    assert_eq!(told.recv_timeout(SOON).unwrap().0, 2);
    guard.verify().unwrap_err();
    drop(guard);
    let calls: Vec<_> = calls.iter().map(|n| n.load(Ordering::SeqCst)).collect();
    assert_eq!(calls, [1, 1, 1]);
}

#[test]
fn a_callback_that_panics_keeps_nobody_else_from_being_told() {
    let (first, before_first) = guard_and_before("/loss/panics");
    let (second, before_second) = guard_and_before("/loss/is_told");
    let (tell, told) = channel();
    let tell_of = |n| {
        let tell = tell.clone();
        move |_: &LossReason| tell.send(n).unwrap()
    };
    first.on_lost(|_| panic!("on purpose"));
    first.on_lost(tell_of(1));
    second.on_lost(tell_of(2));
    lose_lease("/loss/panics", &first, &before_first);
    assert_eq!(told.recv_timeout(SOON), Ok(1));
    lose_lease("/loss/is_told", &second, &before_second);
    assert_eq!(told.recv_timeout(SOON), Ok(2));
}

#[test]
fn a_callback_may_drop_its_own_guard() {
    let disk = "/loss/own_guard";
    let (guard, before) = guard_and_before(disk);
    let slot = Arc::new(Mutex::new(None));
    let (tell, told) = channel();
    let taken = Arc::clone(&slot);
    guard.on_lost(move |_| {
        let guard: Option<LockGuard> = taken.lock().unwrap().take();
        tell.send(guard.is_some_and(|guard| !guard.is_held()))
            .unwrap();
    });
    // The guard is where the callback finds it before anybody is notified.
    overwrite(&lease_path(disk), 0, &before[..MINE]);
    let mut slot = slot.lock().unwrap();
    let guard = slot.insert(guard);
    guard.verify().unwrap_err();
    drop(slot);
    assert_eq!(told.recv_timeout(SOON), Ok(true));
    // No reservation stays behind.
    drop(shared_host().acquire(disks(&[disk])).unwrap());
}

#[test]
fn a_callback_may_drop_the_last_handle_of_the_lockspace() {
    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    let disk = "/loss/last_handle";
    drop(host.acquire(disks(&[disk])).unwrap());
    let lease = dir.path().join(lease_name(Path::new(disk)).to_string());
    let before = bytes_of(&lease);
    let guard = host.acquire(disks(&[disk])).unwrap();
    overwrite(&lease, 0, &before[..MINE]);

    let slot: Arc<Mutex<Option<(LockGuard, PaxosManager)>>> = Arc::default();
    let taken = Arc::clone(&slot);
    guard.on_lost(move |_| drop(taken.lock().unwrap().take()));
    let mut held = slot.lock().unwrap();
    let (guard, _) = held.insert((guard, host));
    guard.verify().unwrap_err();
    drop(held);

    // It was left: the same host id can be had at once, by a host of any name.
    wait_until("the callback", SOON, || {
        slot.lock().unwrap().is_none().then_some(())
    });
    let next = wait_until("the end of the old life", SOON, || {
        disklease_fixtures::host::try_join(dir.path(), 1, "beta").ok()
    });
    assert_eq!(next.generation().get(), 2);
    next.leave().unwrap();
}
