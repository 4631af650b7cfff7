//! What is known of an open disk.

use std::path::{Path, PathBuf};

use crate::disk::identity::Identity;

/// What was learnt of a disk when it was opened.
#[derive(Clone, Debug)]
pub struct DiskInfo {
    pub(in crate::disk) path: PathBuf,
    pub(in crate::disk) identity: Identity,
    pub(in crate::disk) direct: bool,
    pub(in crate::disk) len: u64,
    pub(in crate::disk) io_alignment: u32,
}

impl DiskInfo {
    /// What it was opened by; for an adopted descriptor what the kernel calls it, or else its
    /// number.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from others.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether its I/O goes past the page cache: always so with [`Access::ReadWrite`](super::Access::ReadWrite).
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.direct
    }

    /// Whether it is a block device; else it is a regular file.
    #[must_use]
    pub const fn is_block_device(&self) -> bool {
        self.identity.is_block_device()
    }

    /// Its length in bytes when it was opened.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// What every offset and length of an I/O must be a multiple of, in bytes.
    ///
    /// For a block device this is its logical sector size. For a file it is what the kernel tells
    /// (since Linux 6.1), or else 512: the device under it may then turn out to want 4096.
    #[must_use]
    pub const fn io_alignment(&self) -> u32 {
        self.io_alignment
    }

    /// Whether an I/O may begin at byte `offset`.
    #[must_use]
    pub(crate) fn may_begin_at(&self, offset: u64) -> bool {
        offset
            .checked_rem(u64::from(self.io_alignment))
            .is_none_or(|rest| rest == 0)
    }
}
