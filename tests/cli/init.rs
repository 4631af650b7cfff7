//! `disklease init`, and that nothing else makes a lockspace.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use disklease::format::{DeltaLeader, HostId};
use disklease::libvirt::{LOCKSPACE_NAME, lease_name};
use disklease_fixtures::command::{Ended, run, scratch};

const HINT: &str = "is the share mounted? `disklease init --lease-dir DIR` makes a new lockspace";

fn init(dir: &Path, more: &[&str]) -> Ended {
    with_dir("init", dir, &[&["--single-host"], more].concat())
}

fn with_dir(command: &str, dir: &Path, more: &[&str]) -> Ended {
    let args = [command, "--lease-dir"].map(OsStr::new);
    let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
    run(&[&args[..], &[dir.as_os_str()], &more[..]].concat())
}

/// Runs `true` as host 1 under the lock of a disk.
fn run_true(dir: &Path, more: &[&str]) -> Ended {
    let runtime_dir = dir.with_extension("run");
    let args = ["--host-id", "1", "--io-timeout", "1", "--watchdog", "none"];
    let place = ["--runtime-dir", runtime_dir.to_str().unwrap()];
    let job = ["--disk", "/d", "--", "true"];
    with_dir(
        "run",
        dir,
        &[&args[..], &place, &["--single-host"], more, &job].concat(),
    )
}

/// On a host where the share is not mounted, everything would be made on a file system of its own.
#[test]
fn nothing_is_made_unasked() {
    let scratch = scratch();
    for dir in [scratch.path().join("leases"), scratch.path().to_owned()] {
        run_true(&dir, &[]).expect_failure(69, HINT);
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
    let ended = run_true(&dir, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("had lost its name"), "{ended:?}");
    assert!(dir.join(lease_name(Path::new("/d")).to_string()).exists());
}

/// Another share with a lockspace of the same name, or none, as where the share is not mounted.
#[test]
fn the_id_of_the_lockspace_can_be_asked_for() {
    let scratch = scratch();
    let [dir, other, sanlocks] =
        ["leases", "other", "sanlocks"].map(|name| scratch.path().join(name));
    let id_of = |dir: &Path| {
        let made = init(dir, &["--io-timeout", "1"]);
        let id = made
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("lockspace id "));
        id.unwrap().to_owned()
    };
    let [id, another] = [&dir, &other].map(|dir| id_of(dir));
    assert_ne!(id, another);
    assert_eq!(id_of(&dir), id, "of the one that is there");
    let status =
        |dir: &Path, more: &[&str]| with_dir("status", dir, &[&["--no-wait"], more].concat());
    assert_eq!(status(&dir, &["--json"]).json()["lockspace_id"], id);
    assert!(
        status(&dir, &[])
            .text()
            .contains(&format!("lockspace id {id}\n"))
    );
    let dumped = run(&["dump", "--json", dir.join(LOCKSPACE_NAME).to_str().unwrap()]).json();
    assert_eq!(dumped["areas"][0]["id"], id);
    assert_eq!(dumped["areas"][0]["damaged"], false);

    // As sanlock makes it.
    fs::create_dir(&sanlocks).unwrap();
    let mut area = fs::read(dir.join(LOCKSPACE_NAME)).unwrap();
    area[(1 << 20) - 512..].fill(0);
    fs::write(sanlocks.join(LOCKSPACE_NAME), area).unwrap();
    assert!(status(&sanlocks, &["--json"]).json()["lockspace_id"].is_null());

    let wanted = ["--lockspace-id", &id];
    for (dir, found) in [
        (
            &other,
            format!("is the lockspace {another}, not the lockspace {id}"),
        ),
        (
            &sanlocks,
            format!("is a lockspace without an id, not the lockspace {id}"),
        ),
    ] {
        run_true(dir, &wanted).expect_failure(69, &found);
        status(dir, &wanted).expect_failure(69, &found);
        let names = fs::read_dir(dir).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let leases = names.filter(|name| !name.starts_with('.')).count();
        assert_eq!(leases, 1, "nothing but the lockspace");
    }
    status(&dir, &wanted).text();
    for dir in [&dir, &sanlocks] {
        let more = if dir == &sanlocks { &[][..] } else { &wanted };
        let ended = run_true(dir, more);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!(id_of(&dir), id, "hosts leave it alone");
    status(&dir, &["--lockspace-id", "xyz"]).expect_failure(64, "32 hexadecimal digits");
}

/// Where the share is not mounted, there is the host's own file system.
#[test]
fn a_file_system_of_this_host_alone_is_warned_of_by_its_name() {
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    // It may know no direct I/O: that is said then too.
    let warned = with_dir("init", shm.path(), &[]).stderr;
    assert!(
        warned.contains("only this host sees") && warned.contains("\"tmpfs\""),
        "{warned}"
    );
    let said = init(shm.path(), &[]).stderr;
    assert!(!said.contains("only this host sees"), "{said}");
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
