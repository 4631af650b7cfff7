//! Lost locks.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::place::{Place, Running, ended_within};
use disklease_fixtures::fuse_storage::Mount;

#[test]
fn a_command_whose_locks_are_lost_is_told_to_end() {
    let place = Place::new();
    let running = place.start(
        1,
        "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.1; done",
    );
    let (ended, took) = place.lose(running);
    assert!(took < Duration::from_secs(30));
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(4), "told\n"),
        "{ended:?}"
    );
    let said = "disklease: THE LOCKS ARE LOST: ";
    assert!(ended.stderr.contains(said), "{ended:?}");
    assert!(ended.stderr.contains("was sent SIGTERM"), "{ended:?}");
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn a_command_that_does_not_end_is_killed_after_the_grace() {
    for contain in ["pidns", "none"] {
        let place = Place::new();
        let stubborn = "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done";
        let options = ["--fire-timeout", "4", "--contain", contain];
        let (ended, took) = place.lose(place.start_with(1, &options, stubborn));
        assert_eq!((ended.code, &*ended.stdout), (Some(128 + 9), "told\n"));
        let said = "killed at the end of its grace";
        assert!(ended.stderr.contains(said), "{ended:?}");
        // The loss is found by the next renewal, and the grace is two seconds.
        assert!(
            took > Duration::from_secs(2) && took < Duration::from_secs(30),
            "{took:?}"
        );
    }
}

/// A directory that shows another one. Unmounted when dropped.
struct Bound(PathBuf);

impl Bound {
    fn new(what: &Path, at: &Path) -> Self {
        let bound = Command::new("mount")
            .arg("--bind")
            .args([what, at])
            .status();
        assert!(bound.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// As a share that is mounted anew by another way: that it is the same file cannot be seen.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn leases_over_which_another_device_is_mounted_are_lost() {
    let place = Place::new();
    let script = "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.1; done";
    let running = place.start(1, script);
    let mount = Mount::new(&place.leases(), &place.path().join("seen"), |_| {});
    // By another mount of the same device it is known to be the same.
    let _same = Bound::new(&place.leases(), &place.leases());
    thread::sleep(Duration::from_secs(4));
    place.assert_held_by(1);
    let _other = Bound::new(mount.path(), &place.leases());
    let ended = running.ended();
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(4), "told\n"),
        "{ended:?}"
    );
    let said = "THE LOCKS ARE LOST: the lockspace";
    assert!(ended.stderr.contains(said), "{ended:?}");
}

/// A run that hangs where nothing can end it, as a zombie whose last thread is in the kernel does,
/// looks like one that is stopped: nothing tells its keeper of renewals any more.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn without_news_of_renewals_the_keeper_ends_the_command() {
    thread::scope(|scope| {
        for contain in ["pidns", "none"] {
            for are_stopped in [false, true] {
                scope.spawn(move || without_news(contain, are_stopped));
            }
        }
    });
}

/// `are_stopped`: keeper and guardian are, too.
fn without_news(contain: &str, are_stopped: bool) {
    let place = Place::new();
    let script = format!("trap '' TERM; {}", super::place::FAMILY);
    let options = ["--fire-timeout", "4", "--contain", contain];
    let running = place.start_with(1, &options, &script);
    let mut family = running.processes(&running.line());
    let chain = running.chain();
    family.extend(chain);
    running.send(Signal::STOP);
    for process in chain.into_iter().filter(|_| are_stopped) {
        kill_process(process, Signal::STOP).unwrap();
    }
    // Its locks may be taken 8 s and 4 s after its last renewal, and a margin later.
    let took = ended_within(Duration::from_secs(12), &family);
    println!("measured: {contain} {are_stopped}: all had ended {took:?} after the run was stopped");
    assert!(took > Duration::from_secs(5), "{took:?}");
}

/// A terminal that was stopped, or a pipe that nobody reads, keeps no lock from being renewed.
#[test]
fn messages_that_nobody_reads_do_not_hold_up_renewals() {
    let place = Place::new();
    let (unread, stderr) = std::io::pipe().unwrap();
    // What is left behind and killed is named, too, and that is not waited for.
    let script = "echo ready; sleep 14; echo still here; exec >/dev/null 2>&1; sleep 300 & exit 0";
    // By another way to the same pipe: that it does not wait is for this alone.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&stderr);
    let mut full = fs::OpenOptions::new()
        .write(true)
        .custom_flags(nonblocking)
        .open(format!("/proc/self/fd/{fd}"))
        .unwrap();
    let mut run = place.command(1, &["--fire-timeout", "4"], &["sh", "-c", script]);
    run.env("DISKLEASE_LOG", "trace");
    let child = run
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    drop(run);
    for len in [4096, 1] {
        while std::io::Write::write(&mut full, &vec![b'x'; len]).is_ok() {}
    }
    let running = Running::of(child);
    assert_eq!(running.line(), "ready");
    assert_eq!(running.line(), "still here");
    assert_eq!(running.ended().code, Some(70));
    drop(unread);
    place.assert_free();
}

#[test]
fn a_program_can_be_run_when_locks_are_lost_and_a_loss_can_be_ignored() {
    let place = Place::new();
    let helped = place.path().join("helped");
    let program = place.path().join("helper");
    let text = format!("#!/bin/sh\necho \"$@\" > {}\n", helped.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!(
        "trap 'echo told' TERM; echo ready; while ! [ -s {} ]; do sleep 0.05; done; exit 7",
        helped.display()
    );
    let program = program.to_str().unwrap();
    let options = [
        "--on-lock-failure",
        program,
        "--helper-arg",
        "-x",
        "--helper-arg",
        "y z",
    ];
    let (ended, _) = place.lose(place.start_with(1, &options, &script));
    assert_eq!((ended.code, &*ended.stdout), (Some(7), ""));
    assert_eq!(fs::read_to_string(&helped).unwrap(), "-x y z\n");

    let place = Place::new();
    let script = "trap 'echo told' TERM; echo ready; sleep 8; exit 6";
    let options = ["--fire-timeout", "4", "--on-lock-failure", "ignore"];
    let (ended, _) = place.lose(place.start_with(1, &options, script));
    assert_eq!((ended.code, &*ended.stdout), (Some(6), ""));

    for (bad, said) in [
        ("pause", "poweroff, ignore"),
        ("/no/such/helper", "No such file"),
    ] {
        let ended = place.run(2, &["--on-lock-failure", bad], &["true"]);
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
}
