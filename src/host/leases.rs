//! The leases that this join has to do with: those in use, and those that await a cleanup.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;

use parking_lot::Mutex;

use super::held::{HeldLeases, OnLoss};
use super::notify::Notify;
use super::rules;
use crate::format::ResourceName;
use crate::paxos_lease::{Debt, GiveBackError, HeldLease, LeaseArea, LeaseIoError};
use crate::timing::Timing;
use crate::world::{Timestamp, World};

/// Why a lease cannot be reserved in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReserved {
    /// A guard of this process has the lease, or is just acquiring it.
    InUse,
    /// An earlier acquire or release failed half-way, and is not cleaned up yet.
    CleanupPending,
    /// The lockspace is being left, or was.
    Left,
}

/// The leases of one join. Two guards of one process exclude each other here: on the disk they
/// would be one and the same host.
///
/// `D` is the world's disk; `K` tells one lease from another: two requests with the same key are
/// for the same lease. Two with different keys may be, too, so in one join a lease is also known by
/// its name.
#[derive(Debug)]
pub struct LeaseTable<D, K> {
    state: Mutex<State<D, K>>,
    /// Those that a guard holds, to be read again.
    pub(super) held: HeldLeases<D, K>,
    /// Set while cleanups are pending, or leases observed after theirs.
    pub(super) cleaning: Notify,
}

#[derive(Debug)]
struct State<D, K> {
    /// A guard has the lease, or is acquiring it or giving it back. By their names.
    in_use: BTreeMap<K, ResourceName>,
    pending: BTreeMap<K, Cleanup<D>>,
    /// Those that were cleaned up not long ago, and are nobody's.
    observed: BTreeMap<K, Observed<D>>,
    /// No more reservations.
    is_closed: bool,
}

/// What an acquire or a release has left on the disk, and must be taken away again.
#[derive(Clone, Debug)]
pub(super) struct Cleanup<D> {
    pub(super) lease: LeaseArea<D>,
    pub(super) debt: Debt,
    is_under_way: bool,
    /// The last try found the lease damaged, which only who initialises it anew can end; and there is no
    /// try under way.
    is_damaged: bool,
    /// Its path names another file, or none, and nothing of this host is written to it: it is in nobody's
    /// way. Until the next try.
    is_aside: bool,
    /// Why the last try failed.
    failure: Option<GiveBackError>,
}

/// A lease that is observed for some time: see `came_back`.
#[derive(Debug)]
struct Observed<D> {
    cleanup: Cleanup<D>,
    /// For how long, from the first time on.
    until: Option<Timestamp>,
}

/// The right to acquire one lease, for as long as it lives. Afterwards others in this process may.
#[derive(Debug)]
pub struct Reservation<D, K: Copy + Ord> {
    table: Arc<LeaseTable<D, K>>,
    key: K,
    /// The cleanup that is pending when the reservation ends: that of a lease which is damaged, should
    /// the acquire come to nothing, or what the acquire or the release has left.
    set_aside: Option<Cleanup<D>>,
}

impl<D> Cleanup<D> {
    const fn new(lease: LeaseArea<D>, debt: Debt) -> Self {
        Self {
            lease,
            debt,
            is_under_way: false,
            is_damaged: false,
            is_aside: false,
            failure: None,
        }
    }
}

impl<D, K> Default for LeaseTable<D, K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                in_use: BTreeMap::new(),
                pending: BTreeMap::new(),
                observed: BTreeMap::new(),
                is_closed: false,
            }),
            held: HeldLeases::default(),
            cleaning: Notify::default(),
        }
    }
}

