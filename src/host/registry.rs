//! The holders of leases: notified of what happens to them, and stopped when they do not stop.
//!
//! # The escalation
//!
//! | when | what | done by |
//! | --- | --- | --- |
//! | 6N | [`Holder::notice`]: renewals are failing | the renewal thread |
//! | 8N | [`Holder::mark_lost`], then [`Holder::act`] on threads of the registry's driver | [`HolderRegistry::announce`] |
//! | 8N + grace, then once a second | [`Holder::kill`] | [`HolderRegistry::enforce`] |
//! | a little later | this process is killed | the deadman timer |
//!
//! The escalation ends for a holder as soon as its [`Registration`] is dropped: that is how a holder
//! says "stopped". A loss that is not the clock's, of one lease or of all, has its grace from the
//! instant at which it is noticed.
//!
//! The timer is armed for a member host without holders too, for as long as it may start a write: a
//! member host that stood still, and went on after 8N + F, would write over its successor.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::escalation::{Escalation, KILLED_WITHIN, Victim, deadman_of_member};
use super::loss::LossReason;
use super::notify::Notify;
use super::process_timer::ProcessTimer;
use super::rules;
use crate::timing::Timing;
use crate::world::{OsError, Timestamp, World};

/// What a holder is notified of before anything is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// No renewal was good for 6N. If none is, the locks are lost after `left`.
    Warned {
        /// Renewals that failed in a row.
        missed: u32,
        /// How long the leases can still be counted on.
        left: Duration,
    },
    /// A renewal was good again.
    Renewed,
    /// The host watchdog has gone, or is back.
    Watchdog {
        /// Whether it resets this host now should its holders not stop.
        in_force: bool,
    },
}

/// A holder of leases, as the lockspace sees it. Nothing but [`Holder::act`] may block.
pub trait Holder: Send + Sync {
    /// Something that a holder wants to know, and need not act upon.
    fn notice(&self, notice: Notice);
    /// The leases are lost: makes it known, and asks a process that holds them to end, if that is
    /// what was asked for. Whether there is anything for [`act`](Self::act) to run; what is wished
    /// for later is for [`HolderRegistry::act_again`].
    fn mark_lost(&self, reason: &LossReason) -> bool;
    /// Runs what was asked for in this case; it may take as long as it likes. On a thread of its
    /// own where one is available.
    fn act(&self);
    /// Which process is killed if the holder does not stop.
    fn victim(&self) -> Victim;
    /// Kills that process.
    fn kill(&self);
}

/// Which holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HolderId(u64);

/// The holders of one member host, and the timer that kills this process should it stand still.
pub struct HolderRegistry {
    timing: Timing,
    /// Why all leases are lost: the first cause, named before anybody can find them lost. Not in the
    /// state: what is done while that is locked may hang.
    loss: OnceLock<LossReason>,
    state: Mutex<State>,
    /// Set when a holder is to be killed sooner or later.
    losing: Notify,
    /// Set when actions are to be run: see [`take_actions`](Self::take_actions).
    acting: Notify,
    /// `None` where the embedder has switched it off.
    deadman: Option<Box<dyn ProcessTimer>>,
}

#[derive(Debug)]
struct State {
    /// The loss of all leases is announced.
    is_announced: bool,
    /// When the last good renewal was started.
    renewed_at: Timestamp,
    /// Writes of this member host may be started, or are on their way to the kernel.
    may_write: bool,
    /// When the timer fires.
    deadman_at: Option<Timestamp>,
    /// Why the timer is not set so.
    unset: Option<OsError>,
    entries: BTreeMap<HolderId, Entry>,
    next_id: u64,
    /// The holders whose actions are still to be run.
    actions: Vec<Weak<dyn Holder>>,
}

struct Entry {
    holder: Weak<dyn Holder>,
    escalation: Escalation,
}

/// Keeps a holder registered. Dropped, it says that the holder has stopped.
#[derive(Debug)]
pub struct Registration {
    registry: Weak<HolderRegistry>,
    id: HolderId,
}

impl HolderRegistry {
    /// The registry of a member that may write, with no holder in it. The last good renewal was
    /// started at `renewed_at`.
    #[must_use]
    pub fn new(
        timing: Timing,
        renewed_at: Timestamp,
        deadman: Option<Box<dyn ProcessTimer>>,
    ) -> Arc<Self> {
        let registry = Self {
            timing,
            loss: OnceLock::new(),
            state: Mutex::new(State {
                is_announced: false,
                renewed_at,
                may_write: true,
                deadman_at: None,
                unset: None,
                entries: BTreeMap::new(),
                next_id: 0,
                actions: Vec::new(),
            }),
            losing: Notify::default(),
            acting: Notify::default(),
            deadman,
        };
        registry.set_deadman(&mut registry.state.lock());
        Arc::new(registry)
    }

