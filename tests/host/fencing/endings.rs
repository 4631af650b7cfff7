//! What each way of ending leaves on the disk, as other hosts see it, and how soon the next incarnation of the host comes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use disklease::inspect::{LeaseDirectoryStatus, StatusOptions, Watch};
use disklease::{
    DeltaReleaseErrorKind, HostState, LeaseDirectory, LeaveError, LockGuard, LockManager as _,
    PaxosManager, ReleaseErrorKind, WaitLimit, WriteError,
};
use rustix::process::{Pid, Signal, kill_process};

use super::holder::disk;
use super::place::{ALL_OVER, Place, join};
use disklease_fixtures::host::{
    AT_ONCE, Child, SOON, child_role, disks, host_id, say, wait_for_parent, wait_for_process_token,
};

/// What somebody else finds who comes right after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Lock and host id are free.
    Free,
    /// Both look owned.
    Owned,
}

/// How the process ends: by its own code, or by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Code(i32),
    Signal(i32),
}

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// The table of `docs/embedding.md`.
const ALL: [(&str, End, Found); 9] = [
    ("leave", End::Code(0), Found::Free),
    ("drop", End::Code(0), Found::Free),
    ("drop the guard last", End::Code(0), Found::Free),
    // That of a test that has failed.
    ("panic", End::Code(101), Found::Free),
    ("exit", End::Code(7), Found::Owned),
    ("abort", End::Signal(SIGABRT), Found::Owned),
    // With the next thing that its lockspace needs memory for.
    ("no memory", End::Signal(SIGABRT), Found::Owned),
    ("terminated", End::Signal(SIGTERM), Found::Owned),
    ("killed", End::Signal(SIGKILL), Found::Owned),
];

/// Whether this process is given no more memory.
static NONE_LEFT: AtomicBool = AtomicBool::new(false);

struct Memory;

#[global_allocator]
static MEMORY: Memory = Memory;

// SAFETY: what it gives is the system's, asked for and given back with the same layout, or nothing, as is allowed.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if NONE_LEFT.load(Ordering::Relaxed) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block, which was given by the system.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Hosts above this end like those below it, and are not started anew but waited out.
const WAITED_OUT: u64 = 20;

/// A child's side; does nothing in the test run itself.
#[test]
fn entry() {
    let Some((role, dir)) = child_role() else {
        return;
    };
    let words: Vec<&str> = role.splitn(3, ' ').collect();
    let (host, leases, how) = (words[0].parse().unwrap(), dir.join(words[1]), words[2]);
    let begun = Instant::now();
    let manager = join(&leases, &dir, host, &format!("host{host}"));
    let joined = begun.elapsed();
    let guard = manager.acquire(disks(&[&disk(host)])).unwrap();
    let generation = manager.lockspace().generation();
    say(&format!("held {generation} {}", joined.as_millis()));
    if how == "leave without a guard" {
        guard.release().unwrap();
        say("released");
        wait_for_parent();
        return leave(manager);
    }
    wait_for_parent();
    end(how, manager, guard);
}

fn end(how: &str, manager: PaxosManager, guard: LockGuard) {
    match how {
        "leave" => {
            guard.release().unwrap();
            manager.lockspace().clone().leave().unwrap();
        }
        "drop" => {
            drop(guard);
            drop(manager);
        }
        "drop the guard last" => {
            drop(manager);
            drop(guard);
        }
        "panic" => {
            // Nothing is wrong that anybody should read of.
            std::panic::set_hook(Box::new(|_| {}));
            panic!("as it is meant to");
        }
        "exit" => std::process::exit(7),
        "abort" => std::process::abort(),
        "no memory" => {
            NONE_LEFT.store(true, Ordering::Relaxed);
            loop {
                thread::sleep(SOON);
            }
        }
        // With storage that hangs.
        "release and leave" => {
            let begun = Instant::now();
            let error = guard.release().unwrap_err();
            let is_told = matches!(error.kind(), ReleaseErrorKind::Lease(_));
            tell("release", begun, is_told, &error.to_string());
            leave(manager);
        }
        "drop all" => {
            let begun = Instant::now();
            drop(guard);
            drop(manager);
            tell("drop", begun, true, "");
        }
        other => panic!("{other}"),
    }
}

