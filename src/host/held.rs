//! The leases that guards hold, and when each of them is to be read again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::loss::LossReason;
use super::notify::Notify;
use crate::paxos_lease::{HeldLease, LeaseArea};
use crate::world::Timestamp;

/// What a holder is notified of when its lease is found lost. Nothing in it may block.
pub type OnLoss = Arc<dyn Fn(&LossReason) + Send + Sync>;

/// A lease that is held, and read again from time to time: see `reread.rs`.
#[derive(Clone)]
pub(super) struct Held<D> {
    pub(super) lease: LeaseArea<D>,
    /// What was written to win it.
    pub(super) won: HeldLease,
    pub(super) on_loss: OnLoss,
    /// When it is read next; `None` for one that has just come.
    due: Option<Timestamp>,
}

/// The held leases of one join.
#[derive(Debug)]
pub(super) struct HeldLeases<D, K> {
    leases: Mutex<BTreeMap<K, Held<D>>>,
    /// Set when there is one more.
    pub(super) added: Notify,
}

impl<D, K> Default for HeldLeases<D, K> {
    fn default() -> Self {
        Self {
            leases: Mutex::default(),
            added: Notify::default(),
        }
    }
}

impl<D, K: Copy + Ord> HeldLeases<D, K> {
    pub(super) fn add(&self, key: K, lease: LeaseArea<D>, won: HeldLease, on_loss: OnLoss) {
        let held = Held {
            lease,
            won,
            on_loss,
            due: None,
        };
        self.leases.lock().insert(key, held);
        self.added.set();
    }

    /// The lease is held no more. What it was made of is dropped without the lock.
    pub(super) fn remove(&self, key: &K) {
        let held = self.leases.lock().remove(key);
        drop(held);
    }

    /// When the next of the leases is to be read; `None` if none is held.
    pub(super) fn next_reread(&self, now: Timestamp) -> Option<Timestamp> {
        let leases = self.leases.lock();
        let leases = leases.values();
        leases.map(|held| held.due.unwrap_or(now)).min()
    }

    /// Reads this lease no more. Whether it was still held, by the same acquire.
    pub(super) fn lose(&self, key: &K, lost: &Held<D>) -> bool {
        let mut leases = self.leases.lock();
        let is_same = |held: &Held<D>| Arc::ptr_eq(&held.on_loss, &lost.on_loss);
        let is_held = leases.get(key).is_some_and(is_same);
        let removed = is_held.then(|| leases.remove(key));
        drop(leases);
        removed.is_some()
    }
}

impl<D: Clone, K: Copy + Ord> HeldLeases<D, K> {
    /// The leases that are to be read now or within `early`, which are due again after `interval`.
    pub(super) fn due(
        &self,
        now: Timestamp,
        interval: Duration,
        early: Duration,
    ) -> Vec<(K, Held<D>)> {
        let mut leases = self.leases.lock();
        let all = leases.iter_mut();
        let due = all.filter(|(_, held)| held.due.is_none_or(|due| due <= now + early));
        due.map(|(key, held)| {
            held.due = Some(now + interval);
            (*key, held.clone())
        })
        .collect()
    }
}

impl<D> fmt::Debug for Held<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("won", &self.won)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}