    /// Why all leases were lost, if that was named.
    pub fn loss(&self) -> Option<&LossReason> {
        self.loss.get()
    }

    /// Names a cause for which all leases are about to be lost, or are lost. The first one counts, which
    /// this gives. Waits for nobody.
    pub fn name_loss(&self, found: &LossReason) -> &LossReason {
        self.loss.get_or_init(|| found.clone())
    }

    /// Whether this process is killed by the kernel should it stand still with a lock.
    pub fn has_deadman(&self) -> bool {
        self.deadman.is_some() && self.unset().is_none()
    }

    /// Why the timer is not set as it should be, if it is not.
    pub fn unset(&self) -> Option<OsError> {
        self.state.lock().unset
    }

    /// Whether this holder is registered and has not lost its leases.
    pub fn holds(&self, id: HolderId) -> bool {
        let state = self.state.lock();
        let entry = state.entries.get(&id);
        entry.is_some_and(|entry| !entry.escalation.has_lost())
    }

    /// A renewal was good, whose write was started at `renewed_at`.
    pub fn renewed(&self, renewed_at: Timestamp) {
        let mut state = self.state.lock();
        state.renewed_at = rules::last_renewal(state.renewed_at, renewed_at);
        self.set_deadman(&mut state);
    }

    /// No write of this member host is started any more, and none is on its way to the kernel: a process
    /// without holders may stand still from now on.
    pub fn end_writing(&self) {
        let mut state = self.state.lock();
        state.may_write = false;
        self.set_deadman(&mut state);
    }

    /// Notifies all whose leases are not lost.
    pub fn notice(&self, notice: Notice) {
        let state = self.state.lock();
        let held = state
            .entries
            .values()
            .filter(|of| !of.escalation.has_lost());
        let holders: Vec<_> = held.filter_map(|of| of.holder.upgrade()).collect();
        for holder in &holders {
            holder.notice(notice);
        }
        // The last handle to a holder may go with `holders`, and much with it.
        drop(state);
    }

    /// All leases are lost, since `lost_at`: all holders are notified, of the first cause that was named.
    /// Whether they are now, and were not before.
    pub fn announce(&self, found: &LossReason, lost_at: Timestamp) -> bool {
        let reason = self.name_loss(found);
        let mut state = self.state.lock();
        let is_first = !std::mem::replace(&mut state.is_announced, true);
        if is_first {
            self.lose(state, reason, lost_at, |_| true);
        }
        is_first
    }

    /// One holder has lost its leases, though the host has not; if the host has by now, for that earlier cause.
    /// `false` if it had lost them before, or has stopped.
    pub fn announce_one(&self, id: HolderId, found: &LossReason, lost_at: Timestamp) -> bool {
        let reason = self.loss().unwrap_or(found);
        self.lose(self.state.lock(), reason, lost_at, |of| of == id)
    }

    /// Marks the holders lost that are meant and are not lost yet. Whether there were any.
    fn lose(
        &self,
        mut state: MutexGuard<'_, State>,
        reason: &LossReason,
        lost_at: Timestamp,
        is_meant: impl Fn(HolderId) -> bool,
    ) -> bool {
        let mut holders = Vec::new();
        let State {
            entries, actions, ..
        } = &mut *state;
        for (id, entry) in entries {
            if !is_meant(*id) || !entry.escalation.lose(lost_at, self.timing) {
                continue;
            }
            let Some(holder) = entry.holder.upgrade() else {
                continue;
            };
            // Stores, a write to an eventfd, a signal: nothing blocks or takes the registry's lock.
            if holder.mark_lost(reason) {
                // A new thread may be forbidden in a jail: none is started for nothing.
                actions.push(Weak::clone(&entry.holder));
            }
            holders.push(holder);
        }
        self.set_deadman(&mut state);
        drop(state);
        self.acting.set();
        self.losing.set();
        // The last handle to a holder may go with `holders`, which are dropped without the lock.
        !holders.is_empty()
    }

