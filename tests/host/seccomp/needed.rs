//! No call on the lists can be spared: without it the kernel kills the process.

use std::os::unix::process::ExitStatusExt as _;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::enough::{Healed, is_dead, pid_of, place_of, wait_for_death};
use super::holder::Holder;
use super::lists::List;
use disklease_fixtures::host::{Child, SOON, wait_until};

/// Called in every holder that renews, is stopped for a moment, releases from two threads at once, and leaves.
const WELL: [&str; 12] = [
    "clone3",
    "close",
    "exit",
    "flock",
    "futex",
    "getpid",
    "pread64",
    "pwritev2",
    "restart_syscall",
    "statx",
    "timer_delete",
    "timer_settime",
];

/// Called in every holder that loses its locks, and goes on.
const LOST: [&str; 3] = ["kill", "read", "write"];

/// The same where another process owns them.
const OWNER_LOST: [&str; 2] = ["pidfd_send_signal", "ppoll"];

/// Called or not as memory, the business of the machine, and the versions of Rust and glibc have it.
const BY_CHANCE: [&str; 16] = [
    "brk",
    "clock_gettime",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "openat",
    "prctl",
    "rseq",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "sigaltstack",
];

/// Holders without one of `calls` each, which hold by now or have been killed.
fn start_without(
    dir: &std::path::Path,
    calls: &[&'static str],
    of: Holder<'_>,
) -> Vec<(&'static str, Child)> {
    let hosts = of.host..;
    let start = |(&without, host)| {
        let holder = Holder {
            without: Some(without),
            host,
            ..of
        };
        (without, holder.start(dir))
    };
    calls.iter().zip(hosts).map(start).collect()
}

/// Waits until each of them holds, or has been killed.
fn hold_or_are_killed(holders: &[(&str, Child)]) {
    for (_, child) in holders {
        wait_until("it to hold, or its end", SOON, || {
            let heard = child.try_hear(Duration::from_millis(10));
            let holds = heard.is_some_and(|word| word.starts_with("held for "));
            (holds || is_dead(pid_of(child))).then_some(())
        });
    }
}

/// Waits until each of them has been killed for its call.
fn all_are_killed(holders: Vec<(&'static str, Child)>) {
    let ends = holders.into_iter().map(|(call, mut child)| {
        let ended = child.end();
        println!("without {call}: {ended}");
        (call, ended.signal())
    });
    let others: Vec<_> = ends
        .filter(|(_, signal)| *signal != Some(libc::SIGSYS))
        .collect();
    assert!(others.is_empty(), "not needed: {others:?}");
}

#[test]
fn each_call_on_a_list_is_looked_at_here() {
    let mut here = [&WELL[..], &LOST, &OWNER_LOST, &BY_CHANCE].concat();
    here.sort_unstable();
    let lists = [List::Holding, List::Stopping, List::Owners, List::Threads];
    let mut listed: Vec<_> = lists.into_iter().flat_map(List::calls).collect();
    listed.sort_unstable();
    assert_eq!(here, listed);
}

#[test]
fn by_a_holder_whose_storage_works() {
    let count = u64::try_from(WELL.len()).unwrap();
    let place = place_of(1..=count, false);
    let of = Holder {
        lists: "Holding+Threads",
        without: None,
        host: 1,
        hangs: false,
        how: "growing",
    };
    let mut holders = start_without(place.of_holders(), &WELL, of);
    hold_or_are_killed(&holders);
    // And have renewed once.
    thread::sleep(Duration::from_secs(3));
    let signal = |signal| {
        for (_, child) in &holders {
            // A process that has been killed is there until it is waited for.
            kill_process(pid_of(child), signal).unwrap();
        }
    };
    signal(Signal::STOP);
    thread::sleep(Duration::from_millis(500));
    signal(Signal::CONT);
    for (_, child) in &mut holders {
        child.let_go();
    }
    all_are_killed(holders);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn by_a_holder_whose_locks_are_lost() {
    let place = place_of(1..=5, true);
    let dir = place.of_holders();
    let of = Holder {
        lists: "Holding+Stopping",
        without: None,
        host: 1,
        hangs: true,
        how: "goes-on",
    };
    let mut holders = start_without(dir, &LOST, of);
    let of = Holder {
        lists: "Holding+Owners+Threads",
        host: 4,
        how: "owned",
        ..of
    };
    holders.extend(start_without(dir, &OWNER_LOST, of));
    hold_or_are_killed(&holders);
    place.hang();
    let healed = Healed(&place);
    for (call, child) in &holders {
        println!("without {call}");
        wait_for_death(pid_of(child));
    }
    drop(healed);
    all_are_killed(holders);
}
