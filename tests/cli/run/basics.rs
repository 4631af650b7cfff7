//! Exit codes, refusals and usage.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use disklease::libvirt::LOCKSPACE_NAME;
use rustix::process::Signal;

use super::place::{DISK, Place, Running};
use disklease_fixtures::command::{Ended, run};
use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};

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
    let waiter = Running::spawn(&mut place.command(2, &["--wait", "40"], &["echo", "mine"]));
    // So that it has joined and waits for the disk.
    thread::sleep(Duration::from_secs(5));
    place.assert_held_by(1);
    holder.send(Signal::TERM);
    assert_eq!(holder.ended().code, Some(128 + 15));
    let ended = waiter.ended();
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
fn the_command_inherits_standard_streams_and_the_process_lock() {
    let place = Place::new();
    // What this process passes on to every child of it, apart from `ls`'s own.
    let list = ["sh", "-c", "readlink /proc/self/fd/* || true"];
    let before = Running::spawn(Command::new(list[0]).args(&list[1..])).ended();
    let before = before.stdout;
    let ended = place.run(1, &[], &list);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let is_kept = |line: &&str| line.ends_with("-1.incarnation");
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
    refused.expect_failure(69, "there is no lockspace at byte 0");
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
    for odd in ["//srv/a", "/srv/./a", "/srv/b/../a", "/srv/a/"] {
        usage(
            &["--host-id", "1", "--disk", odd, "--", "true"],
            "name it \"/srv/a\"",
        );
    }
    // What moves a terminal's cursor is not printed as it is.
    usage(
        &["--host-id", "1", "--disk", "/a//b\nX", "--", "true"],
        "--disk <PATH>: \"/a//b\\nX\"",
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

#[test]
fn a_disk_that_is_likely_to_have_another_name_is_warned_of() {
    let place = Place::new();
    fs::create_dir(place.path().join("real")).unwrap();
    symlink("real", place.path().join("link")).unwrap();
    let disk = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let over_link = "leads over a symbolic link";
    for (disk, warning) in [
        (disk("real/a"), None),
        (disk("link/a"), Some(over_link)),
        ("/dev/mapper/vg0-a".to_owned(), None),
        ("/dev/sdzz".to_owned(), Some("a link in /dev/disk/by-id")),
    ] {
        let ended = place.run(1, &["--disk", &disk], &["true"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        match warning {
            Some(text) => {
                assert!(ended.stderr.contains(text), "{ended:?}");
                assert!(ended.stderr.contains(&disk), "{ended:?}");
            }
            None => assert!(!ended.stderr.contains("WARN"), "{ended:?}"),
        }
    }
}

/// As on NFS in the first minute of its server.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn storage_that_does_not_answer_is_named_while_it_is_waited_for() {
    let mut place = Place::new();
    let mount = Mount::new(&place.leases(), &place.path().join("seen"), |_| {});
    place.see_through(mount.path());
    // No read fails meanwhile, on a machine that is busy with something else.
    place.set_io_timeout("60");
    mount.gate().set(Fault {
        target: Target::All,
        reads: true,
        writes: false,
        mode: Mode::Hold,
    });
    let running = Running::spawn(&mut place.command(1, &[], &["true"]));
    let said = running.message("still opening ");
    let path = mount.path().join(LOCKSPACE_NAME);
    let expected = format!("still opening {} after 5 s", path.display());
    assert!(said.ends_with(&expected), "{said}");
    mount.gate().go_on();
    // What comes then takes two io timeouts.
    running.message("claiming host id 1");
}
