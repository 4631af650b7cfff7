//! What a host of ours says of itself.

use disklease::format::{
    FormatError, Generation, HostId, HostNote, Incarnation, NoteState, Structure,
};

use super::Case;
use crate::bytes::{self, HOST_NOTE, u16_at, u32_at, u64_at};
use crate::shown;

const OFFSET: usize = HOST_NOTE.0;
const END: usize = HOST_NOTE.0 + HOST_NOTE.1;

/// Any bytes as the note in a delta sector.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut case = Case::new(data, OFFSET);
    if case.seal {
        bytes::seal_note(&mut case.sector, HOST_NOTE);
    }
    let sector = &case.sector[..];
    let read = HostNote::read_from(sector);
    assert_eq!(read, judged(sector));
    match read {
        NoteState::Present(note) => goes_back(&note, &sector[OFFSET..END]),
        NoteState::Damaged(error) => shown::error(&error),
        NoteState::Absent => {}
    }
}

/// What these bytes say, or what is wrong with them.
fn judged(sector: &[u8]) -> NoteState<HostNote> {
    let structure = Structure::HostNote;
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
    let (expected, old, found) = (0x3264_6e68, 0x6c64_6e68, u32_at(note, 0));
    let is_old = found == old;
    if found != expected && !is_old {
        return NoteState::Damaged(FormatError::Magic {
            structure,
            expected,
            found,
        });
    }
    if let Err(error) = bytes::expect_checksum(structure, &note[8..], u32_at(note, 4)) {
        return NoteState::Damaged(error);
    }
    // Host id and F, generation, process token, boot.
    let [ids, generation, mark, boot] = if is_old {
        [48, 24, 20, 32]
    } else {
        [52, 20, 16, 28]
    };
    let found = u64::from(u16_at(note, ids));
    let Ok(host_id) = HostId::new(found) else {
        let max = 2000;
        return NoteState::Damaged(FormatError::OwnerRange {
            structure,
            max,
            found,
        });
    };
    let mut said = HostNote::new(host_id, Generation::new(u64_at(note, generation)));
    said.protocol = u16_at(note, 8);
    said.io_timeout_secs = u16_at(note, 10);
    said.pid = u32_at(note, 12);
    said.process_token = u32_at(note, mark);
    said.boot.copy_from_slice(&note[boot..boot + 8]);
    said.fire_timeout_secs = u16_at(note, ids + 2);
    if !is_old {
        said.incarnation = Incarnation::new(note[36..52].try_into().unwrap());
    }
    NoteState::Present(said)
}

fn goes_back(note: &HostNote, bytes: &[u8]) {
    let mut sector = [0; 512];
    note.write_to(&mut sector);
    assert!(sector[..OFFSET].iter().all(|&byte| byte == 0));
    assert_eq!(HostNote::read_from(&sector), NoteState::Present(*note));
    // A note of the old layout is not written again.
    assert_eq!(
        sector[OFFSET..END] == *bytes,
        u32_at(bytes, 0) == 0x3264_6e68
    );
}

/// A note of ours, as it is and sealed anew.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut note = HostNote::new(HostId::FIRST, Generation::new(3));
    note.protocol = 1;
    note.io_timeout_secs = 10;
    note.fire_timeout_secs = 60;
    note.boot = [7; 8];
    note.incarnation = Incarnation::new([9; 16]);
    let mut sector = [0; 512];
    note.write_to(&mut sector);
    let seed = Case::seed(1, OFFSET, &sector[..END]);
    let mut sealed = seed.clone();
    sealed[0] = 1;
    vec![seed, sealed]
}
