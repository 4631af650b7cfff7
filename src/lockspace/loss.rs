//! Telling those who hold leases that they are lost.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};

use crate::delta_lease::RenewError;
use crate::disk::NamedFile;

/// Why all leases of a join were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossReason {
    /// No renewal was good for 8N: the storage failed, or this process or host stood still.
    NotRenewed,
    /// Our sector in the lockspace is not ours any more.
    Overwritten(Box<RenewError>),
    /// A thread of ours has died, the one that renews or the one that watches the files. This is a
    /// bug in this library.
    ThreadDied,
    /// The disk names another owner of the lease, though this host's own lease is good.
    LeaseTaken,
    /// The path of the lease names another file or none: other hosts do not see this lease.
    LeaseReplaced,
    /// The path of the lockspace names another file or none: other hosts do not see this host.
    LockspaceReplaced,
    /// The lockspace was left.
    Left,
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRenewed => f.write_str("the host's lease was not renewed in time"),
            Self::Overwritten(error) => error.fmt(f),
            Self::ThreadDied => f.write_str("a thread of the lockspace has died"),
            Self::LeaseTaken => f.write_str("the lease was found to be another's"),
            Self::LeaseReplaced => f.write_str("the lease file was removed or replaced"),
            Self::LockspaceReplaced => f.write_str("the lockspace's file was removed or replaced"),
            Self::Left => f.write_str("the lockspace was left"),
        }
    }
}

/// Whoever is told of a loss. Called once, on the board's own thread.
pub(crate) trait Listener: Send + Sync {
    /// The leases are lost. Makes it known in ways that cannot block.
    fn mark_lost(&self, reason: &LossReason);
    /// Runs what the holder asked to be run; it may take as long as it likes.
    fn run_callbacks(&self);
}

/// The listeners of one join, and what they are to be told.
#[derive(Default)]
pub(crate) struct LossBoard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reason: Option<LossReason>,
    listeners: Vec<Entry>,
    next_id: u64,
    /// Those whose callbacks are still to be run.
    to_run: Vec<Weak<dyn Listener>>,
    closed: bool,
}

struct Entry {
    id: u64,
    listener: Weak<dyn Listener>,
    /// The files with its leases.
    files: Arc<[NamedFile]>,
}

/// Keeps a listener on the board; off it when dropped.
pub(crate) struct Subscription {
    board: Weak<super::Shared>,
    id: u64,
}

impl LossBoard {
    pub(crate) fn reason(&self) -> Option<LossReason> {
        self.state.lock().reason.clone()
    }

    /// The first loss counts. Marks every listener, then leaves their callbacks to the board's
    /// thread.
    pub(super) fn announce(&self, reason: &LossReason) {
        let mut state = self.state.lock();
        if state.reason.is_some() {
            return;
        }
        state.reason = Some(reason.clone());
        let entries: Vec<_> = state
            .listeners
            .drain(..)
            .map(|entry| entry.listener)
            .collect();
        let listeners: Vec<_> = entries.iter().filter_map(Weak::upgrade).collect();
        for listener in &listeners {
            // A store and a write to an eventfd: neither blocks nor takes the board's lock.
            listener.mark_lost(reason);
        }
        state.to_run.extend(entries);
        // The last handle to a listener may go with `listeners`, and much with it.
        drop(state);
        self.changed.notify_all();
    }

    /// Looks whether each listener's lease files are still what their paths name, and tells those
    /// for whom one is not. May block as the file system does; the board's lock is not held then.
    pub(super) fn check_files(&self) {
        let entries: Vec<_> = {
            let state = self.state.lock();
            state
                .listeners
                .iter()
                .map(|entry| (entry.id, Arc::clone(&entry.files)))
                .collect()
        };
        for (id, files) in entries {
            let Some(replaced) = files.iter().find(|file| file.was_replaced()) else {
                continue;
            };
            let mut state = self.state.lock();
            let Some(at) = state.listeners.iter().position(|entry| entry.id == id) else {
                continue;
            };
            let listener = state.listeners.remove(at).listener;
            let upgraded = listener.upgrade();
            if let Some(listener) = &upgraded {
                tracing::error!(path = ?replaced.path(), "a lease file was removed or replaced: its lock is lost");
                listener.mark_lost(&LossReason::LeaseReplaced);
            }
            state.to_run.push(listener);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Tells a single listener of its own loss, which is not the lockspace's.
    pub(crate) fn announce_to(&self, listener: &Arc<dyn Listener>) {
        self.state.lock().to_run.push(Arc::downgrade(listener));
        self.changed.notify_all();
    }

    /// Runs callbacks as losses come, until the board is closed. The body of the board's thread.
    pub(super) fn run(&self) {
        let mut state = self.state.lock();
        loop {
            let due = std::mem::take(&mut state.to_run);
            if due.is_empty() {
                if state.closed {
                    return;
                }
                self.changed.wait(&mut state);
                continue;
            }
            // Never with the lock held: a callback may drop its guard, which takes it off the
            // board.
            parking_lot::MutexGuard::unlocked(&mut state, || {
                for listener in due.iter().filter_map(Weak::upgrade) {
                    listener.run_callbacks();
                }
            });
        }
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

impl super::Shared {
    /// Puts `listener`, whose leases lie in `files`, on the board. If the leases are lost already it
    /// is told at once.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        listener: &Arc<dyn Listener>,
        files: Vec<NamedFile>,
    ) -> Subscription {
        let mut state = self.losses.state.lock();
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        if let Some(reason) = &state.reason {
            listener.mark_lost(reason);
            state.to_run.push(Arc::downgrade(listener));
            self.losses.changed.notify_all();
        } else {
            state.listeners.push(Entry {
                id,
                listener: Arc::downgrade(listener),
                files: files.into(),
            });
        }
        drop(state);
        Subscription {
            board: Arc::downgrade(self),
            id,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(shared) = self.board.upgrade() {
            shared
                .losses
                .state
                .lock()
                .listeners
                .retain(|entry| entry.id != self.id);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