    /// The timer fires when the next of all holders ought to have been killed by others, and before
    /// anybody takes over from a member that may write.
    fn set_deadman(&self, state: &mut State) {
        let entries = state.entries.values();
        let of_holders =
            entries.filter_map(|entry| entry.escalation.deadman_at(state.renewed_at, self.timing));
        let of_member = rules::is_armed_without_holders(state.may_write)
            .then(|| deadman_of_member(state.renewed_at, self.timing));
        self.set_deadman_at(state, of_holders.chain(of_member).min());
    }

    fn set_deadman_at(&self, state: &mut State, at: Option<Timestamp>) {
        let Some(deadman) = &self.deadman else {
            return;
        };
        let set = deadman.set(at);
        if let (Err(error), None) = (set, state.unset) {
            tracing::error!(%error, "the deadman timer cannot be set: it kills this process soon, and all leases are lost at the next renewal; end the guests, and start this process anew");
        }
        (state.deadman_at, state.unset) = (at, set.err());
    }

    /// Kills each holder that has lost its leases and has not stopped, once its grace has ended, until
    /// it has.
    pub async fn enforce<W: World>(&self, world: &W) -> Infallible {
        loop {
            self.losing.wait().await;
            self.losing.take();
            while let Some(next) = self.next_kill() {
                let now = world.now();
                if now < next {
                    // Another holder may be lost meanwhile that is to be killed sooner.
                    world.sleep_until(next.min(now + KILLED_WITHIN)).await;
                } else {
                    self.kill_due(now);
                }
            }
        }
    }

    /// When the next holder is to be killed, if any is.
    fn next_kill(&self) -> Option<Timestamp> {
        let state = self.state.lock();
        let all = state.entries.values();
        all.filter_map(|entry| entry.escalation.next_kill()).min()
    }

    /// Kills the holders whose time has come.
    fn kill_due(&self, now: Timestamp) {
        let mut state = self.state.lock();
        let all = state.entries.values_mut();
        let due = all.filter(|entry| entry.escalation.next_kill().is_some_and(|at| at <= now));
        let due = due.filter_map(|entry| {
            entry.escalation.was_killed(now);
            entry.holder.upgrade()
        });
        let killed = rules::killed(due.collect::<Vec<_>>());
        for holder in &killed {
            holder.kill();
        }
        // The last handle to a holder may go with `killed`.
        drop(state);
    }

    /// Runs the actions of `holder` once more: there is something new to be run.
    pub fn act_again(&self, holder: &Arc<dyn Holder>) {
        self.state.lock().actions.push(Arc::downgrade(holder));
        self.acting.set();
    }

    /// Ends when holders may have actions to be run. Gives those holders, each of which is to
    /// [`act`](Holder::act) without being waited for.
    pub async fn take_actions(&self) -> Vec<Weak<dyn Holder>> {
        self.acting.wait().await;
        self.acting.take();
        std::mem::take(&mut self.state.lock().actions)
    }

    /// Registers `holder`, which has leases from now on. If the leases are lost already the holder is
    /// notified at once.
    pub fn register(self: &Arc<Self>, holder: &Arc<dyn Holder>, now: Timestamp) -> Registration {
        let mut state = self.state.lock();
        let id = HolderId(state.next_id);
        state.next_id = id.0.wrapping_add(1);
        let entry = Entry {
            holder: Arc::downgrade(holder),
            escalation: Escalation::new(holder.victim()),
        };
        state.entries.insert(id, entry);
        match self.loss() {
            Some(reason) => {
                self.lose(state, reason, now, |of| of == id);
            }
            None => self.set_deadman(&mut state),
        }
        Registration {
            registry: Arc::downgrade(self),
            id,
        }
    }
}

impl Registration {
    /// Which holder is registered.
    #[must_use]
    pub const fn id(&self) -> HolderId {
        self.id
    }

    /// The holder has lost its leases, though the host has not.
    pub fn lose(&self, reason: &LossReason, now: Timestamp) {
        if let Some(registry) = self.registry.upgrade() {
            registry.announce_one(self.id, reason, now);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else {
            return;
        };
        let mut state = registry.state.lock();
        let before = state.deadman_at;
        state.entries.remove(&self.id);
        registry.set_deadman(&mut state);
        let at = rules::deadman_after_stop(before, state.deadman_at);
        if at != state.deadman_at {
            registry.set_deadman_at(&mut state, at);
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.escalation.fmt(f)
    }
}

impl fmt::Debug for HolderRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HolderRegistry")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
