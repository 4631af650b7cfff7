//! A small file of any bytes: what is it?

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use disklease::format::{
    DblockSector, FormatError, Geometry, HostId, Structure, probe_lease, probe_lockspace,
};
use disklease::inspect::{Area, FileOptions, inspect_file};

use super::{directory, is_in_order};
use crate::records::{delta_leader, paxos_leader};
use crate::{bytes, golden, shown};

static FILE: LazyLock<PathBuf> = LazyLock::new(|| directory().join("small"));

/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let as_lockspace = judged_lockspace(data);
    assert_eq!(probe_lockspace(data), as_lockspace);
    let as_lease = judged_lease(data);
    assert_eq!(probe_lease(data), as_lease);
    for error in [as_lockspace.err(), as_lease.err()].iter().flatten() {
        shown::error(error);
    }

    fs::write(&*FILE, data).unwrap();
    let found = inspect_file(&*FILE, FileOptions::new()).unwrap();
    assert_eq!(found.len, u64::try_from(data.len()).unwrap());
    is_in_order(&found, 0);
    match (found.areas.as_slice(), as_lockspace, as_lease) {
        ([Area::Lockspace(found), ..], Ok(geometry), _) => assert_eq!(found.geometry, geometry),
        ([Area::Lease(found), ..], _, Ok(geometry)) => {
            assert_eq!(found.geometry, geometry);
            assert!(!found.geometry_is_guessed);
        }
        ([], ..) => assert!(data.is_empty()),
        ([Area::Zeros { .. }], ..) => assert!(data.iter().all(|&byte| byte == 0)),
        ([Area::Foreign { first_word, .. }], Err(_), Err(_)) => {
            let mut word = [0; 4];
            let len = data.len().min(4);
            word[..len].copy_from_slice(&data[..len]);
            assert_eq!(*first_word, u32::from_le_bytes(word));
            // A block of a host would have told that it is a lease.
            let mut blocks = data.chunks(512).take(32).skip(2);
            assert!(blocks.all(|sector| {
                !matches!(
                    DblockSector::decode(sector, HostId::FIRST).block,
                    Ok(Some(_))
                )
            }));
        }
        // By a sector behind the first.
        ([Area::Lockspace(_) | Area::Lease(_), ..], Err(_), Err(_)) => {}
        (other, ..) => panic!("{other:?}"),
    }
}

fn judged_lockspace(first: &[u8]) -> Result<Geometry, FormatError> {
    let structure = Structure::DeltaLeader(Some(HostId::FIRST));
    delta_leader::kind(structure, first)?;
    bytes::sizes(structure, first)
}

fn judged_lease(first: &[u8]) -> Result<Geometry, FormatError> {
    paxos_leader::kind(first)?;
    bytes::sizes(Structure::PaxosLeader, first)
}

/// sanlock's sectors, alone and behind one that is damaged.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new(), vec![0; 600], b"QFI\xfb".to_vec()];
    for sector in golden::sectors("", "512") {
        let sector = &sector[..512];
        seeds.push(sector.to_vec());
        seeds.push([&[0; 512], sector].concat());
        seeds.push([&[1; 1024], sector].concat());
    }
    for sector in golden::sectors("", "4k") {
        seeds.push(sector[..256].to_vec());
        seeds.push([&[0; 4096], &sector[..256]].concat());
    }
    seeds
}
