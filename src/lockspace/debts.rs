//! The leases that this join has to do with: taken ones, and ones that must be settled still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::signal::Signal;
use crate::delta_lease::Membership;
use crate::disk::Identity;
use crate::format::ResourceName;
use crate::paxos_lease::{Debt, LeaseArea, came_back, retract};
use crate::probe::{mutation, witness};
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
    /// No more reservations. Only changed, and only believed, while `leases` is locked.
    closed: AtomicBool,
    /// Set while there are debts; woken when one is added.
    owing: Signal,
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

#[derive(Clone, Debug)]
struct Owed<D> {
    lease: LeaseArea<D>,
    debt: Debt,
}

/// A lease that is looked at for some time: see [`came_back`].
#[derive(Clone, Debug)]
struct Watched<D> {
    owed: Owed<D>,
    /// For how long, from the first look on.
    until: Option<Timestamp>,
}

/// The right to acquire one lease, for as long as it lives. Afterwards others in this process may.
#[derive(Debug)]
pub struct Reservation<D, K: Copy + Ord> {
    table: Arc<LeaseTable<D, K>>,
    key: K,
}

impl<D, K> Default for LeaseTable<D, K> {
    fn default() -> Self {
        Self {
            leases: Mutex::default(),
            watched: Mutex::default(),
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
        let same_name = || leases.values().find(|state| *state.name() == name);
        match leases.get(&key).or_else(same_name) {
            Some(State::Taken(_)) => Err(NotReserved::Taken),
            Some(State::Owing(_)) if !mutation!(AcquiredWhileOwing) => Err(NotReserved::Owing),
            None | Some(State::Owing(_)) => {
                leases.insert(key, State::Taken(name));
                // Whatever the leader says from now on is the acquire's to judge.
                let is_other =
                    |_: &K, watched: &mut Watched<D>| watched.owed.lease.resource != name;
                self.watched.lock().retain(is_other);
                drop(leases);
                Ok(Reservation {
                    table: Arc::clone(self),
                    key,
                })
            }
        }
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

    fn watch(&self, key: K, owed: Owed<D>) {
        if mutation!(SettledNotWatched) {
            return;
        }
        self.watched
            .lock()
            .insert(key, Watched { owed, until: None });
    }
}

impl<D, K: Copy + Ord> Reservation<D, K> {
    /// Ends the reservation with something left on the disk: nobody in this process gets the lease
    /// before that is settled.
    pub fn owe(self, lease: LeaseArea<D>, debt: Debt) {
        let state = State::Owing(Box::new(Owed { lease, debt }));
        self.table.leases.lock().insert(self.key, state);
        self.table.owing.set();
    }

    /// Ends the reservation with something that was retracted: others may have the lease, and it is
    /// looked at for some time.
    pub fn watch(self, lease: LeaseArea<D>, settled: Debt) {
        let owed = Owed {
            lease,
            debt: settled,
        };
        let table = Arc::clone(&self.table);
        table.watch(self.key, owed);
        drop(self);
        table.owing.set();
    }
}

impl<D, K: Copy + Ord> Drop for Reservation<D, K> {
    fn drop(&mut self) {
        let mut leases = self.table.leases.lock();
        if matches!(leases.get(&self.key), Some(State::Taken(_))) {
            leases.remove(&self.key);
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

    /// How many leases are left to be settled.
    pub fn owing(&self) -> usize {
        self.leases
            .lock()
            .values()
            .filter(|state| matches!(state, State::Owing(_)))
            .count()
    }

    fn is_watching(&self) -> bool {
        !self.watched.lock().is_empty()
    }

    /// Those that are to be looked at, of which the time is not over.
    fn to_look_at(&self, now: Timestamp, time: Duration) -> Vec<(K, Owed<D>)> {
        let mut watched = self.watched.lock();
        watched.retain(|_, lease| *lease.until.get_or_insert(now + time) > now);
        let all = watched.iter();
        all.map(|(key, lease)| (*key, lease.owed.clone())).collect()
    }

    /// It is owed again, unless somebody has reserved it meanwhile.
    fn owe_again(&self, key: K, owed: Owed<D>) {
        let mut leases = self.leases.lock();
        if self.watched.lock().remove(&key).is_some() && !leases.contains_key(&key) {
            leases.insert(key, State::Owing(Box::new(owed)));
        }
    }

    fn debts(&self) -> Vec<(K, Owed<D>)> {
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

/// Settles debts as they come: tried again after N, then every 2N, for as long as the join lives.
/// What was settled is looked at every 2N until 8N + F are over.
pub async fn settle_debts<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
) {
    let timing = membership.timing();
    loop {
        table.owing.wait().await;
        world.sleep(timing.io()).await;
        while table.owing() > 0 || table.is_watching() {
            if !membership.expiry().is_held(world.now()) {
                return;
            }
            for (key, owed) in table.debts() {
                match retract(world, membership, &owed.lease, &owed.debt).await {
                    Ok(()) => {
                        witness!(DebtSettled);
                        tracing::info!(resource = %owed.lease.resource, "a lease that was left half-way is settled");
                        let mut leases = table.leases.lock();
                        leases.remove(&key);
                        table.watch(key, owed);
                    }
                    Err(error) => {
                        tracing::warn!(resource = %owed.lease.resource, %error, "a lease that was left half-way is not settled yet");
                    }
                }
            }
            look_at_settled(world, membership, table).await;
            if table.owing() > 0 || table.is_watching() {
                world.sleep(timing.renewal_interval()).await;
            }
        }
        table.owing.clear();
        // One that was added just before the flag was cleared must not be forgotten.
        if table.owing() > 0 || table.is_watching() {
            table.owing.set();
        }
    }
}

/// One look at each lease that was settled not long ago.
async fn look_at_settled<W: World, K: Copy + Ord>(
    world: &W,
    membership: &Membership<W::Disk>,
    table: &LeaseTable<W::Disk, K>,
) {
    let time = membership.timing().stopped_by();
    for (key, owed) in table.to_look_at(world.now(), time) {
        match came_back(world, membership, &owed.lease, &owed.debt).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::error!(
                    resource = %owed.lease.resource,
                    "a write to a lease was done after its storage had said that it was not: it names this host, which does not hold it, and is settled again"
                );
                table.owe_again(key, owed);
            }
            Err(error) => {
                tracing::debug!(resource = %owed.lease.resource, %error, "a lease that was settled cannot be looked at");
            }
        }
    }
}
