//! Why a disk could not be opened.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::world::OsError;

/// Why a disk could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} {kind}")]
pub struct OpenError {
    path: PathBuf,
    kind: OpenErrorKind,
}

/// Why a disk could not be opened, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// Nothing of that name.
    #[error("does not exist")]
    NotFound,
    /// This process may not.
    #[error("may not be opened by this process")]
    PermissionDenied,
    /// A symbolic link where none is followed.
    #[error("is a symbolic link, and none is followed here: name the file itself")]
    IsSymlink,
    /// Direct I/O is not available, so this host would not see what others write.
    #[error(
        "is on a file system without direct I/O (O_DIRECT): put it on the shared storage, \
         on a file system that has it"
    )]
    NoDirectIo,
    /// Neither a regular file nor a block device.
    #[error("is {0}, not a regular file or a block device")]
    NotADisk(FileKind),
    /// The file system is mounted read-only.
    #[error("is on a file system that is mounted read-only")]
    ReadOnlyFileSystem,
    /// What was found or handed in cannot be used, for this reason.
    #[error("cannot be used: {0}")]
    Unusable(&'static str),
    /// Any other error of the operating system.
    #[error("could not be opened: {0}")]
    Os(OsError),
}

impl OpenError {
    pub(super) fn new(path: &Path, kind: impl Into<OpenErrorKind>) -> Self {
        Self {
            path: path.to_owned(),
            kind: kind.into(),
        }
    }

    /// What was to be opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it could not be opened.
    #[must_use]
    pub const fn kind(&self) -> OpenErrorKind {
        self.kind
    }

    /// The same error about what goes by another name: a file that was to be opened under a
    /// temporary one.
    pub(crate) fn about(self, name: &Path) -> Self {
        Self::new(name, self.kind)
    }
}

impl From<Errno> for OpenErrorKind {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::NotFound,
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied,
            Errno::LOOP => Self::IsSymlink,
            Errno::ROFS => Self::ReadOnlyFileSystem,
            Errno::ISDIR => Self::NotADisk(FileKind::Directory),
            other => Self::Os(OsError(other.raw_os_error())),
        }
    }
}

impl From<FileType> for OpenErrorKind {
    /// About what is no disk.
    fn from(kind: FileType) -> Self {
        Self::NotADisk(match kind {
            FileType::Symlink => return Self::IsSymlink,
            FileType::Directory => FileKind::Directory,
            FileType::CharacterDevice => FileKind::CharacterDevice,
            FileType::Fifo => FileKind::Pipe,
            FileType::Socket => FileKind::Socket,
            _ => FileKind::Other,
        })
    }
}

/// What is not a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A character device.
    CharacterDevice,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// Something else.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::CharacterDevice => "a character device",
            Self::Pipe => "a named pipe",
            Self::Socket => "a socket",
            Self::Other => "something unknown",
        })
    }
}
