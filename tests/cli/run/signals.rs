//! Signals: the command's while it runs, the end of the run before.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process, kill_process_group};

use super::place::{DEFAULT_SIGNALS, Place, Running, lives, wait_until};
use disklease_fixtures::command::Ended;

#[test]
fn signals_are_the_commands() {
    let place = Place::new();
    let go = place.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
    ] {
        let script = format!(
            "trap 'echo got {name}; {wait}; exit 3' {name}; echo ready; while :; do sleep 0.1; done"
        );
        let running = place.start(1, &script);
        running.send(signal);
        assert_eq!(running.line(), format!("got {name}"));
        // The command takes its time, and keeps its disk for it.
        place.assert_held_by(1);
        fs::write(&go, "").unwrap();
        let ended = running.ended();
        assert_eq!((ended.code, &*ended.stdout), (Some(3), ""), "{ended:?}");
        place.assert_free();
        fs::remove_file(&go).unwrap();
    }
    let running = place.start(1, "echo ready; exec sleep 300");
    running.send(Signal::TERM);
    assert_eq!(running.ended().code, Some(128 + 15));
    place.assert_free();
}

/// Locked before the disk that all runs of these tests have.
const FIRST: [&str; 2] = ["/srv/disk-16", "/srv/disk-19"];

/// Neither host ids nor disks stay taken: others have them at once, long before anything expires.
#[test]
fn a_signal_before_the_command_starts_gives_back_what_was_taken() {
    let place = Place::new();
    let holder = place.start(1, "echo ready; exec sleep 300");
    // The first disk is locked while the second is waited for.
    let mut command = place.command(
        2,
        &["--wait", "60", "--disk", FIRST[0], "--disk", FIRST[1]],
        &["echo", "never"],
    );
    let options = ["--wait", "0"];
    let waits = Running::spawn(&mut command);
    wait_until("the other disks are locked", || {
        place.status()["held"].as_array().unwrap().len() == 3
    });
    let joins = Running::spawn(&mut place.command(3, &options, &["echo", "never"]));
    joins.message("claiming host id 3");
    let began = Instant::now();
    for running in [&joins, &waits] {
        running.send(Signal::INT);
    }
    for running in [joins, waits] {
        let ended = running.ended();
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(128 + 2), ""),
            "{ended:?}"
        );
        let said = "SIGINT: ended before the command was started";
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
    let took = began.elapsed();
    println!("measured: given back {took:?} after the signal");
    assert!(took < Duration::from_secs(20), "{took:?}");
    let status = place.status();
    assert_eq!(status["held"].as_array().unwrap().len(), 1, "{status}");
    for host in &status["hosts"].as_array().unwrap()[1..] {
        assert_eq!(host["state"], "free", "{status}");
    }
    // The time of one that was killed is waited for by another loop.
    holder.send(Signal::KILL);
    let waits = Running::spawn(&mut place.command(2, &["--wait", "60"], &["echo", "never"]));
    waits.message("claiming host id 2");
    thread::sleep(Duration::from_secs(4));
    let began = Instant::now();
    waits.send(Signal::TERM);
    let ended = waits.ended();
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(128 + 15), ""),
        "{ended:?}"
    );
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(place.status()["hosts"][1]["state"], "free");
}

#[test]
fn what_is_sent_to_the_whole_group_ends_the_command_alone() {
    let place = Place::new();
    let script =
        "trap 'echo got it' USR1; echo ready; while ! [ -e go ]; do sleep 0.05; done; exit 4";
    let mut command = place.command(1, &[], &["sh", "-c", script]);
    let running = Running::spawn(command.process_group(0));
    assert_eq!(running.line(), "ready");
    let chain = running.chain();
    let sent = [Signal::USR1, Signal::ALARM, Signal::WINCH, Signal::VTALARM];
    // The command itself would be ended by some of these.
    for process in chain {
        for signal in sent {
            kill_process(process, signal).unwrap();
        }
    }
    for signal in sent {
        running.send(signal);
    }
    kill_process_group(running.pid(), Signal::USR1).unwrap();
    assert_eq!(running.line(), "got it");
    thread::sleep(Duration::from_millis(200));
    assert!(chain.into_iter().all(lives));
    fs::write(place.path().join("go"), "").unwrap();
    let ended = running.ended();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    place.assert_free();
}

/// As if none of ours stood in between.
#[test]
fn the_command_has_the_signals_that_the_run_was_given() {
    let place = Place::new();
    let show = "grep -E 'Sig(Blk|Ign)' /proc/self/status";
    let mut direct = Command::new("env");
    let direct = direct.args([DEFAULT_SIGNALS, "sh", "-c", show]);
    let direct = Running::spawn(direct).ended();
    let ended = place.run(1, &[], &["sh", "-c", show]);
    assert_eq!(seen(&ended), seen(&direct), "{ended:?}");
    // `nohup` and shells have some ignored.
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP USR1; exec \"$@\"", "sh"]);
    let run = place.command(1, &[], &["sh", "-c", show]);
    let after_env = |arg: &&OsStr| *arg != DEFAULT_SIGNALS;
    nohup.args(run.get_args().skip_while(after_env).skip(1));
    let ended = Running::spawn(&mut nohup).ended();
    assert_eq!(seen(&ended)[1] & 0x201, 0x201, "{ended:?}");
}

/// The masks that were shown, but for two signals that are the C library's own.
fn seen(ended: &Ended) -> Vec<u64> {
    let masks = ended
        .stdout
        .lines()
        .map(|line| line.split_once(':').unwrap().1);
    let masks = masks.map(|mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    masks.map(|mask| mask & !(3 << 31)).collect()
}
