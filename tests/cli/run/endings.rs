//! What becomes of a command and all below it when one of the chain ends.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::place::{AT_ONCE, FAMILY, LIMIT, Place, ended_within, wait_until};
use disklease_fixtures::fuse_storage as storage;

#[test]
fn a_command_that_is_killed_frees_its_disk_at_once_and_what_it_left_behind_is_ended() {
    let place = Place::new();
    let running = place.start(1, FAMILY);
    let family = running.processes(&running.line());
    assert_eq!(family.len(), 3);
    let killed = Instant::now();
    kill_process(family[0], Signal::KILL).unwrap();
    wait_until("it is freed", || {
        place.status()["held"].as_array().unwrap().is_empty()
    });
    let took = killed.elapsed();
    println!("measured: free {took:?} after the command was killed");
    assert!(took < AT_ONCE, "{took:?}");
    ended_within(Duration::ZERO, &family);
    assert_eq!(running.ended().code, Some(128 + 9));
    place.assert_free();
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn what_a_command_leaves_behind_does_not_outlive_it_and_is_named() {
    for (contain, code, told) in [("pidns", 5, 5), ("none", 0, 70)] {
        let place = Place::new();
        let end = format!("; while ! [ -e go ]; do sleep 0.01; done; exit {code}");
        let script = FAMILY.replace("; wait", &end);
        let running = place.start_with(1, &["--contain", contain], &script);
        let family = running.processes(&running.line());
        fs::write(place.path().join("go"), "").unwrap();
        let ended = running.ended();
        assert_eq!(ended.code, Some(told), "{ended:?}");
        let named = ended
            .stderr
            .matches("(sleep) was left behind by the command")
            .count();
        assert_eq!(named, 2, "{ended:?}");
        ended_within(Duration::ZERO, &family);
        place.assert_free();
    }
}

/// What is just ending when the command does is no leftover.
#[test]
fn the_rest_of_a_pipe_is_not_left_behind() {
    let place = Place::new();
    let ended = place.run(1, &[], &["sh", "-c", "yes | head -n 1"]);
    assert_eq!((ended.code, &*ended.stdout), (Some(0), "y\n"), "{ended:?}");
    assert!(!ended.stderr.contains("left behind"), "{ended:?}");
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn whichever_of_the_chain_is_killed_takes_the_command_along_with_all_below_it() {
    for contain in ["pidns", "none"] {
        for killed in 0..3 {
            let place = Place::new();
            let running = place.start_with(1, &["--contain", contain], FAMILY);
            let mut family = running.processes(&running.line());
            let [keeper, guardian] = running.chain();
            family.extend([keeper, guardian]);
            let chain = [running.pid(), keeper, guardian];
            place.wait_for_renewal();
            kill_process(chain[killed], Signal::KILL).unwrap();
            // Long before the lock could expire, which is 8 s after its last renewal.
            let took = ended_within(AT_ONCE, &family);
            println!("measured: {contain}: all had ended {took:?} after {killed} was killed");
            let ended = running.ended();
            if killed > 0 {
                assert_eq!(ended.code, Some(128 + 9), "{ended:?}");
                assert!(ended.stderr.contains("was killed, and the command with it"));
                place.assert_free();
            }
            if contain == "none" {
                continue;
            }
            // The next run of this host id need not wait for it: all of it has ended for certain.
            let ended = place.run(1, &[], &["echo", "mine"]);
            assert_eq!(
                (ended.code, &*ended.stdout),
                (Some(0), "mine\n"),
                "{ended:?}"
            );
        }
    }
}

/// With all three killed at once nobody of ours is left to kill anything: the kernel does.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn a_namespace_ends_with_its_chain() {
    let place = Place::new();
    let running = place.start_with(1, &["--contain", "pidns"], FAMILY);
    let family = running.processes(&running.line());
    let chain = running.chain();
    for process in [running.pid(), chain[0], chain[1]] {
        kill_process(process, Signal::STOP).unwrap();
    }
    for process in [running.pid(), chain[0], chain[1]] {
        let _ = kill_process(process, Signal::KILL);
    }
    ended_within(AT_ONCE, &family);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn a_chain_that_is_stopped_ends_the_command_all_the_same_when_the_run_is_killed() {
    for contain in ["pidns", "none"] {
        let place = Place::new();
        let running = place.start_with(1, &["--contain", contain], FAMILY);
        let family = running.processes(&running.line());
        for process in running.chain() {
            kill_process(process, Signal::STOP).unwrap();
        }
        running.send(Signal::KILL);
        ended_within(AT_ONCE, &family);
    }
}

/// The command sees processes by the numbers that they have there, and none of ours but its first.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn a_contained_command_has_a_proc_of_its_own() {
    let place = Place::new();
    let show = "readlink /proc/self; echo $$; ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm";
    let ended = place.run(1, &["--contain", "pidns"], &["sh", "-c", show]);
    let lines: Vec<_> = ended.stdout.lines().collect();
    // The shell, `ls` and `wc`, of which one may not have started.
    assert!(lines[0].parse::<u32>().unwrap() < 10, "{ended:?}");
    assert_eq!(lines[1], "2", "{ended:?}");
    assert!(
        (2..=5).contains(&lines[2].parse::<u32>().unwrap()),
        "{ended:?}"
    );
    assert_eq!(lines[3], "disklease-guard", "{ended:?}");
}

/// A process that hangs in the kernel cannot be killed, and what it does there may yet reach the disk.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_disk_is_kept_while_anything_of_a_command_hangs_in_the_kernel() {
    let place = Place::new();
    let image = place.path().join("image");
    fs::create_dir(&image).unwrap();
    fs::write(image.join("disk"), vec![0; 4096]).unwrap();
    let mount = storage::Mount::new(&image, &place.path().join("seen"), |_| {});
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
    let running = place.start(1, &script);
    let family = running.processes(&running.line());
    let began = Instant::now();
    while mount.gate().held_since_before(Instant::now()) == 0 {
        assert!(began.elapsed() < LIMIT, "it does not write");
        thread::sleep(Duration::from_millis(10));
    }
    kill_process(running.chain()[1], Signal::KILL).unwrap();
    // What is below it can be killed, and may write to other disks.
    ended_within(AT_ONCE, &family[1..]);
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(500));
        place.assert_held_by(1);
    }
    mount.gate().drop_held();
    let ended = running.ended();
    assert_eq!(ended.code, Some(128 + 9), "{ended:?}");
    let said = "guardian of the command was killed";
    assert!(ended.stderr.contains(said), "{ended:?}");
    place.assert_free();
}

/// As on NFS while the server is out of reach: the run cannot end, and what it holds stays open.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_run_that_is_killed_and_hangs_in_its_storage_takes_its_command_along() {
    for contain in ["pidns", "none"] {
        let mut place = Place::new();
        // Its lease is there.
        assert_eq!(place.run(1, &[], &["true"]).code, Some(0));
        let mount = storage::Mount::new(&place.leases(), &place.path().join("seen"), |_| {});
        place.see_through(mount.path());
        let running = place.start_with(1, &["--contain", contain], FAMILY);
        let mut family = running.processes(&running.line());
        family.extend(running.chain());
        mount.gate().set(storage::gate::Fault {
            target: storage::gate::Target::All,
            reads: true,
            writes: true,
            mode: storage::gate::Mode::Hold,
        });
        wait_until("a renewal hangs", || {
            mount.gate().held_since_before(Instant::now()) > 0
        });
        running.send(Signal::KILL);
        ended_within(AT_ONCE, &family);
        // A zombie, with a thread that hangs.
        let threads = fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap();
        assert!(threads.count() > 1, "the run has ended, and shows nothing");
        mount.gate().drop_held();
        running.ended();
    }
}
