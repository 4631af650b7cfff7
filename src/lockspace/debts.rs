//! The leases that this join has to do with: taken ones, and ones that must be settled still.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::loss::LossReason;
use super::signal::Signal;
use crate::disk::Identity;
use crate::format::ResourceName;
use crate::paxos_lease::{Debt, GiveBackError, HeldLease, LeaseArea, LeaseIoError};
use crate::probe::mutation;
use crate::world::{Timestamp, World};

/// Which lease on which disk: two requests with the same key are for the same lease.
///
/// Two with different keys may be, too: a partition and its whole disk, a loop device and the file
/// under it, one file system mounted twice. On the disk both would be one and the same host, and
/// the later one would take the lease from the earlier as its own. So in one join a lease is also
/// known by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseKey {
    pub(crate) disk: Identity,
    pub(crate) offset: u64,
}

/// Why a lease cannot be reserved in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReserved {
    /// A guard of this process has it, or is just acquiring it.
    Taken,
    /// An earlier acquire or release failed half-way, and is not settled yet.
    Owing,
    /// The lockspace is being left, or was.
    Left,
}

/// The leases of one join. Two guards of one process exclude each other here: on the disk they
/// would be one and the same host.
///
/// `D` is the world's disk; `K` tells one lease from another.
#[derive(Debug)]
pub struct LeaseTable<D, K> {
    leases: Mutex<BTreeMap<K, State<D>>>,
    /// Those that were settled not long ago, and are nobody's. Locked after `leases`.
    watched: Mutex<BTreeMap<K, Watched<D>>>,
    /// Those that a guard holds, to be read again. Locked after `leases`.
    held: Mutex<BTreeMap<K, Kept<D>>>,
    /// Set while there are any.
    keeping: Signal,
    /// No more reservations. Only changed, and only believed, while `leases` is locked.
    closed: AtomicBool,
    /// Set while there are debts; woken when one is added.
    pub(super) owing: Signal,
}

#[derive(Debug)]
enum State<D> {
    Taken(ResourceName),
    Owing(Box<Owed<D>>),
}

impl<D> State<D> {
    const fn name(&self) -> &ResourceName {
        match self {
            Self::Taken(name) => name,
            Self::Owing(owed) => &owed.lease.resource,
        }
    }
}

/// What is owed on a lease.
#[derive(Clone, Debug)]
pub struct Owed<D> {
    pub(super) lease: LeaseArea<D>,
    pub(super) debt: Debt,
    is_being_settled: bool,
    /// The last try found the lease damaged, which only who initialises it anew can end; and there is no
    /// try under way.
    is_damaged: bool,
    /// Its path names another file, or none, and nothing of this host is written to it: it is in nobody's
    /// way. Until the next try.
    is_aside: bool,
    /// Why the last try failed.
    failure: Option<GiveBackError>,
}

impl<D> Owed<D> {
    const fn new(lease: LeaseArea<D>, debt: Debt) -> Self {
        Self {
            lease,
            debt,
            is_being_settled: false,
            is_damaged: false,
            is_aside: false,
            failure: None,
        }
    }
}

/// A lease that is looked at for some time: see `came_back`.
#[derive(Clone, Debug)]
struct Watched<D> {
    owed: Owed<D>,
    /// For how long, from the first look on.
    until: Option<Timestamp>,
}

/// What a holder hears when its lease is found lost. Nothing in it may block.
pub type OnLoss = Arc<dyn Fn(&LossReason) + Send + Sync>;

/// A lease that is held, and read again from time to time: see `lockspace/held.rs`.
#[derive(Clone)]
pub struct Kept<D> {
    pub(super) lease: LeaseArea<D>,
    pub(super) held: HeldLease,
    pub(super) on_loss: OnLoss,
    /// When it is read next; `None` for one that has just come.
    due: Option<Timestamp>,
}

impl<D: std::fmt::Debug> std::fmt::Debug for Kept<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("held", &self.held)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

/// The right to acquire one lease, for as long as it lives. Afterwards others in this process may.
#[derive(Debug)]
pub struct Reservation<D, K: Copy + Ord> {
    table: Arc<LeaseTable<D, K>>,
    key: K,
    /// What is owed on the lease, which is damaged: again so should the acquire come to nothing.
    set_aside: Option<Box<Owed<D>>>,
}

impl<D, K> Default for LeaseTable<D, K> {
    fn default() -> Self {
        Self {
            leases: Mutex::default(),
            watched: Mutex::default(),
            held: Mutex::default(),
            keeping: Signal::default(),
            closed: AtomicBool::default(),
            owing: Signal::default(),
        }
    }
}

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
        let mut leases = self.leases.lock();
        if self.closed.load(Ordering::Relaxed) {
            return Err(NotReserved::Left);
        }
        let refused = leases.iter().find_map(|(at, state)| match state {
            _ if *at != key && *state.name() != name => None,
            State::Taken(_) => Some(NotReserved::Taken),
            // The acquire will say what is wrong with a lease that is damaged.
            State::Owing(owed) if *at == key && owed.is_damaged => None,
            State::Owing(owed) if *at != key && owed.is_aside => None,
            State::Owing(_) if mutation!(AcquiredWhileOwing) => None,
            State::Owing(_) => Some(NotReserved::Owing),
        });
        if let Some(refused) = refused {
            return Err(refused);
        }
        let set_aside = match leases.insert(key, State::Taken(name)) {
            Some(State::Owing(owed)) if owed.is_damaged => Some(owed),
            _ => None,
        };
        // Whatever the leader says from now on is the acquire's to judge.
        let is_other = |_: &K, watched: &mut Watched<D>| watched.owed.lease.resource != name;
        self.watched.lock().retain(is_other);
        drop(leases);
        Ok(Reservation {
            table: Arc::clone(self),
            key,
            set_aside,
        })
    }
}

