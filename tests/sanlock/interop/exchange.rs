//! What has to be true of a lease whoever made it and wherever it lies: each side is kept out while the other
//! holds it, learns by whom, and gets it as soon as it is released.

use std::thread;
use std::time::{Duration, Instant};

use disklease::format::LeaseVersion;
use disklease::{LockGuard, LockManager as _, OwnerSeen, PaxosManager, WaitLimit};

use super::setup::{LIMIT, Lease, OUR_ID, SANLOCK_ID, SANLOCK_NAME, Sanlock};
use disklease_fixtures::host_process::{monotonic_secs, timed};
use disklease_fixtures::sanlock::{DumpLine, HostState, Lockspace, Owner, dump};

/// What sanlock says of a lease that a live host holds: the second where it saw the owner change meanwhile.
const REFUSED: [i32; 2] = [-243, -244];
/// How long a refusal of ours may take: it waits for nobody.
pub(crate) const REFUSAL: Duration = Duration::from_secs(5);
/// How long it may take from the release of one side to the acquire of the other: it does not wait for a dead host.
pub(crate) const HANDOVER: Duration = Duration::from_secs(10);

/// We first, then sanlock, then we again. Afterwards the lease is free.
pub(crate) fn to_and_fro(
    lockspace: &Lockspace,
    lease: &Lease,
    sanlock: &mut Sanlock,
    ours: &PaxosManager,
) {
    let (guard, took) = timed(|| ours.acquire(lease.request()).expect("a free lease"));
    println!("time: acquire of a free lease by us {took:?}");
    we_hold(lockspace, lease, sanlock, ours, &guard);

    let begun = Instant::now();
    guard.release().expect("a release");
    assert_eq!(sanlock.client.acquire(&lease.resource, LIMIT), Ok(()));
    within(HANDOVER, begun, "from us to sanlock");

    sanlock_holds(lease, ours);
    let begun = Instant::now();
    assert_eq!(sanlock.client.release(&lease.resource), Ok(()));
    let guard = ours.acquire(lease.request()).expect("a released lease");
    within(HANDOVER, begun, "from sanlock to us");
    guard.release().expect("a release");

    assert_eq!(sanlock.client.acquire(&lease.resource, LIMIT), Ok(()));
    let guard = wait_for_release(lease, sanlock, ours);
    guard.release().expect("a release");
    assert_eq!(owner_on_disk(lease).timestamp, 0);
    assert_eq!(sanlock.client.owners(&lease.resource), Ok(vec![]));
}

/// We hold it by `guard`: sanlock is refused, and its tools tell the truth.
fn we_hold(
    lockspace: &Lockspace,
    lease: &Lease,
    sanlock: &mut Sanlock,
    ours: &PaxosManager,
    guard: &LockGuard,
) {
    let (refused, took) = timed(|| sanlock.client.acquire(&lease.resource, LIMIT));
    println!("time: refusal by sanlock {took:?}");
    let number = refused.expect_err("we hold it");
    assert!(REFUSED.contains(&number), "{number}");

    let generation = ours.lockspace().generation().get();
    let version = guard.locks().next().and_then(|lock| lock.version);
    let owner = owner_on_disk(lease);
    assert_eq!(owner.owner_id, OUR_ID);
    assert_eq!(owner.owner_generation, generation);
    assert_eq!(owner.lver, version.map(LeaseVersion::get));
    assert_eq!(owner.resource, lease.resource.name);
    assert_eq!(owner.lockspace, lockspace.name);
    let age = monotonic_secs().abs_diff(owner.timestamp);
    assert!(age <= 30, "acquired {age} s from now by the disk");

    let owners = sanlock.client.owners(&lease.resource);
    let us = Owner {
        host_id: OUR_ID,
        generation,
        timestamp: owner.timestamp,
    };
    assert_eq!(owners, Ok(vec![us]));

    let hosts = sanlock.daemon.hosts(lockspace);
    let host = hosts.iter().find(|host| host.host_id == OUR_ID);
    let host = host.unwrap_or_else(|| panic!("we are not among {hosts:?}"));
    assert_eq!((host.state, host.generation), (HostState::Live, generation));
    let age = monotonic_secs().abs_diff(host.timestamp);
    assert!(age <= 30, "renewed {age} s ago by the daemon's account");

    assert!(guard.is_held());
    guard.verify().expect("the disk says that we hold it");
}

/// Sanlock holds it, and has renewed its host id under our eyes: we are refused at once, and told by whom.
fn sanlock_holds(lease: &Lease, ours: &PaxosManager) {
    let holder = refusal(lease, ours);
    let OwnerSeen::Alive { renewed_ago } = holder else {
        panic!("sanlock's host was seen to renew: {holder:?}");
    };
    assert!(renewed_ago <= Duration::from_secs(8), "{renewed_ago:?}");
}

/// We are refused at once, in the name of sanlock's host; gives what is known of its incarnation.
pub(crate) fn refusal(lease: &Lease, ours: &PaxosManager) -> OwnerSeen {
    let (refused, took) = timed(|| ours.acquire(lease.request()));
    let error = refused.expect_err("sanlock holds it");
    println!("time: refusal by us {took:?}: {error}");
    assert!(took < REFUSAL, "{took:?}: {error}");
    let holder = error.holder();
    let holder = holder.unwrap_or_else(|| panic!("not held by a host: {error}"));
    let owner = owner_on_disk(lease);
    assert_eq!(u64::from(holder.host_id), SANLOCK_ID);
    assert_eq!(holder.host_name.text(), SANLOCK_NAME.as_bytes());
    assert_eq!(holder.generation.get(), owner.owner_generation);
    assert_eq!(Some(holder.version.get()), owner.lver);
    assert_eq!(holder.note, None, "sanlock leaves no note");
    assert!(error.to_string().contains(SANLOCK_NAME), "{error}");
    holder.seen
}

/// Sanlock holds it; we wait, and get it when sanlock's process releases it.
fn wait_for_release(lease: &Lease, sanlock: &mut Sanlock, ours: &PaxosManager) -> LockGuard {
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let guard = ours.acquire(lease.request().wait(WaitLimit::For(LIMIT)));
            (guard.expect("it is released"), Instant::now())
        });
        thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished(), "sanlock holds it still");
        let begun = Instant::now();
        assert_eq!(sanlock.client.release(&lease.resource), Ok(()));
        let (guard, acquired) = waiting.join().expect("the waiting thread");
        let took = acquired.duration_since(begun);
        println!("time: from sanlock to us, who waited, {took:?}");
        assert!(took < HANDOVER, "{took:?}");
        guard
    })
}

/// The lease by sanlock's own reading.
pub(crate) fn owner_on_disk(lease: &Lease) -> DumpLine {
    let lines = dump(&lease.resource.path, lease.resource.offset);
    let ours = |line: &&DumpLine| line.offset == lease.resource.offset;
    let line = lines.iter().find(ours);
    line.unwrap_or_else(|| panic!("no lease at {} in {lines:?}", lease.resource.offset))
        .clone()
}

fn within(limit: Duration, begun: Instant, what: &str) {
    let took = begun.elapsed();
    println!("time: {what} {took:?}");
    assert!(took < limit, "{what}: {took:?}");
}
