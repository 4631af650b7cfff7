//! Hosts that die while they hold a lease, ours and sanlock's: the other side gets it, and not before the dead
//! host's time has ended. Ours are killed, stopped, or cut off from their storage, and dead by then.
//!
//! Slow: sanlock and we wait 8 io timeouts and 60 s, so all run side by side, however many threads the test
//! runner has. The time of the last renewal is taken from the disk: it lies between two reads of the host's sector.
//! Mounts a FUSE file system, which needs `/dev/fuse` and root.

mod deaths;
mod renewals;

use std::thread;
use std::time::{Duration, Instant};

use disklease::libvirt::{LOCKSPACE_NAME, lease_name};
use disklease::{LeaseDirectory, LockManager as _, WaitLimit};
use serde_json::json;

pub(crate) use deaths::run_a_guest;
use deaths::{Harm, is_waited_out_by_sanlock};
use disklease_fixtures::host_process::process::HostProcess;
use disklease_fixtures::host_process::{IO_TIMEOUT, IO_TIMEOUT_SECS, disk, timed};
use disklease_fixtures::sanlock::{
    HostState, Lockspace, Resource, SanlockClient, SanlockDaemon, ScratchLease,
    read_lockspace_leader, read_resource_leader,
};
use renewals::LastRenewal;

/// For what waits for no dead host.
const LIMIT: Duration = Duration::from_secs(40);
/// How much later than that a host may be followed by another which looks once a second and is busy.
const SLACK: Duration = Duration::from_secs(15);
/// 8N + F: for so long after its last renewal a host may not be followed by another.
const DEAD_AFTER: Duration = Duration::from_secs(68);
const DISK: &str = "/var/lib/libvirt/images/demo.img";
const SANLOCK_ID: u64 = 1;
const OUR_ID: u64 = 2;

#[test]
fn nobody_follows_a_host_too_early() {
    let all: [(&str, fn()); 6] = [
        ("our crash", || is_waited_out_by_sanlock(Harm::Kill)),
        ("our death when stopped", || {
            is_waited_out_by_sanlock(Harm::Stop);
        }),
        ("our death when cut off", || {
            is_waited_out_by_sanlock(Harm::Hang);
        }),
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

fn a_crash_of_sanlock_is_waited_out_by_us() {
    let directory = Directory::new();
    let mut daemon = directory.sanlock();
    let ours = disklease_fixtures::host_process::join(&directory.leases, OUR_ID, "beta");
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
    last.judge("sanlock's crash", taken_over);
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
    let ours = disklease_fixtures::host_process::join(&directory.leases, OUR_ID, "beta");
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