impl<D, K: Copy + Ord> LeaseTable<D, K> {
    /// Whether any lease is held, or just being acquired or given back.
    pub fn holds_any(&self) -> bool {
        let leases = self.leases.lock();
        leases
            .values()
            .any(|state| matches!(state, State::Taken(_)))
    }

    pub(super) fn watch(&self, key: K, owed: Owed<D>) {
        if mutation!(SettledNotWatched) {
            return;
        }
        self.watched
            .lock()
            .insert(key, Watched { owed, until: None });
    }
}

impl<D, K: Copy + Ord> Reservation<D, K> {
    /// The acquire came to its end, and the lease is held: it is read again from time to time, until
    /// [`let_go`](Self::let_go) or the end of the reservation. `on_loss` is called once should it be lost.
    pub fn keep(&mut self, lease: LeaseArea<D>, held: HeldLease, on_loss: OnLoss) {
        self.set_aside = None;
        let kept = Kept {
            lease,
            held,
            on_loss,
            due: None,
        };
        self.table.held.lock().insert(self.key, kept);
        self.table.keeping.set();
    }

    /// It is about to be given back: what is on the disk from now on is no loss.
    pub fn let_go(&self) {
        let kept = self.table.held.lock().remove(&self.key);
        // What it is made of is dropped without the lock.
        drop(kept);
    }

    /// Ends the reservation with something left on the disk: nobody in this process gets the lease
    /// before that is settled.
    pub fn owe(self, lease: LeaseArea<D>, debt: Debt) {
        let state = State::Owing(Box::new(Owed::new(lease, debt)));
        self.table.leases.lock().insert(self.key, state);
        self.table.owing.set();
    }

    /// Ends the reservation with something that was retracted: others may have the lease, and it is
    /// looked at for some time.
    pub fn watch(self, lease: LeaseArea<D>, settled: Debt) {
        let owed = Owed::new(lease, settled);
        let table = Arc::clone(&self.table);
        table.watch(self.key, owed);
        drop(self);
        table.owing.set();
    }
}

impl<D, K: Copy + Ord> Drop for Reservation<D, K> {
    fn drop(&mut self) {
        self.let_go();
        let mut leases = self.table.leases.lock();
        if matches!(leases.get(&self.key), Some(State::Taken(_))) {
            match self.set_aside.take() {
                Some(owed) => leases.insert(self.key, State::Owing(owed)),
                None => leases.remove(&self.key),
            };
        }
    }
}

impl<D: Clone, K: Copy + Ord> LeaseTable<D, K> {
    /// Ends all reserving, unless guards of this process hold leases or are acquiring some: then it
    /// tells how many.
    ///
    /// Looking and ending is one step. A lease that was reserved in between would be acquired as a
    /// host whose id is free.
    ///
    /// # Errors
    ///
    /// Their number; nothing was ended then.
    pub fn close(&self) -> Result<(), usize> {
        let leases = self.leases.lock();
        let is_taken = |state: &&State<D>| matches!(state, State::Taken(_));
        let taken = leases.values().filter(is_taken).count();
        if taken > 0 && !mutation!(LeftWhileHeld) {
            return Err(taken);
        }
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(super) const fn keeping(&self) -> &Signal {
        &self.keeping
    }

    /// When the next of those that are held is to be read; `None` if none is held.
    pub(super) fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        let held = self.held.lock();
        held.values().map(|kept| kept.due.unwrap_or(now)).min()
    }

    /// Those that are to be read now or within `early`, which are due again after `interval`.
    pub(super) fn due(
        &self,
        now: Timestamp,
        interval: Duration,
        early: Duration,
    ) -> Vec<(K, Kept<D>)> {
        let mut held = self.held.lock();
        let due = held
            .iter_mut()
            .filter(|(_, kept)| kept.due.is_none_or(|due| due <= now + early));
        due.map(|(key, kept)| {
            kept.due = Some(now + interval);
            (*key, kept.clone())
        })
        .collect()
    }

    /// Reads this one no more. Whether it was still held, by the same acquire.
    pub(super) fn let_go_of(&self, key: K, kept: &Kept<D>) -> bool {
        let mut held = self.held.lock();
        let same = |now: &Kept<D>| Arc::ptr_eq(&now.on_loss, &kept.on_loss);
        let removed = held.get(&key).is_some_and(same).then(|| held.remove(&key));
        drop(held);
        removed.is_some()
    }

