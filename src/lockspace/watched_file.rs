//! The file of a held lease, inspected again and again for as long as it is held.

use std::time::Duration;

use crate::disk::{FileSystem, NamedFile, StorageWorld};
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

    pub(crate) fn file_system(&self) -> FileSystem {
        self.file.disk().file_system()
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::{Access, Disk, IoPool, Links, OpenOptions};

    /// A watched file of 4096 bytes, and the pool that its disk is on.
    fn watched(path: &std::path::Path) -> (WatchedFile, IoPool) {
        fs::write(path, [0; 4096]).unwrap();
        let opened = OpenOptions::new(Access::ReadOnly).open(path).unwrap();
        let pool = IoPool::new("test", 1..=1).unwrap();
        let file = NamedFile::new(path.to_owned(), Links::Refuse, Disk::new(opened, &pool));
        (WatchedFile::new(file, 4096, None), pool)
    }

    #[test]
    fn what_is_put_right_before_the_second_look_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let [lease, aside, other] = ["lease", "aside", "other"].map(|name| dir.path().join(name));
        let (file, _pool) = watched(&lease);
        // More than once: a busy machine may come back too late.
        let is_kept = |_| {
            fs::rename(&lease, &aside).unwrap();
            fs::write(&other, "").unwrap();
            fs::rename(&other, &lease).unwrap();
            std::thread::scope(|scope| {
                let inspected = scope.spawn(|| file.is_lost());
                block_on(StorageWorld.sleep(SECOND_LOOK / 4));
                fs::rename(&aside, &lease).unwrap();
                !inspected.join().unwrap()
            })
        };
        assert!((0..50).any(is_kept));
        assert!(!file.is_lost());
        fs::rename(&lease, &aside).unwrap();
        assert!(file.is_lost());
    }

    #[test]
    fn a_file_that_is_cut_short_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let lease = dir.path().join("lease");
        let (file, _pool) = watched(&lease);
        assert!(!file.is_lost());
        let open = fs::OpenOptions::new().write(true).open(&lease).unwrap();
        open.set_len(4095).unwrap();
        assert!(file.is_lost());
    }
}
