//! The host watchdog under locks: armed before a guard is handed out, for as long as one is held, and missed when it
//! goes.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use disklease::format::HostName;
use disklease::{
    AcquireErrorKind, FailureAction, JoinError, JoinErrorKind, LeaseDirectory, LockEvent,
    LockManager as _, Lockspace, PaxosManager, Watchdog, WatchdogErrorKind,
};

use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};
use disklease_fixtures::host::{
    Child, N, SOON, child_role, disks, host_id, lockspace_in, say, scratch, wait_until,
};
use disklease_fixtures::watchdog_device::{Event, FakeWatchdog, Model, Traits};
use disklease_fixtures::wdmd::{Answer, Double, OLD, new};

/// The same for all hosts of these tests.
const F: Duration = Duration::from_secs(10);

fn try_join(dir: &Path, watchdog: Watchdog, fire_timeout: u64) -> Result<Lockspace, JoinError> {
    Lockspace::options(watchdog)
        .io_timeout(N)
        .fire_timeout(Duration::from_secs(fire_timeout))
        .host_name(HostName::new("host").unwrap())
        .runtime_dir(dir.join("run"))
        .wdmd_socket(dir.join("sock"))
        .join(lockspace_in(dir), host_id(1))
}

fn join(dir: &Path, watchdog: Watchdog) -> Lockspace {
    try_join(dir, watchdog, F.as_secs()).unwrap()
}

fn watched(dir: &Path, watchdog: Watchdog) -> PaxosManager {
    PaxosManager::new(join(dir, watchdog), LeaseDirectory::new(dir)).unwrap()
}

/// What is wrong with the watchdog of a join that is refused.
fn refusal(dir: &Path, watchdog: Watchdog, fire_timeout: u64) -> WatchdogErrorKind {
    let error = try_join(dir, watchdog, fire_timeout).unwrap_err();
    match error.kind() {
        JoinErrorKind::Watchdog(error) => error.kind().clone(),
        _ => panic!("{error}"),
    }
}

#[test]
fn a_join_asks_wdmd_before_it_claims_anything() {
    let dir = scratch();
    let path = dir.path().join("sock");
    let refused = |fire| refusal(dir.path(), Watchdog::Wdmd, fire);
    let kind = refused(10);
    assert!(matches!(kind, WatchdogErrorKind::Unreachable(_)), "{kind}");
    {
        let _old = Double::start(&path, OLD);
        let kind = refused(10);
        let is_other = matches!(kind, WatchdogErrorKind::OtherFireTimeout { .. });
        assert!(is_other, "{kind}");
        let kind = refused(60);
        let is_short = matches!(kind, WatchdogErrorKind::IoTimeoutTooShort { .. });
        assert!(is_short, "{kind}");
    }
    let double = Double::start(&path, new(10, 2));
    let lockspace = join(dir.path(), Watchdog::Wdmd);
    let generation = lockspace.generation().get();
    assert_eq!(generation, 1, "nothing was claimed before");
    assert_eq!(
        double.heard(1),
        ["connected", "open 10?", "status?", "closed"]
    );
    lockspace.leave().unwrap();
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_join_tries_the_device_before_it_claims_anything() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let refused =
        |device: &Path, fire| refusal(dir.path(), Watchdog::Device(device.to_owned()), fire);
    let kind = refused(&dir.path().join("none"), 10);
    assert!(matches!(kind, WatchdogErrorKind::Unusable(_)), "{kind}");
    let kind = refused(fake.path(), 5);
    let is_short = matches!(kind, WatchdogErrorKind::FireTimeoutTooShort { .. });
    assert!(is_short, "{kind}");
    assert_eq!(fake.events(), []);

    let lockspace = join(dir.path(), Watchdog::Device(fake.path().to_owned()));
    let generation = lockspace.generation().get();
    assert_eq!(generation, 1, "nothing was claimed before");
    fake.wait_for_stop();
    lockspace.leave().unwrap();
    fake.wait_for_stop();
}

/// Whoever cannot go on because wdmd does not work has had no guest: what was suspended stays so.
#[test]
fn a_resume_that_is_not_protected_leaves_the_guest_to_be_resumed() {
    let dir = scratch();
    let path = dir.path().join("sock");
    let double = Double::start(&path, new(10, 1));
    let manager = watched(dir.path(), Watchdog::Wdmd);
    let state = manager.acquire(disks(&["/a", "/b"])).unwrap();
    let state = state.suspend().unwrap();
    drop(double);
    let error = manager.resume(&state, disks(&["/a", "/b"])).unwrap_err();
    assert!(
        matches!(error.kind(), AcquireErrorKind::Unprotected(_)),
        "{error}"
    );
    let _double = Double::start(&path, new(10, 1));
    let guard = manager.resume(&state, disks(&["/a", "/b"])).unwrap();
    assert!(guard.is_held());
    guard.release().unwrap();
}

