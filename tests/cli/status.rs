//! `disklease status` on lease directories of disklease and of sanlock hosts.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use disklease::LeaseDirectory;
use disklease::format::{Geometry, HostId, lease_image};
use disklease::libvirt::{LOCKSPACE_NAME, lease_name, lockspace_name};
use disklease_fixtures::command::{Ended, command, put, run, scratch};
use disklease_fixtures::records;
use disklease_fixtures::sanlock::{
    SanlockClient, SanlockDaemon, ScratchLease, init_lockspace, init_resource, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const DISK: &str = "/dev/disk/by-id/guest-1";
/// For what must happen soon, on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(40);

fn status(dir: &Path, more: &[&str]) -> Ended {
    let args = ["status", "--lease-dir"].map(OsStr::new);
    let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
    run(&[&args[..], &[dir.as_os_str()], &more[..]].concat())
}

fn status_json(dir: &Path, more: &[&str]) -> Value {
    status(dir, &[&["--json"], more].concat()).json()
}

/// A `disklease run` that holds `DISK` until it is killed.
struct Holder(Child);

impl Holder {
    fn start(dir: &Path, host_id: &str) -> Self {
        Self::start_with(dir, host_id, "60")
    }

    fn start_with(dir: &Path, host_id: &str, fire_timeout: &str) -> Self {
        make_lockspace(dir);
        let fire = ["--fire-timeout", fire_timeout].map(OsStr::new);
        let args = ["run", "--io-timeout", "1", "--watchdog", "none"].map(OsStr::new);
        let host = ["--host-id", host_id, "--host-name", "alpha"].map(OsStr::new);
        let job = ["--disk", DISK, "--guest", "web\u{1b}[1m"].map(OsStr::new);
        let rest = [OsStr::new("--lease-dir"), dir.as_os_str()];
        // Not for long, since it outlives a holder that is killed.
        let sleep = ["--", "sleep", "120"].map(OsStr::new);
        let args = [&args[..], &fire, &host, &job, &rest, &sleep].concat();
        let holder = Self(
            command(&args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let held = || {
            let shown = status(dir, &["--json", "--no-wait"]);
            shown.code == Some(0) && shown.stdout.contains("\"lease_file\"")
        };
        wait_until("the disk is held", LIMIT, || held().then_some(()));
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        disklease_fixtures::command::end(&mut self.0);
    }
}

/// What is shown once the only host was seen to renew: usually by the first look, which takes for that as long as
/// two of its io timeouts and 2 s.
fn live(dir: &Path) -> Value {
    wait_until("the host is seen to renew", LIMIT, || {
        let shown = status_json(dir, &[]);
        (shown["hosts"][0]["state"] == "live").then_some(shown)
    })
}

/// What this machine's clock tells of the only host: how many seconds ago it has renewed, how many renewals it has
/// missed since, and in how many seconds its leases are lost, unless they are.
fn local(dir: &Path) -> (u64, u64, Option<u64>) {
    let shown = status_json(dir, &["--no-wait"]);
    let local = &shown["hosts"][0]["local"];
    let number = |name: &str| local[name].as_u64();
    let known = number("renewed_secs_ago").zip(number("missed_renewals"));
    let (ago, missed) = known.unwrap_or_else(|| panic!("{shown}"));
    let lost_in = number("lost_in_secs");
    assert_eq!(lost_in, 8_u64.checked_sub(ago), "{shown}");
    (ago, missed, lost_in)
}

/// All that the files of a directory, and of those in it, are.
fn files(dir: &Path) -> Vec<(PathBuf, std::time::SystemTime, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                return files(&path);
            }
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            let bytes = fs::read(&path).unwrap();
            vec![(path, changed, bytes)]
        })
        .collect();
    files.sort();
    files
}

