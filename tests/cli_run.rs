//! `disklease run`: a command that runs only while its disks are locked.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the hosts are real processes in real time"
)]

mod cli;
mod storage;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cli::{Ended, command, run, scratch};
use disklease::LeaseDirectory;
use disklease::libvirt::LOCKSPACE_NAME;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const DISK: &str = "/dev/disk/by-id/guest-1";

/// A lease directory, and a directory for the life locks of its one machine.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(scratch());
        let leases = LeaseDirectory::new(place.leases());
        leases.create_lockspace(Duration::from_secs(1)).unwrap();
        place
    }

    fn leases(&self) -> PathBuf {
        self.0.path().join("leases")
    }

    /// Runs `job` as host `id`, with more options before it.
    fn command(&self, id: u64, options: &[&str], job: &[&str]) -> Command {
        let mut command = command(&["run", "--io-timeout", "1", "--watchdog", "none"]);
        command
            .args(["--host-id", &id.to_string(), "--host-name"])
            .arg(format!("host{id}"))
            .arg("--lease-dir")
            .arg(self.leases())
            .arg("--runtime-dir")
            .arg(self.0.path().join("run"))
            .args(["--disk", DISK])
            .args(options)
            .arg("--")
            .args(job);
        command
    }

    fn run(&self, id: u64, options: &[&str], job: &[&str]) -> Ended {
        Ended::of(self.command(id, options, job).output().unwrap())
    }

    /// Runs a shell script that prints a line as soon as it is ready, and waits for that line.
    fn start(&self, id: u64, script: &str) -> Running {
        let mut command = self.command(id, &["--guest", "web"], &["sh", "-c", script]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut running = Running { child, stdout };
        assert_eq!(running.line(), "ready\n");
        running
    }

    fn status(&self) -> Value {
        let dir = self.leases();
        let args = ["status", "--json", "--no-wait", "--lease-dir"];
        run(&[&args[..], &[dir.to_str().unwrap()]].concat()).json()
    }

    /// Everything was given back, and the host id too.
    fn assert_free(&self) {
        let status = self.status();
        assert_eq!(status["held"], serde_json::json!([]));
        for host in status["hosts"].as_array().unwrap() {
            assert_eq!(host["state"], "free");
        }
    }
}

struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The next line that its command prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Its exit code, the rest of what its command printed, and its messages.
    fn end(mut self) -> (Option<i32>, String, String) {
        let printed = std::io::read_to_string(&mut self.stdout).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let messages = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), printed, messages)
    }
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let place = Place::new();
    let ended = place.run(1, &[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(ended.code, Some(7));
    assert_eq!(ended.stdout, "out\n");
    assert!(ended.stderr.contains("err\n"), "{ended:?}");
    let progress = "disklease: claiming host id 1, ";
    assert_eq!(ended.stderr.matches(progress).count(), 1, "{ended:?}");
    place.assert_free();
    let ended = place.run(1, &[], &["sh", "-c", "kill -KILL $$"]);
    assert_eq!(ended.code, Some(128 + 9), "{ended:?}");
    let ended = place.run(1, &[], &["no-such-command"]);
    assert_eq!(ended.code, Some(127), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("disklease: no-such-command cannot be started")
    );
    let ended = place.run(1, &[], &["/"]);
    assert_eq!(ended.code, Some(126), "{ended:?}");
    place.assert_free();
}

#[test]
fn a_held_disk_is_refused_with_its_holder_or_waited_for() {
    let place = Place::new();
    let holder = place.start(1, "echo ready; exec sleep 300");
    let second = place.run(2, &[], &["echo", "never"]);
    second_is_refused(&second);
    let hosts = place.status()["hosts"].clone();
    assert_eq!(hosts[1]["host_id"], 2, "{hosts}");
    assert_eq!(hosts[1]["state"], "free", "it has left again: {hosts}");
    let waiter = place
        .command(2, &["--wait", "40"], &["echo", "mine"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // So that it has joined and waits for the disk.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(place.status()["held"][0]["host_id"], 1);
    holder.send(Signal::TERM);
    assert_eq!(holder.end().0, Some(128 + 15));
    let ended = Ended::of(waiter.wait_with_output().unwrap());
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(0), "mine\n"),
        "{ended:?}"
    );
    place.assert_free();
}

fn second_is_refused(ended: &Ended) {
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert_eq!(ended.stdout, "");
    let refusal = ended.stderr.lines().last().unwrap();
    for part in [
        "disklease: ",
        DISK,
        "is held by host 1 \"host1\" (generation 1)",
        "guest \"web\"",
    ] {
        assert!(refusal.contains(part), "{part:?} is not in {refusal:?}");
    }
}

#[test]
fn signals_are_the_commands() {
    let place = Place::new();
    let go = place.0.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
    for (signal, name, code) in [(Signal::TERM, "TERM", 3), (Signal::INT, "INT", 3)] {
        let script = format!(
            "trap 'echo got {name}; {wait}; exit 3' {name}; echo ready; while :; do sleep 0.1; done"
        );
        let mut running = place.start(1, &script);
        running.send(signal);
        assert_eq!(running.line(), format!("got {name}\n"));
        // The command takes its time, and keeps its disk for it.
        assert_eq!(place.status()["held"][0]["host_id"], 1);
        fs::write(&go, "").unwrap();
        let (ended, printed, _) = running.end();
        assert_eq!((ended, &*printed), (Some(code), ""));
        place.assert_free();
        fs::remove_file(&go).unwrap();
    }
    let running = place.start(1, "echo ready; exec sleep 300");
    running.send(Signal::TERM);
    assert_eq!(running.end().0, Some(128 + 15));
    place.assert_free();
}

#[test]
fn a_signal_before_the_command_starts_ends_the_run() {
    let place = Place::new();
    let holder = place.start(1, "echo ready; exec sleep 300");
    // A host begins to join, which takes two seconds and more, and then waits for the disk.
    for (id, wait) in [(2, 5), (3, 0)] {
        let mut command = place.command(id, &["--wait", "60"], &["echo", "never"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains(&format!("claiming host id {id}")), "{said}");
        thread::sleep(Duration::from_secs(wait));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let said = std::io::read_to_string(&mut stderr).unwrap();
        let ended = Ended::of(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(128 + 2), "{ended:?}: {said}");
        assert_eq!(ended.stdout, "");
        assert!(said.contains("SIGINT: ended before the command"), "{said}");
    }
    holder.send(Signal::TERM);
    holder.end();
    // Whatever the ended runs left behind, a host that had joined by then gets the disk.
    let ended = place.run(2, &["--wait", "20"], &["echo", "mine"]);
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(0), "mine\n"),
        "{ended:?}"
    );
}

#[test]
fn a_command_whose_locks_are_lost_is_told_to_end() {
    let place = Place::new();
    let running = place.start(
        1,
        "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.1; done",
    );
    // Another host, or a fault, wrote over the sector of host 1.
    let lockspace = fs::OpenOptions::new()
        .write(true)
        .open(place.leases().join(LOCKSPACE_NAME))
        .unwrap();
    let began = Instant::now();
    let (ended, printed, messages) = thread::scope(|scope| {
        let running = scope.spawn(|| running.end());
        // A renewal that was under way may have overwritten it in its turn.
        while !running.is_finished() {
            lockspace.write_all_at(&[0; 512], 0).unwrap();
            thread::sleep(Duration::from_millis(200));
        }
        running.join().unwrap()
    });
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(ended, Some(4), "{messages}");
    assert_eq!(printed, "told\n");
    assert!(
        messages.contains("disklease: THE LOCKS ARE LOST: "),
        "{messages}"
    );
    assert!(messages.contains("is sent SIGTERM"), "{messages}");
}

/// The process ids in a line of words.
fn pids(line: &str) -> Vec<Pid> {
    let numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.filter_map(Pid::from_raw).collect()
}

