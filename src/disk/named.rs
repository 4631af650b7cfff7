//! Whether a path still names the file that is in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::open::{Links, OpenError};
use super::{Disk, Identity};
use crate::world::{Timestamp, clock};

/// How long the link to a block device may be missing. udev takes links below `/dev` away and puts
/// them back when it hears of a change, which takes seconds on a busy machine; and a link that is
/// missing says nothing of other hosts, whose devices are still there.
const LINK_MISSING_MAX: Duration = Duration::from_secs(15);

/// What a look at a file in use shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSeen {
    /// It exists, and its path names it.
    Same,
    /// It was removed, or nothing is at its path.
    Gone,
    /// Its path names something else.
    Other,
    /// The look failed, which leaves it open.
    Unknown,
}

/// A path, and the disk that was opened by it.
#[derive(Clone, Debug)]
pub struct NamedFile {
    path: PathBuf,
    links: Links,
    disk: Disk,
    /// Since when the link to the block device is missing.
    missing_since: Arc<Mutex<Option<Timestamp>>>,
}

impl NamedFile {
    /// `path`, looked up as `links` says, named `disk`.
    #[must_use]
    pub fn new(path: PathBuf, links: Links, disk: Disk) -> Self {
        Self {
            path,
            links,
            disk,
            missing_since: Arc::default(),
        }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Whether the open file ends before byte `end` now. Of a block device that is not asked.
    #[must_use]
    pub fn ends_before(&self, end: u64) -> bool {
        let found = self.disk.inner.io.end();
        !self.disk.info().is_block_device() && found.is_ok_and(|found| found < end)
    }

    /// Looks whether the file is still there, and whether its path still names it. May block as the
    /// file system does.
    ///
    /// Both are asked: of a file that a client of a network file system has open, a removal by that
    /// same client leaves another name; and where another one has removed it and made a new one, the
    /// server may give the new one the old one's number. What shows something wrong is looked at once
    /// more before it counts.
    #[must_use]
    pub fn look(&self) -> FileSeen {
        self.look_at(clock::now())
    }

    /// Whether the path certainly does not name the same any more: something else, or nothing.
    #[must_use]
    pub fn was_replaced(&self) -> bool {
        matches!(self.look(), FileSeen::Gone | FileSeen::Other)
    }

    /// The same without the patience that a link to a block device has, for who decides nothing by it
    /// alone.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.look_once(), FileSeen::Gone | FileSeen::Other)
    }

    fn look_at(&self, now: Timestamp) -> FileSeen {
        let seen = match self.look_once() {
            FileSeen::Gone | FileSeen::Other => self.look_once(),
            seen => seen,
        };
        if !self.disk.info().is_block_device() {
            return seen;
        }
        let mut missing_since = self.missing_since.lock();
        if seen != FileSeen::Gone {
            *missing_since = None;
            return seen;
        }
        if now.since(*missing_since.get_or_insert(now)) < LINK_MISSING_MAX {
            return FileSeen::Unknown;
        }
        seen
    }

    fn look_once(&self) -> FileSeen {
        let info = self.disk.info();
        if !info.is_block_device() {
            match self.disk.inner.io.links() {
                // Of file systems that count no links this says nothing.
                Ok(0) if info.has_links => return FileSeen::Gone,
                Err(Errno::STALE) => return FileSeen::Gone,
                Err(_) => return FileSeen::Unknown,
                Ok(_) => {}
            }
        }
        match Identity::of_path(&self.path, self.links) {
            Ok(named) if named == info.identity() => FileSeen::Same,
            Ok(_) | Err(OpenError::NotADisk { .. } | OpenError::IsSymlink { .. }) => {
                FileSeen::Other
            }
            Err(OpenError::NotFound { .. }) => FileSeen::Gone,
            Err(_) => FileSeen::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
