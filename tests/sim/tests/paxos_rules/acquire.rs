//! What an acquire does where nothing is in its way, and what it refuses to work with.

use disklease::__sim::paxos_lease::{AcquireError, LeaseIoError, LeaseShape, Patience};
use disklease::__sim::world::ReadError;
use disklease::format::{
    FormatErrorKind, Geometry, LeaseVersion, LockspaceName, PaxosLeader, ResourceName, lease_image,
};

use super::setup::{announced, is_block_write, joined, lease_io, lease_writes};
use disklease_sim::rig::{LEASE, LEASE_AT, names, secs};
use disklease_sim::{IoKind, Member, Rig};

/// A free lease is taken in six I/Os, each started after the one before has ended: all, own block,
/// all, own block, all, leader. It is given back in four: inspect the leader, block, look, leader.
#[test]
fn a_free_lease_is_six_dependent_ios_and_a_release_four() {
    let (rig, [a]) = joined();
    rig.sim
        .set_faults(disklease_sim::Faults::latency(secs(1) / 100, secs(1) / 10));
    let all = LEASE.lease_len(3);
    let block = Rig::block_at(1);
    let from = rig.sim.log_len();
    let held = a.acquire().unwrap();
    let log = lease_io(&rig, &a, from);
    let shape: Vec<_> = log.iter().map(|io| (io.kind, io.offset, io.len)).collect();
    use IoKind::{Read, Write};
    assert_eq!(
        shape,
        [
            (Read, LEASE_AT, all),
            (Write, block, 512),
            (Read, LEASE_AT, all),
            (Write, block, 512),
            (Read, LEASE_AT, all),
            (Write, LEASE_AT, 512)
        ]
    );
    assert!(
        log.windows(2)
            .all(|two| two[0].told.unwrap().0 <= two[1].begun)
    );
    assert_eq!(held.version(), LeaseVersion::new(1));
    let leader = rig.leader();
    assert_eq!(
        (leader.last_owner(), leader.write_id()),
        (Some(a.membership.host_id()), 1)
    );
    assert_eq!(leader.generation(), a.membership.generation());

    let from = rig.sim.log_len();
    a.release(&held).unwrap();
    let log = lease_io(&rig, &a, from);
    let shape: Vec<_> = log.iter().map(|io| (io.kind, io.offset)).collect();
    let (look, free) = ((Read, LEASE_AT), (Write, LEASE_AT));
    assert_eq!(shape, [look, (Write, block), look, free]);
    assert!(
        log.windows(2)
            .all(|two| two[0].told.unwrap().0 <= two[1].begun)
    );
    let left = rig.block(1);
    assert!(
        left.released && left.input.is_some() && left.bal == left.mbal,
        "all but the mark is kept"
    );
    assert!(rig.leader().is_free());
    assert_eq!(rig.leader().version(), held.version());
    assert_eq!(
        rig.leader().last_owner(),
        Some(a.membership.host_id()),
        "kept as history"
    );
}

/// Where the lease cannot be believed, the error says where, and nothing is written.
fn refused(a: &Member, rig: &Rig, expected: impl Fn(&LeaseIoError) -> bool) {
    let from = rig.sim.log_len();
    match a.acquire_error() {
        AcquireError::Lease(error) => assert!(expected(&error), "{error}"),
        other => panic!("{other}"),
    }
    assert_eq!(lease_writes(rig, a, from).len(), 0);
}

/// One bad checksum anywhere, in the leader or in any host's block, and nothing is decided.
#[test]
fn a_bad_checksum_anywhere_is_an_error_with_its_offset() {
    for (at, byte) in [
        (LEASE_AT, 60),
        (Rig::block_at(1), 3),
        (Rig::block_at(3), 40),
    ] {
        let (rig, [a]) = joined();
        rig.put_block(1, &announced(0, 1));
        rig.put_block(3, &announced(0, 3));
        rig.patch(at, 512, |sector| sector[byte] ^= 1);
        refused(
            &a,
            &rig,
            |error| matches!(error, LeaseIoError::Format { offset, error } if *offset == at && matches!(error.kind(), FormatErrorKind::Checksum { .. })),
        );
    }
}

