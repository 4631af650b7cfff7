//! The host watchdog under locks: armed before a guard is handed out, for as long as one is held, and missed when it
//! goes.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::host_endian_bytes,
    clippy::indexing_slicing,
    clippy::redundant_closure_for_method_calls,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "a test, of real devices and sockets in real time"
)]

mod fake_watchdog;
mod support;

#[path = "wdmd/double.rs"]
mod double;

use std::path::Path;
use std::time::Duration;

use disklease::format::HostName;
use disklease::{
    AcquireError, LeaseDirectory, LockEvent, LockManager as _, Lockspace, PaxosManager, Watchdog,
    WatchdogError,
};

use double::{Answer, Double, new};
use fake_watchdog::{Event, FakeWatchdog, Model, Traits};
use support::{N, SOON, disks, host_id, lockspace_in, scratch, wait_until};

/// The same for all hosts of these tests.
const F: Duration = Duration::from_secs(10);

fn join(dir: &Path, watchdog: Watchdog) -> Lockspace {
    Lockspace::options(watchdog)
        .io_timeout(N)
        .fire_timeout(F)
        .host_name(HostName::new("host").unwrap())
        .runtime_dir(dir.join("run"))
        .wdmd_socket(dir.join("sock"))
        .join(lockspace_in(dir), host_id(1))
        .unwrap()
}

fn watched(dir: &Path, watchdog: Watchdog) -> PaxosManager {
    PaxosManager::new(join(dir, watchdog), LeaseDirectory::new(dir))
}

#[test]
fn a_device_counts_from_the_first_guard_to_the_last() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let manager = watched(dir.path(), Watchdog::Device(fake.path().to_owned()));
    fake.wait_for_stop();
    let first = manager.acquire(disks(&["/disk/1"])).unwrap();
    assert!(fake.with(|model| model.is_open() && model.is_counting()));
    let second = manager.acquire(disks(&["/disk/2"])).unwrap();
    let held = manager.acquire(disks(&["/disk/1"]));
    assert!(held.unwrap_err().is_held());
    // For longer than 8N + F: renewals keep it fed.
    std::thread::sleep(8 * N + F);
    first.release().unwrap();
    assert!(fake.with(|model| model.is_open() && model.is_counting()));
    second.release().unwrap();
    fake.wait_for_stop();
    let opened = fake.events();
    let opened = opened
        .iter()
        .filter(|&&event| event == Event::Opened)
        .count();
    assert_eq!(opened, 2, "once to look, once for both guards");
    drop(manager.acquire(disks(&["/disk/1"])).unwrap());
    fake.wait_for_stop();
    assert_eq!(fake.with(Model::fired_at), None);
}

#[test]
fn no_lock_is_handed_out_without_the_watchdog_and_none_is_kept_back() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let lockspace = join(dir.path(), Watchdog::Device(fake.path().to_owned()));
    let manager = PaxosManager::new(lockspace.clone(), LeaseDirectory::new(dir.path()));
    fake.wait_for_stop();
    // Somebody else has it now.
    let taken = std::fs::OpenOptions::new()
        .write(true)
        .open(fake.path())
        .unwrap();
    let error = manager.acquire(disks(&["/disk/1"])).unwrap_err();
    assert!(
        matches!(
            error,
            AcquireError::Watchdog(WatchdogError::DeviceBusy { .. })
        ),
        "{error}"
    );
    std::io::Write::write_all(&mut &taken, b"V").unwrap();
    drop(taken);
    fake.wait_for_stop();
    manager
        .acquire(disks(&["/disk/1"]))
        .unwrap()
        .release()
        .unwrap();
    fake.wait_for_stop();
}

#[test]
fn a_wdmd_that_goes_is_told_of_and_no_lock_is_handed_out_until_it_is_back() {
    let dir = scratch();
    let socket = dir.path().join("sock");
    let double = Double::start(&socket, new(10, 2));
    let manager = watched(dir.path(), Watchdog::Wdmd);
    let guard = manager.acquire(disks(&["/disk/1"])).unwrap();
    let next = |what: &str| wait_until(what, SOON, || guard.next_event());
    drop(double);
    assert_eq!(next("its end"), LockEvent::Watchdog { in_force: false });
    assert!(guard.is_held(), "the disk knows nothing of it");
    let error = manager.acquire(disks(&["/disk/2"])).unwrap_err();
    assert!(
        matches!(
            error,
            AcquireError::Watchdog(WatchdogError::WdmdUnreachable { .. })
        ),
        "{error}"
    );
    let double = Double::start(&socket, new(10, 2));
    assert_eq!(next("its return"), LockEvent::Watchdog { in_force: true });
    manager
        .acquire(disks(&["/disk/2"]))
        .unwrap()
        .release()
        .unwrap();
    double.answer(Answer::Well);
    guard.release().unwrap();
    let heard = double.heard(1);
    assert_eq!(
        heard[heard.len() - 4..],
        ["stood down", "refcount clear", "status?", "closed"]
    );
}

/// Without holders it may come and go.
#[test]
fn a_host_without_locks_needs_no_wdmd() {
    let dir = scratch();
    let socket = dir.path().join("sock");
    let double = Double::start(&socket, new(10, 2));
    let host = watched(dir.path(), Watchdog::Wdmd);
    assert_eq!(double.heard(1).len(), 4);
    drop(double);
    std::thread::sleep(4 * N);
    assert!(host.acquire(disks(&["/disk/1"])).is_err());
    let _double = Double::start(&socket, new(10, 2));
    host.acquire(disks(&["/disk/1"]))
        .unwrap()
        .release()
        .unwrap();
}
