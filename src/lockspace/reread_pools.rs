//! The worker threads that read held leases again: some for each file system, for those that hang take
//! none away from another, nor from an acquire or a release.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;

use parking_lot::Mutex;

use crate::disk::{Disk, FileSystem, IoPool};

/// Workers at most for one file system: one, and another for when a read hangs.
const THREADS_MAX: usize = 2;

/// File systems with workers of their own at most. Further ones share those of the lockspace's.
const POOLS_MAX: usize = 16;

/// The pools of a join.
#[derive(Debug)]
pub(crate) struct RereadPools {
    pools: Mutex<BTreeMap<FileSystem, IoPool>>,
    /// The file system of the lockspace.
    first: FileSystem,
    /// Workers of a pool.
    threads: RangeInclusive<usize>,
}

impl RereadPools {
    /// With a pool for the file system `first`. `is_fixed`: no thread is started but when a pool is made.
    pub(super) fn new(first: FileSystem, is_fixed: bool) -> io::Result<Self> {
        let threads = if is_fixed { THREADS_MAX } else { 1 }..=THREADS_MAX;
        let pool = IoPool::new("dl-reread", threads.clone())?;
        Ok(Self {
            pools: Mutex::new([(first, pool)].into()),
            first,
            threads,
        })
    }

    /// `disk`, to be read by workers for its file system. They are started here where they are missing.
    pub(crate) fn disk(&self, disk: &Disk) -> Disk {
        let mut pools = self.pools.lock();
        let on = disk.file_system();
        if !pools.contains_key(&on) && pools.len() < POOLS_MAX {
            match IoPool::new("dl-reread", self.threads.clone()) {
                Ok(pool) => {
                    pools.insert(on, pool);
                }
                Err(error) => {
                    tracing::warn!(%error, "no thread is to be had for a file system: others read its leases again");
                }
            }
        }
        let pool = pools.get(&on).or_else(|| pools.get(&self.first));
        pool.map_or_else(|| disk.clone(), |pool| disk.on(pool))
    }
}