/// A bad block that turns up during the ballot ends it, too; what was written is retracted.
#[test]
fn a_bad_checksum_in_a_ballot_is_an_error() {
    let (rig, [a]) = joined();
    let write = rig.sim.hold_next(a.host, is_block_write);
    let task = a.start_acquire(Patience::Refuse);
    rig.sim.run_until_held(&write);
    rig.put_block(2, &announced(1, 2));
    rig.patch(Rig::block_at(2), 512, |sector| sector[0] ^= 4);
    rig.sim.release_held(&write);
    let failure = rig.sim.run(&task).unwrap_err();
    assert!(
        matches!(failure.error, AcquireError::Lease(LeaseIoError::Format { offset, .. }) if offset == Rig::block_at(2))
    );
    assert!(failure.pending.is_none() && rig.block(1).released && rig.leader().is_free());
}

/// Another lease's name, another lockspace's, a lease that was cleared, one for fewer hosts: each
/// is refused as what it is.
#[test]
fn a_lease_that_is_not_the_one_asked_for_is_refused() {
    let (space, resource) = names();
    let spoil = |change: &dyn Fn(&Rig), expected: fn(&FormatErrorKind) -> bool| {
        let (rig, [_, b]) = joined();
        change(&rig);
        refused(
            &b,
            &rig,
            |error| matches!(error, LeaseIoError::Format { offset: LEASE_AT, error } if expected(error.kind())),
        );
    };
    let other = ResourceName::new("other").unwrap();
    spoil(
        &|rig| rig.put_leader(&PaxosLeader::free(LEASE, &space, &other, 3)),
        |error| matches!(error, FormatErrorKind::ResourceName { .. }),
    );
    let other = LockspaceName::new("other").unwrap();
    spoil(
        &|rig| rig.put_leader(&PaxosLeader::free(LEASE, &other, &resource, 3)),
        |error| matches!(error, FormatErrorKind::LockspaceName { .. }),
    );
    spoil(
        &|rig| rig.put_leader(&PaxosLeader::free(LEASE, &space, &resource, 1)),
        |error| matches!(error, FormatErrorKind::NumHosts { num_hosts: 1, .. }),
    );
    spoil(
        &|rig| {
            rig.patch(LEASE_AT, 512, |sector| {
                sector[..4].copy_from_slice(&0x1128_2016_u32.to_le_bytes())
            })
        },
        |error| matches!(error, FormatErrorKind::Cleared),
    );
    let (rig, [a]) = joined();
    rig.sim.core.borrow_mut().disks[0].len = LEASE_AT + 512;
    refused(&a, &rig, |error| {
        matches!(
            error,
            LeaseIoError::Read {
                error: ReadError::EndOfFile { .. },
                ..
            }
        )
    });
}

/// The number of hosts is the lease's own, whatever was expected.
#[test]
fn a_lease_of_another_shape_than_expected_is_read_as_it_is() {
    for expected in [1, 3, 9] {
        let (rig, [_, mut b]) = joined();
        b.lease.expected_shape = LeaseShape {
            geometry: LEASE,
            num_hosts: expected,
        };
        let held = b.acquire().unwrap();
        assert_eq!(held.shape().num_hosts, 3);
        assert_eq!(rig.leader().num_hosts(), 3);
    }
}

/// So is the size of its sectors.
#[test]
fn a_lease_of_other_sectors_than_expected_is_read_as_it_is() {
    let (rig, [mut a]) = joined();
    let (space, resource) = names();
    let image = lease_image(Geometry::S4K_A1M, &space, &resource, 3);
    rig.patch(LEASE_AT, image.len(), |area| area.copy_from_slice(&image));
    a.lease.expected_shape = LeaseShape {
        geometry: LEASE,
        num_hosts: 3,
    };
    let held = a.acquire().unwrap();
    assert_eq!(held.shape().geometry, Geometry::S4K_A1M);
}
