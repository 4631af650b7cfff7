//! A lease directory and a lockspace that do not go together.

use std::path::PathBuf;

use crate::libvirt::MISSING_HINT;
use crate::runtime::disk::OpenError;
use crate::world::ReadError;

/// Why a lease directory is not used with a lockspace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The directory has no lockspace.
    #[error("there is no lockspace {path:?}: {MISSING_HINT}")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The directory's lockspace cannot be inspected, or is no file.
    #[error("the directory's lockspace cannot be used: {0}")]
    Open(#[source] OpenError),
    /// Whether the directory's lockspace is the one that was joined is not known.
    #[error("{path:?} cannot be read, to see whether it is the lockspace that was joined: {error}")]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        #[source]
        error: ReadError,
    },
    /// The directory has another lockspace than the one that was joined.
    #[error(
        "the directory's lockspace {found:?} is not the one that was joined, at byte {offset} of {joined:?}: hosts of the two do not see each other, and would both take a lease; join {found:?}"
    )]
    OtherLockspace {
        /// The directory's lockspace.
        found: PathBuf,
        /// The file or device with the lockspace that was joined.
        joined: PathBuf,
        /// Where in it that begins, in bytes.
        offset: u64,
    },
}