fn parent(process: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_holder_is_shown_alive_and_then_silent() {
    let scratch = scratch();
    let dir = scratch.path().join("leases");
    let mut holder = Holder::start(&dir, "3");
    let shown = live(&dir);
    assert_eq!(shown["document"], "disklease status 1");
    assert_eq!(shown["lease_dir"], dir.to_str().unwrap());
    assert_eq!(shown["direct_io"], true);
    assert_eq!(shown["lease_files"], 1);
    assert_eq!(shown["problems"], serde_json::json!([]));
    let host = &shown["hosts"][0];
    assert_eq!(host["host_id"], 3);
    assert_eq!(host["host_name"], "alpha");
    assert_eq!(host["silent_secs"], Value::Null);
    assert_eq!(host["io_timeout_secs"], 1);
    assert_eq!(host["note"]["pid"], holder.0.id());
    let held = &shown["held"][0];
    assert_eq!(held["lease_file"], lease_name(Path::new(DISK)).to_string());
    assert_eq!(held["access"], "exclusive");
    assert_eq!(held["host_id"], 3);
    assert_eq!(held["host_name"], "alpha");
    assert_eq!(held["host_state"], "live");
    assert_eq!(held["generation"], 1);
    assert_eq!(held["version"], 1);
    assert_eq!(held["note"]["guest_name"], "web\u{1b}[1m");
    // Of the command's guardian, whose end gives the disk back; its parent is the run's keeper.
    let guardian = held["note"]["pid"].as_u64().unwrap();
    assert_eq!(parent(parent(guardian)), u64::from(holder.0.id()));
    assert_eq!(held["note"]["incarnation"], host["note"]["incarnation"]);
    assert!(host["note"]["incarnation"].is_string());
    let acquired = held["note"]["acquired_unix_secs"].as_u64().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 60..=now).contains(&acquired), "{acquired} at {now}");

    let ended = status(&dir, &["--no-wait"]);
    let text = ended.text();
    for part in [
        "alpha  unknown",
        "exclusive",
        "web\\u{1b}[1m",
        "holders: 1; lease files: 1",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }

    disklease_fixtures::command::end(&mut holder.0);
    let before = files(&dir);
    let shown = status_json(&dir, &[]);
    assert!(files(&dir) == before, "a look wrote something");
    assert_eq!(shown["hosts"][0]["state"], "silent");
    assert!(shown["hosts"][0]["silent_secs"].as_u64() >= Some(4));
    assert_eq!(shown["held"][0]["host_state"], "silent");
    let shown = status_json(&dir, &["--watch", "9"]);
    assert_eq!(shown["hosts"][0]["state"], "failing", "8 x 1 s");
    let ended = status(&dir, &["--watch", "3"]);
    let (_, secs) = ended
        .text()
        .split_once("silent: not seen to renew for ")
        .unwrap();
    let (secs, _) = secs.split_once(" s").unwrap();
    assert!((3..8).contains(&secs.parse().unwrap()), "{secs} s");
}

