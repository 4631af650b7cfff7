//! A watchdog device of our own, against one that resets nobody: when it is opened, fed, stopped, and when it would
//! have reset the host.

use std::thread::sleep;
use std::time::{Duration, Instant};

use disklease_fixtures::host::{
    Child, SOON, child_role, say, scratch, wait_for_parent, wait_until,
};
use disklease_fixtures::watchdog_device::Event::{
    Disabled, Fed, Magic, Opened, SetTimeout, Stopped,
};
use disklease_fixtures::watchdog_device::{FakeWatchdog, Model, Traits};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::*;
use crate::fence::DeviceLack;
use crate::runtime::clock;
use crate::timing::{FireTimeout, IoTimeout};

fn timing(fire: u64) -> Timing {
    Timing::new(
        IoTimeout::MIN,
        FireTimeout::new(Duration::from_secs(fire)).unwrap(),
    )
}

fn refusal(path: &Path, fire: u64) -> WatchdogError {
    WatchdogDevice::probe(path, timing(fire)).unwrap_err()
}

/// The shortest F that goes: the device's own timeout is 3 s then, and it is fed until 4 s after the loss.
const F: u64 = 10;

fn in_secs(secs: u64) -> Timestamp {
    clock::now() + Duration::from_secs(secs)
}

#[test]
fn a_look_leaves_it_stopped_and_an_armed_one_is_fed_until_it_is_disarmed() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let mut watchdog = WatchdogDevice::probe(fake.path(), timing(F)).unwrap();
    fake.wait_for_stop();
    let probed = [Opened, SetTimeout(3), Magic, Disabled, Stopped];
    assert_eq!(fake.events(), probed);

    // Not armed: nothing is done.
    watchdog.extend(in_secs(8)).unwrap();
    watchdog.disarm().unwrap();
    assert_eq!(fake.events().len(), 5);

    watchdog.arm(in_secs(8)).unwrap();
    assert_eq!(fake.events()[5..8], [Opened, SetTimeout(3), Fed]);
    sleep(Duration::from_secs(5));
    watchdog.extend(in_secs(8)).unwrap();
    watchdog.disarm().unwrap();
    fake.wait_for_stop();
    let events = fake.events();
    assert_eq!(events[events.len() - 3..], [Magic, Disabled, Stopped]);
    let feedings = events.iter().filter(|&&event| event == Fed).count();
    assert!((3..=12).contains(&feedings), "every 0.75 s: {events:?}");
    assert_eq!(fake.with(Model::fired_at), None);

    // Once more.
    watchdog.arm(in_secs(8)).unwrap();
    watchdog.disarm().unwrap();
    fake.wait_for_stop();
}

#[test]
fn the_reset_comes_before_the_end_of_f_and_no_renewal_puts_it_off_too_long() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let mut watchdog = WatchdogDevice::probe(fake.path(), timing(F)).unwrap();
    watchdog.arm(in_secs(2)).unwrap();
    sleep(Duration::from_secs(1));
    let lost = Instant::now() + Duration::from_secs(2);
    watchdog.extend(in_secs(2)).unwrap();
    let fired = fake.wait_for_reset(Duration::from_secs(30));
    let after = fired.duration_since(lost);
    println!("reset {after:?} after the loss");
    // Fed until 4 s after it at the longest, every 0.75 s, and 3 s more.
    assert!(after > Duration::from_secs(4), "{after:?}");
    assert!(after < Duration::from_secs(F), "{after:?}");
    watchdog.disarm().unwrap();
}

#[test]
fn one_that_is_dropped_while_it_is_armed_resets_the_host_in_time() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let mut watchdog = WatchdogDevice::probe(fake.path(), timing(F)).unwrap();
    watchdog.arm(in_secs(1)).unwrap();
    let lost = Instant::now() + Duration::from_secs(1);
    drop(watchdog);
    let fired = fake.wait_for_reset(Duration::from_secs(30));
    assert!(fired < lost + Duration::from_secs(F));
}