/// Leaves while the storage hangs.
fn leave(manager: PaxosManager) {
    let begun = Instant::now();
    let error = manager.lockspace().clone().leave().unwrap_err();
    let timed_out =
        |kind: &_| matches!(kind, DeltaReleaseErrorKind::Write(WriteError::TimedOut(_)));
    let is_told = match &error {
        LeaveError::IoInFlight { .. } => true,
        LeaveError::NotFreed { error, .. } => timed_out(error.kind()),
        _ => false,
    };
    tell("leave", begun, is_told, &error.to_string());
    // It has left: the last handle has nothing to do.
    let begun = Instant::now();
    drop(manager);
    tell("the last handle", begun, true, "");
}

fn tell(what: &str, begun: Instant, is_told: bool, error: &str) {
    let took = begun.elapsed().as_millis();
    say(&format!("{what}|{took}|{is_told}|{error}"));
}

/// A holder that has its lock, with what it says of that: its generation, and how long it took to join.
struct Holder {
    child: Child,
    generation: u64,
    joined: Duration,
}

impl Holder {
    fn start(place: &Place, host: u64, leases: &str, how: &str) -> Self {
        let role = format!("{host} {leases} {how}");
        let child = Child::start("fencing::endings::entry", &role, place.of_holders());
        let word = child.hear(SOON);
        let words: Vec<u64> = word
            .strip_prefix("held ")
            .unwrap_or_else(|| panic!("{word}"))
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        Self {
            child,
            generation: words[0],
            joined: Duration::from_millis(words[1]),
        }
    }

    /// Ends it as it was ordered to end, and gives how it did.
    fn end(mut self, how: &str) -> End {
        let pid = Pid::from_raw(self.child.pid().try_into().unwrap()).unwrap();
        match how {
            "terminated" => kill_process(pid, Signal::TERM).unwrap(),
            "killed" => kill_process(pid, Signal::KILL).unwrap(),
            _ => {}
        }
        let ended = self.child.end();
        let signal = || End::Signal(ended.signal().unwrap());
        ended.code().map_or_else(signal, End::Code)
    }
}

/// One read of the host and its lock, from outside.
fn found(place: &Place, host: u64) -> Found {
    let leases = LeaseDirectory::new(place.of_holders().join("leases"));
    let options = StatusOptions::new().watch(Watch::Once);
    let status = LeaseDirectoryStatus::observe(&leases, options).unwrap();
    let is_free = status.host(host_id(host)).unwrap().state == HostState::Free;
    match place.observer().acquire(disks(&[&disk(host)])) {
        Ok(guard) => {
            assert!(
                is_free,
                "the lock of host {host} is free, and its id is not"
            );
            guard.release().unwrap();
            Found::Free
        }
        Err(error) => {
            assert!(error.is_held(), "{error}");
            let holder = error.holder().unwrap();
            assert_eq!(holder.host_id, host_id(host), "{error}");
            assert!(
                !is_free,
                "the id of host {host} is free, and its lock is not"
            );
            Found::Owned
        }
    }
}

