//! The same tests for every manager.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use disklease::format::{LockspaceName, ResourceName};
use disklease::{
    Access, AcquireError, AcquireErrorKind, HandoverAnswer, HandoverError, HandoverOutcome,
    HandoverToken, LeaseSpec, LockGuard, LockManager, LockRequest, Locked, ManagerKind, NopManager,
    PaxosManager, SuspendedLocks, TokenError, WaitLimit,
};

use super::shared_host;
use disklease_fixtures::host::{disks, is_readable, request};

/// Runs `test` with each manager. What it must hold of them, it holds of their trait objects.
fn with_each(test: impl Fn(&dyn LockManager)) {
    let managers: [Arc<dyn LockManager>; 2] =
        [Arc::new(NopManager::new()), Arc::new(shared_host().clone())];
    for manager in managers {
        test(&*manager);
    }
}

#[test]
fn managers_and_guards_go_where_an_embedder_needs_them() {
    fn send_and_sync<T: Send + Sync + 'static>() {}
    send_and_sync::<Arc<dyn LockManager>>();
    send_and_sync::<Box<dyn LockManager>>();
    send_and_sync::<PaxosManager>();
    send_and_sync::<LockGuard>();
    send_and_sync::<AcquireError>();
    send_and_sync::<disklease::Lockspace>();
    send_and_sync::<LockRequest>();

    for (configured, kind) in [
        ("nop", ManagerKind::Nop),
        ("paxos", ManagerKind::Paxos),
        ("sanlock", ManagerKind::Paxos),
    ] {
        assert_eq!(configured.parse(), Ok(kind));
    }
    assert_eq!(ManagerKind::Paxos.to_string(), "paxos");
    let nop = ManagerKind::Nop.build(|| Err("nothing is joined for it"));
    assert_eq!(nop.unwrap().name(), "nop");
    assert!(ManagerKind::Paxos.build(|| Err("no share")).is_err());
    let unknown = "lockd".parse::<ManagerKind>().unwrap_err();
    assert!(unknown.to_string().contains("\"lockd\""), "{unknown}");
}

#[test]
fn what_is_acquired_is_held_until_it_is_released() {
    with_each(|manager| {
        let name = manager.name();
        let disk = format!("/both/released/{name}");
        let guard = manager.acquire(disks(&[&disk])).unwrap();
        assert!(guard.is_held(), "{name}");
        assert_eq!(guard.verify(), Ok(()), "{name}");
        assert_eq!(guard.loss(), None, "{name}");
        assert!(!is_readable(guard.event_fd()), "{name}");
        let locked: Vec<_> = guard.locks().map(|lock| lock.locked.clone()).collect();
        assert_eq!(locked, [Locked::Disk(PathBuf::from(&disk))], "{name}");
        assert!(format!("{guard:?}").contains(&disk), "{guard:?}");
        assert_eq!(guard.release(), Ok(()), "{name}");

        let again = manager.acquire(disks(&[&disk])).unwrap();
        assert!(again.is_held(), "{name}");
    });
}

#[test]
fn a_guard_that_is_dropped_has_released() {
    with_each(|manager| {
        let disk = format!("/both/dropped/{}", manager.name());
        drop(manager.acquire(disks(&[&disk])).unwrap());
        drop(manager.acquire(disks(&[&disk])).unwrap());
    });
}

#[test]
fn a_request_for_many_locks_all_of_them() {
    with_each(|manager| {
        let names: Vec<_> = (0..12)
            .map(|n| format!("/both/many/{}/{n}", manager.name()))
            .collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let guard = manager.acquire(disks(&names)).unwrap();
        assert!(guard.is_held());
        let mut locked: Vec<_> = guard.locks().map(|lock| lock.locked.to_string()).collect();
        let mut asked: Vec<_> = names.iter().map(|name| format!("disk {name:?}")).collect();
        locked.sort();
        asked.sort();
        assert_eq!(locked, asked);
        guard.release().unwrap();
    });
}

#[test]
fn nothing_to_lock_is_refused() {
    with_each(|manager| {
        let error = manager.acquire(request()).unwrap_err();
        assert_eq!(*error.kind(), AcquireErrorKind::NothingToLock);
        assert!(!error.is_held() && !error.is_contended());
    });
}

#[test]
fn a_path_that_depends_on_who_asks_is_refused() {
    with_each(|manager| {
        for bad in ["", "disk", "./disk", "../disk", "/di\0sk"] {
            let error = manager.acquire(disks(&[bad])).unwrap_err();
            let path = PathBuf::from(bad);
            assert_eq!(
                *error.kind(),
                AcquireErrorKind::PathNotAbsolute { path },
                "{bad:?}"
            );
            let error = manager
                .acquire(request().lease(spec(bad, 0)))
                .expect_err("a lease at such a path");
            assert!(
                matches!(error.kind(), AcquireErrorKind::PathNotAbsolute { .. }),
                "{error}"
            );
        }
        // Each would have a lease of its own beside that of "/both/a".
        for bad in [
            "//both/a",
            "/both//a",
            "/both/./a",
            "/both/b/../a",
            "/both/a/",
            "/both/a/.",
        ] {
            let error = manager.acquire(disks(&[bad])).unwrap_err();
            let named = format!("{bad:?} is not in normal form");
            assert!(error.to_string().starts_with(&named), "{error}");
            assert!(error.to_string().contains("\"/both/a\""), "{error}");
        }
        // Among good ones, and before anything is locked.
        let good = format!("/both/relative/{}", manager.name());
        let error = manager.acquire(disks(&[&good, "bad"])).unwrap_err();
        assert!(error.to_string().contains("\"bad\""), "{error}");
        drop(manager.acquire(disks(&[&good])).unwrap());
    });
}