/// For who acquires, releases and leaves.
impl<D, K: Copy + Ord> LeaseTable<D, K> {
    /// Reserves the lease called `name` for one acquire and the guard that comes of it.
    ///
    /// # Errors
    ///
    /// [`NotReserved`].
    pub fn reserve(
        self: &Arc<Self>,
        key: K,
        name: ResourceName,
    ) -> Result<Reservation<D, K>, NotReserved> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(NotReserved::Left);
        }
        let mut in_use = state.in_use.iter();
        if in_use.any(|(at, of_guard)| *at == key || *of_guard == name) {
            return Err(NotReserved::InUse);
        }
        let is_in_the_way = |(at, cleanup): (&K, &Cleanup<D>)| {
            if *at == key {
                // The acquire will say what is wrong with a lease that is damaged.
                !cleanup.is_damaged
            } else {
                cleanup.lease.resource == name && !cleanup.is_aside
            }
        };
        if rules::is_refused(state.pending.iter().any(is_in_the_way)) {
            return Err(NotReserved::CleanupPending);
        }
        state.in_use.insert(key, name);
        let set_aside = state
            .pending
            .remove(&key)
            .filter(|cleanup| cleanup.is_damaged);
        // Whatever the leader says from now on is the acquire's to judge.
        let observed = &mut state.observed;
        observed.retain(|_, observed| observed.cleanup.lease.resource != name);
        drop(state);
        Ok(Reservation {
            table: Arc::clone(self),
            key,
            set_aside,
        })
    }

    /// How many leases are held, or just being acquired or given back.
    pub fn in_use(&self) -> usize {
        self.state.lock().in_use.len()
    }

    /// Ends all reserving, unless guards of this process hold leases or are acquiring some: then it
    /// says how many.
    ///
    /// Counting and ending is one step. A lease that was reserved in between would be acquired as a
    /// host whose id is free.
    ///
    /// # Errors
    ///
    /// Their number; nothing was ended then.
    pub fn close(&self) -> Result<(), usize> {
        let mut state = self.state.lock();
        let in_use = state.in_use.len();
        if !rules::may_leave(in_use) {
            return Err(in_use);
        }
        state.is_closed = true;
        Ok(())
    }

    /// How many cleanups are pending.
    #[cfg(feature = "__sim")]
    pub fn pending(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// What `of` says of the disks on which cleanups are pending.
    pub fn pending_on<T>(&self, of: impl Fn(&D) -> T) -> Vec<T> {
        let state = self.state.lock();
        let cleanups = state.pending.values();
        cleanups.map(|cleanup| of(&cleanup.lease.disk)).collect()
    }
}

/// For the cleanups.
impl<D: Clone, K: Copy + Ord> LeaseTable<D, K> {
    /// Forgets the cleanups, and the observing, of files that are gone: nobody can see what stands
    /// there. A file of the same name that was made since is another lease, and is free to be taken.
    ///
    /// `is_gone` may block as the file system does; no lock is held then.
    pub fn forget_gone(&self, is_gone: impl Fn(&D) -> bool) {
        for (key, cleanup) in self.cleanups() {
            if is_gone(&cleanup.lease.disk) && self.completed(&key) {
                tracing::info!(resource = %cleanup.lease.resource, "a lease that was left half-way is gone with its file");
            }
        }
    }

    /// Inspects the pending cleanups of leases called `name`, which would be in the way of a new one:
    /// what stands in a file that is gone is forgotten, and what stands in one whose path names
    /// another file, or none, is not in the way of that other one, unless a write to it is still
    /// under way.
    ///
    /// `is_gone` and `is_elsewhere` may block as the file system does; no lock is held then.
    pub fn inspect_pending<W: World<Disk = D>>(
        &self,
        world: &W,
        name: &ResourceName,
        is_gone: impl Fn(&D) -> bool,
        is_elsewhere: impl Fn(&D) -> bool,
    ) {
        let mut cleanups = self.cleanups();
        cleanups.retain(|(_, cleanup)| cleanup.lease.resource == *name);
        for (key, cleanup) in cleanups {
            if is_gone(&cleanup.lease.disk) {
                self.completed(&key);
            } else if is_elsewhere(&cleanup.lease.disk)
                && let Some(cleanup) = self.state.lock().pending.get_mut(&key)
            {
                let is_written = cleanup.debt.may_be_written(world, &cleanup.lease);
                cleanup.is_aside = !cleanup.is_under_way && !is_written;
            }
        }
    }

    /// All pending cleanups.
    pub(super) fn cleanups(&self) -> Vec<(K, Cleanup<D>)> {
        let state = self.state.lock();
        let all = state.pending.iter();
        all.map(|(key, cleanup)| (*key, cleanup.clone())).collect()
    }

    /// Whether any is pending, or any lease observed after its cleanup.
    pub(super) fn has_cleanups(&self) -> bool {
        let state = self.state.lock();
        !state.pending.is_empty() || !state.observed.is_empty()
    }

