//! Notes: what disklease hosts add in bytes that sanlock neither reads nor protects.
//!
//! Each begins with a magic number and the checksum of all that follows.

use bytemuck::{Pod, Zeroable};

use super::checksum::checksum;
use super::error::{FormatError, Structure};
use super::le::Le32;
use super::record::{self, SectorHead};

/// The note at its place in a sector, or why there is none.
///
/// Any other host may have zeroed a note. So a missing or damaged note makes answers shorter, or an
/// acquire that depends on it fail; never the opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum NoteState<T> {
    /// No note: all bytes are zero, as sanlock writes them.
    Absent,
    /// Bytes that are no good note.
    Damaged(FormatError),
    /// A good note.
    Present(T),
}

impl<T> NoteState<T> {
    /// The note, if there is a good one.
    #[must_use]
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(note) => Some(note),
            Self::Absent | Self::Damaged(_) => None,
        }
    }

    /// As the result of reading a note: `Ok(None)` is an absent one.
    pub(super) fn from_result(read: Result<Option<T>, FormatError>) -> Self {
        match read {
            Ok(Some(note)) => Self::Present(note),
            Ok(None) => Self::Absent,
            Err(error) => Self::Damaged(error),
        }
    }
}

/// What each note begins with.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct NoteHead {
    magic: Le32,
    checksum: Le32,
}

/// Bytes of a note before those that its checksum covers.
const HEAD_LEN: usize = size_of::<NoteHead>();

/// The note at byte `offset` of `sector`, without its head; `None` if all its bytes are zero.
pub(super) fn read<T: Pod>(
    structure: Structure,
    sector: &[u8],
    offset: usize,
    magic: u32,
) -> Result<Option<T>, FormatError> {
    let note: T = record::read(structure, sector, offset.saturating_add(HEAD_LEN))?;
    let head: NoteHead = record::read(structure, sector, offset)?;
    let bytes = bytemuck::bytes_of(&note);
    if bytemuck::bytes_of(&head) == [0; HEAD_LEN] && bytes.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    record::expect_magic(structure, magic, head.magic.get())?;
    record::expect_checksum(structure, head.checksum.get(), checksum(bytes))?;
    Ok(Some(note))
}

/// Copies a note to byte `OFFSET` of the sector, behind its head. The rest is left alone.
pub(super) fn write<const OFFSET: usize, T: Pod>(sector: &mut SectorHead, magic: u32, note: &T) {
    const { assert!(OFFSET + HEAD_LEN + size_of::<T>() <= size_of::<SectorHead>()) };
    let note = bytemuck::bytes_of(note);
    let head = NoteHead {
        magic: Le32::new(magic),
        checksum: Le32::new(checksum(note)),
    };
    let bytes = bytemuck::bytes_of(&head).iter().chain(note);
    for (to, from) in sector.iter_mut().skip(OFFSET).zip(bytes) {
        *to = *from;
    }
}
