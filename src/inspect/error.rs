//! What keeps an inspection from showing something.

use std::path::PathBuf;

use crate::format::{FormatError, LockspaceId};
use crate::libvirt::MISSING_HINT;
use crate::runtime::disk::OpenError;
use crate::world::{OsError, ReadError};

/// Why one record of an area is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Its bytes are not such a record, or not a good one.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The storage does not give its bytes.
    #[error("it cannot be read: {0}")]
    Unreadable(ReadError),
}

/// Why nothing of a file or device can be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// It cannot be opened.
    #[error("{0}")]
    Open(OpenError),
    /// The storage does not give its bytes.
    #[error("{path:?} cannot be read at byte {offset}: {error}")]
    Read {
        /// The file or device.
        path: PathBuf,
        /// Where the read starts.
        offset: u64,
        /// Why.
        error: ReadError,
    },
    /// The inspection was to begin behind the end.
    #[error("{path:?} ends at byte {len}, before byte {offset}")]
    BehindTheEnd {
        /// The file or device.
        path: PathBuf,
        /// Where the inspection was to begin.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// The system refuses a thread.
    #[error("no thread can be started to read {path:?}: {error}")]
    Threads {
        /// The file or device.
        path: PathBuf,
        /// Why.
        error: OsError,
    },
}

/// Why nothing can be said of a lease directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// Its lockspace cannot be read.
    #[error("the lockspace cannot be read: {0}")]
    Lockspace(LookError),
    /// Its lockspace does not exist, and perhaps it does not either.
    #[error("there is no lockspace {path:?}: {MISSING_HINT}")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file that should hold its lockspace holds none.
    #[error("{path:?} holds no lockspace")]
    NoLockspace {
        /// The file.
        path: PathBuf,
    },
    /// Its lockspace has another id than the one that was asked for, or none.
    #[error(
        "{path:?} is {}, not the lockspace {expected}: is the right share mounted?",
        LockspaceId::said(*found)
    )]
    OtherLockspace {
        /// The file.
        path: PathBuf,
        /// The id that was asked for.
        expected: LockspaceId,
        /// The id that is there, if there is a good one.
        found: Option<LockspaceId>,
    },
    /// The names in it cannot be listed.
    #[error("the directory {path:?} cannot be read: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: OsError,
    },
}