    /// The cleanup of this lease, if it is still pending; from now on a try is under way. `None`
    /// while a guard has a lease of its name in another place.
    pub(super) fn begin(&self, key: &K) -> Option<Cleanup<D>> {
        let mut state = self.state.lock();
        let name = state.pending.get(key)?.lease.resource;
        let has_the_name = state.in_use.values().any(|of_guard| *of_guard == name);
        if !rules::may_clean_up(has_the_name) {
            return None;
        }
        let cleanup = state.pending.get_mut(key)?;
        cleanup.is_under_way = true;
        (cleanup.is_damaged, cleanup.is_aside) = (false, false);
        Some(cleanup.clone())
    }

    /// The try has failed. Whether the one before it failed otherwise, if at all.
    pub(super) fn failed(&self, key: &K, error: &GiveBackError) -> bool {
        let mut state = self.state.lock();
        let Some(cleanup) = state.pending.get_mut(key) else {
            return false;
        };
        cleanup.is_under_way = false;
        cleanup.is_damaged = matches!(error, GiveBackError::Lease(LeaseIoError::Format { .. }));
        let before = cleanup.failure.replace(*error);
        before.is_none_or(|before| kind_of(&before) != kind_of(error))
    }

    /// Nothing is pending any more. Whether anything was until now.
    pub(super) fn completed(&self, key: &K) -> bool {
        self.state.lock().pending.remove(key).is_some()
    }

    /// The lease was cleaned up, and is observed from now on.
    pub(super) fn observe(&self, key: K, cleanup: Cleanup<D>) {
        let observed = Observed {
            cleanup,
            until: None,
        };
        self.state.lock().observed.insert(key, observed);
    }

    /// The leases that are still to be observed.
    pub(super) fn observed(&self, now: Timestamp, timing: Timing) -> Vec<(K, Cleanup<D>)> {
        let until = now + rules::observed_for(timing);
        let observed = &mut self.state.lock().observed;
        observed.retain(|_, lease| *lease.until.get_or_insert(until) > now);
        let all = observed.iter();
        all.map(|(key, lease)| (*key, lease.cleanup.clone()))
            .collect()
    }

    /// What was cleaned up came back: pending again, unless somebody has reserved the lease meanwhile.
    pub(super) fn pend_again(&self, key: K, cleanup: Cleanup<D>) {
        let mut state = self.state.lock();
        let was_observed = state.observed.remove(&key).is_some();
        if was_observed && !state.in_use.contains_key(&key) {
            state.pending.entry(key).or_insert(cleanup);
        }
    }
}

impl<D, K: Copy + Ord> Reservation<D, K> {
    /// The acquire came to its end, and the lease is held: it is read again from time to time, until
    /// [`give_back`](Self::give_back) or the end of the reservation. `on_loss` is called once should
    /// the lease be lost.
    pub fn hold(&mut self, lease: LeaseArea<D>, held: HeldLease, on_loss: OnLoss) {
        self.set_aside = None;
        self.table.held.add(self.key, lease, held, on_loss);
    }

    /// The lease is about to be given back: what is on the disk from now on is no loss.
    pub fn give_back(&self) {
        self.table.held.remove(&self.key);
    }

    /// Ends the reservation with something left on the disk: nobody in this process gets the lease
    /// before that is cleaned up.
    pub fn clean_up(mut self, lease: LeaseArea<D>, debt: Debt) {
        // Instead of an earlier one of the same lease, if there was one.
        self.set_aside = Some(Cleanup::new(lease, debt));
        let table = Arc::clone(&self.table);
        drop(self);
        table.cleaning.set();
    }

    /// Ends the reservation with something that was cleaned up: others may have the lease, and it is
    /// observed for some time.
    pub fn observe(self, lease: LeaseArea<D>, cleaned_up: Debt)
    where
        D: Clone,
    {
        let table = Arc::clone(&self.table);
        table.observe(self.key, Cleanup::new(lease, cleaned_up));
        drop(self);
        table.cleaning.set();
    }
}

impl<D, K: Copy + Ord> Drop for Reservation<D, K> {
    fn drop(&mut self) {
        self.give_back();
        let mut state = self.table.state.lock();
        state.in_use.remove(&self.key);
        if let Some(cleanup) = self.set_aside.take() {
            state.pending.insert(self.key, cleanup);
        }
    }
}

/// What is the same for two failures that differ in a limit or a place alone.
fn kind_of(error: &GiveBackError) -> impl PartialEq + use<> {
    let io = match error {
        GiveBackError::Lease(error) => Some(discriminant(error)),
        _ => None,
    };
    (discriminant(error), io)
}
