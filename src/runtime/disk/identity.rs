//! Which opens are the same file or device.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};

use super::error::OpenError;

/// Whether the last part of a path may be a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Links {
    /// It may: the names under `/dev/disk` are links.
    Follow,
    /// It must be the file itself: lease files, which others may be able to replace.
    Refuse,
}

/// Tells whether two opens of this process are the same storage.
///
/// A file is known by its file system and inode, a block device by its number, whatever its node is
/// called. A file of a local file system cannot be mistaken for another while it is open, not even
/// after it was unlinked; one of a network file system can: there see [`NamedFile`](super::NamedFile).
/// A partition and its whole disk, or a loop device and the file under it, are *not* told
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

/// What hangs as one: the files of one file system, or one block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileSystem(Place);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Files((u32, u32)),
    BlockDevice((u32, u32)),
    #[cfg(test)]
    Test(u64),
}

impl Identity {
    /// Of what `path` names at this moment.
    ///
    /// Compared with the identity of an open disk, this tells whether the path still names it.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`](super::OpenOptions::open) that can be found without
    /// opening.
    pub fn of_path(path: &Path, links: Links) -> Result<Self, OpenError> {
        let flags = match links {
            Links::Follow => AtFlags::empty(),
            Links::Refuse => AtFlags::SYMLINK_NOFOLLOW,
        };
        // What a network file system remembers of the path may be old.
        let flags = flags | AtFlags::STATX_FORCE_SYNC;
        let stat = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS)
            .map_err(|errno| OpenError::new(path, errno))?;
        Self::of(&stat).map_err(|kind| OpenError::new(path, kind))
    }

    /// Refuses what is neither a file nor a block device.
    pub(crate) fn of(stat: &Statx) -> Result<Self, FileType> {
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

    /// The file system of the file, or the device.
    pub(crate) const fn file_system(self) -> FileSystem {
        FileSystem(match self.0 {
            Key::File { device, .. } => Place::Files(device),
            Key::BlockDevice { number } => Place::BlockDevice(number),
            #[cfg(test)]
            Key::Test(number) => Place::Test(number),
        })
    }

    /// Whether it is a block device.
    pub(crate) const fn is_block_device(self) -> bool {
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
