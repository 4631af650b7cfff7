//! The leases that this member host has to do with: those in use, those that await a cleanup, and those that are
//! observed after theirs.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::loss::LossReason;
use super::notify::Notify;
use super::rules;
use crate::format::ResourceName;
use crate::paxos_lease::{GiveBackError, HeldLease, LeaseArea, LeaseIoError, LeftBehind};
use crate::timing::Timing;
use crate::world::{Timestamp, World};

/// What a holder is notified of when its lease is found lost. Nothing in it may block.
pub type OnLoss = Arc<dyn Fn(&LossReason) + Send + Sync>;

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

/// The leases of one member host. Two guards of one process exclude each other here: on the disk they
/// would be one and the same host.
///
/// `D` is the world's disk; `K` tells one lease from another: two requests with the same key are
/// for the same lease. Two with different keys may be, too, so in one join a lease is also known by
/// its name.
#[derive(Debug)]
pub struct LeaseTable<D, K> {
    state: Mutex<State<D, K>>,
    /// Set when there is one more lease to be read again.
    pub(super) added: Notify,
    /// Set while cleanups are pending, or leases observed after theirs.
    pub(super) cleaning: Notify,
}

#[derive(Debug)]
struct State<D, K> {
    entries: BTreeMap<K, Entry<D>>,
    /// No more reservations.
    is_closed: bool,
}

/// How this member host has to do with a lease.
#[derive(Debug)]
enum Entry<D> {
    /// A guard has the lease of this name, or is acquiring it or giving it back; in between it is held.
    InUse(ResourceName, Option<Held<D>>),
    /// Something is to be taken away from the disk.
    Pending(Cleanup<D>),
    /// The lease was cleaned up not long ago, and is nobody's: see `came_back`. For how long it is
    /// observed, from the first time on.
    Observed(Cleanup<D>, Option<Timestamp>),
}

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

/// What an acquire or a release has left on the disk, and must be taken away again.
#[derive(Clone, Debug)]
pub(super) struct Cleanup<D> {
    pub(super) lease: LeaseArea<D>,
    pub(super) left: LeftBehind,
    is_under_way: bool,
    /// The last try found the lease damaged, which only initialising it anew can end; and no try
    /// is under way.
    is_damaged: bool,
    /// Its path names another file, or none, and nothing of this host is written to it: it is in nobody's
    /// way. Until the next try.
    is_aside: bool,
    /// Why the last try failed.
    failure: Option<GiveBackError>,
}

/// The right to acquire one lease, for as long as it lives. Afterwards others in this process may.
#[derive(Debug)]
pub struct Reservation<D, K: Copy + Ord> {
    table: Arc<LeaseTable<D, K>>,
    key: K,
    /// What is there when the reservation ends: the cleanup of a lease which is damaged, should the
    /// acquire come to nothing, or of what the acquire or the release has left; or an observed lease.
    then: Option<Entry<D>>,
}

impl<D> Cleanup<D> {
    const fn new(lease: LeaseArea<D>, left: LeftBehind) -> Self {
        Self {
            lease,
            left,
            is_under_way: false,
            is_damaged: false,
            is_aside: false,
            failure: None,
        }
    }
}

impl<D, K: Ord> State<D, K> {
    fn names_in_use(&self) -> impl Iterator<Item = (&K, &ResourceName)> {
        self.entries.iter().filter_map(|(key, entry)| match entry {
            Entry::InUse(name, _) => Some((key, name)),
            _ => None,
        })
    }

    fn all_pending(&self) -> impl Iterator<Item = (&K, &Cleanup<D>)> {
        self.entries.iter().filter_map(|(key, entry)| match entry {
            Entry::Pending(cleanup) => Some((key, cleanup)),
            _ => None,
        })
    }

    fn pending(&mut self, key: &K) -> Option<&mut Cleanup<D>> {
        match self.entries.get_mut(key) {
            Some(Entry::Pending(cleanup)) => Some(cleanup),
            _ => None,
        }
    }
}

impl<D, K> Default for LeaseTable<D, K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                entries: BTreeMap::new(),
                is_closed: false,
            }),
            added: Notify::default(),
            cleaning: Notify::default(),
        }
    }
}

