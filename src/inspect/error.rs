//! What keeps an inspection from showing something.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::format::{FormatError, LockspaceId};
use crate::libvirt::MISSING_HINT;
use crate::runtime::disk::OpenErrorKind;
use crate::world::{OsError, ReadError};

/// Why one record of an area is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The bytes are not such a record, or not a good one.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The storage does not give the bytes.
    #[error("the sector cannot be read: {0}")]
    Unreadable(#[source] ReadError),
}

/// A file, a device or a lease directory of which nothing can be shown, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectError {
    path: PathBuf,
    kind: InspectErrorKind,
}

impl InspectError {
    pub(super) fn new(path: &Path, kind: InspectErrorKind) -> Self {
        let path = path.to_owned();
        Self { path, kind }
    }

    /// The file, device or directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why nothing can be shown.
    #[must_use]
    pub const fn kind(&self) -> &InspectErrorKind {
        &self.kind
    }
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.kind)
    }
}

impl Error for InspectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

/// Why nothing can be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InspectErrorKind {
    /// The file or device cannot be opened.
    #[error(transparent)]
    Open(OpenErrorKind),
    /// The storage does not give the bytes.
    #[error("cannot be read at byte {offset}: {error}")]
    Read {
        /// Where the read starts.
        offset: u64,
        /// Why.
        #[source]
        error: ReadError,
    },
    /// The inspection was to start behind the end.
    #[error("ends at byte {len}, before byte {offset}")]
    BehindTheEnd {
        /// Where the inspection was to start.
        offset: u64,
        /// The length in bytes.
        len: u64,
    },
    /// The system refuses the thread that is to read.
    #[error("cannot be read, for no thread can be started: {0}")]
    Thread(OsError),
    /// There is no lockspace in the lease directory, and perhaps no directory either.
    #[error("is no lockspace, for nothing is there: {MISSING_HINT}")]
    Missing,
    /// The file that should hold the lockspace of the lease directory holds none.
    #[error("holds no lockspace")]
    NoLockspace,
    /// The lockspace has another id than the one that was asked for, or none.
    #[error(
        "is {}, not the lockspace {expected}: is the right share mounted?",
        LockspaceId::said(*found)
    )]
    OtherLockspace {
        /// The id that was asked for.
        expected: LockspaceId,
        /// The id in the lockspace, if there is a good one.
        found: Option<LockspaceId>,
    },
    /// The names in the lease directory cannot be listed.
    #[error("cannot be listed: {0}")]
    Directory(OsError),
}
