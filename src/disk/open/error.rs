//! Why a disk could not be opened.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::world::OsError;

/// Why a disk could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing of that name.
    #[error("{path:?} does not exist")]
    NotFound {
        /// What was to be opened.
        path: PathBuf,
    },
    /// This process may not.
    #[error("{path:?} may not be opened by this process")]
    PermissionDenied {
        /// What was to be opened.
        path: PathBuf,
    },
    /// A symbolic link where none is followed.
    #[error("{path:?} is a symbolic link, and none is followed here: name the file itself")]
    IsSymlink {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Direct I/O is not to be had, so this host would not see what others write.
    #[error(
        "{path:?} is on a file system without direct I/O (O_DIRECT): put it on the shared storage, \
         on a file system that has it"
    )]
    NoDirectIo {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Neither a regular file nor a block device.
    #[error("{path:?} is {kind}, not a regular file or a block device")]
    NotADisk {
        /// What was to be opened.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// The file system is mounted read-only.
    #[error("{path:?} is on a file system that is mounted read-only")]
    ReadOnlyFileSystem {
        /// What was to be opened.
        path: PathBuf,
    },
    /// What was found or handed in cannot be used.
    #[error("{path:?} cannot be used: {why}")]
    Unusable {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// Any other error of the operating system.
    #[error("{path:?} could not be opened: {error}")]
    Os {
        /// What was to be opened.
        path: PathBuf,
        /// What the operating system said.
        error: OsError,
    },
}

impl OpenError {
    /// What was to be opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::NotFound { path }
            | Self::PermissionDenied { path }
            | Self::IsSymlink { path }
            | Self::NoDirectIo { path }
            | Self::NotADisk { path, .. }
            | Self::ReadOnlyFileSystem { path }
            | Self::Unusable { path, .. }
            | Self::Os { path, .. } => path,
        }
    }

    /// The same error about what goes by another name: a file that was to be opened under a
    /// temporary one.
    pub(crate) fn about(mut self, name: &Path) -> Self {
        match &mut self {
            Self::NotFound { path }
            | Self::PermissionDenied { path }
            | Self::IsSymlink { path }
            | Self::NoDirectIo { path }
            | Self::NotADisk { path, .. }
            | Self::ReadOnlyFileSystem { path }
            | Self::Unusable { path, .. }
            | Self::Os { path, .. } => name.clone_into(path),
        }
        self
    }

    pub(crate) fn of(errno: Errno, path: &Path) -> Self {
        let path = path.to_owned();
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::NotFound { path },
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied { path },
            Errno::LOOP => Self::IsSymlink { path },
            Errno::ROFS => Self::ReadOnlyFileSystem { path },
            Errno::ISDIR => Self::NotADisk {
                path,
                kind: FileKind::Directory,
            },
            other => Self::Os {
                path,
                error: OsError(other.raw_os_error()),
            },
        }
    }

    pub(crate) fn of_kind(kind: FileType, path: &Path) -> Self {
        let path = path.to_owned();
        match kind {
            FileType::Symlink => Self::IsSymlink { path },
            other => Self::NotADisk {
                path,
                kind: other.into(),
            },
        }
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
