//! Disks on network storage, where writes outlive the processes that asked for them.

use std::fs;

use rustix::process::Signal;

use super::place::{Place, Running, wait_until};
use disklease_fixtures::fuse_storage as storage;

const HELD: storage::gate::Fault = storage::gate::Fault {
    target: storage::gate::Target::All,
    reads: true,
    writes: false,
    mode: storage::gate::Mode::Hold,
};

/// A view of storage that is not known to lie on block devices, with a file in it.
fn network(place: &Place) -> (storage::Mount, String) {
    let behind = place.path().join("behind");
    fs::create_dir(&behind).unwrap();
    fs::write(behind.join("disk"), vec![0; 4096]).unwrap();
    let mount = storage::Mount::new(&behind, &place.path().join("seen"), |_| {});
    let disk = mount.path().join("disk").to_str().unwrap().to_owned();
    (mount, disk)
}

fn held(place: &Place) -> usize {
    place.status()["held"].as_array().unwrap().len()
}

/// A server that is away answers no read, for as long as a write of the command may be on its way.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_disk_on_network_storage_is_kept_until_what_was_written_is_there() {
    let place = Place::new();
    let (mount, disk) = network(&place);
    let running = place.start_with(1, &["--disk", &disk], "echo ready; exec sleep 300");
    mount.gate().set(HELD);
    running.send(Signal::TERM);
    running.message("waiting until all that was written");
    assert_eq!(held(&place), 2);
    mount.gate().go_on();
    let ended = running.ended();
    assert_eq!(ended.code, Some(128 + 15), "{ended:?}");
    place.assert_free();
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_held_process_keeps_its_disk_on_network_storage_until_what_it_wrote_is_there() {
    let place = Place::new();
    let (mount, disk) = network(&place);
    let mut guest = super::hold::Guest::start("exec sleep 300");
    let running = guest.hold(&place, &["--disk", &disk]);
    mount.gate().set(HELD);
    running.send(Signal::TERM);
    guest.end();
    running.message("waiting until all that was written");
    assert_eq!(held(&place), 2);
    // The storage fails, and then it does not.
    mount.gate().set(storage::gate::Fault {
        mode: storage::gate::Mode::Fail,
        ..HELD
    });
    mount.gate().drop_held();
    running.message("its lock is kept until its storage answers");
    assert_eq!(held(&place), 2);
    mount.gate().go_on();
    assert_eq!(running.ended().code, Some(0));
    place.assert_free();
}

/// Nobody knows when it will have ended; who waits can be asked to stop, and then all is left to expire.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_wait_for_network_storage_can_be_ended() {
    let place = Place::new();
    let (mount, disk) = network(&place);
    let running = place.start_with(1, &["--disk", &disk], "echo ready; exec sleep 300");
    mount.gate().set(HELD);
    running.send(Signal::TERM);
    running.message("waiting until all that was written");
    running.send(Signal::TERM);
    running.message("once more ends at once");
    running.send(Signal::TERM);
    // What hangs in the storage keeps it from ending whole.
    running.message("SIGTERM: ended before all disks were given back");
    mount.gate().drop_held();
    running.ended();
    assert_eq!(held(&place), 2);
}

/// A killed one's writes may land after a join that does not wait.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn the_next_run_after_one_with_disks_on_network_storage_waits() {
    let place = Place::new();
    let (_mount, disk) = network(&place);
    let script = "echo ready; exec sleep 300";
    for (disk, waits) in [(&*disk, true), ("/dev/null", false)] {
        let options = ["--fire-timeout", "4", "--disk", disk];
        let running = place.start_with(1, &options, script);
        let chain = running.chain();
        place.wait_for_renewal();
        running.send(Signal::KILL);
        running.ended();
        super::place::ended_within(super::place::LIMIT, &chain);
        let next = Running::spawn(&mut place.command(1, &options, &["true"]));
        let ended = next.ended();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let said = "waiting to see whether it still lives";
        assert_eq!(ended.stderr.contains(said), waits, "{ended:?}");
    }
    wait_until("all is given back", || held(&place) == 0);
}
