//! A host's own sector in a lease: dblock, mode block and note, each for itself.

use disklease::format::{
    Dblock, DblockSector, FormatError, Generation, HostId, Input, LeaseVersion, ModeBlock,
    NoteState, Structure,
};

use super::{Case, holder_note};
use crate::bytes::{self, HOLDER_NOTE, u32_at, u64_at};
use crate::{golden, shown};

const DBLOCK: usize = 56;
const MODE_BLOCK: std::ops::Range<usize> = 128..144;

/// Any bytes as the sector of any host.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut case = Case::new(data, 0);
    if case.seal {
        bytes::seal_dblock(&mut case.sector);
        bytes::seal_note(&mut case.sector, HOLDER_NOTE);
    }
    let (sector, host) = (&case.sector[..], case.host);
    let read = DblockSector::decode(sector, host);
    assert_eq!(read.block, judged(sector, host));
    let released = read.block.is_ok() && u32_at(sector, 52) & 1 != 0;
    assert_eq!(read.released, released);
    assert_eq!(read.shared, shared(sector));
    assert_eq!(read.note, holder_note::judged(sector, host));
    match read.block {
        Ok(Some(block)) => goes_back(&block, sector, host),
        Ok(None) => {}
        Err(error) => shown::error(&error),
    }
    if let NoteState::Damaged(error) = &read.note {
        shown::error(error);
    }
    if let Some(shared) = read.shared {
        let mode = ModeBlock { shared };
        let mut again = [0; 512];
        mode.write_to(&mut again);
        assert!(again[..MODE_BLOCK.start].iter().all(|&byte| byte == 0));
        let back = DblockSector::decode(&again, host);
        assert_eq!((back.block, back.shared), (Ok(None), Some(shared)));
    }
}

/// What the dblock says, or what is wrong with it.
fn judged(sector: &[u8], host: HostId) -> Result<Option<Dblock>, FormatError> {
    if sector.len() < MODE_BLOCK.end {
        // Nobody is to be overlooked who holds the lease shared.
        return Err(FormatError::Short {
            structure: Structure::ModeBlock(host),
            needed: MODE_BLOCK.end,
            found: sector.len(),
        });
    }
    let [mbal, bal, inp, inp2, inp3, lver] = [0, 8, 16, 24, 32, 40].map(|at| u64_at(sector, at));
    let (stored, flags) = (u32_at(sector, 48), u32_at(sector, 52));
    if (mbal, bal, inp, lver, stored) == (0, 0, 0, 0, 0) {
        return Ok(None);
    }
    bytes::expect_checksum(Structure::Dblock(host), &sector[..48], stored)?;
    let input = Input {
        owner: inp,
        generation: inp2,
        timestamp: inp3,
    };
    Ok(Some(Dblock {
        mbal,
        bal,
        input: Some(input).filter(|input| input.owner != 0),
        version: LeaseVersion::new(lver),
        released: flags & 1 != 0,
        other_flags: flags & !1,
    }))
}

fn shared(sector: &[u8]) -> Option<Generation> {
    let mode = sector.get(MODE_BLOCK)?;
    let generation = u64_at(mode, 8);
    (u32_at(mode, 0) & 1 != 0 || generation != 0).then_some(Generation::new(generation))
}

fn goes_back(block: &Dblock, sector: &[u8], host: HostId) {
    let mut again = [0; 512];
    block.write_to(&mut again);
    assert!(again[DBLOCK..].iter().all(|&byte| byte == 0));
    let back = DblockSector::decode(&again, host);
    assert_eq!((back.block, back.shared), (Ok(Some(*block)), None));
    // Generation and time of no proposal are not carried over.
    let is_as_we_write_it =
        block.input.is_some() || (u64_at(sector, 24), u64_at(sector, 32)) == (0, 0);
    assert_eq!(again[..DBLOCK] == sector[..DBLOCK], is_as_we_write_it);
}

/// sanlock's sectors, and one with a note of ours.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut sectors = golden::sectors("paxos_", "dblock");
    sectors.extend(golden::sectors("rindex_", "dblock"));
    let seed = |sector: &Vec<u8>| {
        let owner = u16::try_from(u64_at(sector, 16)).unwrap();
        let mut seed = Case::seed(owner.max(1), 0, &sector[..512]);
        seed[0] = 1;
        seed
    };
    let mut seeds: Vec<_> = sectors.iter().map(seed).collect();
    let notes = holder_note::seeds();
    let mut with_note = seeds[0].clone();
    with_note[Case::HEADER + HOLDER_NOTE.0..].copy_from_slice(&notes[0][Case::HEADER..]);
    seeds.push(with_note);
    seeds
}