/// Waits for the ends of these, and gives how long that took.
fn ended_within(limit: Duration, pids: &[Pid]) -> Duration {
    let began = Instant::now();
    let lives = |pid: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while pids.iter().any(lives) {
        assert!(began.elapsed() < limit, "{pids:?} still run");
        thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

/// A shell, a child of it, and one that is nobody's child any more and in a session of its own.
const FAMILY: &str = "setsid sh -c 'sleep 300 & echo $$ $! > family' & sleep 300 & \
    while ! [ -s family ]; do sleep 0.01; done; \
    echo ready; echo $$ $! $(cat family); wait";

#[test]
fn a_command_that_is_killed_frees_its_disk_at_once_and_what_it_left_behind_is_ended() {
    let place = Place::new();
    let script = format!("cd {}; {FAMILY}", place.0.path().display());
    let mut running = place.start(1, &script);
    let family = pids(&running.line());
    assert_eq!(family.len(), 4);
    let killed = Instant::now();
    kill_process(family[0], Signal::KILL).unwrap();
    while !place.status()["held"].as_array().unwrap().is_empty() {
        assert!(
            killed.elapsed() < Duration::from_secs(10),
            "it is not freed"
        );
    }
    let took = killed.elapsed();
    println!("measured: free {took:?} after the command was killed");
    assert!(took < Duration::from_secs(1), "{took:?}");
    ended_within(Duration::ZERO, &family);
    assert_eq!(running.end().0, Some(128 + 9));
    place.assert_free();
}

#[test]
fn what_a_command_leaves_behind_does_not_outlive_it() {
    let place = Place::new();
    let script = format!("cd {}; {FAMILY}", place.0.path().display());
    let script = script.replace("; wait", "; exit 5");
    let mut running = place.start(1, &script);
    let family = pids(&running.line());
    assert_eq!(running.end().0, Some(5));
    ended_within(Duration::ZERO, &family);
    place.assert_free();
}

#[test]
fn a_run_that_is_killed_takes_its_command_along_with_all_below_it() {
    let place = Place::new();
    let script = format!("cd {}; {FAMILY}", place.0.path().display());
    let mut running = place.start(1, &script);
    let family = pids(&running.line());
    running.send(Signal::KILL);
    // Long before the lock could expire, which is 8 s after its last renewal.
    let took = ended_within(Duration::from_secs(2), &family);
    println!("measured: all had ended {took:?} after the run was killed");
    // The next run of this host id need not wait for it.
    let ended = place.run(1, &[], &["echo", "mine"]);
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(0), "mine\n"),
        "{ended:?}"
    );
}

/// The parent of `child`.
fn parent(child: Pid) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1);
    Pid::from_raw(parent.unwrap().parse().unwrap()).unwrap()
}

#[test]
fn a_guardian_that_is_stopped_ends_the_command_all_the_same_when_the_run_is_killed() {
    let place = Place::new();
    let script = format!("cd {}; {FAMILY}", place.0.path().display());
    let mut running = place.start(1, &script);
    let family = pids(&running.line());
    let guardian = parent(family[0]);
    assert_ne!(guardian, Pid::from_child(&running.child));
    kill_process(guardian, Signal::STOP).unwrap();
    running.send(Signal::KILL);
    ended_within(Duration::from_secs(2), &family);
}

