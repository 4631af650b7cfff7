use super::*;
use crate::format::LeaseVersion;
use crate::format::leader::tests::sector_with;

fn host(id: u64) -> HostId {
    HostId::new(id).unwrap()
}

fn space() -> LockspaceName {
    LockspaceName::new("LS").unwrap()
}

fn free() -> DeltaLeader {
    DeltaLeader::free(Geometry::S512_A1M, &space(), 10)
}

fn held() -> DeltaLeader {
    free()
        .acquired(host(3), &HostName::new("h3").unwrap(), 700, 5)
        .unwrap()
}

/// What decoding says of a held sector of host 3 after a change that the checksum covers.
fn decode_with(change: impl FnOnce(&mut RawLeader)) -> Result<DeltaLeader, FormatError> {
    DeltaLeader::decode(&sector_with(|s| held().write_to(s), change), host(3))
}

fn error(kind: Kind) -> Result<DeltaLeader, FormatError> {
    let structure = Structure::DeltaLeader(Some(host(3)));
    Err(FormatError::new(structure, kind))
}

#[test]
fn a_host_id_is_acquired_renewed_released_and_acquired_again() {
    let free = free();
    assert!(free.is_free() && free.host_name().is_empty());
    assert_eq!(
        (free.owner_id(), free.generation()),
        (0, Generation::new(0))
    );
    let held = held();
    assert_eq!(
        (held.owner_id(), held.generation()),
        (3, Generation::new(1))
    );
    assert_eq!((held.timestamp_secs(), held.io_timeout_secs()), (700, 5));
    let renewed = held.renewed(710, 5);
    assert_eq!(
        (renewed.timestamp_secs(), renewed.generation()),
        (710, Generation::new(1))
    );
    assert_ne!(renewed, held);
    let released = renewed.released();
    assert!(released.is_free());
    assert_eq!(
        (released.owner_id(), released.host_name()),
        (3, held.host_name())
    );
    let again = released
        .acquired(host(3), &HostName::new("x").unwrap(), 0, 10)
        .unwrap();
    assert_eq!(
        (again.generation(), again.timestamp_secs()),
        (Generation::new(2), 1)
    );
    assert_eq!(again.host_name().as_bytes()[1..], [0; 47]);
    for leader in [free, held, renewed, released, again] {
        let mut sector = [0; 512];
        leader.write_to(&mut sector);
        assert_eq!(DeltaLeader::decode(&sector, host(3)), Ok(leader));
    }
}

#[test]
fn bytes_without_a_meaning_are_carried_over() {
    let odd = decode_with(|raw| {
        raw.unused1 = 11;
        raw.unused2 = 12;
        raw.flags = 0x8000_0010;
        raw.lver = LeaseVersion::new(13);
        raw.write_id = 14;
    })
    .unwrap();
    let name = HostName::new("n").unwrap();
    let next = odd.released().acquired(host(3), &name, 9, 10).unwrap();
    assert_eq!((next.raw.unused1, next.raw.unused2), (11, 12));
    assert_eq!(
        (next.raw.flags, next.raw.lver),
        (0x8000_0010, LeaseVersion::new(13))
    );
    assert_eq!(
        (next.raw.write_id, next.renewed(10, 10).raw.write_id),
        (14, 0)
    );
}

#[test]
fn the_last_generation_has_no_next() {
    let last = decode_with(|raw| raw.owner_generation = Generation::new(u64::MAX)).unwrap();
    assert_eq!(
        last.acquired(host(3), &HostName::new("n").unwrap(), 1, 10),
        None
    );
}

#[test]
fn what_is_wrong_is_said() {
    let short = Kind::Short {
        needed: 200,
        found: 199,
    };
    assert_eq!(DeltaLeader::decode(&[0; 199], host(3)), error(short));
    assert_eq!(
        DeltaLeader::decode(&[0; 512], host(3)),
        error(Kind::Magic {
            expected: DELTA.magic,
            found: 0
        })
    );
    assert_eq!(
        decode_with(|raw| raw.version = 0x0004_0004),
        error(Kind::Version {
            expected: 3,
            found: 4
        })
    );
    assert_eq!(
        decode_with(|raw| raw.sector_size = 513),
        error(Kind::SectorSize { found: 513 })
    );
    assert_eq!(
        decode_with(|raw| raw.flags = 0x80),
        error(Kind::AlignSize {
            sector_size: 512,
            align_size: 8 << 20
        })
    );
    assert_eq!(
        decode_with(|raw| raw.owner_id = 4),
        error(Kind::OwnerId {
            expected: host(3),
            found: 4
        })
    );
    assert_eq!(
        decode_with(|raw| raw.owner_id = 0),
        error(Kind::OwnerMissing {
            timestamp_secs: 700
        })
    );
    let mut sector = sector_with(|s| held().write_to(s), |_| ());
    sector[167] ^= 1;
    let damaged = DeltaLeader::decode(&sector, host(3)).unwrap_err();
    assert!(matches!(damaged.kind(), Kind::Checksum { stored, computed } if stored != computed));
}

#[test]
fn older_minor_versions_without_an_area_size_are_accepted() {
    let old = decode_with(|raw| {
        raw.version = 0x0003_0003;
        raw.flags = 0;
    });
    assert_eq!(old.unwrap().geometry(), Geometry::S512_A1M);
}

#[test]
fn another_lockspace_or_geometry_is_refused() {
    let other = LockspaceName::new("LS2").unwrap();
    assert_eq!(held().expect_space(&space()), Ok(held()));
    assert_eq!(
        held().expect_space(&other),
        error(Kind::LockspaceName {
            expected: other.as_name(),
            found: space().as_name()
        })
    );
    assert_eq!(held().expect_geometry(Geometry::S512_A1M), Ok(held()));
    assert_eq!(
        held().expect_geometry(Geometry::S4K_A1M),
        error(Kind::Geometry {
            expected: Geometry::S4K_A1M,
            found: Geometry::S512_A1M
        })
    );
}
