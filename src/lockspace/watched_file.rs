//! The file of a held lease or of the lockspace, inspected again and again for as long as it is in use.

use std::time::Duration;

use crate::libvirt::LeaseNames;
use crate::runtime::disk::{FileSystem, NamedFile, Refreshed, StorageWorld};
use crate::runtime::executor::block_on;
use crate::world::World;

/// What seems lost is inspected once more after so long: a process that mends a name may have
/// been between two steps.
const SECOND_INSPECTION_AFTER: Duration = Duration::from_millis(100);

/// The file or device of a held lease, or of the lockspace.
#[derive(Clone, Debug)]
pub(crate) struct WatchedFile {
    file: NamedFile,
    /// `None` where it is no lease of a lease directory.
    names: Option<LeaseNames>,
}

impl WatchedFile {
    pub(crate) const fn new(file: NamedFile, names: Option<LeaseNames>) -> Self {
        Self { file, names }
    }

    pub(super) const fn file(&self) -> &NamedFile {
        &self.file
    }

    pub(crate) fn file_system(&self) -> FileSystem {
        self.file.disk().file_system()
    }

    /// Whether the next process to open the path would get another file than this, or none, or a part of it. What
    /// can be mended is mended. May block as the file system does.
    pub(crate) fn is_lost(&self) -> bool {
        !Self::lost_of(vec![((), self)], &mut Refreshed::default()).is_empty()
    }

    /// Those of `files` that are lost, as in [`is_lost`](Self::is_lost): one pause for all of them.
    pub(super) fn lost_of<'a, T>(
        mut files: Vec<(T, &'a Self)>,
        round: &mut Refreshed,
    ) -> Vec<(T, &'a Self)> {
        files.retain(|(_, file)| file.seems_lost(round));
        if !files.is_empty() {
            block_on(StorageWorld.sleep(SECOND_INSPECTION_AFTER));
            let mut again = Refreshed::default();
            files.retain(|(_, file)| file.seems_lost(&mut again));
        }
        files
    }

    fn seems_lost(&self, round: &mut Refreshed) -> bool {
        match &self.names {
            // Both names are inspected, and the open file, which may have lost them all.
            Some(names) => {
                !names.heal(self.file.disk().info().identity(), round)
                    || self.file.inspect_open().is_loss()
            }
            None => self.file.inspect(round).is_loss(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::io::Errno;

    use super::*;
    use crate::runtime::clock;
    use crate::runtime::disk::testing::answering;
    use crate::runtime::disk::{Access, Disk, FileNow, IoPool, Links, OpenOptions};

    /// A watched file of 4096 bytes, and the pool that its disk is on.
    fn watched(path: &std::path::Path) -> (WatchedFile, IoPool) {
        fs::write(path, [0; 4096]).unwrap();
        let opened = OpenOptions::new(Access::ReadOnly).open(path).unwrap();
        let pool = IoPool::new("test", 1..=1).unwrap();
        let file = NamedFile::new(path.to_owned(), Links::Refuse, Disk::new(opened, &pool));
        (WatchedFile::new(file.used_up_to(4096), None), pool)
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
                block_on(StorageWorld.sleep(SECOND_INSPECTION_AFTER / 4));
                fs::rename(&aside, &lease).unwrap();
                !inspected.join().unwrap()
            })
        };
        assert!((0..50).any(is_kept));
        assert!(!file.is_lost());
        fs::rename(&lease, &aside).unwrap();
        assert!(file.is_lost());
    }

    /// Each kind of inspection: at the open file, and at the path, with and without a second link.
    #[test]
    fn one_look_alone_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (lease, aside) = (dir.path().join("lease"), dir.path().join("aside"));
        fs::write(&lease, [0; 4096]).unwrap();
        let opened = || OpenOptions::new(Access::ReadOnly).open(&lease).unwrap();
        let pool = IoPool::new("test", 1..=1).unwrap();
        let good = Ok(FileNow {
            links: 1,
            end: 4096,
        });
        let named = |answers: &[Result<FileNow, Errno>]| {
            let disk = answering(opened(), answers, &pool);
            NamedFile::new(lease.clone(), Links::Refuse, disk).used_up_to(4096)
        };
        let links = crate::libvirt::SecondLinks::of(dir.path());
        let name = crate::libvirt::lease_name("/a".as_ref());
        for bad in [
            Ok(FileNow {
                links: 0,
                end: 4096,
            }),
            Ok(FileNow {
                links: 1,
                end: 4095,
            }),
            Err(Errno::STALE),
        ] {
            for names in [None, Some(links.names(&name))] {
                if let Some(names) = &names {
                    let _ = fs::hard_link(&lease, names.first());
                }
                let is_lost = |answers: &[_]| {
                    let file = WatchedFile::new(named(answers), names.clone());
                    file.is_lost()
                };
                assert!(!is_lost(&[bad, good]), "{bad:?}");
                assert!(is_lost(&[bad, bad]), "{bad:?}");
            }
        }
        let file = WatchedFile::new(named(&[good, good]), None);
        fs::rename(&lease, &aside).unwrap();
        assert!(file.is_lost());
    }
    #[test]
    fn many_that_are_lost_at_once_are_found_with_one_pause() {
        const FILES: u32 = 100;
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..FILES)
            .map(|number| dir.path().join(number.to_string()))
            .collect();
        let watched: Vec<_> = paths.iter().map(|path| watched(path)).collect();
        for path in &paths {
            fs::remove_file(path).unwrap();
        }
        fs::write(&paths[0], "").unwrap();
        let begun = clock::now();
        let files = watched.iter().zip(0..).map(|((file, _), at)| (at, file));
        let lost = WatchedFile::lost_of(files.collect(), &mut Refreshed::default());
        let took = clock::now().since(begun);
        let lost: Vec<u32> = lost.into_iter().map(|(at, _)| at).collect();
        assert!(lost.into_iter().eq(0..FILES));
        assert!(took < SECOND_INSPECTION_AFTER * (FILES / 2), "{took:?}");
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