#[test]
fn each_way_of_ending_leaves_on_the_disk_what_it_is_said_to() {
    let first = || (1..).zip(ALL);
    let owned = || first().filter(|(_, (_, _, found))| *found == Found::Owned);
    let second = || owned().map(|(host, (how, end, found))| (host + WAITED_OUT, (how, end, found)));
    let paths: Vec<_> = first()
        .chain(second())
        .map(|(host, _)| disk(host))
        .collect();
    let place = &Place::new(&paths, false);
    thread::scope(|scope| {
        let begun: Vec<_> = first()
            .chain(second())
            .map(|(host, way)| {
                let start = move || Holder::start(place, host, "leases", way.0);
                (host, way, scope.spawn(start))
            })
            .collect();
        let ended: Vec<_> = begun
            .into_iter()
            .map(|(host, way, holder)| (host, way, holder.join().unwrap()))
            // Or the next incarnation would have to wait for it.
            .inspect(|(host, ..)| {
                let host = usize::try_from(*host).unwrap();
                wait_for_process_token(place.observer().lockspace().path(), host);
            })
            .map(|(host, (how, end, expected), holder)| {
                assert_eq!(holder.generation, 1);
                assert_eq!(holder.end(how), end, "{how}");
                assert_eq!(found(place, host), expected, "{how}");
                (host, how)
            })
            .collect();
        for (host, how) in ended {
            if host > WAITED_OUT {
                scope.spawn(move || is_waited_out(place, host, how));
            } else {
                scope.spawn(move || is_back_soon(place, host, how));
            }
        }
    });
}

/// The next incarnation of a host does not wait for the one before, and has its locks at once.
fn is_back_soon(place: &Place, host: u64, how: &str) {
    let holder = Holder::start(place, host, "leases", "leave");
    println!("measured: {how}: joined again in {:?}", holder.joined);
    assert_eq!(holder.generation, 2, "{how}");
    // Who is waited for, is for 8N + F.
    assert!(holder.joined < ALL_OVER, "{how}: {:?}", holder.joined);
    assert_eq!(holder.end("leave"), End::Code(0));
    assert_eq!(found(place, host), Found::Free, "{how}");
}

/// Another host has the lock when all of its holder's time has ended.
fn is_waited_out(place: &Place, host: u64, how: &str) {
    let request = disks(&[&disk(host)]).wait(WaitLimit::For(2 * SOON));
    let guard = place.observer().acquire(request).unwrap();
    let took = place.renewed_after(host).elapsed();
    println!("measured: {how}: had by another host {took:?} after the last renewal");
    assert!(took > ALL_OVER, "{how}: {took:?}");
    guard.release().unwrap();
}

/// What a holder says of a call: its name, how long it took, whether its error is the right one, and the error.
fn hear_told(holder: &Holder, what: &str) {
    let word = holder.child.hear(SOON);
    let words: Vec<&str> = word.splitn(4, '|').collect();
    let [said, took, is_told, error] = words[..] else {
        panic!("{word}");
    };
    println!("measured: storage hangs: {said} took {took} ms: {error}");
    assert_eq!(said, what);
    assert_eq!(is_told, "true", "{word}");
    let took = Duration::from_millis(took.parse().unwrap());
    assert!(took < AT_ONCE, "{word}");
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn leaving_ends_here_though_the_storage_hangs() {
    let ways: [(u64, &str, &[&str]); 3] = [
        (
            1,
            "release and leave",
            &["release", "leave", "the last handle"],
        ),
        (2, "drop all", &["drop"]),
        (3, "leave without a guard", &["leave", "the last handle"]),
    ];
    let paths: Vec<_> = ways.iter().map(|(host, ..)| disk(*host)).collect();
    let place = &Place::new(&paths, true);
    let mut holders: Vec<_> = thread::scope(|scope| {
        let begun =
            ways.map(|(host, how, _)| scope.spawn(move || Holder::start(place, host, "seen", how)));
        begun.map(|holder| holder.join().unwrap()).into()
    });
    assert_eq!(holders[2].child.hear(SOON), "released");
    place.next_renewal(3);
    place.hang();
    for holder in &mut holders {
        holder.child.let_go();
    }
    for (holder, (_, _, told)) in holders.iter().zip(ways) {
        for what in told {
            hear_told(holder, what);
        }
    }
    for host in [1, 2] {
        assert_eq!(found(place, host), Found::Owned);
    }
    // What hangs there keeps their ends from being taken in.
    place.heal();
    for holder in holders {
        assert_eq!(holder.end("leave"), End::Code(0));
    }
}