/// Its clock may stand still in suspend: at a loss wdmd hears the time once more.
#[test]
fn wdmd_hears_of_a_loss_and_no_loss_is_ignored_where_it_watches() {
    let dir = scratch();
    let path = dir.path().join("sock");
    let double = Double::start(&path, new(29, 1));
    let lockspace = try_join(dir.path(), Watchdog::Wdmd, 29).unwrap();
    let manager = PaxosManager::new(lockspace, LeaseDirectory::new(dir.path())).unwrap();
    let ignored = disks(&["/a"]).on_lock_failure(FailureAction::Ignore);
    let error = manager.acquire(ignored).unwrap_err();
    assert_eq!(*error.kind(), AcquireErrorKind::IgnoredWithWatchdog);

    let guard = manager.acquire(disks(&["/a"])).unwrap();
    std::fs::remove_file(manager.lockspace().path()).unwrap();
    // Renewals put the end off, and only that brings it nearer.
    let is_told = || {
        let live = double.messages();
        let live = live.iter().filter(|message| message.command == 4);
        let ends: Vec<_> = live.map(|message| message.expire_time).collect();
        (ends.last()? + 3 < *ends.iter().max()?).then_some(())
    };
    wait_until("what wdmd hears", SOON, is_told);
    assert!(!guard.is_held());
    drop(guard);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
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
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn no_lock_is_handed_out_without_the_watchdog_and_none_is_kept_back() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let lockspace = join(dir.path(), Watchdog::Device(fake.path().to_owned()));
    let manager = PaxosManager::new(lockspace.clone(), LeaseDirectory::new(dir.path())).unwrap();
    fake.wait_for_stop();
    // Somebody else has it now.
    let taken = OpenOptions::new().write(true).open(fake.path()).unwrap();
    let error = manager.acquire(disks(&["/disk/1"])).unwrap_err();
    let AcquireErrorKind::Unprotected(error) = error.kind() else {
        panic!("{error}");
    };
    let is_so = matches!(error.kind(), WatchdogErrorKind::Busy);
    assert!(is_so, "{error}");
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
    let AcquireErrorKind::Unprotected(error) = error.kind() else {
        panic!("{error}");
    };
    let is_so = matches!(error.kind(), WatchdogErrorKind::Unreachable(_));
    assert!(is_so, "{error}");
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

/// A holder in a process of its own, whose storage hangs with a write of it under way. `tests/watchdog_guest/run` has
/// the same one in a machine that is really reset.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_host_whose_storage_hangs_is_reset_in_time() {
    if let Some((_, dir)) = child_role() {
        hold_and_write(&dir);
    }
    let dir = scratch();
    let shared = dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("disk"), vec![0; 4096]).unwrap();
    // In the mount no file can be made.
    let lockspace = join(&shared, Watchdog::None);
    let manager = PaxosManager::new(lockspace.clone(), LeaseDirectory::new(&shared)).unwrap();
    manager
        .acquire(disks(&["/disk/1"]))
        .unwrap()
        .release()
        .unwrap();
    drop(manager);
    lockspace.leave().unwrap();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    std::fs::write(shared.join("device"), fake.path().to_str().unwrap()).unwrap();
    let mount = Mount::new(&shared, &dir.path().join("mount"), |_| {});

    let holder = Child::start(
        "watchdog::a_host_whose_storage_hangs_is_reset_in_time",
        "holder",
        mount.path(),
    );
    assert_eq!(holder.hear(SOON), "writing");
    // Long enough for all that would reset a healthy host.
    std::thread::sleep(8 * N + F);
    assert_eq!(fake.with(Model::fired_at), None);
    let hung = Instant::now();
    mount.gate().set(Fault {
        target: Target::All,
        reads: true,
        writes: true,
        mode: Mode::Hold,
    });
    let after = fake.wait_for_reset(SOON + SOON).duration_since(hung);
    println!("reset {after:?} after the storage hung");
    // The last renewal may have started up to 2N before; not sooner than its loss.
    assert!(after >= 6 * N, "{after:?}");
    assert!(after <= 8 * N + F, "{after:?}");
    mount.gate().drop_held();
    drop(holder);
}

/// Takes the lock on `/disk/1`, and writes to the file "disk" in `dir` for ever. Its watchdog is what the file "device"
/// there says.
fn hold_and_write(dir: &Path) -> ! {
    let device = std::fs::read_to_string(dir.join("device")).unwrap();
    let watchdog = match device.trim() {
        "none" => Watchdog::None,
        path => Watchdog::Device(PathBuf::from(path)),
    };
    let lockspace = Lockspace::options(watchdog)
        .io_timeout(N)
        .fire_timeout(F)
        .host_name(HostName::new("holder").unwrap())
        .runtime_dir(std::env::temp_dir().join(format!("holder-{}", std::process::id())))
        .join(dir.join("__LIBVIRT__DISKS__"), host_id(2))
        .unwrap();
    let manager = PaxosManager::new(lockspace, LeaseDirectory::new(dir)).unwrap();
    let guard = manager.acquire(disks(&["/disk/1"])).unwrap();
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    let disk = OpenOptions::new()
        .write(true)
        .custom_flags(direct)
        .open(dir.join("disk"))
        .unwrap();
    let buffer = vec![7; 8192];
    let start = buffer.as_ptr().align_offset(4096);
    say("writing");
    loop {
        // It never asks its guard.
        let _ = disk.write_all_at(&buffer[start..start + 4096], 0);
        std::thread::sleep(Duration::from_millis(50));
        std::hint::black_box(&guard);
    }
}
