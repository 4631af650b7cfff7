//! The lockspaces that this process has joined. One generation of a host id a process and lockspace, and
//! no new one before the I/O of the last one has completed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::process_lock::ProcessLock;
use super::rules;
use crate::format::HostId;
use crate::runtime::disk::{Identity, IoWatch};

type Key = (Identity, u64);

static JOINED: Mutex<BTreeMap<Key, Entry>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
enum Entry {
    /// Being joined, or joined, under this id.
    Alive(HostId),
    /// Left, with I/O under way that the process cannot call back. Other processes of this host
    /// are kept out by the process lock, which goes with the next join here, or with the process.
    Ending(
        Vec<IoWatch>,
        #[expect(dead_code, reason = "held, not used")] Option<Arc<ProcessLock>>,
    ),
}

/// Why a lockspace cannot be joined by this process now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotEntered {
    /// It is joined already, under this id.
    Joined(HostId),
    /// An earlier generation of this process still has I/O under way.
    IoInFlight,
}

/// The membership of this process in one lockspace; taken off the register when dropped.
#[derive(Debug)]
pub(super) struct Joined {
    key: Key,
}

impl Joined {
    /// Enters a new join, unless there is one.
    pub(super) fn enter(disk: Identity, offset: u64, host_id: HostId) -> Result<Self, NotEntered> {
        let key = (disk, offset);
        let mut joined = JOINED.lock();
        match joined.get(&key) {
            Some(Entry::Alive(host_id)) => return Err(NotEntered::Joined(*host_id)),
            Some(Entry::Ending(io, _)) if !rules::may_rejoin(io.iter().any(IoWatch::is_busy)) => {
                return Err(NotEntered::IoInFlight);
            }
            Some(Entry::Ending(..)) | None => {}
        }
        // The lock of an earlier membership, if there was one, is given back without the register's.
        let earlier = joined.insert(key, Entry::Alive(host_id));
        drop(joined);
        drop(earlier);
        Ok(Self { key })
    }

    /// Ends the membership, but keeps others out until the I/O that `io` watches has completed.
    pub(super) fn end_after(self, io: Vec<IoWatch>, lock: Option<Arc<ProcessLock>>) {
        if !io.is_empty() {
            JOINED.lock().insert(self.key, Entry::Ending(io, lock));
            // From now on the entry may be replaced by that of another join.
            std::mem::forget(self);
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        JOINED.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::format::LockspaceName;
    use crate::runtime::clock;
    use crate::runtime::disk::testing::HangingDisk;
    use crate::runtime::disk::{IoPool, StorageWorld};
    use crate::runtime::executor::block_on;
    use crate::world::{SectorBuf, World, WriteError};

    fn process_lock(dir: &Path) -> Option<Arc<ProcessLock>> {
        let name = LockspaceName::new("LS").unwrap();
        let taken = ProcessLock::take(Some(dir), Path::new("/a"), &name, HostId::FIRST);
        taken.ok()?.map(Arc::new)
    }

    #[test]
    fn a_join_that_ends_with_io_under_way_keeps_the_next_one_out() {
        let dir = tempfile::tempdir().unwrap();
        let storage = HangingDisk::new(4096);
        storage.hang(0);
        let pool = IoPool::new("registry", 1..=1).unwrap();
        let disk = storage.open(&pool);
        let identity = disk.info().identity();
        let enter = || Joined::enter(identity, 0, HostId::FIRST);

        let joined = enter().unwrap();
        assert_eq!(enter().unwrap_err(), NotEntered::Joined(HostId::FIRST));
        let lock = process_lock(dir.path());
        let sector = SectorBuf::zeroed(512);
        // Long enough for the worker to start it.
        let limit = Duration::from_millis(400);
        let written = block_on(StorageWorld.write(&disk, 0, sector, limit));
        assert_eq!(written, Err(WriteError::TimedOut(limit)));
        joined.end_after(vec![pool.watch()], lock);
        assert_eq!(enter().unwrap_err(), NotEntered::IoInFlight);
        // Longer than a child of another test has a copy, between its fork and its exec.
        for _ in 0..3 {
            assert!(
                process_lock(dir.path()).is_none(),
                "nor another process of this host"
            );
        }

        let watch = pool.watch();
        storage.release(0);
        let until = clock::now() + Duration::from_secs(30);
        while watch.is_busy() {
            assert!(clock::now() < until, "the write does not end");
            std::thread::yield_now();
        }
        drop(enter().unwrap());
        assert!(process_lock(dir.path()).is_some());
    }
}
