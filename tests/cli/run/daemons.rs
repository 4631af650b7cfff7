//! Commands that leave the process behind that they were started for.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::place::{LIMIT, Place, Running, ended_within, wait_until};

/// A command that ends at once and leaves a daemon behind, which says its number and waits for SIGTERM.
const DAEMON: &str = "setsid sh -c 'trap \"exit 5\" TERM; echo $$ > new; mv new pid; echo ready; \
    echo $$; while :; do sleep 0.05; done' & exit 0";

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn the_process_that_a_pid_file_names_is_followed_to_its_end() {
    for contain in ["pidns", "none"] {
        let place = Place::new();
        let options = ["--contain", contain, "--pid-file", "pid"];
        let running = place.start_with(1, &options, DAEMON);
        let daemon = running.processes(&running.line());
        let [_, guardian] = running.chain();
        wait_until("the command has ended", || {
            super::place::children(guardian) == daemon
        });
        std::thread::sleep(Duration::from_millis(500));
        place.assert_held_by(1);
        running.send(Signal::TERM);
        let ended = running.ended();
        assert_eq!(ended.code, Some(5), "{ended:?}");
        assert!(!ended.stderr.contains("left behind"), "{ended:?}");
        place.assert_free();
        // Its number may be another's by now.
        let ended = place.run(1, &options, &["true"]);
        ended.expect_failure(64, "exists already");
    }
}

/// A daemon forks twice as a rule, and the process in between ends at once, as the command does: just when
/// it is looked for.
#[test]
fn a_daemon_is_found_whose_parents_end_while_it_is_looked_for() {
    let one = |at: usize| {
        let place = Place::new();
        let (options, daemon, code): (&[_], _, _) = if at.is_multiple_of(2) {
            let daemon = "sh -c 'echo $$ > new; mv new pid; sleep 1; exit 5'";
            (&["--pid-file", "pid"], daemon, 5)
        } else {
            (&[], "sleep 300", 70)
        };
        let turns = at * 250;
        let in_between =
            format!("i=0; while [ $i -lt {turns} ]; do i=$((i+1)); done; {daemon} & exit 0");
        let script = format!("({in_between}) & exit 0");
        let options = [&["--contain", "none"], options].concat();
        let ended = place.run(1, &options, &["sh", "-c", &script]);
        assert_eq!(ended.code, Some(code), "{at}: {ended:?}");
        let is_told = ended.stderr.contains("was left behind");
        assert_eq!(is_told, code == 70, "{at}: {ended:?}");
        place.assert_free();
    };
    std::thread::scope(|scope| {
        for at in 0..16 {
            scope.spawn(move || one(at));
        }
    });
}

/// Who started it lives, and learns how it ended. Its number is written without an end of the line.
#[test]
fn the_end_of_a_daemon_that_its_own_parent_waits_for_counts_as_a_success() {
    let place = Place::new();
    let script = "setsid sh -c '(trap \"exit 5\" TERM; sh -c \"echo \\$PPID\" > new; \
        printf %s $(cat new) > pid; echo ready; cat new; while :; do sleep 0.05; done) & \
        wait; while :; do sleep 0.05; done' & exit 0";
    let running = place.start_with(1, &["--contain", "none", "--pid-file", "pid"], script);
    let daemon = running.processes(&running.line());
    std::thread::sleep(Duration::from_secs(3));
    place.assert_held_by(1);
    running.send(Signal::TERM);
    let ended = running.ended();
    let said = format!(
        "process {} has ended; how it did is known to its parent alone: it counts as a success",
        daemon[0]
    );
    assert!(ended.stderr.contains(&said), "{ended:?}");
    // The parent was left behind.
    assert_eq!(ended.code, Some(70), "{ended:?}");
    place.assert_free();
}

#[test]
fn a_pid_file_that_names_another_process_is_not_believed() {
    let place = Place::new();
    let number = std::process::id();
    let script = format!("echo {number} > pid; sleep 300 & echo ready; echo $!; exit 0");
    let options = ["--contain", "none", "--pid-file", "pid"];
    let running = place.start_with(1, &options, &script);
    let sleep = running.processes(&running.line());
    let ended = running.ended();
    assert_eq!(ended.code, Some(70), "{ended:?}");
    let said = format!("names {number}, which is no process of the command");
    assert!(ended.stderr.contains(&said), "{ended:?}");
    assert!(
        ended.stderr.contains("(sleep) was left behind"),
        "{ended:?}"
    );
    ended_within(Duration::ZERO, &sleep);
    place.assert_free();
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn the_last_process_below_a_command_is_followed() {
    for contain in ["pidns", "none"] {
        let place = Place::new();
        let script =
            "setsid sh -c 'while ! [ -e go ]; do sleep 0.05; done; echo done' & echo ready; exit 0";
        let running = place.start_with(1, &["--contain", contain, "--follow"], script);
        std::thread::sleep(Duration::from_secs(1));
        place.assert_held_by(1);
        fs::write(place.path().join("go"), "").unwrap();
        let ended = running.ended();
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(0), "done\n"),
            "{ended:?}"
        );
        place.assert_free();
    }
}

/// It may have closed what would show that it lives, and nobody is left who ends it for certain.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn the_next_run_after_one_that_may_have_left_anything_waits_unless_it_was_contained() {
    let pid_file = ["--pid-file", "pid"];
    for (contain, option, waits) in [
        ("none", &pid_file[..], true),
        ("auto", &["--follow"], false),
        ("pidns", &["--follow"], false),
        ("none", &[], true),
    ] {
        let place = Place::new();
        let options = [&["--contain", contain, "--fire-timeout", "4"], option].concat();
        let running = place.start_with(1, &options, "echo ready; exec sleep 300");
        let chain = running.chain();
        place.wait_for_renewal();
        running.send(Signal::KILL);
        running.ended();
        ended_within(LIMIT, &chain);
        let next = Running::spawn(&mut place.command(1, &options[..4], &["true"]));
        let said = next.message(" host id 1");
        let is_waited_for = said.contains("waiting to see whether it still lives");
        assert_eq!(is_waited_for, waits, "{contain} {option:?}: {said}");
    }
}
