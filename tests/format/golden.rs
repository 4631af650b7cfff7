//! Sectors that sanlock wrote, decoded to the values that are known to be in them and encoded again to the same
//! bytes.

mod delta;
mod leader_records;

use std::fs;
use std::path::Path;

use disklease::format::{
    Dblock, DblockSector, FormatError, Generation, HostId, Input, LeaseVersion, ModeBlock,
    NoteState, PaxosLeader, RequestRecord, Structure, probe_lease,
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

#[test]
fn a_cleared_lease_is_told_from_garbage() {
    let structure = Structure::PaxosLeader;
    let sector = golden("rindex_deleted_resource_leader_512.bin");
    assert_eq!(
        PaxosLeader::decode(&sector),
        Err(FormatError::Cleared { structure })
    );
    assert_eq!(
        probe_lease(&sector),
        Err(FormatError::Cleared { structure })
    );
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
        block.write_to(again.first_chunk_mut().unwrap());
        if let Some(shared) = read.shared {
            ModeBlock { shared }.write_to(again.first_chunk_mut().unwrap());
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
        want.write_to(again.first_chunk_mut().unwrap());
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
    let source = [
        include_str!("golden.rs"),
        include_str!("golden/delta.rs"),
        include_str!("golden/leader_records.rs"),
    ]
    .concat();
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
