//! Hosts that crash while they hold a lease, ours and sanlock's: the other side gets it, and not before the dead
//! host's time is over.
//!
//! Slow: sanlock and we wait 8 io timeouts and 60 s, so all run side by side, however many threads the test
//! runner has. The time of the last renewal is taken from the disk: it lies between two looks at the host's sector.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test in real time: it fails by panicking, and tells the times that it measured"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test code: a panic is how it fails"
)]

mod host;
mod kit;

use std::thread;
use std::time::{Duration, Instant};

use disklease::libvirt::{LOCKSPACE_NAME, lease_name};
use disklease::{LeaseDirectory, LockManager as _, WaitLimit};
use serde_json::json;

use host::process::HostProcess;
use host::{IO_TIMEOUT, IO_TIMEOUT_SECS, disk, timed};
use kit::{
    HostState, Lockspace, Resource, SanlockClient, SanlockDaemon, ScratchLease,
    read_lockspace_leader, read_resource_leader,
};

/// For what waits for no dead host.
const LIMIT: Duration = Duration::from_secs(40);
/// How much later than that a host may be followed by another which looks once a second and is busy.
const SLACK: Duration = Duration::from_secs(20);
/// 8N + F: for so long after its last renewal a host may not be followed by another.
const DEAD_AFTER: Duration = Duration::from_secs(68);
const DISK: &str = "/var/lib/libvirt/images/demo.img";
const SANLOCK_ID: u64 = 1;
const OUR_ID: u64 = 2;

#[test]
fn nobody_follows_a_host_too_early() {
    let all: [(&str, fn()); 4] = [
        ("our crash", a_crash_of_ours_is_waited_out_by_sanlock),
        ("sanlock's crash", a_crash_of_sanlock_is_waited_out_by_us),
        (
            "our stop",
            a_holder_that_stood_still_knows_at_once_that_it_is_lost,
        ),
        (
            "our host id",
            sanlock_does_not_get_the_host_id_that_we_renew,
        ),
    ];
    thread::scope(|scope| {
        let started = all.map(|(name, run)| {
            let thread = thread::Builder::new().name(name.to_owned());
            (name, thread.spawn_scoped(scope, run).unwrap())
        });
        let ended = started.map(|(name, thread)| (name, thread.join().is_ok()));
        let failed: Vec<_> = ended.iter().filter(|(_, ok)| !ok).collect();
        assert!(failed.is_empty(), "{failed:?}: see above");
    });
}

/// A lease directory of our making.
struct Directory {
    // Removed on drop.
    _scratch: ScratchLease,
    leases: LeaseDirectory,
    lockspace: Lockspace,
    resource: Resource,
}

impl Directory {
    fn new() -> Self {
        let scratch = ScratchLease::new();
        let leases = LeaseDirectory::new(scratch.path());
        let path = leases.create_lockspace(IO_TIMEOUT).unwrap();
        let lockspace = Lockspace::new(LOCKSPACE_NAME, path);
        let name = lease_name(DISK.as_ref()).to_string();
        let resource = lockspace.resource(&name, leases.lease_path(DISK.as_ref()), 0);
        Self {
            _scratch: scratch,
            leases,
            lockspace,
            resource,
        }
    }

    /// A process of ours as host 2 that holds the lease; gives the version too.
    fn our_holder(&self) -> (HostProcess, u64) {
        let mut holder = HostProcess::start("beta");
        holder.join(self.leases.path(), OUR_ID);
        let version = holder.acquire(DISK).unwrap();
        assert!(holder.is_held());
        (holder, version)
    }

    fn sanlock(&self) -> SanlockDaemon {
        let daemon = SanlockDaemon::start("alpha");
        let joined = daemon.add_lockspace(&self.lockspace, SANLOCK_ID, IO_TIMEOUT_SECS, LIMIT);
        assert_eq!(joined, Ok(()), "{}", daemon.log());
        daemon.wait_for_host(&self.lockspace, SANLOCK_ID, HostState::Live, LIMIT);
        daemon
    }
}

