//! What is said when, to either generation.

use std::time::Duration;

use disklease_fixtures::host::{SOON, scratch, timed, wait_until};
use disklease_fixtures::wdmd::{Answer, Double, Kind, OLD, new};

use super::{Fault, HostWatchdog as _, clock, in_secs, probe};

const PROBE: [&str; 4] = ["connected", "open 60?", "status?", "closed"];
const BEGIN: [&str; 7] = [
    "connected",
    "open 60?",
    "status?",
    "register disklease_test:7",
    "refcount set",
    "live",
    "status?",
];
const EXTEND: [&str; 2] = ["live", "status?"];
const END: [&str; 4] = ["stood down", "refcount clear", "status?", "closed"];

#[test]
fn each_message_in_its_place() {
    for kind in [OLD, new(60, 10)] {
        let dir = scratch();
        let double = Double::start(&dir.path().join("sock"), kind);
        let mut wdmd = probe(double.path(), 10, 60).unwrap();
        assert_eq!(double.heard(1), PROBE);
        // Without holders nothing is connected.
        wdmd.extend(in_secs(80)).unwrap();
        wdmd.disarm().unwrap();
        wdmd.arm(in_secs(80)).unwrap();
        wdmd.extend(in_secs(80)).unwrap();
        // Once more, for a second guard.
        wdmd.arm(in_secs(80)).unwrap();
        wdmd.extend(in_secs(80)).unwrap();
        wdmd.disarm().unwrap();
        wdmd.disarm().unwrap();
        let course = [&PROBE[..], &BEGIN, &EXTEND, &EXTEND, &EXTEND, &END].concat();
        assert_eq!(double.heard(2), course);
        wdmd.arm(in_secs(80)).unwrap();
        wdmd.disarm().unwrap();
        assert_eq!(double.heard(3), [&course[..], &BEGIN, &END].concat());
    }
}

#[test]
fn the_times_are_whole_seconds_of_the_monotonic_clock_and_never_late() {
    let dir = scratch();
    let double = Double::start(&dir.path().join("sock"), OLD);
    let mut wdmd = probe(double.path(), 10, 60).unwrap();
    let before = clock::monotonic_secs();
    wdmd.arm(in_secs(80)).unwrap();
    wdmd.extend(in_secs(75)).unwrap();
    // Lost 20 s ago, and somebody still holds: notified again, the watchdog gives up at once.
    wdmd.extend(clock::now()).unwrap();
    wdmd.disarm().unwrap();
    let after = clock::monotonic_secs();
    let live: Vec<_> = double.messages();
    let live: Vec<_> = live.iter().filter(|message| message.command == 4).collect();
    for (message, secs) in live.iter().zip([80, 75, 0]) {
        let expire = message.expire_time;
        assert!(
            expire >= before + secs && expire <= after + secs,
            "{message:?}"
        );
        assert_eq!(message.renewal_time, expire - 80);
    }
    assert_eq!((live[3].renewal_time, live[3].expire_time), (0, 0));
}

#[test]
fn a_wdmd_that_vanishes_is_told_of_and_found_again() {
    let dir = scratch();
    let path = dir.path().join("sock");
    let double = Double::start(&path, OLD);
    let mut wdmd = probe(&path, 10, 60).unwrap();
    wdmd.arm(in_secs(80)).unwrap();
    drop(double);
    let gone = wait_until("the end of the connection", SOON, || {
        wdmd.extend(in_secs(80)).err()
    });
    assert!(matches!(gone.kind(), Fault::Gone), "{gone}");
    for _ in 0..3 {
        let error = wdmd.extend(in_secs(80)).unwrap_err();
        let error = error.kind();
        assert!(matches!(error, Fault::Unreachable(_)), "{error}");
    }
    let double = Double::start(&path, OLD);
    wdmd.extend(in_secs(80)).unwrap();
    wdmd.extend(in_secs(80)).unwrap();
    wdmd.disarm().unwrap();
    assert_eq!(double.heard(1), [&BEGIN[..], &EXTEND, &END].concat());

    // One that went while nobody held anything does no harm.
    wdmd.arm(in_secs(80)).unwrap();
    wdmd.disarm().unwrap();
    drop(double);
    wdmd.extend(in_secs(80)).unwrap();
    let error = wdmd.arm(in_secs(80)).unwrap_err();
    let error = error.kind();
    assert!(matches!(error, Fault::Unreachable(_)), "{error}");
    wdmd.disarm().unwrap();
    // And where it goes while it watches, there is nobody to be stood down.
    let double = Double::start(&path, OLD);
    wdmd.arm(in_secs(80)).unwrap();
    drop(double);
    let error = wdmd.disarm().unwrap_err();
    let error = error.kind();
    assert!(matches!(error, Fault::Gone), "{error}");
    wdmd.disarm().unwrap();
}

#[test]
fn a_wdmd_that_hangs_delays_no_renewal_and_is_told_of() {
    let dir = scratch();
    let double = Double::start(&dir.path().join("sock"), OLD);
    let mut wdmd = probe(double.path(), 10, 60).unwrap();
    wdmd.arm(in_secs(80)).unwrap();
    // Its thread may be in the middle of a read: it may answer once more.
    double.answer(Answer::Hang);
    wdmd.extend(in_secs(80)).unwrap();
    wait_until("an answer that does not come", SOON, || {
        match wdmd.extend(in_secs(80)) {
            Ok(()) => None,
            Err(error) if *error.kind() == Fault::Silent => Some(()),
            Err(error) => panic!("{error}"),
        }
    });
    // Far more than the socket takes.
    let (took, ()) = timed(|| {
        for _ in 0..5_000 {
            let error = wdmd.extend(in_secs(80)).unwrap_err();
            let error = error.kind();
            assert!(matches!(error, Fault::Silent), "{error}");
        }
    });
    println!("5,000 extensions of one that hangs: {took:?}");
    assert!(took < SOON, "{took:?}");
    let (took, error) = timed(|| wdmd.disarm().unwrap_err());
    let error = error.kind();
    assert!(matches!(error, Fault::Silent), "{error}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    // What it was notified of is kept, and can be waited for.
    double.answer(Answer::Well);
    wdmd.disarm().unwrap();
    let heard = double.heard(2);
    assert_eq!(heard[heard.len() - 4..], END);
}

#[test]
fn after_a_hang_the_protection_comes_back() {
    let dir = scratch();
    let double = Double::start(&dir.path().join("sock"), OLD);
    let mut wdmd = probe(double.path(), 10, 60).unwrap();
    wdmd.arm(in_secs(80)).unwrap();
    double.answer(Answer::Hang);
    for _ in 0..4 {
        let _ = wdmd.extend(in_secs(80));
    }
    double.answer(Answer::Well);
    wait_until("an extension", SOON, || wdmd.extend(in_secs(80)).ok());
    wdmd.disarm().unwrap();
}

/// Two kinds that differ in nothing but what they are asked for.
#[test]
fn the_device_is_opened_with_the_fire_timeout_of_the_lockspace() {
    let dir = scratch();
    let kind = Kind {
        fire_timeout: 30,
        ..new(30, 5)
    };
    let double = Double::start(&dir.path().join("sock"), kind);
    let mut wdmd = probe(double.path(), 2, 30).unwrap();
    wdmd.arm(in_secs(16)).unwrap();
    wdmd.disarm().unwrap();
    let opened = double
        .messages()
        .into_iter()
        .filter(|message| message.command == 7);
    assert_eq!(
        opened
            .map(|message| message.fire_timeout)
            .collect::<Vec<_>>(),
        [30, 30]
    );
}
