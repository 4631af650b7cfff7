//! Sectors that sanlock wrote, decoded to the values that are known to be in them and encoded again to the same
//! bytes.

use std::fs;
use std::path::Path;

use disklease::format::{
    Commit, Dblock, DblockSector, DeltaLeader, FormatError, Generation, Geometry, HostBitmap,
    HostId, HostName, HostNote, Input, LeaseVersion, LockspaceName, ModeBlock, NoteState,
    PaxosLeader, RequestRecord, ResourceName, Structure, probe_lease, probe_lockspace,
};

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn host(id: u64) -> HostId {
    HostId::new(id).unwrap()
}

/// The checksum as it stands in a sector.
fn stored(sector: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(sector[at..at + 4].try_into().unwrap())
}

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
        leader.write_to(&mut again).unwrap();
        bitmap.write_to(&mut again).unwrap();
        assert_eq!(again, sector, "{file}");
    }
}

/// What sanlock wrote at each step of a host id's life is what we would write.
#[test]
fn the_steps_of_a_delta_lease_are_those_of_sanlock() {
    let sector_of = |leader: DeltaLeader| {
        let mut sector = vec![0; leader.geometry().sector_size()];
        leader.write_to(&mut sector).unwrap();
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

struct Paxos {
    file: &'static str,
    geometry: Geometry,
    owner: u64,
    generation: u64,
    lver: u64,
    space: &'static str,
    resource: &'static str,
    timestamp: u64,
    checksum: u32,
    written: (u64, u64, u64),
}

const FREE_PAXOS: Paxos = Paxos {
    file: "paxos_free_leader_512.bin",
    geometry: Geometry::S512_A1M,
    owner: 0,
    generation: 0,
    lver: 0,
    space: "LS",
    resource: "RES",
    timestamp: 0,
    checksum: 0xf2c7_9a65,
    written: (0, 0, 0),
};

const HELD_PAXOS: Paxos = Paxos {
    file: "paxos_ex_held_leader_512.bin",
    owner: 1,
    generation: 1,
    lver: 1,
    timestamp: 1256,
    checksum: 0x88d5_d23d,
    written: (1, 1, 1256),
    ..FREE_PAXOS
};

const FREE_PAXOS_4K: Paxos = Paxos {
    file: "paxos_free_leader_4k8M.bin",
    geometry: Geometry::S4K_A8M,
    space: "K",
    resource: "R",
    checksum: 0x279e_2167,
    ..FREE_PAXOS
};

const HELD_PAXOS_4K: Paxos = Paxos {
    file: "paxos_ex_held_leader_4k8M.bin",
    owner: 1500,
    generation: 1,
    lver: 1,
    timestamp: 3048,
    checksum: 0x48b8_dafd,
    written: (1500, 1, 3048),
    ..FREE_PAXOS_4K
};

const PAXOS: [Paxos; 9] = [
    FREE_PAXOS,
    HELD_PAXOS,
    Paxos {
        file: "paxos_ex_released_leader_512.bin",
        timestamp: 0,
        checksum: 0x5f02_c995,
        written: (1, 1, 1282),
        ..HELD_PAXOS
    },
    Paxos {
        file: "paxos_ex2_held_leader_512.bin",
        owner: 2,
        lver: 2,
        timestamp: 1283,
        checksum: 0xf9b7_0795,
        written: (2, 1, 1283),
        ..HELD_PAXOS
    },
    Paxos {
        file: "paxos_sh_leader_512.bin",
        owner: 2,
        lver: 4,
        timestamp: 0,
        checksum: 0x388d_5bfe,
        written: (2, 1, 1288),
        ..HELD_PAXOS
    },
    Paxos {
        file: "rindex_lease_leader_512.bin",
        lver: 4,
        space: "RX",
        resource: "rindex_lease",
        timestamp: 0,
        checksum: 0xaf47_9099,
        written: (1, 1, 3060),
        ..HELD_PAXOS
    },
    FREE_PAXOS_4K,
    HELD_PAXOS_4K,
    Paxos {
        file: "paxos_ex_released_leader_4k8M.bin",
        timestamp: 0,
        checksum: 0x9e68_37b8,
        written: (1500, 1, 3049),
        ..HELD_PAXOS_4K
    },
];

#[test]
fn leader_records() {
    for want in PAXOS {
        let file = want.file;
        let sector = golden(file);
        let leader = PaxosLeader::decode(&sector).expect(file);
        assert_eq!(sector.len(), want.geometry.sector_size(), "{file}");
        assert_eq!(leader.geometry(), want.geometry, "{file}");
        assert_eq!(probe_lease(&sector), Ok(want.geometry), "{file}");
        assert_eq!(
            (leader.num_hosts(), leader.max_hosts()),
            (2000, 2000),
            "{file}"
        );
        assert_eq!(leader.owner_id().map_or(0, u64::from), want.owner, "{file}");
        assert_eq!(
            leader.generation(),
            Generation::new(want.generation),
            "{file}"
        );
        assert_eq!(leader.version(), LeaseVersion::new(want.lver), "{file}");
        assert_eq!(leader.space_name().to_string(), want.space, "{file}");
        assert_eq!(leader.resource_name().to_string(), want.resource, "{file}");
        assert_eq!(leader.timestamp_secs(), want.timestamp, "{file}");
        assert_eq!(leader.is_free(), want.timestamp == 0, "{file}");
        assert!(!leader.is_short_hold(), "{file}");
        assert_eq!(stored(&sector, 168), want.checksum, "{file}");
        let (id, generation, timestamp) = want.written;
        assert_eq!(leader.write_id(), id, "{file}");
        assert_eq!(
            leader.write_generation(),
            Generation::new(generation),
            "{file}"
        );
        assert_eq!(leader.write_timestamp(), timestamp, "{file}");
        assert_eq!(sector_of(leader), sector, "{file}");
    }
}

fn sector_of(leader: PaxosLeader) -> Vec<u8> {
    let mut sector = vec![0; leader.geometry().sector_size()];
    leader.write_to(&mut sector).unwrap();
    sector
}

/// What sanlock wrote at each step of a lease's life is what we would write.
#[test]
fn the_steps_of_a_lease_are_those_of_sanlock() {
    let commit = |version, owner, timestamp_secs| Commit {
        version: LeaseVersion::new(version),
        owner: host(owner),
        generation: Generation::new(1),
        timestamp_secs,
        writer: host(owner),
        writer_generation: Generation::new(1),
        writer_clock_secs: timestamp_secs,
        clear_short_hold: true,
    };
    let one = Generation::new(1);
    let (space, resource) = (
        LockspaceName::new("LS").unwrap(),
        ResourceName::new("RES").unwrap(),
    );
    let free = PaxosLeader::free(Geometry::S512_A1M, &space, &resource, 0);
    assert_eq!(sector_of(free), golden("paxos_free_leader_512.bin"));
    let held = free.committed(commit(1, 1, 1256));
    assert_eq!(sector_of(held), golden("paxos_ex_held_leader_512.bin"));
    let freed = held.freed(host(1), one, 1282);
    assert_eq!(sector_of(freed), golden("paxos_ex_released_leader_512.bin"));
    let held = freed.committed(commit(2, 2, 1283));
    assert_eq!(sector_of(held), golden("paxos_ex2_held_leader_512.bin"));
    let shared = held
        .committed(commit(4, 2, 1288))
        .short_hold()
        .freed(host(2), one, 1288);
    assert_eq!(sector_of(shared), golden("paxos_sh_leader_512.bin"));

    let (space, resource) = (
        LockspaceName::new("K").unwrap(),
        ResourceName::new("R").unwrap(),
    );
    let free = PaxosLeader::free(Geometry::S4K_A8M, &space, &resource, 0);
    assert_eq!(sector_of(free), golden("paxos_free_leader_4k8M.bin"));
    let held = free.committed(commit(1, 1500, 3048));
    assert_eq!(sector_of(held), golden("paxos_ex_held_leader_4k8M.bin"));
    let freed = held.freed(host(1500), one, 3049);
    assert_eq!(
        sector_of(freed),
        golden("paxos_ex_released_leader_4k8M.bin")
    );
}

#[test]
fn a_cleared_lease_is_told_from_garbage() {
    let structure = Structure::PaxosLeader;
    let sector = golden("rindex_deleted_resource_leader_512.bin");
    assert_eq!(
        PaxosLeader::decode(&sector),
        Err(FormatError::Cleared { structure })
    );
    assert!(matches!(
        probe_lease(&sector),
        Err(FormatError::Magic {
            found: 0x1128_2016,
            ..
        })
    ));
}

/// File; mbal and bal; the proposed owner of generation 1 and its clock; version; checksum; released; shared.
type DblockRow = (&'static str, u64, u64, u64, u64, u32, bool, bool);

#[rustfmt::skip]
const DBLOCKS: [DblockRow; 9] = [
    ("paxos_ex_held_dblock_h1_512.bin",             1,         1,    1256, 1,    0x13b1_a4a7, false, false),
    ("paxos_ex_released_dblock_h1_512.bin",         1,         1,    1256, 1,    0x13b1_a4a7, true,  false),
    ("paxos_ex2_held_dblock_h2_512.bin",            2002,      2,    1283, 2,    0x7323_0bfe, false, false),
    ("paxos_sh_dblock_h1_512.bin",                  4001,      1,    1286, 3,    0x8d63_eb26, true,  true),
    ("paxos_sh_dblock_h2_512.bin",                  6002,      2,    1288, 4,    0xc22c_b666, true,  true),
    ("paxos_committed_by_other_dblock_h2_512.bin",  5_440_002, 2,    2803, 2668, 0x5e4e_0773, false, false),
    ("rindex_lease_dblock_h1_512.bin",              6001,      1,    3060, 4,    0x39bb_bf5e, false, false),
    ("paxos_ex_held_dblock_h1500_4k8M.bin",         1500,      1500, 3048, 1,    0x1d01_8796, false, false),
    ("paxos_sh_dblock_h1500_4k8M.bin",              3500,      1500, 3050, 2,    0xa5f9_4ec5, true,  true),
];

#[test]
fn dblocks_and_mode_blocks() {
    for (file, ballot, owner, clock, version, checksum, released, shared) in DBLOCKS {
        let sector = golden(file);
        let read = DblockSector::decode(&sector, host(owner));
        let block = Dblock {
            mbal: ballot,
            bal: ballot,
            input: Some(Input {
                owner,
                generation: 1,
                timestamp: clock,
            }),
            version: LeaseVersion::new(version),
            released,
            other_flags: 0,
        };
        assert_eq!(read.block, Ok(Some(block)), "{file}");
        assert_eq!(read.shared, shared.then_some(Generation::new(1)), "{file}");
        assert_eq!(read.note, NoteState::Absent, "{file}");
        assert_eq!(stored(&sector, 48), checksum, "{file}");

        let mut again = vec![0; sector.len()];
        block.write_to(&mut again).unwrap();
        if let Some(shared) = read.shared {
            ModeBlock { shared }.write_to(&mut again).unwrap();
        }
        assert_eq!(again, sector, "{file}");
    }
}

#[test]
fn request_records() {
    let graceful = RequestRecord {
        version: LeaseVersion::new(9),
        force_mode: RequestRecord::GRACEFUL,
    };
    for (file, want) in [
        ("paxos_request_empty_512.bin", RequestRecord::empty()),
        ("paxos_request_empty_4k8M.bin", RequestRecord::empty()),
        ("paxos_request_512.bin", graceful),
    ] {
        let sector = golden(file);
        assert_eq!(RequestRecord::decode(&sector), Ok(want), "{file}");
        let mut again = vec![0; sector.len()];
        want.write_to(&mut again).unwrap();
        assert_eq!(again, sector, "{file}");
    }
}

#[test]
fn a_value_block_is_bare_bytes() {
    let sector = golden("paxos_lvb_512.bin");
    let text = b"hello lvb";
    assert!(sector.starts_with(text) && sector[text.len()..].iter().all(|&byte| byte == 0));
    assert!(matches!(
        PaxosLeader::decode(&sector),
        Err(FormatError::Magic { .. })
    ));
}

/// No sector lies about unread.
#[test]
fn every_golden_sector_is_looked_at() {
    let source = include_str!("format_golden.rs");
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut seen = 0;
    for entry in fs::read_dir(vectors).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".bin") {
            assert!(
                source.contains(&format!("\"{name}\"")),
                "{name} is in no test"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 32);
}
