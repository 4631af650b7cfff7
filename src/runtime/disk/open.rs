//! Opening files and block devices for direct I/O, and learning what they are.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, SeekFrom, Statx, StatxFlags};
use rustix::io::{Errno, FdFlags};

use super::error::{OpenError, OpenErrorKind};
use super::identity::{Identity, Links};
use super::info::{self, DiskInfo};

/// The alignment of direct I/O where the kernel does not tell it: that of most devices, and the
/// format's smaller sector.
const USUAL_ALIGNMENT: u32 = 512;

/// What may be done with an opened disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Reads and writes, always past the page cache.
    ReadWrite,
    /// Reads alone, to inspect. Where the file system knows no direct I/O they go through the page cache, and
    /// may then show an older state than another host has written ([`DiskInfo::is_direct`]
    /// tells). Nothing may be decided by such a read.
    ReadOnly,
}

/// How to open a disk.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    access: Access,
    links: Links,
}

impl OpenOptions {
    /// With `access`; a symbolic link is refused.
    #[must_use]
    pub const fn new(access: Access) -> Self {
        Self {
            access,
            links: Links::Refuse,
        }
    }

    /// Says whether a symbolic link is followed.
    #[must_use]
    pub const fn links(self, links: Links) -> Self {
        Self { links, ..self }
    }

    /// Opens what `path` names. Never creates anything.
    ///
    /// Blocks as long as the file system does, without limit: on a network file system whose server
    /// is gone, that may be long.
    ///
    /// # Errors
    ///
    /// Each refusal has an [`OpenErrorKind`] of its own. What is not a file or a block device is refused
    /// before it is opened, since opening some devices has effects.
    pub fn open(self, path: impl AsRef<Path>) -> Result<OpenedDisk, OpenError> {
        let path = path.as_ref();
        let seen = Identity::of_path(path, self.links)?;
        self.open_seen(path, seen)
    }

    /// Opens what `path` names, which was `seen` to be one that may be opened.
    fn open_seen(self, path: &Path, seen: Identity) -> Result<OpenedDisk, OpenError> {
        let (fd, direct) = self.open_fd(path)?;
        let opened = OpenedDisk::inspect(fd, path.to_owned(), self.access, direct)?;
        if opened.info.identity() != seen {
            let why = "it was replaced while it was opened";
            return Err(OpenError::new(path, OpenErrorKind::Unusable(why)));
        }
        Ok(opened)
    }

    /// Takes over a descriptor that the caller has opened, for a process that may open nothing by
    /// itself.
    ///
    /// It is switched to direct I/O if it is not, and closed on exec from now on. Both stand for
    /// the open file, so also for other descriptors made from it by `dup`. Whether links were
    /// followed was its opener's choice.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`], and [`OpenErrorKind::Unusable`] if the descriptor was opened without
    /// the access that is asked for, or for appending. The descriptor is closed then.
    pub fn adopt(self, fd: OwnedFd) -> Result<OpenedDisk, OpenError> {
        let path = path_of(&fd);
        let os = |errno| OpenError::new(&path, errno);
        let unusable = |why| Err(OpenError::new(&path, OpenErrorKind::Unusable(why)));
        rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(os)?;
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(os)?;
        if flags.contains(OFlags::PATH) {
            return unusable("the descriptor was opened with O_PATH");
        }
        match (self.access, flags & OFlags::RWMODE) {
            (_, OFlags::RDWR) => {}
            (Access::ReadOnly, mode) if mode == OFlags::RDONLY => {}
            (Access::ReadOnly, _) => return unusable("the descriptor was not opened for reading"),
            (Access::ReadWrite, _) => {
                return unusable("the descriptor was not opened for reading and writing");
            }
        }
        if flags.contains(OFlags::APPEND) {
            // Linux would put every write at the end, whatever offset is asked for.
            return unusable("the descriptor was opened for appending");
        }
        let stat = statx(&fd).map_err(os)?;
        Identity::of(&stat).map_err(|kind| OpenError::new(&path, kind))?;
        let mut direct = flags.contains(OFlags::DIRECT);
        if !direct {
            match rustix::fs::fcntl_setfl(&fd, flags | OFlags::DIRECT) {
                Ok(()) => direct = true,
                Err(Errno::INVAL) if self.access == Access::ReadOnly => {}
                Err(Errno::INVAL) => return Err(OpenError::new(&path, OpenErrorKind::NoDirectIo)),
                Err(errno) => return Err(os(errno)),
            }
        }
        OpenedDisk::inspect(fd, path, self.access, direct)
    }

