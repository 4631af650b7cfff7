//! Answers that are wrong, late, or no answers.

use std::time::Duration;

use disklease_fixtures::host::{scratch, timed};
use disklease_fixtures::wdmd::{Answer, Double, Kind, OLD, new};

use super::{Fault, HostWatchdog as _, in_secs, probe, refusal};

fn refused(kind: Kind, io: u64, fire: u64) -> Fault {
    let dir = scratch();
    let double = Double::start(&dir.path().join("sock"), kind);
    let (took, refused) = timed(|| refusal(double.path(), io, fire));
    assert!(took < Duration::from_secs(10), "{took:?}");
    refused
}

#[test]
fn another_fire_timeout_is_refused_with_both_numbers() {
    let numbers = |kind, fire| match refused(kind, 10, fire) {
        Fault::OtherFireTimeout { theirs, ours, .. } => (theirs.as_secs(), ours.as_secs()),
        error => panic!("{error}"),
    };
    assert_eq!(numbers(OLD, 30), (60, 30));
    assert_eq!(numbers(new(30, 5), 60), (30, 60));
    // Its device is open with what was asked for, and it says otherwise.
    let liar = Kind {
        fire_timeout: 61,
        ..new(60, 10)
    };
    assert_eq!(numbers(liar, 60), (61, 60));
    let hostile = Kind {
        fire_timeout: u32::MAX,
        ..OLD
    };
    assert_eq!(numbers(hostile, 60), (u64::from(u32::MAX), 60));
}

#[test]
fn a_wdmd_without_a_device_is_refused() {
    let kind = Kind {
        opens: Some(0),
        ..OLD
    };
    let error = refused(kind, 10, 60);
    assert!(matches!(error, Fault::NoDevice { .. }), "{error}");
}

#[test]
fn times_with_which_a_healthy_host_would_be_reset_are_refused_with_the_numbers() {
    let needed = |kind, io, fire| match refused(kind, io, fire) {
        Fault::IoTimeoutTooShort { needed, spare, .. } => {
            assert_eq!(spare.as_secs(), 6 * io);
            needed.as_secs()
        }
        error => panic!("{error}"),
    };
    assert_eq!([1, 2].map(|io| needed(OLD, io, 60)), [3, 3]);
    assert_eq!(needed(new(30, 5), 1, 30), 2);
    // It inspects its tests every second for as long as something fails, but goes by the other interval.
    assert_eq!(needed(new(60, 1), 2, 60), 3);
    assert_eq!(needed(new(60, 30), 5, 60), 6);
    assert_eq!(needed(new(60, u32::MAX), 255, 60), 255);
    let good = |kind, io, fire| {
        let dir = scratch();
        let double = Double::start(&dir.path().join("sock"), kind);
        probe(double.path(), io, fire).unwrap();
    };
    good(OLD, 3, 60);
    good(new(30, 5), 2, 30);
    good(new(10, 2), 1, 10);
}

#[test]
fn answers_that_are_none_are_errors_and_take_no_longer_than_they_may() {
    let answering = |answer| refused(Kind { answer, ..OLD }, 10, 60);
    let error = answering(Answer::Silence);
    assert!(matches!(error, Fault::Silent), "{error}");
    let error = answering(Answer::Trickle);
    assert!(matches!(error, Fault::Silent), "{error}");
    let error = answering(Answer::Half);
    assert!(matches!(error, Fault::Gone), "{error}");
    for command in [0, 1, 4, 6, 7, u32::MAX] {
        let error = answering(Answer::Nonsense(command));
        // As an answer of a newer one to the first question, 7 makes sense; then another is missing.
        let expected = match error {
            Fault::Nonsense { command: got, .. } => got == command,
            Fault::Silent => command == 7,
            _ => false,
        };
        assert!(expected, "{command}: {error}");
    }
    let nobody = scratch();
    let error = refusal(&nobody.path().join("sock"), 10, 60);
    assert!(matches!(error, Fault::Unreachable(_)), "{error}");
    let long = nobody.path().join("x".repeat(200));
    let error = refusal(&long, 10, 60);
    assert!(matches!(error, Fault::Unreachable(_)), "{error}");
}

#[test]
fn it_may_turn_wrong_later() {
    let dir = scratch();
    let double = Double::start(&dir.path().join("sock"), OLD);
    let mut wdmd = probe(double.path(), 10, 60).unwrap();
    double.answer(Answer::Nonsense(6));
    let error = wdmd.arm(in_secs(80)).unwrap_err();
    let error = error.kind();
    assert!(
        matches!(error, Fault::Nonsense { command: 6, .. }),
        "{error}"
    );
    double.answer(Answer::Silence);
    let (took, error) = timed(|| wdmd.arm(in_secs(80)).unwrap_err());
    let error = error.kind();
    assert!(matches!(error, Fault::Silent), "{error}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    double.answer(Answer::Well);
    wdmd.disarm().unwrap();
    wdmd.arm(in_secs(80)).unwrap();
    wdmd.disarm().unwrap();
}
