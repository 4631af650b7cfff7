//! A shared holder of sanlock's keeps our exclusive acquire out.

use disklease::{AcquireErrorKind, LockManager as _};

use super::DISK;
use super::exchange::{HANDOVER, REFUSAL, owner_on_disk};
use super::setup::{Directory, LIMIT, Maker, OUR_ID, SANLOCK_ID};
use disklease_fixtures::host_process::timed;

#[test]
fn a_sharer_keeps_us_out_until_it_releases() {
    let directory = Directory::new(Maker::Sanlock);
    let lease = directory.lease(DISK);
    let (mut sanlock, ours) = directory.hosts();
    let generation = 1;
    assert_eq!(
        sanlock.client.acquire_shared(&lease.resource, LIMIT),
        Ok(())
    );
    let before = owner_on_disk(&lease);

    let (refused, took) = timed(|| ours.acquire(lease.request()));
    let error = refused.expect_err("sanlock shares it");
    println!("time: refusal by us {took:?}: {error}");
    assert!(took < REFUSAL, "{took:?}");
    let AcquireErrorKind::HeldShared { hosts } = error.kind() else {
        panic!("not shared: {error}");
    };
    let hosts: Vec<(u64, u64)> = hosts
        .iter()
        .map(|&(host, generation)| (host.into(), generation.get()))
        .collect();
    assert_eq!(hosts, [(SANLOCK_ID, generation)]);
    assert_eq!(owner_on_disk(&lease), before, "a refusal writes nothing");
    assert_eq!(before.sharers, hosts);

    assert_eq!(sanlock.client.release(&lease.resource), Ok(()));
    let (guard, took) = timed(|| ours.acquire(lease.request()).expect("nobody shares it"));
    println!("time: acquire after the sharer's release {took:?}");
    assert!(took < HANDOVER, "{took:?}");
    assert_eq!(owner_on_disk(&lease).owner_id, OUR_ID);

    // Nor is there a way around us.
    let shared = sanlock.client.acquire_shared(&lease.resource, LIMIT);
    assert!(matches!(shared, Err(-243 | -244)), "{shared:?}");
    guard.release().unwrap();
    assert_eq!(
        sanlock.client.acquire_shared(&lease.resource, LIMIT),
        Ok(())
    );
}