/// When a host that has crashed renewed for the last time, as the disk shows it.
struct LastRenewal {
    /// The renewal before it was still on the disk.
    not_before: Instant,
    /// It was on the disk.
    not_after: Instant,
}

impl LastRenewal {
    /// Watches the host's sector while `crash` ends the host, and until nothing can change any more.
    fn of(lockspace: &Lockspace, host_id: u64, crash: impl FnOnce()) -> Self {
        let stamp = || {
            let leader = read_lockspace_leader(lockspace, host_id).expect("the host id");
            leader.number("timestamp")
        };
        let mut crash = Some(crash);
        let mut seen: Option<Self> = None;
        let mut shown = stamp();
        let mut looked = Instant::now();
        let begun = looked;
        loop {
            assert!(begun.elapsed() < LIMIT, "the host renews, or never does");
            thread::sleep(Duration::from_millis(50));
            let look = Instant::now();
            let now_shown = stamp();
            if now_shown != shown {
                shown = now_shown;
                seen = Some(Self {
                    not_before: looked,
                    not_after: Instant::now(),
                });
            }
            looked = look;
            match &seen {
                // A renewal was seen, so that there is a last one, and the next is due a second later.
                Some(seen) if crash.is_some() && seen.not_after.elapsed() > IO_TIMEOUT => {
                    crash.take().unwrap()();
                }
                // What was under way at the crash has long ended.
                Some(seen) if crash.is_none() && seen.not_after.elapsed() > 4 * IO_TIMEOUT => break,
                _ => {}
            }
        }
        seen.unwrap()
    }

    /// `taken_over` is not too early, nor much too late.
    fn judge(&self, who: &str, taken_over: Instant) {
        let at_most = taken_over.duration_since(self.not_before);
        let at_least = taken_over.duration_since(self.not_after);
        println!("time: {who} took over {at_least:?} to {at_most:?} after the last renewal");
        assert!(at_most > DEAD_AFTER, "{who}: {at_most:?}: two owners");
        assert!(
            at_least < DEAD_AFTER + SLACK,
            "{who}: {at_least:?}: too late"
        );
    }
}

