//! What is locked, as guards and errors name it.

use std::fmt;
use std::path::PathBuf;

use crate::format::{LockspaceName, ResourceName};

/// What was locked, as its user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Locked {
    /// A disk, by its path.
    Disk(PathBuf),
    /// A lease, by its names.
    Lease {
        /// The lockspace.
        lockspace: LockspaceName,
        /// The lease in it.
        name: ResourceName,
    },
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(path) => write!(f, "disk {path:?}"),
            Self::Lease { lockspace, name } => write!(f, "lease \"{lockspace}\":\"{name}\""),
        }
    }
}
