//! Guests that are suspended and go on elsewhere, or after their locks were lost.

use std::thread;
use std::time::Duration;

use disklease::format::{HostNote, NoteState};
use serde_json::json;

use super::party::{LIMIT, Place};
use disklease_fixtures::sanlock::wait_until;

/// More than 8N.
const LOST: Duration = Duration::from_secs(10);

#[test]
fn a_suspended_guest_goes_on_on_any_host_until_somebody_had_its_disk() {
    let place = Place::new();
    let [mut first, mut second, mut third] = place.hosts();
    assert_eq!(first.ok("start"), 1);
    let state = first.ok("suspend");
    let state = state.as_str().unwrap().to_owned();
    assert!(
        state.starts_with("__LIBVIRT__DISKS__:") && state.ends_with(":0:1"),
        "{state}"
    );
    assert!(!first.runs());
    first.0.kill9();
    let resumed = second.ask("resume", json!({"state": state}));
    assert_eq!(resumed.unwrap(), 2);
    assert!(second.runs());
    for party in [&mut third, &mut second] {
        // While it runs, and then when it ran; on the host itself, too.
        let refused = party.ask("resume", json!({"state": state})).unwrap_err();
        let in_the_way = ["host 2 \"ours2\"", "another guard of this process"];
        assert!(
            in_the_way.iter().any(|part| refused.contains(part)),
            "{refused}"
        );
        assert!(party.ask("resume", json!({"state": state})).is_err());
    }
    second.ok("release");
    for party in [&mut third, &mut second] {
        let refused = party.ask("resume", json!({"state": state})).unwrap_err();
        for part in ["at version 2, not at 1", "host 2 \"ours2\"", "had it since"] {
            assert!(refused.contains(part), "{refused}");
        }
    }
}

/// Waits until host 1 has renewed for the first time in its life: before that, nothing proves on the disk whose it is,
/// and its next life would wait for the end of this one.
fn wait_for_process_token(place: &Place) {
    let lockspace = place.path().join("__LIBVIRT__DISKS__");
    wait_until("the process token", LIMIT, || {
        let sector = &std::fs::read(&lockspace).unwrap()[..512];
        let NoteState::Present(note) = HostNote::read_from(sector) else {
            return None;
        };
        (note.process_token != 0).then_some(())
    });
}

/// The process stands still for as long as an outage of its storage would last: its guard is lost, its
/// guest paused; it leaves, joins again, and its guest goes on. Not the second time: somebody came.
#[test]
fn a_guest_whose_locks_were_lost_goes_on_after_a_new_join() {
    let place = Place::new();
    let mut host = place.host(1);
    assert_eq!(host.ok("start"), 1);
    let lose = |host: &mut super::party::Party| {
        wait_for_process_token(&place);
        host.0.stop();
        thread::sleep(LOST);
        host.0.resume();
        assert!(!host.runs());
        let state = host.ok("suspend");
        // What cannot be freed on the disk is reported, and left.
        let _ = host.ask("leave", json!({}));
        state
    };
    let state = lose(&mut host);
    assert_eq!(host.0.join(place.path(), 1), 2);
    let resumed = host.ask("resume", json!({"state": state}));
    assert_eq!(resumed.unwrap(), 2);
    assert!(host.runs());

    let state = lose(&mut host);
    assert_eq!(host.0.join(place.path(), 1), 3);
    assert_eq!(host.ok("start"), 3);
    host.ok("release");
    let refused = host.ask("resume", json!({"state": state})).unwrap_err();
    assert!(refused.contains("at version 3, not at 2"), "{refused}");
    assert!(refused.contains("host 1"), "{refused}");
}
