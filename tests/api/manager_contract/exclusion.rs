//! Guards of one process exclude each other as those of two hosts do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use disklease::{AcquireErrorKind, CancelToken, LockManager as _, WaitLimit};

use super::shared_host;
use disklease_fixtures::host::{AT_ONCE, SOON, disks, timed, wait_until};

const DISKS: [&str; 3] = ["/exclusion/all/1", "/exclusion/all/2", "/exclusion/all/3"];

#[test]
fn two_guards_of_one_process_exclude_each_other() {
    let manager = shared_host();
    // Another manager of the same lockspace is no way around it.
    let other = manager.clone();
    let guard = manager.acquire(disks(&["/exclusion/two"])).unwrap();
    let error = other.acquire(disks(&["/exclusion/two"])).unwrap_err();
    assert!(
        matches!(error.kind(), AcquireErrorKind::HeldHere),
        "{error}"
    );
    assert!(error.is_held() && error.holder().is_none());
    assert!(error.to_string().contains("/exclusion/two"), "{error}");
    assert!(guard.is_held());
    guard.release().unwrap();
    drop(other.acquire(disks(&["/exclusion/two"])).unwrap());
}

#[test]
fn each_acquire_has_a_version_of_its_own() {
    let versions: Vec<_> = (0..3)
        .map(|_| {
            let guard = shared_host()
                .acquire(disks(&["/exclusion/version"]))
                .unwrap();
            let version = guard.locks().next().unwrap().version.unwrap();
            guard.release().unwrap();
            version.get()
        })
        .collect();
    assert_eq!(versions, [1, 2, 3]);
}

#[test]
fn all_or_nothing() {
    let manager = shared_host();
    // Whichever of the three comes first in the order of taking.
    for held in DISKS {
        let guard = manager.acquire(disks(&[held])).unwrap();
        let error = manager.acquire(disks(&DISKS)).unwrap_err();
        assert!(
            matches!(error.kind(), AcquireErrorKind::HeldHere),
            "{error}"
        );
        for free in DISKS.into_iter().filter(|disk| *disk != held) {
            let other = manager.acquire(disks(&[free]));
            assert!(other.is_ok_and(|guard| guard.is_held()), "{free}");
        }
        assert!(guard.is_held());
    }
    drop(manager.acquire(disks(&DISKS)).unwrap());
}

#[test]
fn a_wait_has_the_limit_that_was_asked_for() {
    let manager = shared_host();
    let _guard = manager.acquire(disks(&["/exclusion/limit"])).unwrap();
    let ask = |limit| {
        timed(|| {
            manager
                .acquire(disks(&["/exclusion/limit"]).wait(limit))
                .map(drop)
        })
    };

    let (took, refused) = ask(WaitLimit::Try);
    assert!(refused.unwrap_err().is_held());
    assert!(took < AT_ONCE, "{took:?}");
    for limit in [Duration::ZERO, Duration::from_millis(300)] {
        let (took, refused) = ask(WaitLimit::For(limit));
        assert!(refused.unwrap_err().is_held());
        assert!(took >= limit && took < limit + AT_ONCE, "{took:?}");
    }
}

#[test]
fn who_waits_gets_the_disk_when_it_is_dropped() {
    let manager = shared_host();
    for (disk, limit) in [
        ("/exclusion/wait/for", WaitLimit::For(SOON)),
        ("/exclusion/wait/most", WaitLimit::For(Duration::MAX)),
        ("/exclusion/wait/forever", WaitLimit::Forever),
    ] {
        let guard = manager.acquire(disks(&[disk])).unwrap();
        let (tell, begins) = channel();
        let waiter = thread::spawn(move || {
            timed(|| {
                tell.send(()).unwrap();
                manager.acquire(disks(&[disk]).wait(limit))
            })
        });
        begins.recv_timeout(SOON).unwrap();
        thread::sleep(Duration::from_millis(200));
        assert!(!waiter.is_finished());
        assert!(guard.is_held());
        drop(guard);
        wait_until("the disk", SOON, || waiter.is_finished().then_some(()));
        let (took, guard) = waiter.join().unwrap();
        assert!(guard.unwrap().is_held());
        assert!(took >= Duration::from_millis(200), "{took:?}");
    }
}

#[test]
fn requests_in_opposite_order_do_not_wait_for_each_other() {
    let manager = shared_host();
    let inside = AtomicUsize::new(0);
    let reversed: Vec<_> = DISKS
        .into_iter()
        .rev()
        .map(|disk| format!("{disk}/opposite"))
        .collect();
    let reversed: Vec<_> = reversed.iter().map(String::as_str).collect();
    let forward: Vec<_> = reversed.iter().rev().copied().collect();
    thread::scope(|scope| {
        for order in [&forward, &reversed, &forward, &reversed] {
            let inside = &inside;
            scope.spawn(move || {
                for _ in 0..10 {
                    let guard = manager
                        .acquire(disks(order).wait(WaitLimit::For(2 * SOON)))
                        .unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone in here");
                    assert!(guard.is_held());
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    guard.release().unwrap();
                }
            });
        }
    });
}

/// Of what it has locked by then it keeps nothing, and what comes later is not started.
#[test]
fn a_wait_can_be_cancelled() {
    let manager = shared_host();
    let all = ["/exclusion/cancel/1", "/exclusion/cancel/2"];
    for held in all {
        let guard = manager.acquire(disks(&[held])).unwrap();
        let token = CancelToken::new();
        let request = disks(&all).wait(WaitLimit::Forever).cancel_by(&token);
        let waiting = thread::spawn(move || shared_host().acquire(request).map(drop));
        thread::sleep(Duration::from_millis(300));
        assert!(!waiting.is_finished());
        token.cancel();
        let (took, ()) = timed(|| {
            wait_until("its end", SOON, || waiting.is_finished().then_some(()));
        });
        let waited = waiting.join().unwrap();
        assert_eq!(*waited.unwrap_err().kind(), AcquireErrorKind::Cancelled);
        assert!(took < AT_ONCE, "{took:?}");
        guard.release().unwrap();
        drop(manager.acquire(disks(&all)).unwrap());
        let refused = manager.acquire(disks(&all).cancel_by(&token));
        assert_eq!(*refused.unwrap_err().kind(), AcquireErrorKind::Cancelled);
    }
}