#[test]
fn a_host_of_this_machine_that_stands_still_is_seen_to_miss_renewals() {
    let scratch = scratch();
    let dir = scratch.path().join("leases");
    let holder = Holder::start(&dir, "3");
    let text = wait_until("a host that has missed nothing", LIMIT, || {
        let ended = status(&dir, &[]);
        let text = ended.text();
        (text.contains("live: renewed ") && !text.contains("missed")).then(|| text.to_owned())
    });
    assert!(text.contains(" s ago, lost in "), "{text}");
    wait_until("the same by one look", LIMIT, || {
        let (ago, missed, _) = local(&dir);
        (ago <= 2 && missed == 0).then_some(())
    });

    let pid = Pid::from_raw(holder.0.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let (ago, missed, _) = wait_until("a renewal that is missed", LIMIT, || {
        Some(local(&dir)).filter(|(_, missed, _)| *missed > 0)
    });
    assert_eq!(missed, (ago - 1) / 2);
    let ended = status(&dir, &["--no-wait"]);
    let text = ended.text();
    assert!(text.contains("unknown: renewed "), "{text}");
    assert!(text.contains(" s ago, missed since: "), "{text}");
    let (ago, missed, _) = wait_until("its leases are lost", LIMIT, || {
        Some(local(&dir)).filter(|(.., lost_in)| lost_in.is_none())
    });
    assert_eq!(missed, (ago - 1) / 2);
    let ended = status(&dir, &["--watch", "3"]);
    let text = ended.text();
    let silent = ["silent: not seen to renew for ", " s; renewed ", ", lost "];
    assert!(silent.iter().all(|part| text.contains(part)), "{text}");
}

/// Timestamps that no clock shows, and clocks that no machine has.
#[test]
fn any_timestamp_of_a_host_of_this_machine_is_shown() {
    let scratch = scratch();
    let dir = scratch.path();
    directory_with_host_1(dir);
    let path = dir.join(LOCKSPACE_NAME);
    let good = fs::read(&path).unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let digits = boot_id.trim_end().replace('-', "");
    let boot = std::array::from_fn(|n| u8::from_str_radix(&digits[2 * n..][..2], 16).unwrap());
    for timestamp in [1, u64::MAX / 2, u64::MAX] {
        for io_timeout in [0, 1, 255, u16::MAX] {
            let mut area = good.clone();
            records::put(&mut area, 174, &io_timeout.to_le_bytes());
            records::change_leader(&mut area, &[(records::TIMESTAMP, timestamp)]);
            records::put_host_note(&mut area, 1, 1, io_timeout, boot);
            fs::write(&path, &area).unwrap();
            let shown = status_json(dir, &["--no-wait"]);
            let host = &shown["hosts"][0];
            assert_eq!(host["timestamp"], timestamp, "{shown}");
            let local = &host["local"];
            // Since boot, or nonsense.
            assert_eq!(local.is_null(), timestamp > 1, "{shown}");
            let ended = status(dir, &["--no-wait"]);
            assert_eq!(ended.text().contains("renewed "), timestamp == 1);
        }
    }
}

#[test]
fn one_look_knows_nothing_of_life_and_dead_is_dead() {
    let scratch = scratch();
    let dir = scratch.path().join("leases");
    drop(Holder::start_with(&dir, "7", "1"));
    let began = Instant::now();
    let shown = status_json(&dir, &["--no-wait"]);
    assert!(began.elapsed() < Duration::from_secs(5), "no wait");
    assert_eq!(shown["hosts"][0]["state"], "unknown");
    assert_eq!(shown["held"][0]["host_state"], "unknown");
    // 8 x 1 s + 1 s + 1 s
    let shown = status_json(&dir, &["--watch", "11", "--fire-timeout", "1"]);
    assert_eq!(shown["hosts"][0]["state"], "dead");
    assert_eq!(shown["held"][0]["host_state"], "dead");
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs sanlock")]
fn a_sanlock_host_is_shown_without_a_note() {
    let scratch = ScratchLease::new();
    let file = scratch.file(LOCKSPACE_NAME, 1);
    let lockspace = disklease_fixtures::sanlock::Lockspace::new(LOCKSPACE_NAME, file);
    init_lockspace(&lockspace, 1);
    let name = lease_name(Path::new(DISK)).to_string();
    let resource = lockspace.resource(&name, scratch.file(&name, 1), 0);
    init_resource(&resource);
    let daemon = SanlockDaemon::start("beta");
    let joined = daemon.add_lockspace(&lockspace, 4, 1, LIMIT);
    assert_eq!(joined, Ok(()), "{}", daemon.log());
    let mut client = SanlockClient::register(&daemon);
    for shared in [false, true] {
        if shared {
            client.release(&resource).unwrap();
            client.acquire_shared(&resource, LIMIT).unwrap();
        } else {
            client.acquire(&resource, LIMIT).unwrap();
        }
        let shown = live(scratch.path());
        assert_eq!(shown["problems"], serde_json::json!([]));
        let host = &shown["hosts"][0];
        assert_eq!(host["host_name"], "beta");
        assert_eq!(host["note"], Value::Null);
        assert_eq!(host["local"], Value::Null);
        let held = shown["held"].as_array().unwrap();
        assert_eq!(held.len(), 1, "{shown}");
        assert_eq!(held[0]["lease_file"], name);
        let access = if shared { "shared" } else { "exclusive" };
        assert_eq!(held[0]["access"], access);
        assert_eq!(held[0]["host_id"], 4);
        assert_eq!(held[0]["host_name"], "beta");
        assert_eq!(held[0]["note"], Value::Null);
    }
    client.release(&resource).unwrap();
    let shown = status_json(scratch.path(), &["--no-wait"]);
    assert_eq!(shown["held"], serde_json::json!([]));
    daemon.rem_lockspace(&lockspace, 4).unwrap();
    let ended = status(scratch.path(), &[]);
    let text = ended.text();
    assert!(text.contains("beta  free"), "{text}");
    assert!(text.contains("no disk is held; lease files: 1"), "{text}");
}

/// A lease that `owner` of generation 1 holds by a leader that `writer` wrote.
fn lease_of(owner: u64, writer: u64, released: bool) -> Vec<u8> {
    let name = lease_name(Path::new(DISK));
    let mut area = lease_image(Geometry::S512_A1M, &lockspace_name(), &name, 0);
    let [by, by_generation, by_clock] = records::WRITER;
    let fields = [
        (records::VERSION, 5),
        (records::OWNER, owner),
        (records::GENERATION, 1),
        (records::TIMESTAMP, 100),
        (by, writer),
        (by_generation, 1),
        (by_clock, 100),
    ];
    records::change_leader(&mut area, &fields);
    let at = Geometry::S512_A1M.dblock_offset(HostId::new(owner).unwrap());
    let at = usize::try_from(at).unwrap();
    records::put_dblock(&mut area[at..], owner, 5, released);
    area
}

fn make_lockspace(dir: &Path) {
    let second = Duration::from_secs(1);
    LeaseDirectory::new(dir).create_lockspace(second).unwrap();
}

/// A lease directory in which host 1 of generation 1 lives, as far as its sector goes.
fn directory_with_host_1(dir: &Path) {
    make_lockspace(dir);
    let path = dir.join(LOCKSPACE_NAME);
    let mut area = fs::read(&path).unwrap();
    records::join(&mut area, 1, "h1", 50, 1);
    fs::write(path, area).unwrap();
}

#[test]
fn an_owner_whose_time_is_over_holds_nothing() {
    let scratch = scratch();
    let dir = scratch.path();
    directory_with_host_1(dir);
    let lease = dir.join(lease_name(Path::new(DISK)).to_string());
    // Owner, writer, released; whether it holds the disk.
    for (owner, writer, released, holds) in [
        (1, 1, false, true),
        // Its own leader speaks against its flag; another's does not.
        (1, 1, true, true),
        (1, 2, true, false),
        (1, 2, false, true),
        // Host 9 never lived.
        (9, 9, false, false),
    ] {
        fs::write(&lease, lease_of(owner, writer, released)).unwrap();
        let shown = status_json(dir, &["--no-wait"]);
        let held = shown["held"].as_array().unwrap();
        assert_eq!(
            held.len(),
            usize::from(holds),
            "{owner} {writer} {released}"
        );
        if holds {
            assert_eq!(held[0]["version"], 5);
            assert_eq!(held[0]["host_name"], "h1");
        }
    }
}

#[test]
fn damage_is_shown_and_nothing_else_hidden() {
    let scratch = scratch();
    let dir = scratch.path();
    directory_with_host_1(dir);
    let name = lease_name(Path::new(DISK)).to_string();
    fs::write(dir.join(&name), lease_of(1, 1, false)).unwrap();
    // A sector of the lockspace.
    let path = dir.join(LOCKSPACE_NAME);
    let mut area = fs::read(&path).unwrap();
    put(&mut area, 6, &[0xa5; 512]);
    fs::write(&path, &area).unwrap();
    // Lease files: not a lease, one of another disk, with a damaged leader, cut; and no lease files.
    let named = |n: u8| char::from(n).to_string().repeat(32);
    fs::write(dir.join(named(b'a')), [7; 5000]).unwrap();
    fs::write(dir.join(named(b'b')), lease_of(1, 1, false)).unwrap();
    let mut damaged = lease_of(1, 1, false);
    damaged[100] ^= 1;
    fs::write(dir.join(named(b'c')), damaged).unwrap();
    fs::write(dir.join(named(b'd')), &lease_of(1, 1, false)[..2000]).unwrap();
    fs::create_dir(dir.join(named(b'e'))).unwrap();
    fs::write(dir.join("README"), "not a lease").unwrap();
    fs::create_dir(dir.join("backup")).unwrap();

    let shown = status_json(dir, &["--no-wait"]);
    let hosts = shown["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 2);
    assert_eq!(hosts[1]["host_id"], 7);
    assert_eq!(hosts[1]["state"], "unknown");
    assert!(hosts[1]["error"].as_str().unwrap().contains("magic number"));
    assert_eq!(shown["held"][0]["lease_file"], name);
    let problems: Vec<&str> = shown["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem.as_str().unwrap())
        .collect();
    for (file, what) in [
        (b'a', "it holds no lease"),
        (b'b', "at byte 0: leader record: resource is"),
        (b'c', "at byte 0: leader record: checksum is"),
        (b'd', "it ends at byte 2000, before the lease does"),
        (b'e', "a directory"),
    ] {
        let said = problems
            .iter()
            .any(|problem| problem.contains(&named(file)) && problem.contains(what));
        assert!(said, "{what:?} is not in {problems:?}");
    }
    assert_eq!(shown["lease_files"], 6);
    let ended = status(dir, &["--no-wait"]);
    assert!(
        ended
            .text()
            .contains("DAMAGED: the lockspace: delta lease of host 7")
    );
    assert!(ended.text().contains("unknown (damaged)"));
}

#[test]
fn without_a_lockspace_nothing_can_be_said() {
    let scratch = scratch();
    let dir = scratch.path();
    let hint = "is the share mounted? `disklease init --lease-dir DIR` makes a new lockspace";
    status(&dir.join("missing"), &[]).expect_failure(69, hint);
    status(dir, &[]).expect_failure(69, hint);
    fs::write(dir.join(LOCKSPACE_NAME), [0; 5000]).unwrap();
    status(dir, &[]).expect_failure(69, "holds no lockspace");
    fs::write(dir.join(LOCKSPACE_NAME), lease_of(1, 1, false)).unwrap();
    status(dir, &[]).expect_failure(69, "holds no lockspace");
}

#[test]
fn a_cut_lockspace_gives_no_verdict_on_the_hosts_behind_the_cut() {
    let scratch = scratch();
    let dir = scratch.path();
    directory_with_host_1(dir);
    let name = lease_name(Path::new(DISK)).to_string();
    fs::write(dir.join(name), lease_of(9, 9, false)).unwrap();
    assert_eq!(
        status_json(dir, &["--no-wait"])["held"],
        serde_json::json!([])
    );
    let path = dir.join(LOCKSPACE_NAME);
    let area = fs::read(&path).unwrap();
    fs::write(&path, &area[..4096]).unwrap();
    let shown = status_json(dir, &["--no-wait"]);
    assert_eq!(shown["held"][0]["host_id"], 9);
    assert_eq!(shown["held"][0]["host_state"], "unknown");
}

#[test]
fn wrong_usage() {
    run(&["status"]).expect_failure(64, "--lease-dir");
    run(&["status", "--lease-dir", "x", "--watch", "1", "--no-wait"])
        .expect_failure(64, "cannot be used with");
    run(&["status", "--lease-dir", "x", "--fire-timeout", "0"]).expect_failure(64, "fire timeout");
}
