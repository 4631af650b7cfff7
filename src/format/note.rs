//! Notes: what disklease hosts add in bytes that sanlock neither reads nor protects.
//!
//! Each begins with a magic number and the checksum of all that follows.

use super::checksum::checksum;
use super::error::{FormatError, FormatErrorKind as Kind, Structure};
use super::ids::LockspaceId;
use super::layout::{Field, SectorHead, expect_checksum, expect_magic, part, writers};

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

    /// The note, if there is a good one.
    #[must_use]
    pub const fn get(&self) -> Option<&T> {
        match self {
            Self::Present(note) => Some(note),
            Self::Absent | Self::Damaged(_) => None,
        }
    }

    /// What is wrong with the note, if anything.
    #[must_use]
    pub const fn error(&self) -> Option<FormatError> {
        match self {
            Self::Damaged(error) => Some(*error),
            Self::Absent | Self::Present(_) => None,
        }
    }

    /// As the result of reading a note: `Ok(None)` is an absent one.
    pub(super) fn of(structure: Structure, read: Result<Option<T>, Kind>) -> Self {
        match structure.of(read) {
            Ok(Some(note)) => Self::Present(note),
            Ok(None) => Self::Absent,
            Err(error) => Self::Damaged(error),
        }
    }
}

/// Bytes of a note before those that its checksum covers: magic number and checksum.
pub(super) const HEAD_LEN: usize = 8;

/// The `len` bytes of a good note of this magic number behind its head, which is at byte `at` of `sector`;
/// `None` if all its bytes are zero.
pub(super) fn open(
    sector: &[u8],
    at: usize,
    len: usize,
    magic: u32,
) -> Result<Option<&[u8]>, Kind> {
    let note = part(sector, at, HEAD_LEN.saturating_add(len))?;
    if note.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    expect_magic(magic, u32::read(note, 0)?)?;
    let body = part(note, HEAD_LEN, len)?;
    expect_checksum(u32::read(note, 4)?, checksum(body))?;
    Ok(Some(body))
}

/// Writes the head of the note at byte `at`, whose `len` bytes behind the head are written.
pub(super) fn seal(sector: &mut SectorHead, at: usize, len: usize, magic: u32) {
    let body = sector
        .get(at.saturating_add(HEAD_LEN)..)
        .unwrap_or_default();
    let sum = checksum(body.get(..len).unwrap_or_default());
    magic.write(sector, at);
    sum.write(sector, at.saturating_add(4));
}

/// "didl".
const LOCKSPACE_ID_MAGIC: u32 = 0x6c64_6964;

impl LockspaceId {
    /// The id in the last sector of a lockspace. A lockspace that sanlock made has none.
    #[must_use]
    pub fn read_from(sector: &[u8]) -> NoteState<Self> {
        let id = open(sector, 0, 16, LOCKSPACE_ID_MAGIC).and_then(|body| {
            let id = body.map(|body| <[u8; 16]>::read(body, 0));
            Ok(id.transpose()?.map(Self::new))
        });
        NoteState::of(Structure::LockspaceId, id)
    }

    writers! {
        /// Copies the id to the start of the last sector of a lockspace. The rest is left alone.
        fn write_to(&self, sector: &mut SectorHead) {
            self.to_bytes().write(sector, HEAD_LEN);
            seal(sector, 0, 16, LOCKSPACE_ID_MAGIC);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Geometry;

    #[test]
    fn a_lockspace_id_goes_to_the_start_of_a_sector_that_is_no_host_s_and_back() {
        for geometry in Geometry::ALL {
            let end = u64::try_from(geometry.area_size()).unwrap();
            let hosts = u64::try_from(geometry.lockspace_len(u16::MAX)).unwrap();
            let sector_size = u64::try_from(geometry.sector_size()).unwrap();
            let at = geometry.lockspace_id_offset();
            assert!(at >= hosts && at + sector_size == end, "{geometry}");
        }
        let id = LockspaceId::new([0x1c; 16]);
        let mut sector = [0; 512];
        id.write_to(&mut sector);
        assert_eq!(sector[..4], *b"didl");
        assert!(sector[24..].iter().all(|&byte| byte == 0));
        assert_eq!(LockspaceId::read_from(&sector), NoteState::Present(id));
        assert_eq!(LockspaceId::read_from(&[0; 512]), NoteState::Absent);
        for at in 0..24 {
            let mut damaged = sector;
            damaged[at] ^= 1;
            let read = LockspaceId::read_from(&damaged);
            assert!(matches!(read, NoteState::Damaged(_)), "byte {at}: {read:?}");
        }
        assert!(matches!(
            LockspaceId::read_from(&sector[..23]),
            NoteState::Damaged(_)
        ));
    }
}
