//! The worker threads that read held leases again: some for each file system and each block device, for
//! those that hang take none away from another, nor from an acquire or a release.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

use parking_lot::Mutex;

use crate::runtime::disk::{Disk, FileSystem, IoPool};

/// Workers at most for one file system: one, and another for when a read hangs.
const THREADS_MAX: usize = 2;

/// File systems with workers of their own at most.
const POOLS_MAX: usize = 32;

/// Workers at most for all further ones, each of which can keep as many as it has leases.
const SHARED_THREADS_MAX: usize = 16;

/// The pools of a member host.
#[derive(Debug)]
pub(crate) struct RereadPools {
    /// `None`: of those that have no workers of their own.
    pools: Mutex<BTreeMap<Option<FileSystem>, IoPool>>,
    /// The file system of the lockspace.
    first: FileSystem,
    /// No thread is started but when a pool is made.
    is_fixed: bool,
}

impl RereadPools {
    /// With a pool for the file system `first`. `is_fixed`: no thread is started but when a pool is made.
    pub(super) fn new(first: FileSystem, is_fixed: bool) -> io::Result<Self> {
        let pool = pool_of(THREADS_MAX, is_fixed)?;
        Ok(Self {
            pools: Mutex::new([(Some(first), pool)].into()),
            first,
            is_fixed,
        })
    }

    /// `disk`, to be read by workers for its file system. They are started here where they are missing.
    pub(crate) fn disk(&self, disk: &Disk) -> Disk {
        let mut pools = self.pools.lock();
        let own = Some(disk.file_system());
        let is_own = pools.contains_key(&own) || pools.len() < POOLS_MAX;
        let (on, threads) = if is_own {
            (own, THREADS_MAX)
        } else {
            (None, SHARED_THREADS_MAX)
        };
        if let Entry::Vacant(vacant) = pools.entry(on) {
            match pool_of(threads, self.is_fixed) {
                Ok(pool) => {
                    vacant.insert(pool);
                }
                Err(error) => {
                    tracing::warn!(%error, "no thread is available to read the held leases of a file system again: threads of other file systems do, later where those hang");
                }
            }
        }
        let pool = pools.get(&on).or_else(|| pools.get(&Some(self.first)));
        pool.map_or_else(|| disk.clone(), |pool| disk.on(pool))
    }
}

fn pool_of(most: usize, is_fixed: bool) -> io::Result<IoPool> {
    IoPool::new("dl-reread", if is_fixed { most } else { 1 }..=most)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::disk::testing::{HangingDisk, LoopDevice};
    use crate::runtime::disk::{Access, Identity, Links, OpenOptions, StorageWorld};
    use crate::runtime::executor::block_on;
    use crate::world::{ReadError, SectorBuf, World};

    fn read(disk: &Disk, limit: Duration) -> Result<(), ReadError> {
        let read = StorageWorld.read(disk, 0, SectorBuf::zeroed(512), limit);
        block_on(read).map(drop)
    }

    #[test]
    #[cfg_attr(not(feature = "__machine"), ignore = "needs root and a loop device")]
    fn each_block_device_hangs_alone() {
        let dir = tempfile::tempdir().unwrap();
        let devices = ["one", "other"].map(|name| {
            let file = dir.path().join(name);
            std::fs::write(&file, [0; 4096]).unwrap();
            LoopDevice::new(&file, 512)
        });
        let places = [0, 1, 0].map(|at: usize| {
            let path = devices[at].path();
            let named = Identity::of_path(path, Links::Follow)
                .unwrap()
                .file_system();
            let opened = OpenOptions::new(Access::ReadOnly).open(path).unwrap();
            assert_eq!(opened.info().identity().file_system(), named);
            named
        });
        assert_eq!(places[0], places[2]);
        assert_ne!(places[0], places[1]);
    }

    #[test]
    fn a_device_that_hangs_holds_up_no_read_of_another_however_many_there_are() {
        let lease_pool = IoPool::new("test", 1..=1).unwrap();
        let [lockspace, hanging] = [0; 2].map(|_| HangingDisk::new(4096));
        let lockspace = lockspace.open(&lease_pool);
        let pools = RereadPools::new(lockspace.file_system(), false).unwrap();
        let take_own = |count: usize| {
            for _ in 0..count {
                let disk = HangingDisk::new(4096).open(&lease_pool);
                let disk = pools.disk(&disk);
                assert_eq!(read(&disk, Duration::from_secs(60)), Ok(()));
            }
        };
        let hang = || {
            hanging.hang(0);
            for _ in 0..=THREADS_MAX {
                let disk = pools.disk(&hanging.open(&lease_pool));
                assert!(read(&disk, Duration::from_millis(50)).is_err());
            }
        };
        hang();
        take_own(1);
        hanging.release(0);
        take_own(POOLS_MAX);
        // One that has no workers of its own.
        let beyond = HangingDisk::new(4096);
        beyond.hang(0);
        for _ in 0..=THREADS_MAX {
            let disk = pools.disk(&beyond.open(&lease_pool));
            assert!(read(&disk, Duration::from_millis(50)).is_err());
        }
        assert_eq!(
            read(&pools.disk(&lockspace), Duration::from_secs(60)),
            Ok(())
        );
        take_own(1);
        beyond.release(0);
    }
}