/// For acquires, releases and the leave.
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
        let is_it = |(at, of_guard): (&K, &ResourceName)| *at == key || *of_guard == name;
        if state.names_in_use().any(is_it) {
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
        if rules::is_refused(state.all_pending().any(is_in_the_way)) {
            return Err(NotReserved::CleanupPending);
        }
        // Whatever the leader says from now on is the acquire's to judge. The observing ends, also where the acquire
        // is refused before it writes anything.
        state.entries.retain(|_, entry| {
            !matches!(entry, Entry::Observed(cleanup, _) if cleanup.lease.resource == name)
        });
        let before = state.entries.insert(key, Entry::InUse(name, None));
        drop(state);
        let then =
            before.filter(|before| matches!(before, Entry::Pending(cleanup) if cleanup.is_damaged));
        Ok(Reservation {
            table: Arc::clone(self),
            key,
            then,
        })
    }

    /// How many leases are held, or just being acquired or given back.
    pub fn in_use(&self) -> usize {
        self.state.lock().names_in_use().count()
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
        let in_use = state.names_in_use().count();
        if !rules::may_leave(in_use) {
            return Err(in_use);
        }
        state.is_closed = true;
        Ok(())
    }

    /// How many cleanups are pending.
    #[cfg(feature = "__sim")]
    pub fn pending(&self) -> usize {
        self.state.lock().all_pending().count()
    }

    /// What `of` says of the disks on which cleanups are pending.
    pub fn pending_on<T>(&self, of: impl Fn(&D) -> T) -> Vec<T> {
        let state = self.state.lock();
        let cleanups = state.all_pending();
        cleanups
            .map(|(_, cleanup)| of(&cleanup.lease.disk))
            .collect()
    }
}

/// For the leases that are held.
impl<D, K: Copy + Ord> LeaseTable<D, K> {
    /// When the next of the held leases is to be read; `None` if none is held.
    pub(super) fn next_reread(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.state.lock();
        let held = state.entries.values().filter_map(Entry::held);
        held.map(|held| held.due.unwrap_or(now)).min()
    }

    /// The held leases that are to be read now or within `early`, which are due again after `interval`.
    pub(super) fn due(
        &self,
        now: Timestamp,
        interval: Duration,
        early: Duration,
    ) -> Vec<(K, Held<D>)>
    where
        D: Clone,
    {
        let mut state = self.state.lock();
        let all = state.entries.iter_mut();
        all.filter_map(|(key, entry)| match entry {
            Entry::InUse(_, Some(held)) if held.due.is_none_or(|due| due <= now + early) => {
                held.due = Some(now + interval);
                Some((*key, held.clone()))
            }
            _ => None,
        })
        .collect()
    }

    /// Reads this lease no more. Whether it was still held, by the same acquire.
    pub(super) fn lose(&self, key: &K, lost: &Held<D>) -> bool {
        let is_same = |held: &mut Held<D>| Arc::ptr_eq(&held.on_loss, &lost.on_loss);
        let mut state = self.state.lock();
        let removed = match state.entries.get_mut(key) {
            Some(Entry::InUse(_, held)) => held.take_if(is_same),
            _ => None,
        };
        drop(state);
        removed.is_some()
    }

    /// Holds a lease that is in use, or holds it no more. Gives what was held before, to be dropped without
    /// the lock.
    fn set_held(&self, key: &K, held: Option<Held<D>>) -> Option<Held<D>> {
        match self.state.lock().entries.get_mut(key) {
            Some(Entry::InUse(_, place)) => std::mem::replace(place, held),
            _ => None,
        }
    }
}

/// For the cleanups.
impl<D: Clone + fmt::Debug, K: Copy + Ord> LeaseTable<D, K> {
    /// Forgets the cleanups, and the observing, of files that are gone: nobody can see what stands
    /// there. A file of the same name that was made since is another lease, and is free to be taken.
    ///
    /// `is_gone` may block as the file system does; no lock is held then.
    pub fn forget_gone(&self, is_gone: impl Fn(&D) -> bool) {
        for (key, cleanup) in self.cleanups() {
            if is_gone(&cleanup.lease.disk) && self.forget(&key).is_some() {
                tracing::info!(
                    resource = %cleanup.lease.resource,
                    lease = ?cleanup.lease.disk,
                    "pending cleanup: the lease is gone with its file"
                );
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
                self.forget(&key);
            } else if is_elsewhere(&cleanup.lease.disk)
                && let Some(cleanup) = self.state.lock().pending(&key)
            {
                let is_written = cleanup.left.has_write_in_flight(world, &cleanup.lease);
                cleanup.is_aside = !cleanup.is_under_way && !is_written;
            }
        }
    }

    /// All pending cleanups.
    pub(super) fn cleanups(&self) -> Vec<(K, Cleanup<D>)> {
        let state = self.state.lock();
        let all = state.all_pending();
        all.map(|(key, cleanup)| (*key, cleanup.clone())).collect()
    }

    /// Whether any is pending, or any lease observed after its cleanup.
    pub(super) fn has_cleanups(&self) -> bool {
        let state = self.state.lock();
        let mut all = state.entries.values();
        all.any(|entry| !matches!(entry, Entry::InUse(..)))
    }

