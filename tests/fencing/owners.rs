//! Locks that belong to another process.

use std::time::{Duration, Instant};

use disklease::LockManager as _;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::holder::{disk, hear_until, start};
use super::place::{ALL_OVER, KILLED, LOST, Place};
use crate::support::{Child, SOON, disks, wait_until};

/// The process that the disk is held for, once it is and that runs.
fn owner_of(holder: &Child) -> Pid {
    let (mut pid, mut runs) = (None, false);
    while pid.is_none() || !runs {
        let word = holder.hear(SOON);
        if word == "runs" {
            runs = true;
        } else {
            let number = word.strip_prefix("held for ").unwrap().parse().unwrap();
            pid = Pid::from_raw(number);
        }
    }
    pid.unwrap()
}

#[test]
fn what_a_process_held_is_free_as_soon_as_it_is_killed() {
    let place = Place::new(&[disk(1)], false);
    let mut holder = start(place.of_holders(), 1, false, "owner");
    let owner = owner_of(&holder);
    let error = place.observer().acquire(disks(&[&disk(1)])).unwrap_err();
    assert!(error.is_held(), "{error}");
    let killed = Instant::now();
    kill_process(owner, Signal::KILL).unwrap();
    let guard = wait_until("the lock", SOON, || {
        place.observer().acquire(disks(&[&disk(1)])).ok()
    });
    let took = killed.elapsed();
    println!("measured: free {took:?} after the owner was killed");
    assert!(took < Duration::from_secs(1), "{took:?}");
    guard.release().unwrap();
    // Its manager lives, and has nothing left to give back.
    assert!(holder.ended_well());
}

#[test]
fn an_owner_is_asked_to_end_when_its_lock_is_lost_and_killed_when_it_does_not() {
    let place = Place::new(&[disk(1)], true);
    let mut holder = start(place.of_holders(), 1, true, "owner");
    let owner = owner_of(&holder);
    let renewed = place.next_renewal(1);
    place.hang();
    let (asked, _) = hear_until(&holder, "asked");
    let asked = asked.duration_since(renewed);
    let gone = wait_until("the end of the owner", SOON, || {
        let state = std::fs::read_to_string(format!("/proc/{owner}/stat"));
        let ended = state.map_or(true, |stat| stat.contains(") Z "));
        ended.then(|| renewed.elapsed())
    });
    println!("measured: asked at {asked:?}, gone at {gone:?}");
    let late = Duration::from_secs(1);
    assert!(asked > LOST - late && asked < LOST + late, "{asked:?}");
    assert!(gone > KILLED - late && gone < ALL_OVER, "{gone:?}");
    // Its manager is spared: it holds nothing any more.
    std::thread::sleep((ALL_OVER + late).saturating_sub(renewed.elapsed()));
    place.heal();
    assert!(holder.ended_well());
}

#[test]
fn a_manager_that_is_killed_takes_what_it_started_along() {
    let place = Place::new(&[disk(1)], false);
    let mut holder = start(place.of_holders(), 1, false, "owner");
    let owner = owner_of(&holder);
    holder.kill();
    wait_until("the end of the owner", SOON, || {
        test_kill_process(owner).err()
    });
}