#[test]
fn a_device_that_takes_nothing_is_told_of_and_so_is_its_return() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let mut watchdog = WatchdogDevice::probe(fake.path(), timing(F)).unwrap();
    watchdog.arm(in_secs(60)).unwrap();
    fake.with(|model| model.broken = true);
    wait_until("an error", SOON, || match watchdog.extend(in_secs(60)) {
        Ok(()) => None,
        Err(error) if matches!(error.kind(), Fault::NotFed(_)) => Some(error),
        Err(error) => panic!("{error}"),
    });
    fake.with(|model| model.broken = false);
    wait_until("its return", SOON, || watchdog.extend(in_secs(60)).ok());
    watchdog.disarm().unwrap();
    fake.wait_for_stop();
}

#[test]
fn devices_that_do_not_do_are_refused_and_left_stopped() {
    let refused = |traits: Traits, fire: u64| {
        let dir = scratch();
        let fake = FakeWatchdog::new(dir.path(), traits);
        let error = refusal(fake.path(), fire);
        fake.wait_for_stop();
        error
    };
    let lack = |traits| match refused(traits, F).kind() {
        Fault::Lacks(lack) => *lack,
        error => panic!("{error}"),
    };
    let good = Traits::default();
    let without = |magic_close, keepalive, settable| {
        lack(Traits {
            magic_close,
            keepalive,
            settable,
            ..good
        })
    };
    assert_eq!(without(false, true, true), DeviceLack::MagicClose);
    assert_eq!(without(true, false, true), DeviceLack::Keepalive);
    assert_eq!(without(true, true, false), DeviceLack::Timeout);
    // One that can only be stopped by its close is good enough.
    let dir = scratch();
    let traits = Traits {
        disables: false,
        ..good
    };
    let fake = FakeWatchdog::new(dir.path(), traits);
    let mut watchdog = WatchdogDevice::probe(fake.path(), timing(F)).unwrap();
    watchdog.arm(in_secs(8)).unwrap();
    watchdog.disarm().unwrap();
    fake.wait_for_stop();
    drop((watchdog, fake));

    let short = refused(Traits { longest: 2, ..good }, F);
    assert!(
        short.to_string().contains("(\"Fake Watchdog\") has"),
        "{short}"
    );
    let [asked, got, at_least, at_most] = [3, 2, 3, 5].map(Duration::from_secs);
    let expected = Fault::OtherTimeout {
        asked,
        got,
        at_least,
        at_most,
    };
    assert_eq!(*short.kind(), expected);

    let coarse = refused(good, 9);
    assert!(
        matches!(coarse.kind(), Fault::FireTimeoutTooShort { .. }),
        "{coarse}"
    );
}

#[test]
fn a_device_with_a_shorter_longest_timeout_is_fed_for_longer() {
    let dir = scratch();
    let traits = Traits {
        longest: 4,
        ..Traits::default()
    };
    let fake = FakeWatchdog::new(dir.path(), traits);
    let mut watchdog = WatchdogDevice::probe(fake.path(), timing(14)).unwrap();
    watchdog.arm(in_secs(0)).unwrap();
    let lost = Instant::now();
    let after = fake
        .wait_for_reset(Duration::from_secs(30))
        .duration_since(lost);
    // Fed for 14 - 2 * 4 s, and 3 to 4 s more.
    assert!(after > Duration::from_secs(6), "{after:?}");
    assert!(after < Duration::from_secs(14), "{after:?}");
    watchdog.disarm().unwrap();
}

#[test]
fn what_is_in_use_or_no_watchdog_is_said_to_be() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let mut first = WatchdogDevice::probe(fake.path(), timing(F)).unwrap();
    fake.wait_for_stop();
    first.arm(in_secs(30)).unwrap();
    let error = refusal(fake.path(), F);
    let error = error.kind();
    assert!(matches!(error, Fault::Busy), "{error}");
    first.disarm().unwrap();

    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = refusal(&file, F);
    let error = error.kind();
    assert!(matches!(error, Fault::NotAWatchdog(_)), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let error = refusal("/dev/null".as_ref(), F);
    let error = error.kind();
    assert!(matches!(error, Fault::NotAWatchdog(_)), "{error}");
    let error = refusal(&dir.path().join("none"), F);
    let error = error.kind();
    assert!(matches!(error, Fault::Unusable(_)), "{error}");
}

