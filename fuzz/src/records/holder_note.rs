//! The note on who holds a lease.

use disklease::format::{
    FormatError, Generation, HolderNote, HostId, Incarnation, LeaseVersion, NoteState, OfferId,
    Structure, Tenure,
};

use super::Case;
use crate::bytes::{self, HOLDER_NOTE, u16_at, u32_at, u64_at};
use crate::shown;

const OFFSET: usize = HOLDER_NOTE.0;
const END: usize = HOLDER_NOTE.0 + HOLDER_NOTE.1;

/// Any bytes as the note in the sector of any host.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut case = Case::new(data, OFFSET);
    if case.seal {
        bytes::seal_note(&mut case.sector, HOLDER_NOTE);
    }
    let (sector, host) = (&case.sector[..], case.host);
    let read = HolderNote::read_from(sector, host);
    assert_eq!(read, judged(sector, host));
    match read {
        NoteState::Present(note) => goes_back(&note, &sector[OFFSET..END]),
        NoteState::Damaged(error) => shown::error(&error),
        NoteState::Absent => {}
    }
}

/// What these bytes say in the sector of `host`, or what is wrong with them.
pub(crate) fn judged(sector: &[u8], host: HostId) -> NoteState<HolderNote> {
    let structure = Structure::HolderNote(host);
    let Some(note) = sector.get(OFFSET..END) else {
        return NoteState::Damaged(FormatError::Short {
            structure,
            needed: END,
            found: sector.len(),
        });
    };
    if note.iter().all(|&byte| byte == 0) {
        return NoteState::Absent;
    }
    match present(structure, note, host) {
        Ok(said) => NoteState::Present(said),
        Err(error) => NoteState::Damaged(error),
    }
}

fn present(structure: Structure, note: &[u8], host: HostId) -> Result<HolderNote, FormatError> {
    let (expected, found) = (0x6c64_6e6c, u32_at(note, 0));
    if found != expected {
        return Err(FormatError::Magic {
            structure,
            expected,
            found,
        });
    }
    bytes::expect_checksum(structure, &note[8..], u32_at(note, 4))?;
    let (expected, found) = (1, u16_at(note, 8));
    if found != expected {
        return Err(FormatError::Version {
            structure,
            expected,
            found,
        });
    }
    let tenure = match u16_at(note, 10) {
        1 => Tenure::Held,
        2 => Tenure::HandedOver(OfferId::new(u64_at(note, 208))),
        3 => Tenure::Unused {
            since: LeaseVersion::new(u64_at(note, 208)),
        },
        found => return Err(FormatError::NoteState { structure, found }),
    };
    let found = u64_at(note, 16);
    if found != u64::from(host) {
        return Err(FormatError::OwnerId {
            structure,
            expected: host,
            found,
        });
    }
    let name = &note[80..208];
    let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(128)];
    let at = |error: std::str::Utf8Error| error.valid_up_to();
    let name = std::str::from_utf8(name).map_err(|error| FormatError::NoteText {
        structure,
        at: at(error),
    })?;
    let generation = Generation::new(u64_at(note, 24));
    let mut said = HolderNote::new(host, generation, LeaseVersion::new(u64_at(note, 32)));
    said.tenure = tenure;
    said.pid = u32_at(note, 12);
    said.acquired_unix_secs = u64_at(note, 40);
    said.boot_id.copy_from_slice(&note[48..64]);
    said.incarnation = Incarnation::new(note[216..232].try_into().unwrap());
    let uuid: [u8; 16] = note[64..80].try_into().unwrap();
    said.guest_uuid = Some(uuid).filter(|uuid| *uuid != [0; 16]);
    name.clone_into(&mut said.guest_name);
    Ok(said)
}

fn goes_back(note: &HolderNote, bytes: &[u8]) {
    let mut sector = [0; 512];
    note.write_to(&mut sector);
    assert!(sector[..OFFSET].iter().all(|&byte| byte == 0));
    let back = HolderNote::read_from(&sector, note.host_id);
    assert_eq!(back, NoteState::Present(note.clone()));
    // Bytes that have no meaning yet are not carried over.
    let mut unused = bytes.to_vec();
    if note.tenure != Tenure::Held {
        unused[208..216].fill(0);
    }
    unused[216..232].fill(0);
    let is_as_we_write_it = unused[80 + note.guest_name.len()..]
        .iter()
        .all(|&byte| byte == 0);
    assert_eq!(sector[OFFSET..END] == *bytes, is_as_we_write_it);
    assert_eq!(note.clone().with_guest_name(&note.guest_name), *note);
    let debug = format!("{note:?}");
    assert!(!debug.chars().any(char::is_control), "{debug:?}");
}

/// Notes of ours, as they are and sealed anew.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (id, name) in [(1, "guest-1"), (1500, "gäst\n")] {
        let host = HostId::new(u64::from(id)).unwrap();
        let mut note = HolderNote::new(host, Generation::new(3), LeaseVersion::new(9));
        note.pid = 4711;
        note.guest_uuid = Some([0xab; 16]);
        note.acquired_unix_secs = 1_700_000_000;
        let mut sector = [0; 512];
        note.with_guest_name(name).write_to(&mut sector);
        let seed = Case::seed(id, OFFSET, &sector[..END]);
        let mut sealed = seed.clone();
        sealed[0] = 1;
        seeds.extend([seed, sealed]);
    }
    let host = HostId::new(2).unwrap();
    for tenure in [
        Tenure::HandedOver(OfferId::new(77)),
        Tenure::Unused {
            since: LeaseVersion::new(8),
        },
    ] {
        let mut note = HolderNote::new(host, Generation::new(3), LeaseVersion::new(9));
        note.tenure = tenure;
        note.incarnation = Incarnation::new([9; 16]);
        let mut sector = [0; 512];
        note.write_to(&mut sector);
        seeds.push(Case::seed(2, OFFSET, &sector[..END]));
    }
    seeds
}