/// A process that hangs in the kernel cannot be killed, and what it does there may yet reach the disk.
#[test]
fn a_disk_is_kept_while_anything_of_a_command_hangs_in_the_kernel() {
    let place = Place::new();
    let image = place.0.path().join("image");
    fs::create_dir(&image).unwrap();
    fs::write(image.join("disk"), vec![0; 4096]).unwrap();
    let mount = storage::Mount::new(&image, &place.0.path().join("seen"), |_| {});
    mount.gate().set(storage::gate::Fault {
        target: storage::gate::Target::All,
        reads: true,
        writes: true,
        mode: storage::gate::Mode::Hold,
    });
    let script = format!(
        "sleep 300 & echo ready; echo $$ $!; exec dd if=/dev/zero of={}/disk bs=4096 count=1 oflag=direct conv=notrunc",
        mount.path().display()
    );
    let mut running = place.start(1, &script);
    let family = pids(&running.line());
    let command = family[0];
    let stat = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let began = Instant::now();
    while mount.gate().held_since_before(Instant::now()) == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{}",
            stat(command)
        );
        thread::sleep(Duration::from_millis(10));
    }
    let guardian = parent(command);
    assert_ne!(guardian, Pid::from_child(&running.child));
    kill_process(guardian, Signal::KILL).unwrap();
    // What is below it can be killed, and may write to other disks.
    ended_within(Duration::from_secs(2), &family[1..]);
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(500));
        assert_eq!(place.status()["held"][0]["host_id"], 1);
    }
    mount.gate().drop_held();
    let (code, _, messages) = running.end();
    assert_eq!(code, Some(128 + 9), "{messages}");
    assert!(
        messages.contains("guardian of the command was killed"),
        "{messages}"
    );
    place.assert_free();
}

/// A terminal that was stopped, or a pipe that nobody reads, keeps no lock from being renewed.
#[test]
fn messages_that_nobody_reads_do_not_hold_up_renewals() {
    let place = Place::new();
    let (unread, stderr) = std::io::pipe().unwrap();
    let script = "echo ready; sleep 14; echo still here";
    let mut child = place
        .command(1, &["--fire-timeout", "4"], &["sh", "-c", script])
        .env("DISKLEASE_LOG", "trace")
        .stdout(Stdio::piped())
        .stderr(stderr.try_clone().unwrap())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running { child, stdout };
    assert_eq!(running.line(), "ready\n");
    // By another way to the same pipe: that it does not wait is for this alone.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&stderr);
    let mut full = std::os::unix::fs::OpenOptionsExt::custom_flags(
        fs::OpenOptions::new().write(true),
        nonblocking,
    )
    .open(format!("/proc/self/fd/{fd}"))
    .unwrap();
    for len in [4096, 1] {
        while std::io::Write::write(&mut full, &vec![b'x'; len]).is_ok() {}
    }
    assert_eq!(running.line(), "still here\n");
    assert_eq!(running.end().0, Some(0));
    drop(unread);
    place.assert_free();
}

