use super::*;
use crate::format::le::Le32;
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

fn structure() -> Structure {
    Structure::DeltaLeader(HostId::new(3).ok())
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
        raw.unused1 = Le64::new(11);
        raw.unused2 = Le16::new(12);
        raw.flags = Le32::new(0x8000_0010);
        raw.lver = Le64::new(13);
        raw.write_id = Le64::new(14);
    })
    .unwrap();
    let name = HostName::new("n").unwrap();
    let next = odd.released().acquired(host(3), &name, 9, 10).unwrap();
    assert_eq!((next.raw.unused1.get(), next.raw.unused2.get()), (11, 12));
    assert_eq!(
        (next.raw.flags.get(), next.raw.lver.get()),
        (0x8000_0010, 13)
    );
    assert_eq!(
        (
            next.raw.write_id.get(),
            next.renewed(10, 10).raw.write_id.get()
        ),
        (14, 0)
    );
}

#[test]
fn the_last_generation_has_no_next() {
    let last = decode_with(|raw| raw.owner_generation = Le64::new(u64::MAX)).unwrap();
    assert_eq!(
        last.acquired(host(3), &HostName::new("n").unwrap(), 1, 10),
        None
    );
}

#[test]
fn what_is_wrong_is_said() {
    let structure = structure();
    let short = FormatError::Short {
        structure,
        needed: 200,
        found: 199,
    };
    assert_eq!(DeltaLeader::decode(&[0; 199], host(3)), Err(short));
    assert_eq!(
        DeltaLeader::decode(&[0; 512], host(3)),
        Err(FormatError::Magic {
            structure,
            expected: DELTA.magic,
            found: 0
        })
    );
    assert_eq!(
        decode_with(|raw| raw.version = Le32::new(0x0004_0004)),
        Err(FormatError::Version {
            structure,
            expected: 3,
            found: 4
        })
    );
    assert_eq!(
        decode_with(|raw| raw.sector_size = Le32::new(513)),
        Err(FormatError::SectorSize {
            structure,
            found: 513
        })
    );
    assert_eq!(
        decode_with(|raw| raw.flags = Le32::new(0x80)),
        Err(FormatError::AlignSize {
            structure,
            sector_size: 512,
            align_size: 8 << 20
        })
    );
    assert_eq!(
        decode_with(|raw| raw.owner_id = Le64::new(4)),
        Err(FormatError::OwnerId {
            structure,
            expected: host(3),
            found: 4
        })
    );
    assert_eq!(
        decode_with(|raw| raw.owner_id = Le64::new(0)),
        Err(FormatError::OwnerMissing {
            structure,
            timestamp_secs: 700
        })
    );
    let mut sector = sector_with(|s| held().write_to(s), |_| ());
    sector[167] ^= 1;
    assert!(matches!(
        DeltaLeader::decode(&sector, host(3)),
        Err(FormatError::Checksum { structure: s, stored, computed })
            if s == structure && stored != computed
    ));
}

#[test]
fn older_minor_versions_without_an_area_size_are_accepted() {
    let old = decode_with(|raw| {
        raw.version = Le32::new(0x0003_0003);
        raw.flags = Le32::new(0);
    });
    assert_eq!(old.unwrap().geometry(), Geometry::S512_A1M);
}

#[test]
fn another_lockspace_or_geometry_is_refused() {
    let other = LockspaceName::new("LS2").unwrap();
    assert_eq!(held().expect_space(&space()), Ok(held()));
    assert_eq!(
        held().expect_space(&other),
        Err(FormatError::LockspaceName {
            structure: structure(),
            expected: other.as_name(),
            found: space().as_name()
        })
    );
    assert_eq!(held().expect_geometry(Geometry::S512_A1M), Ok(held()));
    assert_eq!(
        held().expect_geometry(Geometry::S4K_A1M),
        Err(FormatError::Geometry {
            structure: structure(),
            expected: Geometry::S4K_A1M,
            found: Geometry::S512_A1M
        })
    );
}
