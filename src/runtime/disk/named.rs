//! Whether a path still names the file that is in use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use super::error::OpenErrorKind;
use super::handle::Disk;
use super::identity::{Identity, Links};
use crate::runtime::clock;
use crate::world::Timestamp;

/// How long the link to a block device may be missing. udev takes links below `/dev` away and puts
/// them back when it is notified of a change, which takes seconds on a busy machine; and a link that is
/// missing says nothing of other hosts, whose devices are still there.
const LINK_MISSING_MAX: Duration = Duration::from_secs(15);

/// What an inspection of a file in use shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSeen {
    /// It exists, and its path names it.
    Same,
    /// It was removed, or nothing is at its path.
    Gone,
    /// Its path names something else.
    Other,
    /// It ends before what is used of it does.
    Cut,
    /// The inspection failed, which leaves it open.
    Unknown,
}

impl FileSeen {
    /// Whether whoever opens the path certainly gets another file, or none, or a part of it.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::Gone | Self::Other | Self::Cut)
    }
}

/// The directories that were asked for anew in one round of inspections. A client of a network file system
/// believes for a while in the names that it remembers, until it learns that their directory has
/// changed; asked for once, a directory is good for all names in it.
#[derive(Debug, Default)]
pub struct Refreshed(BTreeSet<PathBuf>);

impl Refreshed {
    /// Asks for the directory of `path`, unless that was done before in this round. May block as the file
    /// system does.
    pub(crate) fn directory_of(&mut self, path: &Path) {
        let directory = path.parent().unwrap_or(path);
        if !self.0.contains(directory) {
            let flags = AtFlags::STATX_FORCE_SYNC;
            // Should it fail, so does the inspection.
            let _ = rustix::fs::statx(CWD, directory, flags, StatxFlags::BASIC_STATS);
            self.0.insert(directory.to_owned());
        }
    }
}

/// A path, and the disk that was opened by it.
#[derive(Clone, Debug)]
pub struct NamedFile {
    path: PathBuf,
    links: Links,
    disk: Disk,
    /// Where it may not end before.
    end: u64,
    /// Since when the link to the block device is missing.
    missing_since: Arc<Mutex<Option<Timestamp>>>,
}

impl NamedFile {
    /// `path`, resolved as `links` says, named `disk`.
    #[must_use]
    pub fn new(path: PathBuf, links: Links, disk: Disk) -> Self {
        Self {
            path,
            links,
            disk,
            end: 0,
            missing_since: Arc::default(),
        }
    }

    /// The same, of which what lies before byte `end` is used. Of a block device that is not asked.
    #[must_use]
    pub fn used_up_to(self, end: u64) -> Self {
        Self { end, ..self }
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

    /// Inspects whether the file is still there, and whether its path still names it. May block as the
    /// file system does.
    ///
    /// Both are asked: of a file that a client of a network file system has open, a removal by that
    /// same client leaves another name; and where another one has removed it and made a new one, the
    /// server may give the new one the old one's number.
    pub fn inspect(&self, refreshed: &mut Refreshed) -> FileSeen {
        self.inspect_at(clock::now(), refreshed)
    }

    /// Whether one inspection shows that the path names something else or nothing, without the patience that a
    /// link to a block device has, for who decides nothing by it alone.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        let seen = self.inspect_once(&mut Refreshed::default());
        matches!(seen, FileSeen::Gone | FileSeen::Other)
    }

    fn inspect_at(&self, now: Timestamp, refreshed: &mut Refreshed) -> FileSeen {
        let seen = self.inspect_once(refreshed);
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

    fn inspect_once(&self, refreshed: &mut Refreshed) -> FileSeen {
        match self.inspect_open() {
            FileSeen::Same => self.inspect_path(refreshed),
            seen => seen,
        }
    }

    /// Inspects the open file alone. May block as the file system does.
    #[must_use]
    pub fn inspect_open(&self) -> FileSeen {
        let info = self.disk.info();
        if info.is_block_device() {
            return FileSeen::Same;
        }
        match self.disk.now() {
            // Of file systems that count no links this says nothing.
            Ok(now) if now.links == 0 && info.has_links => FileSeen::Gone,
            Ok(now) if now.end < self.end => FileSeen::Cut,
            Ok(_) => FileSeen::Same,
            Err(Errno::STALE) => FileSeen::Gone,
            Err(_) => FileSeen::Unknown,
        }
    }

    fn inspect_path(&self, refreshed: &mut Refreshed) -> FileSeen {
        let identity = self.disk.info().identity();
        if !identity.is_block_device() {
            refreshed.directory_of(&self.path);
        }
        let named = Identity::of_path(&self.path, self.links);
        match named.map_err(|error| error.kind()) {
            Ok(named) if named == identity => FileSeen::Same,
            Ok(_) | Err(OpenErrorKind::NotADisk(_) | OpenErrorKind::IsSymlink) => FileSeen::Other,
            Err(OpenErrorKind::NotFound) => FileSeen::Gone,
            Err(_) => FileSeen::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
