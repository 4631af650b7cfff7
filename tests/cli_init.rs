//! `disklease init`, and that nothing else makes a lockspace.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the hosts are real processes in real time"
)]

mod cli;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use cli::{Ended, run, scratch};
use disklease::format::{DeltaLeader, HostId};
use disklease::libvirt::{LOCKSPACE_NAME, lease_name};

const HINT: &str = "is the share mounted? `disklease init --lease-dir DIR` makes a new lockspace";

fn init(dir: &Path, more: &[&str]) -> Ended {
    with_dir("init", dir, more)
}

fn with_dir(command: &str, dir: &Path, more: &[&str]) -> Ended {
    let args = [command, "--lease-dir"].map(OsStr::new);
    let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
    run(&[&args[..], &[dir.as_os_str()], &more[..]].concat())
}

/// Runs `true` as host 1 under the lock of a disk.
fn run_true(dir: &Path) -> Ended {
    let runtime_dir = dir.with_extension("run");
    let args = ["--host-id", "1", "--io-timeout", "1", "--watchdog", "none"];
    let place = ["--runtime-dir", runtime_dir.to_str().unwrap()];
    let job = ["--disk", "/d", "--", "true"];
    with_dir("run", dir, &[&args[..], &place, &job].concat())
}

/// On a host where the share is not mounted, everything would be made on a file system of its own.
#[test]
fn nothing_is_made_unasked() {
    let scratch = scratch();
    for dir in [scratch.path().join("leases"), scratch.path().to_owned()] {
        run_true(&dir).expect_failure(69, HINT);
        with_dir("status", &dir, &["--no-wait"]).expect_failure(69, HINT);
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn a_lockspace_is_made_once_and_is_good_for_a_run() {
    let scratch = scratch();
    let dir = scratch.path().join("leases");
    let path = dir.join(LOCKSPACE_NAME);
    let made = init(&dir, &["--io-timeout", "1"]);
    assert!(made.text().contains("made a lockspace"), "{made:?}");
    let area = fs::read(&path).unwrap();
    let leader = DeltaLeader::decode(&area, HostId::FIRST).unwrap();
    assert_eq!(leader.io_timeout_secs(), 1);
    let again = init(&dir, &["--io-timeout", "7"]);
    let said = again.text();
    assert!(said.contains("already, nothing was changed"), "{said}");
    assert!(fs::read(&path).unwrap() == area, "it is as it was");
    let ended = run_true(&dir);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(dir.join(lease_name(Path::new("/d")).to_string()).exists());
}

#[test]
fn what_is_no_good_lockspace_is_refused_and_left_as_it_is() {
    let scratch = scratch();
    let dir = scratch.path();
    let path = dir.join(LOCKSPACE_NAME);
    init(dir, &[]).text();
    let mut damaged = fs::read(&path).unwrap();
    damaged[512] ^= 1;
    let cut = damaged[..5000].to_vec();
    for (bytes, what) in [
        (damaged, "is damaged, nothing was changed"),
        (cut, "is damaged, nothing was changed"),
        (vec![0; 1 << 20], "holds no lockspace, nothing was changed"),
        (Vec::new(), "holds no lockspace, nothing was changed"),
        (vec![7; 1 << 20], "holds no lockspace, nothing was changed"),
    ] {
        fs::write(&path, &bytes).unwrap();
        init(dir, &[]).expect_failure(69, what);
        assert!(fs::read(&path).unwrap() == bytes);
    }
    fs::remove_file(&path).unwrap();
    fs::write(dir.join(lease_name(Path::new("/d")).to_string()), []).unwrap();
    init(dir, &[]).expect_failure(69, "has leases but no lockspace");
    assert!(!path.exists());
}

#[test]
fn wrong_usage_and_directories_that_cannot_be_made() {
    run(&["init"]).expect_failure(64, "--lease-dir");
    let scratch = scratch();
    let dir = scratch.path().join("not/there");
    init(&dir, &["--io-timeout", "256"]).expect_failure(64, "from 1 to 255");
    init(&dir, &[]).expect_failure(69, "cannot create the directory");
    assert!(
        !dir.parent().unwrap().exists(),
        "the mount point is no part of it"
    );
}
