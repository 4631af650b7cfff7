//! One thing in a file.

use super::lease::LeaseLook;
use super::lockspace::LockspaceLook;

/// Something that a file holds, in the order in which it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Area {
    /// A lockspace.
    Lockspace(LockspaceLook),
    /// A lease.
    Lease(LeaseLook),
    /// No area of the format begins at any MiB in here; its beginnings hold only zeros.
    Zeros {
        /// Where it begins, in bytes from the start of the file.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// No area of the format begins at any MiB in here; there is something else.
    Foreign {
        /// Where it begins, in bytes from the start of the file.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// What it begins with, as a little-endian number, where the format has a magic number.
        first_word: u32,
    },
}

impl Area {
    /// Where it begins, in bytes from the start of the file.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Lockspace(lockspace) => lockspace.offset,
            Self::Lease(lease) => lease.offset,
            Self::Zeros { offset, .. } | Self::Foreign { offset, .. } => *offset,
        }
    }
}
