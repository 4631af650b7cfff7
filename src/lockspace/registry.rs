//! The lockspaces that this process has joined. One life of a host id a process and lockspace, and
//! no new one before the I/O of the old one has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::life_lock::LifeLock;
use crate::format::HostId;
use crate::probe::mutation;
use crate::runtime::disk::{Identity, IoWatch};

type Key = (Identity, u64);

static JOINED: Mutex<BTreeMap<Key, Entry>> = Mutex::new(BTreeMap::new());
static NEXT_ENTRY: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Entry {
    id: u64,
    host_id: HostId,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Being joined, or joined.
    Alive,
    /// Left, with I/O under way that the process cannot call back. Other processes of this host
    /// are kept out by the life lock, which goes with the next life here, or with the process.
    Ending(
        Vec<IoWatch>,
        #[expect(dead_code, reason = "held, not used")] Option<Arc<LifeLock>>,
    ),
}

/// Why a lockspace cannot be joined by this process now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotEntered {
    /// It is joined already, under this id.
    Joined(HostId),
    /// An earlier life of this process still has I/O under way.
    IoInFlight,
}

/// One life of this process in one lockspace; taken off the register when dropped.
#[derive(Debug)]
pub(super) struct Joined {
    key: Key,
    id: u64,
}

impl Joined {
    /// Enters a new life, unless there is one.
    pub(super) fn enter(disk: Identity, offset: u64, host_id: HostId) -> Result<Self, NotEntered> {
        let key = (disk, offset);
        let mut joined = JOINED.lock();
        match joined.get(&key) {
            Some(Entry {
                state: State::Alive,
                host_id,
                ..
            }) => {
                return Err(NotEntered::Joined(*host_id));
            }
            Some(Entry {
                state: State::Ending(io, _),
                ..
            }) if io.iter().any(IoWatch::is_busy) && !mutation!(RejoinedWithIoInFlight) => {
                return Err(NotEntered::IoInFlight);
            }
            _ => {}
        }
        let id = NEXT_ENTRY.fetch_add(1, Ordering::Relaxed);
        joined.insert(
            key,
            Entry {
                id,
                host_id,
                state: State::Alive,
            },
        );
        drop(joined);
        Ok(Self { key, id })
    }

    /// Ends the life, but keeps others out until the I/O that `io` watches has ended.
    pub(super) fn end_after(self, io: Vec<IoWatch>, life_lock: Option<Arc<LifeLock>>) {
        if io.is_empty() {
            return;
        }
        if let Some(entry) = JOINED
            .lock()
            .get_mut(&self.key)
            .filter(|entry| entry.id == self.id)
        {
            entry.state = State::Ending(io, life_lock);
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut joined = JOINED.lock();
        let ours = |entry: &Entry| entry.id == self.id && matches!(entry.state, State::Alive);
        if joined.get(&self.key).is_some_and(ours) {
            joined.remove(&self.key);
        }
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

    fn life_lock(dir: &Path) -> Option<Arc<LifeLock>> {
        let name = LockspaceName::new("LS").unwrap();
        let taken = LifeLock::take(Some(dir), Path::new("/a"), &name, HostId::FIRST);
        taken.ok()?.map(Arc::new)
    }

    #[test]
    fn a_life_that_ends_with_io_under_way_keeps_the_next_one_out() {
        let dir = tempfile::tempdir().unwrap();
        let storage = HangingDisk::new(4096);
        storage.hang(0);
        let pool = IoPool::new("registry", 1..=1).unwrap();
        let disk = storage.open(&pool);
        let identity = disk.info().identity();
        let enter = || Joined::enter(identity, 0, HostId::FIRST);

        let joined = enter().unwrap();
        assert_eq!(enter().unwrap_err(), NotEntered::Joined(HostId::FIRST));
        let lock = life_lock(dir.path());
        let sector = SectorBuf::zeroed(512);
        // Long enough for the worker to begin it.
        let limit = Duration::from_millis(400);
        let written = block_on(StorageWorld.write(&disk, 0, sector, limit));
        assert_eq!(written, Err(WriteError::TimedOut(limit)));
        joined.end_after(vec![pool.watch()], lock);
        assert_eq!(enter().unwrap_err(), NotEntered::IoInFlight);
        // Longer than a child of another test has a copy, between its fork and its exec.
        for _ in 0..3 {
            assert!(
                life_lock(dir.path()).is_none(),
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
        assert!(life_lock(dir.path()).is_some());
    }
}
