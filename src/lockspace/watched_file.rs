//! The file of a held lease, inspected again and again for as long as it is held.

use std::time::Duration;

use crate::disk::{NamedFile, StorageWorld};
use crate::libvirt::{LeaseNames, SecondLinks};
use crate::world::World;
use crate::world::executor::block_on;

/// A lease that looks lost is inspected once more after so long: whoever puts a name right may have
/// been between two steps.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// The file or device of a held lease.
#[derive(Clone, Debug)]
pub struct WatchedFile {
    file: NamedFile,
    /// Where the lease ends.
    end: u64,
    /// `None` where it is no lease of a lease directory.
    names: Option<LeaseNames>,
}

impl WatchedFile {
    pub(crate) const fn new(file: NamedFile, end: u64, names: Option<LeaseNames>) -> Self {
        Self { file, end, names }
    }

    pub(super) const fn file(&self) -> &NamedFile {
        &self.file
    }

    pub(super) fn links(&self) -> Option<&SecondLinks> {
        Some(self.names.as_ref()?.links())
    }

    /// Whether whoever comes next would open another file than this, or none, or a part of it. What
    /// can be mended is mended. May block as the file system does.
    pub(crate) fn is_lost(&self) -> bool {
        self.looks_lost() && {
            block_on(StorageWorld.sleep(SECOND_LOOK));
            self.looks_lost()
        }
    }

    fn looks_lost(&self) -> bool {
        let lease = self.file.disk().info().identity();
        let names_another = |names: &LeaseNames| !names.heal(lease);
        self.names.as_ref().is_some_and(names_another)
            || self.file.was_replaced()
            || self.file.ends_before(self.end)
    }
}