    /// The cleanup of this lease, if it is still pending; from now on a try is under way. `None`
    /// while a guard has a lease of its name in another place.
    pub(super) fn begin(&self, key: &K) -> Option<Cleanup<D>> {
        let mut state = self.state.lock();
        let name = state.pending(key)?.lease.resource;
        let has_the_name = state.names_in_use().any(|(_, of_guard)| *of_guard == name);
        if !rules::may_clean_up(has_the_name) {
            return None;
        }
        let cleanup = state.pending(key)?;
        cleanup.is_under_way = true;
        (cleanup.is_damaged, cleanup.is_aside) = (false, false);
        Some(cleanup.clone())
    }

    /// The try has failed. Whether the one before it failed otherwise, if at all.
    pub(super) fn failed(&self, key: &K, error: &GiveBackError) -> bool {
        let mut state = self.state.lock();
        let Some(cleanup) = state.pending(key) else {
            return false;
        };
        cleanup.is_under_way = false;
        cleanup.is_damaged = matches!(error, GiveBackError::Lease(LeaseIoError::Format { .. }));
        let before = cleanup.failure.replace(*error);
        before.is_none_or(|before| kind_of(&before) != kind_of(error))
    }

    /// Nothing is pending any more. What was pending until now.
    fn forget(&self, key: &K) -> Option<Entry<D>> {
        let mut state = self.state.lock();
        state.pending(key)?;
        state.entries.remove(key)
    }

    /// The lease was cleaned up, and is observed from now on.
    pub(super) fn cleaned_up(&self, key: &K) {
        if let Some(entry) = self.state.lock().entries.get_mut(key)
            && let Entry::Pending(cleanup) = entry
        {
            *entry = Entry::Observed(cleanup.clone(), None);
        }
    }

    /// The leases that are still to be observed.
    pub(super) fn observed(&self, now: Timestamp, timing: Timing) -> Vec<(K, Cleanup<D>)> {
        let end = now + rules::observed_for(timing);
        let mut observed = Vec::new();
        self.state.lock().entries.retain(|key, entry| {
            let Entry::Observed(cleanup, until) = entry else {
                return true;
            };
            let is_due = *until.get_or_insert(end) > now;
            if is_due {
                observed.push((*key, cleanup.clone()));
            }
            is_due
        });
        observed
    }

    /// What was cleaned up came back: pending again, unless somebody has reserved the lease meanwhile.
    pub(super) fn pend_again(&self, key: K, cleanup: Cleanup<D>) {
        if let Some(entry @ Entry::Observed(..)) = self.state.lock().entries.get_mut(&key) {
            *entry = Entry::Pending(cleanup);
        }
    }
}

impl<D, K: Copy + Ord> Reservation<D, K> {
    /// The acquire came to its end, and the lease is held: it is read again from time to time, until
    /// [`give_back`](Self::give_back) or the end of the reservation. `on_loss` is called once should
    /// the lease be lost.
    pub fn hold(&mut self, lease: LeaseArea<D>, won: HeldLease, on_loss: OnLoss) {
        self.then = None;
        let held = Held {
            lease,
            won,
            on_loss,
            due: None,
        };
        self.table.set_held(&self.key, Some(held));
        self.table.added.set();
    }

    /// The lease is about to be given back: what is on the disk from now on is no loss.
    pub fn give_back(&self) {
        self.table.set_held(&self.key, None);
    }

    /// Ends the reservation with something left on the disk: nobody in this process gets the lease
    /// before that is cleaned up.
    pub fn clean_up(self, lease: LeaseArea<D>, left: LeftBehind) {
        // Instead of an earlier one of the same lease, if there was one.
        self.end_with(Entry::Pending(Cleanup::new(lease, left)));
    }

    /// Ends the reservation with something that was cleaned up: others may have the lease, and it is
    /// observed for some time.
    pub fn observe(self, lease: LeaseArea<D>, cleaned_up: LeftBehind) {
        self.end_with(Entry::Observed(Cleanup::new(lease, cleaned_up), None));
    }

    fn end_with(mut self, entry: Entry<D>) {
        self.then = Some(entry);
    }
}

impl<D, K: Copy + Ord> Drop for Reservation<D, K> {
    fn drop(&mut self) {
        let mut state = self.table.state.lock();
        let then = self.then.take();
        let is_to_be_cleaned = then.is_some();
        let before = match then {
            Some(entry) => state.entries.insert(self.key, entry),
            None => state.entries.remove(&self.key),
        };
        drop(state);
        drop(before);
        // Also where an earlier cleanup comes back: the one who cleans up may have passed it meanwhile.
        if is_to_be_cleaned {
            self.table.cleaning.set();
        }
    }
}

impl<D> Entry<D> {
    const fn held(&self) -> Option<&Held<D>> {
        match self {
            Self::InUse(_, held) => held.as_ref(),
            _ => None,
        }
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

/// What is the same for two failures that differ in a limit or a place alone.
fn kind_of(error: &GiveBackError) -> impl PartialEq + use<> {
    let io = match error {
        GiveBackError::Lease(error) => Some(discriminant(error)),
        _ => None,
    };
    (discriminant(error), io)
}
