//! Which opens are the same file or device.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};

use super::open::{Links, OpenError};

/// Tells whether two opens of this process are the same storage.
///
/// A file is known by its file system and inode, a block device by its number, whatever its node is
/// called. A file cannot be mistaken for another while it is open anywhere, not even after it was
/// unlinked. A partition and its whole disk, or a loop device and the file under it, are *not* told
/// to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Key);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    File {
        device: (u32, u32),
        inode: u64,
    },
    BlockDevice {
        number: (u32, u32),
    },
    #[cfg(test)]
    Test(u64),
}

/// A path, and what it named when it was opened.
#[derive(Clone, Debug)]
pub struct NamedFile {
    path: PathBuf,
    links: Links,
    identity: Identity,
}

impl NamedFile {
    /// `path`, looked up as `links` says, named what `identity` tells.
    #[must_use]
    pub const fn new(path: PathBuf, links: Links, identity: Identity) -> Self {
        Self {
            path,
            links,
            identity,
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path certainly does not name the same any more: something else, or nothing. An
    /// error that leaves it open says no. May block as the file system does.
    #[must_use]
    pub fn was_replaced(&self) -> bool {
        match Identity::of_path(&self.path, self.links) {
            Ok(named) => named != self.identity,
            Err(
                OpenError::NotFound { .. }
                | OpenError::NotADisk { .. }
                | OpenError::IsSymlink { .. },
            ) => true,
            Err(_) => false,
        }
    }
}

impl Identity {
    /// Of what `path` names at this moment.
    ///
    /// Compared with the identity of an open disk, this tells whether the path still names it.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`](super::open::OpenOptions::open) that can be told without
    /// opening.
    pub fn of_path(path: &Path, links: Links) -> Result<Self, OpenError> {
        let flags = match links {
            Links::Follow => AtFlags::empty(),
            Links::Refuse => AtFlags::SYMLINK_NOFOLLOW,
        };
        let stat = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS)
            .map_err(|errno| OpenError::of(errno, path))?;
        Self::of(&stat).map_err(|kind| OpenError::of_kind(kind, path))
    }

    /// Refuses what is neither a file nor a block device.
    pub(super) fn of(stat: &Statx) -> Result<Self, FileType> {
        match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile => Ok(Self(Key::File {
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
            })),
            FileType::BlockDevice => Ok(Self(Key::BlockDevice {
                number: (stat.stx_rdev_major, stat.stx_rdev_minor),
            })),
            other => Err(other),
        }
    }

    /// Whether it is a block device.
    pub(super) const fn is_block_device(self) -> bool {
        matches!(self.0, Key::BlockDevice { .. })
    }

    /// One that nothing else has.
    #[cfg(test)]
    pub(crate) fn unique() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(Key::Test(NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}
