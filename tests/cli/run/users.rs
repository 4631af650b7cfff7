//! Commands that run as another user than the run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::place::{AT_ONCE, DISK, Place, Running, children, ended_within, lives, wait_until};

const NOBODY: u32 = 65534;

/// The kernel forgets to whose end a process is tied when that changes its user.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn a_command_that_has_changed_its_user_does_not_outlive_its_chain() {
    let place = Place::new();
    let job = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sh",
        "-c",
        "echo ready; echo $$; sleep 300",
    ];
    let running = Running::spawn(&mut place.command(1, &["--contain", "pidns"], &job));
    assert_eq!(running.line(), "ready");
    let family = running.processes(&running.line());
    let chain = running.chain();
    // None of ours gets to do anything.
    let all = [running.pid(), chain[0], chain[1]];
    for process in all {
        kill_process(process, Signal::STOP).unwrap();
    }
    for process in all {
        let _ = kill_process(process, Signal::KILL);
    }
    ended_within(AT_ONCE, &family);
}

/// A place of nobody's, with a program in it that makes anybody root.
fn of_nobody() -> Option<(Place, String)> {
    let place = Place::new();
    let become_root = place.path().join("become-root");
    fs::copy("/usr/bin/setpriv", &become_root).unwrap();
    let chown = ["chown", "-R", "65534:65534"];
    let mut chown = Command::new(chown[0])
        .args(&chown[1..])
        .arg(place.path())
        .spawn();
    assert!(chown.as_mut().unwrap().wait().unwrap().success());
    std::os::unix::fs::chown(&become_root, Some(0), Some(0)).unwrap();
    fs::set_permissions(&become_root, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut reach = Command::new("test");
    reach
        .arg("-x")
        .arg(env!("CARGO_BIN_EXE_disklease"))
        .uid(NOBODY)
        .gid(NOBODY);
    let mut see = Command::new("test");
    see.arg("-x").arg(&become_root).uid(NOBODY).gid(NOBODY);
    let both = [reach, see]
        .into_iter()
        .all(|mut command| command.status().unwrap().success());
    both.then(|| (place, become_root.to_str().unwrap().to_owned()))
}

fn is_root(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("Uid:\t0\t0\t0\t0")
}

/// Waits for the one below `guardian` that has become root: its effective user is root before its
/// real one is.
fn root_below(guardian: Pid) -> Pid {
    let mut found = None;
    wait_until("one has become root", || {
        found = super::place::below(guardian)
            .into_iter()
            .find(|pid| is_root(*pid));
        found.is_some()
    });
    found.unwrap()
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn what_may_not_be_sent_signals_is_said_and_its_disk_is_kept() {
    let Some((place, become_root)) = of_nobody() else {
        println!("NOT TESTED: another user cannot reach the build directory");
        return;
    };
    let script = format!(
        "echo ready; {become_root} --reuid 0 --clear-groups sleep 300 & \
         while ! [ -e go ]; do sleep 0.05; done; exit 0"
    );
    let options = ["--unkillable", "ignore"];
    let mut command = place.command(1, &options, &["sh", "-c", &script]);
    let running = Running::spawn(command.uid(NOBODY).gid(NOBODY));
    assert_eq!(running.line(), "ready");
    running.message("may not be sent signals");
    let [_, guardian] = running.chain();
    let root = root_below(guardian);
    fs::write(place.path().join("go"), "").unwrap();
    // The shell goes, and the other cannot be ended: its disk is kept for it.
    wait_until("the shell has ended", || children(guardian) == [root]);
    running.message("cannot be killed");
    assert!(lives(root));
    place.assert_held_by(1);
    kill_process(root, Signal::KILL).unwrap();
    let ended = running.ended();
    assert_eq!(ended.code, Some(70), "{ended:?}");
    place.assert_free();
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn where_it_is_refused_nothing_gets_out_of_reach_by_a_set_user_id_program() {
    let Some((place, become_root)) = of_nobody() else {
        println!("NOT TESTED: another user cannot reach the build directory");
        return;
    };
    let script = format!(
        "{become_root} --reuid 0 true 2>/dev/null && echo root; \
         grep -c NoNewPrivs:.1 /proc/self/status; exit 7"
    );
    let mut command = place.command(1, &[], &["sh", "-c", &script]);
    let ended = Running::spawn(command.uid(NOBODY).gid(NOBODY)).ended();
    assert_eq!((ended.code, &*ended.stdout), (Some(7), "1\n"), "{ended:?}");
    // As the command itself it would fail by something that says nothing of us.
    let mut command = place.command(1, &[], &[&become_root, "--reuid", "0", "true"]);
    let ended = Running::spawn(command.uid(NOBODY).gid(NOBODY)).ended();
    assert_eq!(ended.code, Some(126), "{ended:?}");
    assert!(ended.stderr.contains("--unkillable ignore"), "{ended:?}");
    place.assert_free();
    // Root can send signals to all, and is refused nothing.
    let show = ["grep", "-c", "NoNewPrivs:.0", "/proc/self/status"];
    let ended = place.run(1, &["--contain", "none"], &show);
    assert_eq!(ended.stdout, "1\n", "{ended:?}");
}

/// The command itself, by rights that it was given: no flag keeps it from that.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn a_command_that_is_out_of_reach_is_not_said_to_be_sent_a_signal() {
    let Some((place, _)) = of_nobody() else {
        println!("NOT TESTED: another user cannot reach the build directory");
        return;
    };
    let job = ["setpriv", "--reuid", "0", "--clear-groups", "sleep", "300"];
    let run = place.command(1, &[], &job);
    let mut nobody = Command::new("setpriv");
    nobody
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["--inh-caps", "-all,+setuid,+setgid"])
        .args(["--ambient-caps", "-all,+setuid,+setgid"])
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(place.path());
    let running = Running::spawn(&mut nobody);
    running.message("may not be sent signals");
    running.message("was NOT sent the signal");
    let [_, guardian] = running.chain();
    let root = root_below(guardian);
    running.send(Signal::INT);
    running.message("was NOT sent the signal");
    assert!(lives(root));
    place.assert_held_by(1);
    kill_process(root, Signal::KILL).unwrap();
    let ended = running.ended();
    assert_eq!(ended.code, Some(128 + 9), "{ended:?}");
    assert!(!ended.stderr.contains("is sent SIGTERM"), "{ended:?}");
    place.assert_free();
}

/// Whoever may not look for a second name does not know whether a lease is new.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn without_the_right_to_see_second_names_no_lease_is_made() {
    let Some((place, _)) = of_nobody() else {
        println!("NOT TESTED: another user cannot reach the build directory");
        return;
    };
    let links = place.leases().join(".disklease/leases");
    std::os::unix::fs::chown(&links, Some(0), Some(0)).unwrap();
    fs::set_permissions(&links, fs::Permissions::from_mode(0o700)).unwrap();
    let name = disklease::libvirt::lease_name(DISK.as_ref()).to_string();
    let mut command = place.command(1, &[], &["echo", "never"]);
    let ended = Running::spawn(command.uid(NOBODY).gid(NOBODY)).ended();
    assert_eq!((ended.code, &*ended.stdout), (Some(69), ""), "{ended:?}");
    // The one that could not be seen, and why.
    let second = links.join(&name);
    assert!(ended.stderr.contains(second.to_str().unwrap()), "{ended:?}");
    assert!(ended.stderr.contains("Permission denied"), "{ended:?}");
    assert!(!place.leases().join(name).exists(), "{ended:?}");
    place.assert_free();
}
