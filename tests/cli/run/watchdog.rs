//! Whatever ends a run, no watchdog is left that counts.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::place::{LIMIT, Place, Running};
use disklease_fixtures::watchdog_device::{Event, FakeWatchdog, Traits};

/// How far the run has come when it is sent a signal: so often its watchdog was opened.
const STEPS: [(&str, usize); 3] = [
    ("the watchdog is tried", 1),
    ("the watchdog is armed", 2),
    ("the command runs", usize::MAX),
];

const UNHEEDED: [Signal; 8] = [
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
    Signal::STKFLT,
];

fn opened(watchdog: &FakeWatchdog) -> usize {
    let events = watchdog.events().into_iter();
    events.filter(|event| *event == Event::Opened).count()
}

fn end_by(signal: Signal) {
    for (step, times) in STEPS {
        let place = Place::new();
        let watchdog = FakeWatchdog::new(place.path(), Traits::default());
        let device = watchdog.path().to_str().unwrap().to_owned();
        let script = "echo ready; exec sleep 300";
        let options = ["--fire-timeout", "10"];
        let mut run = place.of_host_with("run", 1, &device);
        let run = run.args(options).args(["--", "sh", "-c", script]);
        let running = Running::spawn(run);
        let began = Instant::now();
        if times == usize::MAX {
            assert_eq!(running.line(), "ready");
        }
        while times != usize::MAX && opened(&watchdog) < times {
            assert!(began.elapsed() < LIMIT, "{step}: not so");
            thread::sleep(Duration::from_micros(100));
        }
        // What ends a process by default, and is not passed on, ends none of ours.
        for other in UNHEEDED {
            running.send(other);
        }
        running.send(signal);
        if times != usize::MAX {
            // Whoever asks twice is refused, and does not leave it armed either.
            let _ = kill_process(running.pid(), signal);
        }
        let ended = running.ended();
        assert_eq!(ended.code, Some(128 + signal.as_raw()), "{step}: {ended:?}");
        watchdog.wait_for_stop();
        place.assert_free();
    }
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn no_signal_at_any_step_leaves_a_watchdog_armed() {
    thread::scope(|scope| {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
            scope.spawn(move || end_by(signal));
        }
    });
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_device_that_cannot_be_disabled_is_warned_of_when_it_is_stopped() {
    for (disables, said) in [(true, 0), (false, 2)] {
        let place = Place::new();
        let traits = Traits {
            disables,
            ..Traits::default()
        };
        let watchdog = FakeWatchdog::new(place.path(), traits);
        let device = watchdog.path().to_str().unwrap().to_owned();
        let mut run = place.of_host_with("run", 1, &device);
        let run = run.args(["--fire-timeout", "10", "--", "true"]);
        let ended = Running::spawn(run).ended();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // At the look, and when the disk is given back.
        let warned = ended.stderr.matches("cannot be disabled, only closed");
        assert_eq!(warned.count(), said, "{ended:?}");
        watchdog.wait_for_stop();
    }
}