/// A child's side; does nothing in the test run itself.
#[test]
fn entry_that_forks() {
    let Some((path, _)) = child_role() else {
        return;
    };
    let mut watchdog = WatchdogDevice::probe(path.as_ref(), timing(F)).unwrap();
    watchdog.arm(in_secs(8)).unwrap();
    // SAFETY: the child sleeps until it is killed or the time is up, and calls nothing else.
    #[allow(unsafe_code)]
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            libc::sleep(60);
            libc::_exit(0)
        };
    }
    watchdog.disarm().unwrap();
    say("disarmed");
    wait_for_parent();
    let child = Pid::from_raw(forked).unwrap();
    kill_process(child, Signal::KILL).unwrap();
    wait_until("the end of the child", SOON, || {
        waitpid(Some(child), WaitOptions::NOHANG).unwrap()
    });
}

/// A forked child has all descriptors of its parent: the device is closed when that has ended too.
#[test]
fn a_device_is_stopped_though_a_forked_child_has_it_open() {
    let dir = scratch();
    let fake = FakeWatchdog::new(dir.path(), Traits::default());
    let path = fake.path().to_str().unwrap();
    let mut user = Child::start(
        "fence::watchdog_device::tests::entry_that_forks",
        path,
        dir.path(),
    );
    assert_eq!(user.hear(SOON), "disarmed");
    let is_stopped = fake.with(|model| model.is_open() && !model.is_counting());
    assert!(user.ended_well());
    assert!(is_stopped, "{:?}", fake.events());
    fake.wait_for_stop();
    assert_eq!(fake.with(Model::fired_at), None);
}

/// A child's side; does nothing in the test run itself.
#[test]
fn entry() {
    let Some((_, dir)) = child_role() else {
        return;
    };
    // In a mount namespace of its own this process sees what the kernel is made to say of a device that does nothing.
    let script = std::fs::read_to_string(dir.join("sysfs")).unwrap();
    let words: Vec<&str> = script.split_whitespace().collect();
    let [name, value] = words[..] else {
        panic!("{script}");
    };
    let none = std::ptr::null();
    let private = libc::MS_PRIVATE | libc::MS_REC;
    // SAFETY: the paths are texts with an end, and what is null may be.
    #[allow(unsafe_code)]
    let done = unsafe {
        [
            libc::unshare(libc::CLONE_NEWNS),
            libc::mount(none, c"/".as_ptr(), none, private, none.cast()),
            libc::mount(
                none,
                c"/sys/dev/char".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                none.cast(),
            ),
        ]
    };
    assert_eq!(done, [0; 3]);
    let null = Path::new("/sys/dev/char/1:3");
    std::fs::create_dir(null).unwrap();
    std::fs::write(null.join(name), format!("{value}\n")).unwrap();
    std::fs::write(null.join("identity"), "Made up\n").unwrap();
    let probed = WatchdogDevice::probe("/dev/null".as_ref(), timing(F));
    say(&format!("{:?}", probed.unwrap_err()));
}

/// To open one that cannot be stopped, or counts already, would reset the host or keep it from being reset.
#[test]
fn what_the_kernel_tells_of_a_device_is_asked_before_it_is_opened() {
    let said = |sysfs: &str| {
        let dir = scratch();
        std::fs::write(dir.path().join("sysfs"), sysfs).unwrap();
        Child::start("fence::watchdog_device::tests::entry", "sysfs", dir.path()).hear(SOON)
    };
    let is = |sysfs, parts: &[&str]| {
        let said = said(sysfs);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    };
    is("nowayout 1", &["Lacks(Stop)", "Made up"]);
    is("nowayout 0", &["NotAWatchdog"]);
    is("state active", &["CountsAlready", "Made up"]);
    is("state inactive", &["NotAWatchdog"]);
}
