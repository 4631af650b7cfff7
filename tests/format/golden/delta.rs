//! Sectors of lockspaces.

use disklease::format::{
    DeltaLeader, Generation, Geometry, HostBitmap, HostId, HostName, HostNote, LockspaceName,
    NoteState, probe_lockspace,
};

use super::{golden, host, stored};

struct Delta {
    file: &'static str,
    sector_of: u64,
    geometry: Geometry,
    owner_id: u64,
    generation: u64,
    space: &'static str,
    host_name: &'static str,
    timestamp: u64,
    checksum: u32,
    io_timeout: u16,
    called: &'static [u16],
}

const NAME48: &str = "LLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLLL";

const FREE_DELTA: Delta = Delta {
    file: "delta_free_512.bin",
    sector_of: 6,
    geometry: Geometry::S512_A1M,
    owner_id: 0,
    generation: 0,
    space: "LS",
    host_name: "",
    timestamp: 0,
    checksum: 0xb0f1_74c0,
    io_timeout: 1,
    called: &[],
};

const HELD_DELTA: Delta = Delta {
    file: "delta_held_h1_512.bin",
    sector_of: 1,
    owner_id: 1,
    generation: 1,
    host_name: "h1",
    timestamp: 1256,
    checksum: 0x9cf2_7de7,
    ..FREE_DELTA
};

const HELD_DELTA_2: Delta = Delta {
    file: "delta_held_h2_512.bin",
    sector_of: 2,
    owner_id: 2,
    host_name: "h2",
    timestamp: 1254,
    checksum: 0xe479_73a9,
    ..HELD_DELTA
};

const DELTAS: [Delta; 9] = [
    FREE_DELTA,
    HELD_DELTA,
    HELD_DELTA_2,
    Delta {
        file: "delta_bitmap_request_512.bin",
        timestamp: 1367,
        checksum: 0xfaa0_bf6f,
        called: &[1],
        ..HELD_DELTA_2
    },
    Delta {
        file: "delta_event_bitmap_512.bin",
        sector_of: 3,
        owner_id: 3,
        host_name: "h3",
        timestamp: 3056,
        checksum: 0x9922_3398,
        called: &[1, 8, 9, 2000],
        ..HELD_DELTA
    },
    Delta {
        file: "delta_released_512.bin",
        generation: 2,
        space: "S",
        host_name: "s1",
        timestamp: 0,
        checksum: 0x3a31_8472,
        io_timeout: 2,
        ..HELD_DELTA
    },
    Delta {
        file: "delta_free_name48_512.bin",
        space: NAME48,
        checksum: 0xc1db_6225,
        ..FREE_DELTA
    },
    Delta {
        file: "delta_free_4k8M.bin",
        geometry: Geometry::S4K_A8M,
        space: "K",
        checksum: 0x90e0_e4f9,
        ..FREE_DELTA
    },
    Delta {
        file: "delta_released_4k1M.bin",
        geometry: Geometry::S4K_A1M,
        space: "K",
        host_name: "k1",
        timestamp: 0,
        checksum: 0xe2ea_cd2c,
        ..HELD_DELTA
    },
];

#[test]
fn delta_sectors() {
    for want in DELTAS {
        let file = want.file;
        let sector = golden(file);
        let leader = DeltaLeader::decode(&sector, host(want.sector_of)).expect(file);
        assert_eq!(sector.len(), want.geometry.sector_size(), "{file}");
        assert_eq!(leader.geometry(), want.geometry, "{file}");
        assert_eq!(probe_lockspace(&sector), Ok(want.geometry), "{file}");
        assert_eq!(leader.owner_id(), want.owner_id, "{file}");
        assert_eq!(
            leader.generation(),
            Generation::new(want.generation),
            "{file}"
        );
        assert_eq!(leader.space_name().to_string(), want.space, "{file}");
        assert_eq!(leader.host_name().to_string(), want.host_name, "{file}");
        assert_eq!(leader.timestamp_secs(), want.timestamp, "{file}");
        assert_eq!(leader.is_free(), want.timestamp == 0, "{file}");
        assert_eq!(leader.io_timeout_secs(), want.io_timeout, "{file}");
        assert_eq!(stored(&sector, 168), want.checksum, "{file}");
        let space = LockspaceName::new(want.space).unwrap();
        assert_eq!(leader.expect_space(&space), Ok(leader), "{file}");
        assert_eq!(HostNote::read_from(&sector), NoteState::Absent, "{file}");
        let bitmap = HostBitmap::read_from(&sector).expect(file);
        assert_eq!(
            bitmap.iter().map(HostId::get).collect::<Vec<_>>(),
            want.called,
            "{file}"
        );
        assert_eq!(bitmap.is_empty(), want.called.is_empty(), "{file}");

        let mut again = vec![0; sector.len()];
        leader.write_to(again.first_chunk_mut().unwrap());
        bitmap.write_to(again.first_chunk_mut().unwrap());
        assert_eq!(again, sector, "{file}");
    }
}

/// What sanlock wrote at each step of a host id's life is what we would write.
#[test]
fn the_steps_of_a_delta_lease_are_those_of_sanlock() {
    let sector_of = |leader: DeltaLeader| {
        let mut sector = vec![0; leader.geometry().sector_size()];
        leader.write_to(sector.first_chunk_mut().unwrap());
        sector
    };
    let free = DeltaLeader::free(Geometry::S512_A1M, &LockspaceName::new("LS").unwrap(), 1);
    assert_eq!(sector_of(free), golden("delta_free_512.bin"));
    let space = LockspaceName::new(NAME48).unwrap();
    let free48 = DeltaLeader::free(Geometry::S512_A1M, &space, 1);
    assert_eq!(sector_of(free48), golden("delta_free_name48_512.bin"));

    let held = free
        .acquired(host(1), &HostName::new("h1").unwrap(), 1256, 1)
        .unwrap();
    assert_eq!(sector_of(held), golden("delta_held_h1_512.bin"));

    let name = HostName::new("h2").unwrap();
    let held = free
        .acquired(host(2), &name, 1200, 9)
        .unwrap()
        .renewed(1254, 1);
    assert_eq!(sector_of(held), golden("delta_held_h2_512.bin"));

    let free = DeltaLeader::free(Geometry::S4K_A1M, &LockspaceName::new("K").unwrap(), 10);
    let held = free
        .acquired(host(1), &HostName::new("k1").unwrap(), 77, 1)
        .unwrap();
    assert_eq!(
        sector_of(held.released()),
        golden("delta_released_4k1M.bin")
    );
}
