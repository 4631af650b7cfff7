//! Commands that run as another user than the run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use rustix::process::{Pid, Signal, kill_process};

use super::place::{AT_ONCE, DISK, Place, Running, children, ended_within, lives, wait_until};

const NOBODY: u32 = 65534;

/// The kernel forgets to whose end a process is tied when that changes its user.
#[test]
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
    let mut chown = std::process::Command::new(chown[0])
        .args(&chown[1..])
        .arg(place.path())
        .spawn();
    assert!(chown.as_mut().unwrap().wait().unwrap().success());
    std::os::unix::fs::chown(&become_root, Some(0), Some(0)).unwrap();
    fs::set_permissions(&become_root, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut reach = std::process::Command::new("test");
    reach
        .arg("-x")
        .arg(env!("CARGO_BIN_EXE_disklease"))
        .uid(NOBODY)
        .gid(NOBODY);
    let mut see = std::process::Command::new("test");
    see.arg("-x").arg(&become_root).uid(NOBODY).gid(NOBODY);
    let both = [reach, see]
        .into_iter()
        .all(|mut command| command.status().unwrap().success());
    both.then(|| (place, become_root.to_str().unwrap().to_owned()))
}

#[test]
fn what_may_not_be_sent_signals_is_said_and_refused_and_its_disk_is_kept() {
    let Some((place, become_root)) = of_nobody() else {
        println!("NOT TESTED: another user cannot reach the build directory");
        return;
    };
    for policy in ["refuse", "ignore"] {
        let script = format!(
            "trap 'exit 7' TERM; echo ready; {become_root} --reuid 0 --clear-groups sleep 300 & \
             while ! [ -e go ]; do sleep 0.05; done; exit 0"
        );
        let options = ["--unkillable", policy];
        let mut command = place.command(1, &options, &["sh", "-c", &script]);
        let running = Running::spawn(command.uid(NOBODY).gid(NOBODY));
        assert_eq!(running.line(), "ready");
        let said = running.message("may not be sent signals");
        assert_eq!(
            said.contains("is sent SIGTERM"),
            policy == "refuse",
            "{said}"
        );
        let [_, guardian] = running.chain();
        let is_root = |pid: &Pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("Uid:\t0\t0\t0\t0")
        };
        // Its effective user is root before its real one is, and the message may come in between.
        let mut root = None;
        wait_until("one has become root", || {
            root = super::place::below(guardian).into_iter().find(is_root);
            root.is_some()
        });
        let root = root.unwrap();
        if policy == "ignore" {
            fs::write(place.path().join("go"), "").unwrap();
        }
        // The shell goes, and the other cannot be ended: its disk is kept for it.
        wait_until("the shell has ended", || children(guardian) == [root]);
        running.message("cannot be killed");
        assert!(lives(root));
        place.assert_held_by(1);
        kill_process(root, Signal::KILL).unwrap();
        let code = if policy == "refuse" { 7 } else { 70 };
        let ended = running.ended();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        place.assert_free();
        let _ = fs::remove_file(place.path().join("go"));
    }
}

/// Whoever may not look for a second name does not know whether a lease is new.
#[test]
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
