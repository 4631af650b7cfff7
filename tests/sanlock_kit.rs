//! The test kit itself: two real daemons on one lockspace behave as the kit's users will rely on.

#![allow(
    clippy::indexing_slicing,
    reason = "test code: a panic is how it fails"
)]

mod kit;

use std::thread;
use std::time::Duration;

use kit::{
    Geometry, HostState, Lockspace, SanlockClient, SanlockDaemon, ScratchLease, dump,
    read_lockspace_leader, read_resource_leader, wait_until,
};

const IO_TIMEOUT: u32 = 1;
const LIMIT: Duration = Duration::from_secs(40);
/// A live host holds it; the second where its owner changed while the daemon looked.
const HELD_BY_LIVE_HOST: [i32; 2] = [-243, -244];
const LIVE_SHARERS: i32 = -11;

/// Two daemons that have joined as host 1 and 2 and have seen each other live.
fn two_hosts(lockspace: &Lockspace) -> [SanlockDaemon; 2] {
    let joined = |host_id: u64| {
        let daemon = SanlockDaemon::start(&format!("host{host_id}"));
        let join = daemon.add_lockspace(lockspace, host_id, IO_TIMEOUT, LIMIT);
        assert_eq!(join, Ok(()), "{}", daemon.log());
        daemon
    };
    let daemons = thread::scope(|scope| {
        let other = scope.spawn(|| joined(2));
        [joined(1), other.join().expect("host 2 joins")]
    });
    for daemon in &daemons {
        for host_id in [1, 2] {
            daemon.wait_for_host(lockspace, host_id, HostState::Live, LIMIT);
        }
    }
    daemons
}

#[test]
fn two_daemons_exclude_each_other_and_share() {
    let scratch = ScratchLease::new();
    let lockspace = scratch.lockspace("kit", IO_TIMEOUT);
    let [first, second] = two_hosts(&lockspace);
    exclude(&first, &second, &lockspace, &scratch);
    share(&first, &second, &lockspace, &scratch);
    leave(&first, &lockspace);
}

fn exclude(
    first: &SanlockDaemon,
    second: &SanlockDaemon,
    lockspace: &Lockspace,
    scratch: &ScratchLease,
) {
    let disk = scratch.resource(lockspace, "disk");
    assert_eq!(first.inq_lockspace(lockspace, 1), Ok(()));
    assert_eq!(first.inq_lockspace(lockspace, 3), Err(-2));

    let mut one = SanlockClient::register(first);
    let mut two = SanlockClient::register(second);
    assert_eq!(one.acquire(&disk, LIMIT), Ok(()));
    assert_eq!(one.acquire(&disk, LIMIT), Err(-17));
    let refused = two.acquire(&disk, LIMIT).expect_err("host 1 has it");
    assert!(HELD_BY_LIVE_HOST.contains(&refused), "{refused}");
    assert_eq!(one.held(), Ok(vec!["disk".to_owned()]));
    assert_eq!(two.held(), Ok(vec![]));

    let owners = two.owners(&disk).expect("the owners");
    assert_eq!(owners.len(), 1, "{owners:?}");
    assert_eq!((owners[0].host_id, owners[0].generation), (1, 1));
    let leader = read_resource_leader(&disk).expect("the leader record");
    assert_eq!(leader.number("magic"), 0x0615_2010);
    assert_eq!(leader.number("owner_id"), 1);
    assert_eq!(leader.number("timestamp"), owners[0].timestamp);
    assert_eq!(leader.text("resource_name"), "disk");

    assert_eq!(one.release(&disk), Ok(()));
    assert_eq!(one.owners(&disk), Ok(vec![]));
    assert_eq!(two.acquire(&disk, LIMIT), Ok(()));
    let lines = dump(&disk.path, 0);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].owner_id, lines[0].lver), (2, Some(2)));
    assert_ne!(lines[0].timestamp, 0);

    // The daemon releases for a client that was killed; that takes it a moment.
    two.kill9();
    wait_until("the dead client's lease is free", LIMIT, || {
        (dump(&disk.path, 0)[0].timestamp == 0).then_some(())
    });
    assert_eq!(one.acquire(&disk, LIMIT), Ok(()));
}

fn share(
    first: &SanlockDaemon,
    second: &SanlockDaemon,
    lockspace: &Lockspace,
    scratch: &ScratchLease,
) {
    let disk = scratch.resource(lockspace, "shared");
    let mut one = SanlockClient::register(first);
    let mut two = SanlockClient::register(second);

    assert_eq!(one.acquire_shared(&disk, LIMIT), Ok(()));
    assert_eq!(two.acquire_shared(&disk, LIMIT), Ok(()));
    let owners = one.owners(&disk).expect("the owners");
    let ids: Vec<u64> = owners.iter().map(|owner| owner.host_id).collect();
    assert_eq!(ids, [1, 2]);

    assert_eq!(one.release(&disk), Ok(()));
    assert_eq!(one.acquire(&disk, LIMIT), Err(LIVE_SHARERS));
    assert_eq!(two.release(&disk), Ok(()));
    assert_eq!(one.acquire(&disk, LIMIT), Ok(()));
    assert_eq!(one.release(&disk), Ok(()));
}

fn leave(first: &SanlockDaemon, lockspace: &Lockspace) {
    assert_eq!(first.rem_lockspace(lockspace, 1), Ok(()));
    let leader = read_lockspace_leader(lockspace, 1).expect("the delta lease");
    assert_eq!(leader.text("resource_name"), "host1");
    assert_eq!(
        (leader.number("timestamp"), leader.number("io_timeout")),
        (0, 1)
    );
}

#[test]
fn hosts_come_stop_and_go() {
    let scratch = ScratchLease::new();
    let lockspace = scratch.lockspace("kit", IO_TIMEOUT);
    let [first, mut second] = two_hosts(&lockspace);
    let mut one = SanlockClient::register(&first);
    let hosts = one.hosts(&lockspace).expect("the hosts");
    let ids: Vec<u64> = hosts.iter().map(|host| host.host_id).collect();
    assert_eq!(ids, [1, 2]);
    assert!(hosts.iter().all(|host| host.io_timeout == Some(1)));

    second.stop();
    second.resume();
    assert_eq!(second.inq_lockspace(&lockspace, 2), Ok(()));

    // Stopped, host 2 renews no more: with an io timeout of 1 s it is late after 8 s.
    second.stop();
    first.wait_for_host(&lockspace, 2, HostState::Fail, LIMIT);
    second.kill9();
    assert!(second.has_ended());
}

#[test]
fn large_sectors_work_too() {
    let scratch = ScratchLease::new();
    let lockspace = scratch.lockspace_of(Geometry::new(4096, 2), "large", IO_TIMEOUT);
    let disk = scratch.resource(&lockspace, "disk");
    let daemon = SanlockDaemon::start("large1");
    assert_eq!(
        daemon.add_lockspace(&lockspace, 500, IO_TIMEOUT, LIMIT),
        Ok(())
    );
    let mut client = SanlockClient::register(&daemon);
    assert_eq!(client.acquire(&disk, LIMIT), Ok(()));
    let owners = client.owners(&disk).expect("the owners");
    assert_eq!(owners[0].host_id, 500);
    let leader = read_resource_leader(&disk).expect("the leader record");
    assert_eq!(leader.number("sector_size"), 4096);
    assert_eq!(leader.number("max_hosts"), 500);
    let lines = dump(&lockspace.path, 0);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].offset, 499 * 4096);
    assert_eq!(lines[0].resource, "large1");
    assert_eq!(lines[0].lver, None);
}
