//! The lockspaces that this process has joined. One life of a host id a process and lockspace, and
//! no new one before the I/O of the old one has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::{Identity, IoWatch};
use crate::format::HostId;

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
    /// Left, with I/O under way that the process cannot call back.
    Ending(Vec<IoWatch>),
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
                state: State::Ending(io),
                ..
            }) if io.iter().any(IoWatch::is_busy) => {
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
    pub(super) fn end_after(self, io: Vec<IoWatch>) {
        if io.is_empty() {
            return;
        }
        if let Some(entry) = JOINED
            .lock()
            .get_mut(&self.key)
            .filter(|entry| entry.id == self.id)
        {
            entry.state = State::Ending(io);
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