#[test]
fn a_disk_that_is_named_twice_is_refused() {
    with_each(|manager| {
        let disk = format!("/both/twice/{}", manager.name());
        let other = format!("{disk}/other");
        let error = manager
            .acquire(disks(&[&disk, &other, &disk]).wait(WaitLimit::Forever))
            .unwrap_err();
        let path = PathBuf::from(&disk);
        assert_eq!(*error.kind(), AcquireErrorKind::NamedTwice { path });
        drop(manager.acquire(disks(&[&disk, &other])).unwrap());
    });
}

#[test]
fn a_lease_that_is_named_twice_is_refused() {
    with_each(|manager| {
        let twice = request()
            .lease(spec("/both/leases", 1 << 20))
            .lease(spec("/both/leases", 0))
            .lease(spec("/both/leases", 1 << 20));
        let error = manager
            .acquire(twice.wait(WaitLimit::Forever))
            .expect_err("named twice");
        let path = PathBuf::from("/both/leases");
        assert_eq!(
            *error.kind(),
            AcquireErrorKind::NamedTwice { path },
            "{}",
            manager.name()
        );
    });
}

#[test]
fn nothing_is_called_for_a_lock_that_was_not_lost() {
    with_each(|manager| {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = |calls: &Arc<AtomicUsize>| {
            let calls = Arc::clone(calls);
            move |_: &_| {
                calls.fetch_add(1, Ordering::SeqCst);
            }
        };
        let disk = format!("/both/not_lost/{}", manager.name());
        let guard = manager
            .acquire(disks(&[&disk]).on_lost(count(&calls)))
            .unwrap();
        guard.on_lost(count(&calls));
        guard.release().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        assert_eq!(
            Arc::strong_count(&calls),
            1,
            "callbacks go with their guard"
        );
    });
}

#[test]
fn a_name_that_is_no_text_is_as_good_as_any() {
    use std::os::unix::ffi::OsStrExt;
    with_each(|manager| {
        let odd = std::ffi::OsStr::from_bytes(b"/both/\xff\xfe \n\"");
        let guard = manager
            .acquire(request().disk(Path::new(odd), Access::Exclusive))
            .unwrap();
        assert!(guard.is_held());
    });
}

#[test]
fn what_was_suspended_is_resumed() {
    with_each(|manager| {
        let disk = format!("/both/suspended/{}", manager.name());
        let guard = manager.acquire(disks(&[&disk])).unwrap();
        let state = guard.suspend().unwrap();
        let again = SuspendedLocks::from_bytes(&state.to_bytes()).unwrap();
        let texts = [&state, &again].map(ToString::to_string);
        assert_eq!(texts[0], texts[1]);
        // By the request's own paths; the text alone names the lease and not the disk.
        let guard = manager.resume(&again, disks(&[&disk])).unwrap();
        assert!(guard.is_held());
        drop(guard);
        let unnamed = manager.resume(&SuspendedLocks::default(), request());
        let unnamed = unnamed.unwrap_err();
        assert_eq!(*unnamed.kind(), AcquireErrorKind::NothingToLock);
    });
}

#[test]
fn what_is_handed_over_is_held_by_one_side_at_a_time() {
    with_each(|manager| {
        let disk = format!("/both/handed_over/{}", manager.name());
        let offer = manager.acquire(disks(&[&disk])).unwrap().offer().unwrap();
        let token = HandoverToken::from_bytes(&offer.token().to_bytes()).unwrap();
        assert!(offer.guard().is_held());
        let kept = offer.hand_over(|| Err("flush")).unwrap_err();
        let HandoverError::Flush { offer, error } = kept else {
            panic!("{kept}");
        };
        assert_eq!(error, "flush");
        assert!(offer.guard().is_held());
        let handed_over = offer.hand_over(|| Ok::<_, ()>(())).unwrap();
        assert_eq!(handed_over.not_written(), None);
        let accepted = manager.accept(&token, disks(&[&disk])).unwrap();
        let (guard, answer) = accepted.start().unwrap();
        assert!(guard.is_held());
        let answer = HandoverAnswer::from_bytes(&answer.to_bytes()).unwrap();
        assert_eq!(handed_over.confirm(&answer), Ok(HandoverOutcome::Started));
        guard.release().unwrap();

        let offer = manager.acquire(disks(&[&disk])).unwrap().offer().unwrap();
        let other = offer.token().clone();
        let refused = offer
            .hand_over(|| Ok::<_, ()>(()))
            .unwrap()
            .confirm(&answer);
        assert_eq!(refused, Err(TokenError::OtherOffer));
        let accepted = manager.accept(&other, disks(&[&disk])).unwrap();
        let answer = accepted.decline().unwrap();
        assert_eq!(answer.outcome(), HandoverOutcome::Declined);
    });
}

fn spec(path: &str, offset: u64) -> LeaseSpec {
    let lockspace = LockspaceName::new("__LIBVIRT__DISKS__").unwrap();
    LeaseSpec::new(lockspace, ResourceName::new("lease").unwrap(), path, offset)
}
