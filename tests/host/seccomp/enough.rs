//! The lists are enough for all that they are said to be for.

use std::os::unix::process::ExitStatusExt as _;
use std::thread;
use std::time::{Duration, Instant};

use disklease::LockManager as _;
use rustix::process::{Pid, Signal, kill_process};

use super::holder::{Holder, disks_of};
use crate::fencing::place::{ALL_OVER, Place};
use disklease_fixtures::host::{Child, SOON, disks, wait_until};

/// Hears up to a word that begins with `until`, and gives that.
pub(crate) fn hear_until(child: &Child, until: &str) -> String {
    loop {
        let word = child.hear(SOON);
        if word.starts_with(until) {
            return word;
        }
    }
}

/// Hears all of these words, in whatever order: several threads and processes say them.
fn hear_all<'a>(child: &Child, words: impl Iterator<Item = &'a str>) {
    let mut missing: Vec<_> = words.collect();
    while !missing.is_empty() {
        let word = child.hear(SOON);
        missing.retain(|missing| *missing != word);
    }
}

/// Whether its main thread has been killed. Others hang in the kernel until their storage is healed.
pub(crate) fn is_dead(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Or it would leave a core, and waits for the others.
    stat.contains(") Z ") || stat.contains(") I ")
}

pub(crate) fn wait_for_death(process: Pid) {
    wait_until("its death", SOON, || is_dead(process).then_some(()));
}

pub(crate) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.pid().try_into().unwrap()).unwrap()
}

/// Heals its storage when it is dropped: a test that fails is not to wait for what hangs.
pub(crate) struct Healed<'a>(pub(crate) &'a Place);

impl Drop for Healed<'_> {
    fn drop(&mut self) {
        self.0.heal();
    }
}

fn ends_well(mut child: Child) {
    let ended = child.end();
    assert!(ended.success(), "{ended}");
}

/// A place with the leases of these hosts.
pub(crate) fn place_of(hosts: impl IntoIterator<Item = u64>, hangs: bool) -> Place {
    let paths: Vec<_> = hosts.into_iter().flat_map(disks_of).collect();
    Place::new(&paths, hangs)
}

/// The holder, once it holds, and the process that it holds for.
fn start(place: &Place, host: u64, hangs: bool, lists: &str, how: &str) -> (Child, Pid) {
    let holder = Holder {
        lists,
        without: None,
        host,
        hangs,
        how,
    };
    let child = holder.start(place.of_holders());
    let held = hear_until(&child, "held for ");
    let owner = held["held for ".len()..].parse().unwrap();
    (child, Pid::from_raw(owner).unwrap())
}

/// Nobody has the disks of `host` any more.
fn assert_free(place: &Place, host: u64) {
    let [first, second] = disks_of(host);
    let guard = place.observer().acquire(disks(&[&first, &second])).unwrap();
    guard.release().unwrap();
}

/// Four scans of the lockspace are 4 MB. What an allocator keeps for the next one is less.
const GROWTH_KIB: u64 = 2_500;

fn resident_kib(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn to_hold_and_to_release() {
    let place = place_of([1], false);
    let (mut holder, pid) = start(&place, 1, false, "Holding", "holding");
    for _ in 0..2 {
        place.next_renewal(1);
    }
    let resident = resident_kib(pid);
    for _ in 0..4 {
        place.next_renewal(1);
    }
    let grown = resident_kib(pid).saturating_sub(resident);
    assert!(grown < GROWTH_KIB, "{grown} KiB in 4 renewals");
    // What waits in the kernel goes on afterwards by a call of its own.
    kill_process(pid, Signal::STOP).unwrap();
    thread::sleep(Duration::from_secs(1));
    kill_process(pid, Signal::CONT).unwrap();
    for _ in 0..2 {
        place.next_renewal(1);
    }
    holder.let_go();
    hear_until(&holder, "released");
    assert_free(&place, 1);
    ends_well(holder);
}

#[test]
fn when_threads_come_and_go() {
    let place = place_of([1, 2], false);
    let (growing, _) = start(&place, 1, false, "Holding+Threads", "growing");
    let (supervises, owner) = start(&place, 2, false, "Holding+Threads+Owners", "owned");
    kill_process(owner, Signal::KILL).unwrap();
    assert_eq!(hear_until(&supervises, "lost"), "lost: OwnerEnded");
    wait_until("what was held for it", SOON, || {
        place.observer().acquire(disks(&[&disks_of(2)[0]])).ok()
    })
    .release()
    .unwrap();
    ends_well(supervises);
    ends_well(growing);
    assert_free(&place, 1);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn when_locks_are_in_danger_and_when_they_are_lost() {
    thread::scope(|scope| {
        for (lists, how, more) in [
            ("Holding", "stops", None),
            ("Holding+Stopping", "goes-on", None),
            ("Holding+Stopping+Threads", "callback", Some("called")),
            ("Holding+Owners+Threads", "owned", Some("asked")),
            ("Holding", "spared", None),
        ] {
            scope.spawn(move || is_in_danger_and_loses(lists, how, more));
        }
    });
}

/// On storage of its own: several holders are not warned and lost at the same time.
fn is_in_danger_and_loses(lists: &str, how: &str, more: Option<&str>) {
    let place = place_of([1], true);
    let (mut holder, owner) = start(&place, 1, true, lists, how);
    let _healed = Healed(&place);

    // Good again just in time.
    place.hang();
    hear_until(&holder, "warned");
    place.heal();
    hear_until(&holder, "renewed");

    place.hang();
    let begun = Instant::now();
    hear_all(
        &holder,
        ["not held", "lost: NotRenewed"].into_iter().chain(more),
    );
    match how {
        "goes-on" | "callback" => wait_for_death(pid_of(&holder)),
        // A child that nobody has waited for.
        "owned" => wait_for_death(owner),
        "spared" => drop(hear_until(&holder, "stopped")),
        _ => {}
    }
    thread::sleep(ALL_OVER.saturating_sub(begun.elapsed()));
    place.heal();
    if matches!(how, "goes-on" | "callback") {
        let ended = holder.end();
        assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()), "{ended}");
    } else {
        ends_well(holder);
    }
}