/// Loses the locks of the run that was started with these options, and sees it to its end.
fn lose(place: &Place, options: &[&str], script: &str) -> (Option<i32>, String, Duration) {
    let mut command = place.command(1, options, &["sh", "-c", script]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running { child, stdout };
    assert_eq!(running.line(), "ready\n");
    let lockspace = fs::OpenOptions::new()
        .write(true)
        .open(place.leases().join(LOCKSPACE_NAME))
        .unwrap();
    let began = Instant::now();
    thread::scope(|scope| {
        let ended = scope.spawn(move || {
            let printed = std::io::read_to_string(&mut running.stdout).unwrap();
            (running.child.wait().unwrap(), printed)
        });
        while !ended.is_finished() {
            lockspace.write_all_at(&[0; 512], 0).unwrap();
            thread::sleep(Duration::from_millis(100));
        }
        let (status, printed) = ended.join().unwrap();
        (status.code(), printed, began.elapsed())
    })
}

#[test]
fn a_command_that_does_not_end_is_killed_after_the_grace() {
    let place = Place::new();
    let stubborn = "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done";
    let (code, printed, took) = lose(&place, &["--fire-timeout", "4"], stubborn);
    assert_eq!((code, &*printed), (Some(128 + 9), "told\n"));
    // The loss is found by the next renewal, and the grace is two seconds.
    assert!(
        took > Duration::from_secs(2) && took < Duration::from_secs(12),
        "{took:?}"
    );
}

#[test]
fn a_program_can_be_run_when_locks_are_lost_and_a_loss_can_be_ignored() {
    let place = Place::new();
    let helped = place.0.path().join("helped");
    let program = place.0.path().join("helper");
    let text = format!("#!/bin/sh\necho \"$@\" > {}\n", helped.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
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
    let (code, printed, _) = lose(&place, &options, &script);
    assert_eq!((code, &*printed), (Some(7), ""));
    assert_eq!(fs::read_to_string(&helped).unwrap(), "-x y z\n");

    let place = Place::new();
    let script = "trap 'echo told' TERM; echo ready; sleep 8; exit 6";
    let options = ["--fire-timeout", "4", "--on-lock-failure", "ignore"];
    let (code, printed, _) = lose(&place, &options, script);
    assert_eq!((code, &*printed), (Some(6), ""));

    for (bad, said) in [
        ("pause", "poweroff, ignore"),
        ("/no/such/helper", "No such file"),
    ] {
        let ended = place.run(2, &["--on-lock-failure", bad], &["true"]);
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
}

#[test]
fn the_command_inherits_standard_streams_and_the_life_lock() {
    let place = Place::new();
    // What this process passes on to every child of it, apart from `ls`'s own.
    let list = ["sh", "-c", "readlink /proc/self/fd/* || true"];
    let before = Command::new(list[0]).args(&list[1..]).output().unwrap();
    let before = String::from_utf8(before.stdout).unwrap();
    let ended = place.run(1, &[], &list);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let is_kept = |line: &&str| line.ends_with("-1.life");
    let kept = ended.stdout.lines().filter(is_kept).count();
    assert_eq!(kept, 1, "{}", ended.stdout);
    let more = ended.stdout.lines().count();
    assert_eq!(more, before.lines().count() + 1, "{before}{}", ended.stdout);
    let ours = |line: &str| line.contains("/leases/") || line.contains("eventfd");
    assert!(!ended.stdout.lines().any(ours), "{}", ended.stdout);
}

#[test]
fn storage_that_fails_and_wrong_usage() {
    let place = Place::new();
    fs::write(place.leases().join(LOCKSPACE_NAME), vec![0x5a; 1 << 20]).unwrap();
    let refused = place.run(1, &[], &["true"]);
    refused.expect_failure(69, "holds no lockspace");
    let usage = |args: &[&str], what: &str| {
        let all = [
            "run",
            "--watchdog",
            "none",
            "--lease-dir",
            "/nonexistent/leases",
        ];
        run(&[&all[..], args].concat()).expect_failure(64, what);
    };
    usage(&["--host-id", "1", "--disk", "/d"], "CMD");
    usage(&["--host-id", "1", "--", "true"], "--disk");
    usage(
        &["--host-id", "0", "--disk", "/d", "--", "true"],
        "from 1 to 2000, not 0",
    );
    usage(
        &["--host-id", "1", "--disk", "d", "--", "true"],
        "no absolute path",
    );
    let twice = [
        "--host-id",
        "1",
        "--disk",
        "/d",
        "--disk",
        "/d",
        "--",
        "true",
    ];
    usage(&twice, "named twice");
    let slow = [
        "--host-id",
        "1",
        "--io-timeout",
        "256",
        "--disk",
        "/d",
        "--",
        "true",
    ];
    usage(&slow, "from 1 to 255");
    let named = [
        "--host-id",
        "1",
        "--host-name",
        "",
        "--disk",
        "/d",
        "--",
        "true",
    ];
    usage(&named, "must not be empty");
    let args = [
        "run",
        "--lease-dir",
        "x",
        "--host-id",
        "1",
        "--disk",
        "/d",
        "--",
        "true",
    ];
    run(&args).expect_failure(64, "--watchdog");
    let nowhere = Path::new("/proc/leases");
    let args = [
        "run",
        "--watchdog",
        "none",
        "--host-id",
        "1",
        "--disk",
        "/d",
        "--lease-dir",
    ];
    let args = [&args[..], &[nowhere.to_str().unwrap(), "--", "true"]].concat();
    run(&args).expect_failure(69, "/proc/leases");
}
