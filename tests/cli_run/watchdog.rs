//! Whatever ends a run, no watchdog is left that counts.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::fake_watchdog::{Event, FakeWatchdog, Traits};
use super::place::{LIMIT, Place, Running};

/// How far the run has come when it is sent a signal: so often its watchdog was opened.
const STEPS: [(&str, usize); 3] = [
    ("the watchdog is tried", 1),
    ("the watchdog is armed", 2),
    ("the command runs", usize::MAX),
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
        running.send(signal);
        let ended = running.ended();
        assert_eq!(ended.code, Some(128 + signal.as_raw()), "{step}: {ended:?}");
        watchdog.wait_for_stop();
        place.assert_free();
    }
}

#[test]
fn no_signal_at_any_step_leaves_a_watchdog_armed() {
    thread::scope(|scope| {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
            scope.spawn(move || end_by(signal));
        }
    });
}