    /// The descriptor, and whether its I/O is direct.
    fn open_fd(self, path: &Path) -> Result<(OwnedFd, bool), OpenError> {
        let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY;
        flags |= match self.access {
            Access::ReadWrite => OFlags::RDWR,
            Access::ReadOnly => OFlags::RDONLY,
        };
        if self.links == Links::Refuse {
            flags |= OFlags::NOFOLLOW;
        }
        let open = |flags| rustix::fs::openat(CWD, path, flags, Mode::empty());
        match open(flags | OFlags::DIRECT) {
            Ok(fd) => return Ok((fd, true)),
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(OpenError::new(path, errno)),
        }
        // Refused as such, or for being direct?
        let fd = open(flags).map_err(|errno| OpenError::new(path, errno))?;
        match self.access {
            Access::ReadOnly => Ok((fd, false)),
            Access::ReadWrite => Err(OpenError::new(path, OpenErrorKind::NoDirectIo)),
        }
    }
}

/// An open file or block device, not yet in use.
#[derive(Debug)]
pub struct OpenedDisk {
    pub(super) fd: OwnedFd,
    pub(super) info: DiskInfo,
}

impl OpenedDisk {
    /// What is known of it.
    #[must_use]
    pub const fn info(&self) -> &DiskInfo {
        &self.info
    }

    fn inspect(
        fd: OwnedFd,
        path: PathBuf,
        access: Access,
        direct: bool,
    ) -> Result<Self, OpenError> {
        let os = |errno| OpenError::new(&path, errno);
        let refused = |kind| Err(OpenError::new(&path, kind));
        let stat = statx(&fd).map_err(os)?;
        let identity = Identity::of(&stat).map_err(|kind| OpenError::new(&path, kind))?;
        let is_known = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN);
        let (len, io_alignment) = if identity.is_block_device() {
            if access == Access::ReadWrite && is_read_only(&stat) {
                return refused(OpenErrorKind::Unusable("the device is read-only"));
            }
            let sector_size = rustix::fs::ioctl_blksszget(&fd).map_err(os)?;
            (device_len(&fd).map_err(os)?, sector_size)
        } else if is_known && direct {
            // Zero is the kernel's way to say that it takes O_DIRECT and then does not keep to it.
            if stat.stx_dio_offset_align == 0 && access == Access::ReadWrite {
                return refused(OpenErrorKind::NoDirectIo);
            }
            (stat.stx_size, stat.stx_dio_offset_align.max(1))
        } else {
            (stat.stx_size, USUAL_ALIGNMENT)
        };
        let fs_type = match rustix::fs::fstatfs(&fd) {
            // Of a device this is where its node lies.
            Ok(fs) if !identity.is_block_device() => u64::try_from(fs.f_type).ok(),
            _ => None,
        };
        let io_dies_with_process =
            identity.is_block_device() || fs_type.is_some_and(info::lies_on_block_devices);
        Ok(Self {
            fd,
            info: DiskInfo {
                has_links: stat.stx_nlink > 0,
                path,
                identity,
                direct,
                len,
                io_alignment,
                io_dies_with_process,
                of_one_host: fs_type.and_then(info::of_one_host),
            },
        })
    }
}

fn statx(fd: &OwnedFd) -> Result<Statx, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::DIOALIGN;
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted)
}

/// The name of the file system with `directory`, if this host has that for itself.
pub fn file_system_of_one_host(directory: &Path) -> Option<&'static str> {
    let fs = rustix::fs::statfs(directory).ok()?;
    u64::try_from(fs.f_type).ok().and_then(info::of_one_host)
}

/// Linux lets a read-only device be opened for writing, and fails the writes. Without `/sys` so do
/// we.
fn is_read_only(device: &Statx) -> bool {
    let number = format!("{}:{}", device.stx_rdev_major, device.stx_rdev_minor);
    std::fs::read_to_string(format!("/sys/dev/block/{number}/ro")).is_ok_and(|ro| ro.trim() == "1")
}

/// A device's length is found where its end is. The position is put back: an adopted descriptor
/// shares it.
fn device_len(fd: &OwnedFd) -> Result<u64, Errno> {
    let position = rustix::fs::tell(fd)?;
    let len = rustix::fs::seek(fd, SeekFrom::End(0))?;
    rustix::fs::seek(fd, SeekFrom::Start(position))?;
    Ok(len)
}

/// For people. Without `/proc` there is only the number.
fn path_of(fd: &OwnedFd) -> PathBuf {
    let link = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    std::fs::read_link(&link).unwrap_or(link)
}

#[cfg(test)]
mod tests;
