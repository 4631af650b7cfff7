//! `disklease hold`: locks for a process that runs already.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::place::{LIMIT, Place, Running, children, ended_within, lives, wait_until};

/// Is held; killed when dropped.
pub(crate) struct Guest(Child);

impl Guest {
    pub(crate) fn start(script: &str) -> Self {
        let mut shell = Command::new("sh");
        Self(shell.args(["-c", script]).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Holds it as host `id`.
    pub(crate) fn hold(&self, place: &Place, options: &[&str]) -> Running {
        let mut command = place.of_host("hold", 1);
        command.args(["--fire-timeout", "4", "--pid", &self.0.id().to_string()]);
        let running = Running::spawn(command.args(options));
        running.message("is held");
        place.assert_held_by(1);
        running
    }

    /// How it was ended, which must be soon.
    pub(crate) fn end(&mut self) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < LIMIT, "it has not ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        disklease_fixtures::command::end(&mut self.0);
    }
}

const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.1; done";

#[test]
fn a_process_that_runs_already_is_held_to_its_end() {
    let place = Place::new();
    let mut guest = Guest::start("trap 'exit 3' TERM; while :; do sleep 0.1; done");
    let running = guest.hold(&place, &[]);
    let second = place.run(2, &["--fire-timeout", "4"], &["echo", "never"]);
    assert_eq!((second.code, &*second.stdout), (Some(75), ""), "{second:?}");
    running.send(Signal::TERM);
    assert_eq!(guest.end().code(), Some(3));
    let ended = running.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    place.assert_free();
}

#[test]
fn a_held_process_whose_locks_are_lost_is_killed_after_its_grace() {
    let place = Place::new();
    let guest = Guest::start(STUBBORN);
    let running = guest.hold(&place, &[]);
    let pid = guest.pid();
    let (ended, took) = place.lose(running);
    assert_eq!(ended.code, Some(137), "{ended:?}");
    assert!(ended.stderr.contains("THE LOCKS ARE LOST"), "{ended:?}");
    assert!(!lives(pid));
    assert!(took > Duration::from_secs(2), "{took:?}");
}

/// The next run of the host id would enter at once, were the lock of its earlier incarnation free.
#[test]
fn a_hold_that_is_killed_gives_nothing_to_the_next_run_while_its_process_lives() {
    let place = Place::new();
    let guest = Guest::start(STUBBORN);
    let running = guest.hold(&place, &[]);
    let pid = guest.pid();
    running.send(Signal::KILL);
    // Says when it has the disk, and whether the other lives then.
    let job = format!("kill -0 {pid} 2>&1 && echo both; exit 0");
    let options = ["--fire-timeout", "4", "--contain", "none"];
    let killed = Instant::now();
    // Reaped, or it would seem to live.
    let reaped = std::thread::spawn(move || {
        let mut guest = guest;
        guest.end();
        killed.elapsed()
    });
    let ended = place.run(1, &options, &["sh", "-c", &job]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("both"), "{ended:?}");
    let took = reaped.join().unwrap();
    println!("measured: the process was killed {took:?} after its hold");
    assert!(took < Duration::from_secs(14), "{took:?}");
}

/// Nobody is to end the process, and no warden keeps the process lock of its hold.
#[test]
fn a_hold_that_ends_nobody_is_waited_out_when_it_is_killed() {
    let place = Place::new();
    let guest = Guest::start(STUBBORN);
    let running = guest.hold(&place, &["--on-lock-failure", "ignore"]);
    assert!(children(running.pid()).is_empty(), "it has a warden");
    running.send(Signal::KILL);
    running.ended();
    let ended = place.run(1, &["--fire-timeout", "4"], &["true"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = "waiting to see whether it still lives";
    assert!(ended.stderr.contains(said), "{ended:?}");
    assert!(lives(guest.pid()));
}

#[test]
fn a_warden_keeps_the_process_lock_of_a_hold_that_was_killed_for_as_long_as_its_process_lives() {
    let place = Place::new();
    let guest = Guest::start(STUBBORN);
    let running = guest.hold(&place, &[]);
    let warden = children(running.pid())[0];
    running.send(Signal::KILL);
    wait_until("the hold has ended", || !lives(running.pid()));
    let open = fs::read_dir(format!("/proc/{warden}/fd")).unwrap();
    let mut open = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    assert!(
        open.any(|file| file.to_string_lossy().ends_with("-1.incarnation")),
        "it does not have it"
    );
    assert!(lives(guest.pid()));
    drop(guest);
    ended_within(LIMIT, &[warden]);
}

#[test]
fn a_hold_that_stands_still_does_not_keep_its_process_alive() {
    let place = Place::new();
    let mut guest = Guest::start(STUBBORN);
    let running = guest.hold(&place, &[]);
    running.send(Signal::STOP);
    let began = Instant::now();
    assert!(guest.end().code().is_none());
    let took = began.elapsed();
    // 8 s and 4 s after the last renewal others may have its disk.
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn a_warden_that_stands_still_is_woken_before_others_may_have_the_disk() {
    for is_hold_killed in [false, true] {
        let place = Place::new();
        let mut guest = Guest::start(STUBBORN);
        let running = guest.hold(&place, &[]);
        let warden = children(running.pid())[0];
        kill_process(warden, Signal::STOP).unwrap();
        let end = if is_hold_killed {
            Signal::KILL
        } else {
            Signal::STOP
        };
        running.send(end);
        let began = Instant::now();
        assert!(guest.end().code().is_none());
        let took = began.elapsed();
        println!("measured: the process had ended after {took:?}");
        assert!(took < Duration::from_secs(12), "{took:?}");
        drop(running);
        ended_within(LIMIT, &[warden]);
    }
}

#[test]
fn a_warden_that_is_killed_is_missed() {
    let place = Place::new();
    let guest = Guest::start(STUBBORN);
    let running = guest.hold(&place, &[]);
    let warden = children(running.pid())[0];
    kill_process(warden, Signal::KILL).unwrap();
    running.message("another one is started");
    let mut now = Vec::new();
    wait_until("another one is there", || {
        now = children(running.pid());
        now.len() == 1 && now[0] != warden
    });
    place.assert_held_by(1);
    assert!(lives(guest.pid()));
    drop(guest);
    assert_eq!(running.ended().code, Some(0));
    ended_within(Duration::from_secs(20), &now);
    place.assert_free();
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn what_cannot_be_held_is_refused() {
    let place = Place::new();
    let mut gone = Guest::start("exit 0");
    gone.end();
    let mut command = place.of_host("hold", 1);
    command.args(["--pid", &gone.0.id().to_string()]);
    let ended = Running::spawn(&mut command).ended();
    ended.expect_failure(64, "cannot be held");
    // A process of root's, by nobody.
    let guest = Guest::start("sleep 300");
    let mut command = place.of_host("hold", 1);
    command.args(["--pid", &guest.0.id().to_string()]);
    let mut reach = Command::new("test");
    reach
        .arg("-x")
        .arg(env!("CARGO_BIN_EXE_disklease"))
        .uid(65534);
    if !reach.status().unwrap().success() {
        println!("NOT TESTED: another user cannot reach the build directory");
        return;
    }
    let ended = Running::spawn(command.uid(65534).gid(65534)).ended();
    ended.expect_failure(69, "may not be sent signals");
}
