//! Each row of the table of a holder's duties, at its time.

use std::time::{Duration, Instant};

use super::holder::{WROTE, disk, hear_until, start};
use super::place::{ALL_OVER, KILLED, LOST, Place, WARNED};
use disklease_fixtures::host::{Child, N, SOON, wait_until};

/// What is measured from outside may be this much off on a busy machine; the next step is due 2 s later.
const OFF: Duration = Duration::from_millis(1500);

/// How many holders are inspected side by side: a busy machine is late for some of them.
const HOLDERS: u64 = 5;

/// All I/O of these holders hangs; gives when each of them was last seen to renew.
fn hang_all(place: &Place, hosts: impl Iterator<Item = u64>) -> Vec<Instant> {
    place.hang();
    std::thread::sleep(Duration::from_millis(100));
    hosts.map(|host| place.renewed(host)).collect()
}

/// A time counts from before the write of the renewal, which was seen after that.
const WRITE: Duration = N;

/// Each measured time may be late by the business of the machine, the middle one by no more than [`OFF`], and none
/// may be early.
#[track_caller]
fn judge(what: &str, due: Duration, mut measured: Vec<Duration>) {
    measured.sort();
    println!("measured: {what} due at {due:?}: {measured:?}");
    let early = due - WRITE;
    assert!(
        measured[0] >= early,
        "{what} at {measured:?}, before {due:?}"
    );
    let middle = measured[measured.len() / 2];
    assert!(middle <= due + OFF, "{what} at {measured:?}, not {due:?}");
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_holder_in_its_own_process_is_warned_told_and_killed_in_time() {
    let hosts = || 1..=HOLDERS;
    let paths: Vec<_> = hosts().map(disk).collect();
    let place = Place::new(&paths, true);
    let mut holders: Vec<_> = hosts()
        .map(|host| start(place.of_holders(), host, true, "stubborn"))
        .collect();
    for holder in &holders {
        hear_until(holder, "held");
    }
    let renewed = hang_all(&place, hosts());
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let watches: Vec<_> = holders
            .iter_mut()
            .zip(renewed)
            .map(|(holder, renewed)| scope.spawn(move || watch(holder, renewed)))
            .collect();
        watches
            .into_iter()
            .map(|watch| watch.join().unwrap())
            .collect()
    });
    // What hangs there keeps their ends from being taken in.
    place.heal();
    let all = |of: fn(&Seen) -> Duration| seen.iter().map(of).collect::<Vec<_>>();
    judge("warned", WARNED, all(|seen| seen.warned));
    judge("lost", LOST, all(|seen| seen.lost));
    judge("not held", LOST, all(|seen| seen.not_held));
    judge("killed", KILLED, all(|seen| seen.last_write));
    for seen in &seen {
        assert!(seen.last_write < ALL_OVER, "wrote at {:?}", seen.last_write);
    }
}

struct Seen {
    warned: Duration,
    lost: Duration,
    not_held: Duration,
    last_write: Duration,
}

/// Hears a holder to its end.
fn watch(holder: &Child, renewed: Instant) -> Seen {
    let mut seen = Seen {
        warned: Duration::ZERO,
        lost: Duration::ZERO,
        not_held: Duration::ZERO,
        last_write: Duration::ZERO,
    };
    // Its threads that hang in the storage do not end, nor does its end of the pipe: silence is how its end is seen.
    while let Some(word) = holder.try_hear(Duration::from_secs(3)) {
        let at = renewed.elapsed();
        match &*word {
            WROTE => seen.last_write = at,
            "warned" => seen.warned = at,
            "lost" => seen.lost = at,
            "not held" => seen.not_held = at,
            other => panic!("{other}"),
        }
        assert!(at < 3 * ALL_OVER, "it goes on writing");
    }
    seen
}

/// A guest that was stopped in time is spared, and so is its process; when the storage is back it can go on.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_holder_that_says_it_has_stopped_is_spared() {
    let place = Place::new(&[disk(1)], true);
    let mut holder = start(place.of_holders(), 1, true, "obedient");
    hear_until(&holder, "held");
    let renewed = place.next_renewal(1);
    place.hang();
    let (stopped, _) = hear_until(&holder, "stopped");
    let took = stopped.duration_since(renewed);
    assert!(took > LOST - OFF && took < KILLED, "{took:?}");
    std::thread::sleep((ALL_OVER + OFF).saturating_sub(renewed.elapsed()));
    place.heal();
    assert!(holder.ended_well());
}

/// An action that hangs does not delay the killing.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn an_action_is_run_at_the_loss_and_may_hang() {
    std::thread::scope(|scope| {
        for how in ["helper", "callback"] {
            scope.spawn(move || {
                let place = Place::new(&[disk(1)], true);
                let holder = start(place.of_holders(), 1, true, how);
                hear_until(&holder, "held");
                let renewed = place.next_renewal(1);
                place.hang();
                if how == "callback" {
                    let (called, _) = hear_until(&holder, "called");
                    judge("called", LOST, vec![called.duration_since(renewed)]);
                } else {
                    let helped = place.of_holders().join("helped");
                    let text = wait_until("the helper", SOON, || {
                        std::fs::read_to_string(&helped)
                            .ok()
                            .filter(|text| text.ends_with('\n'))
                    });
                    judge("helped", LOST, vec![renewed.elapsed()]);
                    assert_eq!(text, "pause\n");
                }
                let mut last_write = Duration::ZERO;
                while let Some(word) = holder.try_hear(Duration::from_secs(3)) {
                    if word == WROTE {
                        last_write = renewed.elapsed();
                        assert!(last_write < 3 * ALL_OVER, "it goes on writing");
                    }
                }
                assert!(
                    last_write > KILLED - OFF && last_write < ALL_OVER,
                    "{last_write:?}"
                );
                place.heal();
            });
        }
    });
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn one_whose_loss_is_ignored_is_told_and_lives_on() {
    let place = Place::new(&[disk(1)], true);
    let holder = start(place.of_holders(), 1, true, "ignore");
    hear_until(&holder, "held");
    let renewed = place.next_renewal(1);
    place.hang();
    hear_until(&holder, "lost");
    std::thread::sleep((ALL_OVER + OFF).saturating_sub(renewed.elapsed()));
    let pid = rustix::process::Pid::from_raw(holder.pid().try_into().unwrap()).unwrap();
    rustix::process::test_kill_process(pid).unwrap();
    place.heal();
}
