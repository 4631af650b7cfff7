use super::*;
use crate::format::leader::tests::sector_with;

fn error(kind: Kind) -> Result<PaxosLeader, FormatError> {
    Err(FormatError::new(Structure::PaxosLeader, kind))
}

fn host(id: u64) -> HostId {
    HostId::new(id).unwrap()
}

fn names() -> (LockspaceName, ResourceName) {
    (
        LockspaceName::new("LS").unwrap(),
        ResourceName::new("RES").unwrap(),
    )
}

fn free(geometry: Geometry, num_hosts: u16) -> PaxosLeader {
    let (space, resource) = names();
    PaxosLeader::free(geometry, &space, &resource, num_hosts)
}

fn commit(clear_short_hold: bool) -> Commit {
    Commit {
        version: LeaseVersion::new(4),
        owner: host(2),
        generation: Generation::new(7),
        timestamp_secs: 1283,
        writer: host(9),
        writer_generation: Generation::new(8),
        writer_clock_secs: 1290,
        clear_short_hold,
    }
}

fn held() -> PaxosLeader {
    free(Geometry::S512_A1M, 0).committed(commit(true))
}

/// What decoding says of a held leader after a change that the checksum covers.
fn decode_with(change: impl FnOnce(&mut RawLeader)) -> Result<PaxosLeader, FormatError> {
    PaxosLeader::decode(&sector_with(|s| held().write_to(s), change))
}

#[test]
fn a_lease_is_committed_and_freed() {
    let free = free(Geometry::S512_A1M, 0);
    assert_eq!(
        (free.is_free(), free.last_owner(), free.num_hosts()),
        (true, None, 2000)
    );
    let held = held();
    assert_eq!((held.is_free(), held.last_owner()), (false, Some(host(2))));
    assert_eq!(
        (held.version(), held.generation()),
        (LeaseVersion::new(4), Generation::new(7))
    );
    assert_eq!((held.timestamp_secs(), held.write_id()), (1283, 9));
    assert_eq!(
        (held.write_generation(), held.write_timestamp()),
        (Generation::new(8), 1290)
    );
    let freed = held.short_hold().freed(host(2), Generation::new(7), 1300);
    assert_eq!((freed.is_free(), freed.last_owner()), (true, Some(host(2))));
    assert_eq!(
        (freed.version(), freed.is_short_hold()),
        (held.version(), false)
    );
    assert_eq!((freed.write_id(), freed.write_timestamp()), (2, 1300));
    for leader in [free, held, held.short_hold(), freed] {
        let mut sector = [0; 512];
        leader.write_to(&mut sector);
        assert_eq!(PaxosLeader::decode(&sector), Ok(leader));
    }
}

#[test]
fn the_mark_of_a_short_hold_stays_until_it_is_cleared() {
    let short = held().short_hold();
    assert!(short.is_short_hold() && !held().is_short_hold());
    assert!(short.committed(commit(false)).is_short_hold());
    assert_eq!(short.committed(commit(true)), held());
}

#[test]
fn bytes_without_a_meaning_are_carried_over() {
    let odd = decode_with(|raw| {
        raw.unused1 = 11;
        raw.unused2 = 12;
        raw.io_timeout = 13;
        raw.flags = 0x4000_0010;
    })
    .unwrap();
    let next = odd
        .freed(host(1), Generation::new(1), 5)
        .committed(commit(true));
    assert_eq!((next.raw.unused1, next.raw.unused2), (11, 12));
    assert_eq!((next.raw.io_timeout, next.raw.flags), (13, 0x4000_0010));
}

#[test]
fn the_number_of_hosts_has_the_limit_of_the_geometry() {
    for g in Geometry::ALL {
        assert_eq!(free(g, 0).num_hosts(), g.max_hosts());
        assert_eq!(free(g, u16::MAX).num_hosts(), g.max_hosts());
        assert_eq!(
            (free(g, 8).num_hosts(), free(g, 8).max_hosts()),
            (8, g.max_hosts())
        );
    }
    let few = free(Geometry::S512_A1M, 8);
    assert_eq!(few.expect_host(host(8)), Ok(few));
    assert_eq!(
        few.expect_host(host(9)),
        error(Kind::NumHosts {
            host: host(9),
            num_hosts: 8
        })
    );
}

#[test]
fn what_is_wrong_is_said() {
    let short = Kind::Short {
        needed: 200,
        found: 199,
    };
    assert_eq!(PaxosLeader::decode(&[0; 199]), error(short));
    assert_eq!(
        PaxosLeader::decode(&[0; 512]),
        error(Kind::Magic {
            expected: PAXOS.magic,
            found: 0
        })
    );
    assert_eq!(
        decode_with(|raw| raw.magic = CLEARED_MAGIC),
        error(Kind::Cleared)
    );
    assert_eq!(
        decode_with(|raw| raw.version = 0x0005_0004),
        error(Kind::Version {
            expected: 6,
            found: 5
        })
    );
    assert_eq!(
        decode_with(|raw| raw.sector_size = 0),
        error(Kind::SectorSize { found: 0 })
    );
    assert_eq!(
        decode_with(|raw| raw.flags = 0x40),
        error(Kind::AlignSize {
            sector_size: 512,
            align_size: 4 << 20
        })
    );
    assert_eq!(
        decode_with(|raw| raw.max_hosts = 250),
        error(Kind::MaxHosts {
            expected: 2000,
            found: 250
        })
    );
    assert_eq!(
        decode_with(|raw| raw.num_hosts = 65_537),
        error(Kind::TooManyHosts {
            max: 2000,
            found: 65_537
        })
    );
    assert_eq!(
        decode_with(|raw| raw.owner_id = 2001),
        error(Kind::OwnerRange {
            max: 2000,
            found: 2001
        })
    );
    assert_eq!(
        decode_with(|raw| raw.owner_id = 0),
        error(Kind::OwnerMissing {
            timestamp_secs: 1283
        })
    );
    let mut sector = sector_with(|s| held().write_to(s), |_| ());
    sector[16] ^= 0x80;
    let damaged = PaxosLeader::decode(&sector).unwrap_err();
    assert!(matches!(damaged.kind(), Kind::Checksum { stored, computed } if stored != computed));
}

#[test]
fn another_lease_is_refused() {
    let (space, resource) = names();
    let other_space = LockspaceName::new("LS2").unwrap();
    let other_resource = ResourceName::new("RE").unwrap();
    assert_eq!(held().expect_names(&space, &resource), Ok(held()));
    assert_eq!(
        held().expect_names(&other_space, &resource),
        error(Kind::LockspaceName {
            expected: other_space.as_name(),
            found: space.as_name()
        })
    );
    assert_eq!(
        held().expect_names(&space, &other_resource),
        error(Kind::ResourceName {
            expected: other_resource.as_name(),
            found: resource.as_name()
        })
    );
}