    /// How many leases are left to be settled.
    pub fn owing(&self) -> usize {
        self.leases
            .lock()
            .values()
            .filter(|state| matches!(state, State::Owing(_)))
            .count()
    }

    pub(super) fn is_watching(&self) -> bool {
        !self.watched.lock().is_empty()
    }

    /// Those that are to be looked at, of which the time is not over.
    pub(super) fn to_look_at(&self, now: Timestamp, time: Duration) -> Vec<(K, Owed<D>)> {
        let mut watched = self.watched.lock();
        watched.retain(|_, lease| *lease.until.get_or_insert(now + time) > now);
        let all = watched.iter();
        all.map(|(key, lease)| (*key, lease.owed.clone())).collect()
    }

    /// It is owed again, unless somebody has reserved it meanwhile.
    pub(super) fn owe_again(&self, key: K, owed: Owed<D>) {
        let mut leases = self.leases.lock();
        if self.watched.lock().remove(&key).is_some() && !leases.contains_key(&key) {
            leases.insert(key, State::Owing(Box::new(owed)));
        }
    }

    /// Drops what is owed, or watched, on files that are gone: nobody can see what stands there. A file
    /// of the same name that was made since is another lease, and is free to be taken.
    ///
    /// `is_gone` may block as the file system does; no lock is held then.
    pub fn forget_gone(&self, is_gone: impl Fn(&D) -> bool) {
        for (key, owed) in self.debts() {
            if is_gone(&owed.lease.disk) && self.settled(&key) {
                tracing::info!(resource = %owed.lease.resource, "a lease that was left half-way is gone with its file");
            }
        }
    }

    /// Inspects what is owed on leases called `name`, which would be in the way of one: what stands in a
    /// file that is gone is dropped, and what stands in one whose path names another file, or none, is not
    /// in the way of that other one, unless a write to it is still under way.
    ///
    /// `is_gone` and `is_elsewhere` may block as the file system does; no lock is held then.
    pub fn inspect_owed<W: World<Disk = D>>(
        &self,
        world: &W,
        name: &ResourceName,
        is_gone: impl Fn(&D) -> bool,
        is_elsewhere: impl Fn(&D) -> bool,
    ) {
        let debts = self.debts();
        for (key, owed) in debts
            .iter()
            .filter(|(_, owed)| owed.lease.resource == *name)
        {
            if is_gone(&owed.lease.disk) {
                self.settled(key);
            } else if is_elsewhere(&owed.lease.disk)
                && let Some(State::Owing(owed)) = self.leases.lock().get_mut(key)
            {
                let is_written = owed.debt.may_be_written(world, &owed.lease);
                owed.is_aside = !owed.is_being_settled && !is_written;
            }
        }
    }

    /// What is owed on this lease still; from now on a try is under way.
    ///
    /// Nothing while somebody has a lease of its name in another place: that may be the same one, by
    /// another way to it, and what he wrote must not be taken back.
    pub(super) fn begin(&self, key: &K) -> Option<Owed<D>> {
        let mut leases = self.leases.lock();
        let name = *leases.get(key)?.name();
        let is_taken = |state: &State<D>| matches!(state, State::Taken(taken) if *taken == name);
        if leases.values().any(is_taken) && !mutation!(SettledBesideHolder) {
            return None;
        }
        match leases.get_mut(key) {
            Some(State::Owing(owed)) => {
                (owed.is_being_settled, owed.is_damaged, owed.is_aside) = (true, false, false);
                Some(Owed::clone(owed))
            }
            _ => None,
        }
    }

    /// The try has failed. Whether the one before it failed otherwise, if at all.
    pub(super) fn stands(&self, key: &K, error: &GiveBackError) -> bool {
        let mut leases = self.leases.lock();
        let Some(State::Owing(owed)) = leases.get_mut(key) else {
            return false;
        };
        owed.is_being_settled = false;
        owed.is_damaged = matches!(error, GiveBackError::Lease(LeaseIoError::Format { .. }));
        let before = owed.failure.replace(*error);
        before.is_none_or(|before| kind_of(&before) != kind_of(error))
    }

    /// Nothing is owed any more. Whether anything was until now.
    pub(super) fn settled(&self, key: &K) -> bool {
        let mut leases = self.leases.lock();
        let owes = matches!(leases.get(key), Some(State::Owing(_)));
        if owes {
            leases.remove(key);
        }
        owes
    }

    /// What `of` says of the disks on which anything is owed.
    pub fn owing_on<T>(&self, of: impl Fn(&D) -> T) -> Vec<T> {
        let leases = self.leases.lock();
        let owing = leases.values().filter_map(|state| match state {
            State::Owing(owed) => Some(of(&owed.lease.disk)),
            State::Taken(_) => None,
        });
        owing.collect()
    }

    pub(super) fn debts(&self) -> Vec<(K, Owed<D>)> {
        let leases = self.leases.lock();
        leases
            .iter()
            .filter_map(|(key, state)| match state {
                State::Owing(owed) => Some((*key, Owed::clone(owed))),
                State::Taken(_) => None,
            })
            .collect()
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