/// Sanlock's acquire from the moment of the crash on: refused while it believes that the owner lives, waiting
/// from then on. Gives the moment of the success.
fn sanlock_takes_over(client: &mut SanlockClient, resource: &Resource) -> Instant {
    let begun = Instant::now();
    loop {
        match client.acquire(resource, Duration::from_secs(100)) {
            Ok(()) => return Instant::now(),
            Err(-243 | -244) => {}
            Err(number) => panic!("sanlock: {number}"),
        }
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(100), "refused for {waited:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

fn a_crash_of_ours_is_waited_out_by_sanlock() {
    let directory = Directory::new();
    let daemon = directory.sanlock();
    let (mut holder, version) = directory.our_holder();
    let lockspace = &directory.lockspace;
    daemon.wait_for_host(lockspace, OUR_ID, HostState::Live, LIMIT);
    let mut client = SanlockClient::register(&daemon);
    let refused = client.acquire(&directory.resource, LIMIT);
    assert!(matches!(refused, Err(-243 | -244)), "{refused:?}");

    let (last, taken_over) = thread::scope(|scope| {
        let (tell, crashed) = std::sync::mpsc::channel();
        let resource = &directory.resource;
        let waiting = scope.spawn(move || {
            crashed.recv().expect("the crash");
            (sanlock_takes_over(&mut client, resource), client)
        });
        let last = LastRenewal::of(lockspace, OUR_ID, || {
            holder.kill9();
            tell.send(()).unwrap();
        });
        (last, waiting.join().expect("sanlock's client"))
    });
    last.judge("sanlock", taken_over.0);
    let leader = read_resource_leader(&directory.resource).expect("the lease");
    assert_eq!(leader.number("owner_id"), SANLOCK_ID);
    assert_eq!(leader.number("lver"), version + 1);
}

fn a_crash_of_sanlock_is_waited_out_by_us() {
    let directory = Directory::new();
    let mut daemon = directory.sanlock();
    let ours = host::join(&directory.leases, OUR_ID, "beta");
    // The lease file is made by us.
    ours.acquire(disk(DISK)).unwrap().release().unwrap();
    let mut client = SanlockClient::register(&daemon);
    assert_eq!(client.acquire(&directory.resource, LIMIT), Ok(()));
    let refused = ours.acquire(disk(DISK)).expect_err("sanlock holds it");
    assert!(refused.is_held(), "{refused}");

    let (last, (guard, taken_over)) = thread::scope(|scope| {
        let (tell, crashed) = std::sync::mpsc::channel();
        let ours = &ours;
        let waiting = scope.spawn(move || {
            crashed.recv().expect("the crash");
            let limit = WaitLimit::For(Duration::from_secs(100));
            let guard = ours.acquire(disk(DISK).wait(limit));
            (guard.expect("its owner is dead"), Instant::now())
        });
        let last = LastRenewal::of(&directory.lockspace, SANLOCK_ID, || {
            daemon.kill9();
            client.kill9();
            tell.send(()).unwrap();
        });
        (last, waiting.join().expect("the waiting thread"))
    });
    last.judge("disklease", taken_over);
    assert!(guard.is_held());
    guard.verify().unwrap();
    let leader = read_resource_leader(&directory.resource).expect("the lease");
    assert_eq!(leader.number("owner_id"), OUR_ID);
    assert_eq!(leader.number("lver"), 3);
    guard.release().unwrap();
}

fn a_holder_that_stood_still_knows_at_once_that_it_is_lost() {
    let directory = Directory::new();
    let (mut holder, version) = directory.our_holder();
    holder.tell(&json!({"do": "notice_stop"}));
    thread::sleep(Duration::from_secs(3));
    holder.stop();
    // Longer than the 8 s for which a renewal is good. Whoever waits for its death waits for a minute more.
    thread::sleep(Duration::from_secs(9));
    holder.resume();
    let noticed = holder.answer(LIMIT).expect("it was stopped");
    println!("after the stop: {noticed}");
    assert!(noticed["stopped_secs"].as_f64().unwrap() >= 8.0);
    assert_eq!(noticed["first"], false, "its first answer after the stop");
    assert_eq!(noticed["later"], false, "a loss is for good");
    assert_ne!(noticed["reason"], json!(null));

    // Though on the disk the lease is its own still.
    let leader = read_resource_leader(&directory.resource).expect("the lease");
    assert_eq!(leader.number("owner_id"), OUR_ID);
    assert_eq!(leader.number("lver"), version);
    assert_ne!(leader.number("timestamp"), 0);
}

/// Sanlock finds our host id in use, waits for our death as it does, and gives up.
fn sanlock_does_not_get_the_host_id_that_we_renew() {
    let directory = Directory::new();
    let ours = host::join(&directory.leases, OUR_ID, "beta");
    let daemon = SanlockDaemon::start("alpha");
    let (refused, took) = timed(|| {
        let limit = Duration::from_secs(100);
        daemon.add_lockspace(&directory.lockspace, OUR_ID, IO_TIMEOUT_SECS, limit)
    });
    println!("time: sanlock gave our host id up after {took:?}");
    assert_eq!(refused, Err(-262), "{}", daemon.log());
    assert!(ours.lockspace().is_held());
    let leader = read_lockspace_leader(&directory.lockspace, OUR_ID).expect("the host id");
    assert_eq!(leader.text("resource_name"), "beta");
    assert_eq!(leader.number("owner_generation"), 1);
}

#[test]
#[ignore = "not a test: a host of ours that tests start as a process of its own"]
fn host_process() {
    host::child::serve(|_, command| Err(format!("not a command: {command}")));
}
