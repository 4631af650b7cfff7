//! Notes: what our hosts add in bytes that sanlock neither reads nor protects.

use super::error::FormatError;

/// What stands where a note may be.
///
/// A note only makes answers longer: nothing about who may hold a lease follows from it, and any
/// other host may have zeroed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum NoteState<T> {
    /// No note: all bytes are zero, as sanlock writes them.
    Absent,
    /// Something else than a good note.
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
