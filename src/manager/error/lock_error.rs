//! What all errors of locks have in common.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::manager::locked::Locked;

/// An error of an operation on locks: what went wrong, and with which lock.
///
/// Its text is whole: it includes that of its [`source`](Error::source).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockError<K> {
    place: Option<Box<LockPlace>>,
    kind: Box<K>,
}

/// What is locked, and the file or device with its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LockPlace {
    locked: Locked,
    path: PathBuf,
}

impl<K> LockError<K> {
    pub(in crate::manager) fn of(locked: &Locked, path: &Path, kind: K) -> Self {
        let (locked, path) = (locked.clone(), path.to_owned());
        Self {
            place: Some(Box::new(LockPlace { locked, path })),
            kind: Box::new(kind),
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &K {
        &self.kind
    }

    /// Which lock this is about; `None` if it is about the request, the manager or the lockspace.
    #[must_use]
    pub fn locked(&self) -> Option<&Locked> {
        self.place.as_ref().map(|place| &place.locked)
    }

    /// The file or device with the lease of that lock.
    #[must_use]
    pub fn lease_path(&self) -> Option<&Path> {
        self.place.as_ref().map(|place| &*place.path)
    }
}

/// Of no lock of its own.
impl<K> From<K> for LockError<K> {
    fn from(kind: K) -> Self {
        Self {
            place: None,
            kind: Box::new(kind),
        }
    }
}

impl<K: fmt::Display> fmt::Display for LockError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(LockPlace { locked, path }) = self.place.as_deref() {
            match locked {
                Locked::Disk(_) => write!(f, "{locked} (lease {path:?}) ")?,
                Locked::Lease { .. } => write!(f, "{locked} in {path:?} ")?,
            }
        }
        self.kind.fmt(f)
    }
}

impl<K: Error> Error for LockError<K> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}
