//! Notes: what our hosts add in bytes that sanlock neither reads nor protects.

use super::error::FormatError;

/// What stands where a note may be.
///
/// Any other host may have zeroed a note. So one that is missing or damaged makes answers shorter, or
/// an acquire that depends on it fail; never the opposite.
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
