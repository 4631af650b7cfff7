//! Those who hold leases of a join: told what happens to them, and stopped when they do not stop.
//!
//! # The ladder
//!
//! | when | what | done by |
//! | --- | --- | --- |
//! | 6N | [`Holder::notice`]: renewals are failing | whoever renews |
//! | 8N | [`Holder::mark_lost`], then [`Holder::act`] on threads of the board's | [`HolderBoard::announce`] |
//! | 8N + grace, then once a second | [`Holder::kill`] | [`HolderBoard::enforce`] |
//! | a little later | this process is killed | the deadman timer |
//!
//! A holder is off the ladder as soon as it is off the board: that is how it says "stopped". A loss
//! that is not the clock's, of one lease or of all, has its grace from the instant of its notice.
//!
//! The timer is armed for a member without holders too, for as long as it may begin a write: one
//! that stood still, and went on after 8N + F, would write over its successor.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::loss::LossReason;
use super::rules::killed_after;
use super::signal::Signal;
use super::thread::run_apart;
use super::watched_file::WatchedFile;
use crate::disk::{FileSystem, Refreshed};
use crate::probe::mutation;
use crate::timing::Timing;
use crate::world::{OsError, Timestamp, World};

/// How often it is looked whether another is to be killed sooner.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How often a holder is killed that does not end.
const KILL_INTERVAL: Duration = Duration::from_secs(1);

/// What a holder is told before anything is lost.
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
    /// what was asked for.
    fn mark_lost(&self, reason: &LossReason);
    /// Whether there is anything for [`act`](Self::act) to run. Asked after
    /// [`mark_lost`](Self::mark_lost); what is wished for later is for
    /// [`HolderBoard::act_again`].
    fn has_actions(&self) -> bool;
    /// Runs what was asked for in this case; it may take as long as it likes. On a thread of its
    /// own where one is to be had.
    fn act(&self);
    /// Whether it is to be killed if it does not stop.
    fn is_fenced(&self) -> bool;
    /// Whether another process holds the leases than this one.
    fn is_foreign(&self) -> bool;
    /// Kills the process that holds the leases.
    fn kill(&self);
}

/// What kills this process at an instant of its clock, unless it is set anew before.
pub trait ProcessTimer: Send + Sync {
    /// At this instant, or never.
    ///
    /// # Errors
    ///
    /// It stays as it was.
    fn set(&self, at: Option<Timestamp>) -> Result<(), OsError>;
}

/// The holders of one join, and the timer that kills this process should it stand still.
pub struct HolderBoard {
    timing: Timing,
    state: Mutex<State>,
    changed: Condvar,
    /// Set when there is somebody to be killed sooner or later.
    losing: Signal,
    /// `None` where the embedder has switched it off.
    deadman: Option<Box<dyn ProcessTimer>>,
}

struct State {
    reason: Option<LossReason>,
    /// When the last good renewal was begun.
    renewed_at: Timestamp,
    /// Writes of this join may be begun, or are on their way to the kernel.
    may_write: bool,
    /// Why the timer is not set as it should be.
    unset: Option<OsError>,
    entries: Vec<Entry>,
    next_id: u64,
    /// Those whose actions are still to be run.
    to_run: Vec<Weak<dyn Holder>>,
    closed: bool,
}

struct Entry {
    id: u64,
    holder: Weak<dyn Holder>,
    is_fenced: bool,
    /// The files with its leases.
    files: Arc<[WatchedFile]>,
    /// When it is killed for the first time, once it has lost its leases.
    killed_at: Option<Timestamp>,
    /// When it is killed next.
    next_kill: Option<Timestamp>,
    /// Another process has its leases, and is killed; not this one.
    is_foreign: bool,
}

/// Keeps a holder on the board. Dropped, it says that the holder has stopped.
pub struct Subscription {
    board: Weak<HolderBoard>,
    id: u64,
}

impl HolderBoard {
    /// A board with nobody on it, of a member that may write. The last good renewal was begun at
    /// `renewed_at`.
    #[must_use]
    pub fn new(
        timing: Timing,
        renewed_at: Timestamp,
        deadman: Option<Box<dyn ProcessTimer>>,
    ) -> Arc<Self> {
        let board = Self {
            timing,
            state: Mutex::new(State {
                reason: None,
                renewed_at,
                may_write: true,
                unset: None,
                entries: Vec::new(),
                next_id: 0,
                to_run: Vec::new(),
                closed: false,
            }),
            changed: Condvar::new(),
            losing: Signal::default(),
            deadman,
        };
        board.set_deadman(&mut board.state.lock());
        Arc::new(board)
    }

    /// Why all leases were lost, if they were.
    pub fn reason(&self) -> Option<LossReason> {
        self.state.lock().reason.clone()
    }

    /// Whether this process is killed by the kernel should it stand still with a lock.
    pub fn has_deadman(&self) -> bool {
        self.deadman.is_some() && self.unset().is_none()
    }

    /// Why the timer is not set as it should be, if it is not.
    pub fn unset(&self) -> Option<OsError> {
        self.state.lock().unset
    }

    /// A renewal was good, whose write was begun at `renewed_at`.
    pub fn renewed(&self, renewed_at: Timestamp) {
        let mut state = self.state.lock();
        state.renewed_at = state.renewed_at.max(renewed_at);
        if !mutation!(DeadmanNotMoved) {
            self.set_deadman(&mut state);
        }
    }

    /// No write of this join is begun any more, and none is on its way to the kernel: a process
    /// without holders may stand still from now on.
    pub fn end_writing(&self) {
        let mut state = self.state.lock();
        state.may_write = false;
        self.set_deadman(&mut state);
    }

    /// Tells all whose leases are not lost.
    pub fn notice(&self, notice: Notice) {
        let state = self.state.lock();
        let holders: Vec<_> = state
            .entries
            .iter()
            .filter(|entry| entry.killed_at.is_none())
            .filter_map(|entry| entry.holder.upgrade())
            .collect();
        for holder in &holders {
            holder.notice(notice);
        }
        // The last handle to a holder may go with `holders`, and much with it.
        drop(state);
    }

    /// All leases are lost, since `lost_at`. The first loss counts.
    pub fn announce(&self, reason: &LossReason, lost_at: Timestamp) {
        let mut state = self.state.lock();
        if state.reason.is_some() {
            return;
        }
        state.reason = Some(reason.clone());
        let all: Vec<_> = state.entries.iter().map(|entry| entry.id).collect();
        let holders: Vec<_> = all
            .into_iter()
            .filter_map(|id| self.lose(&mut state, id, reason, lost_at))
            .collect();
        self.set_deadman(&mut state);
        drop(state);
        drop(holders);
        self.tell_of_loss();
    }

    /// One holder has lost its leases, though the host has not. `false` if it had lost them before.
    fn announce_one(&self, id: u64, reason: &LossReason, lost_at: Timestamp) -> bool {
        let mut state = self.state.lock();
        let holder = self.lose(&mut state, id, reason, lost_at);
        self.set_deadman(&mut state);
        drop(state);
        self.tell_of_loss();
        holder.is_some()
    }

    /// Marks the holder `id` lost, if it is not yet. The handle is to be dropped without the lock.
    fn lose(
        &self,
        state: &mut MutexGuard<'_, State>,
        id: u64,
        reason: &LossReason,
        lost_at: Timestamp,
    ) -> Option<Arc<dyn Holder>> {
        let at = state.entries.iter().position(|entry| entry.id == id)?;
        let entry = state.entries.get_mut(at)?;
        if entry.killed_at.is_some() {
            return None;
        }
        let grace = killed_after(self.timing).saturating_sub(self.timing.lost_after());
        let grace = mutation!(GraceIgnored, Duration::ZERO, grace);
        entry.killed_at = Some(lost_at + grace);
        entry.next_kill = entry.killed_at;
        let weak = Weak::clone(&entry.holder);
        let holder = weak.upgrade()?;
        // Stores, a write to an eventfd, a signal: nothing blocks or takes the board's lock.
        holder.mark_lost(reason);
        // A new thread may be forbidden in a jail: none is started for nothing.
        if holder.has_actions() {
            state.to_run.push(weak);
        }
        Some(holder)
    }

    fn tell_of_loss(&self) {
        self.changed.notify_all();
        self.losing.set();
    }

    /// The timer fires when the next of all holders ought to have been killed by others, and before
    /// anybody takes over from a member that may write.
    fn set_deadman(&self, state: &mut State) {
        let Some(deadman) = &self.deadman else {
            return;
        };
        let late = self
            .timing
            .dead_after()
            .saturating_add(self.timing.lost_after());
        let late = mutation!(DeadmanLate, late, Duration::ZERO);
        let killed_after = killed_after(self.timing);
        let fenced = state.entries.iter().filter(|entry| entry.is_fenced);
        let fires_at = fenced.map(|entry| {
            let after = if entry.is_foreign {
                self.timing.manager_deadman_after()
            } else {
                self.timing.deadman_after()
            };
            let by_renewal = state.renewed_at + after.max(late);
            let slack = after.saturating_sub(killed_after);
            match entry.killed_at {
                Some(at) if !mutation!(DeadmanDeafToLoss) => (at + slack).min(by_renewal),
                _ => by_renewal,
            }
        });
        let may_write = state.may_write && !mutation!(DeadmanOnlyWithHolders);
        let of_member = may_write.then(|| {
            let after = self.timing.manager_deadman_after();
            state.renewed_at + after.max(late)
        });
        let fires_at = fires_at.chain(of_member).min();
        let set = deadman.set(fires_at);
        if let (Err(error), None) = (set, state.unset) {
            tracing::error!(%error, "the deadman timer cannot be set");
        }
        state.unset = set.err();
    }

    /// Kills each holder that has lost its leases and has not stopped, once its grace is over, until
    /// it has.
    pub async fn enforce<W: World>(&self, world: &W) -> std::convert::Infallible {
        loop {
            self.losing.wait().await;
            self.losing.clear();
            while let Some(next) = self.next_kill() {
                if world.now() < next {
                    // Another may be lost meanwhile that is to be killed sooner. It is by no more than
                    // this too late: every grace is longer.
                    let soon = world.now() + LOOK_INTERVAL;
                    world.sleep_until(next.min(soon)).await;
                    continue;
                }
                self.kill_due(world.now());
                if mutation!(KilledOnce) {
                    break;
                }
            }
        }
    }

    /// When the next holder is to be killed, if any is.
    fn next_kill(&self) -> Option<Timestamp> {
        let state = self.state.lock();
        let fenced = state.entries.iter().filter(|entry| entry.is_fenced);
        fenced.filter_map(|entry| entry.next_kill).min()
    }

    /// Kills those whose time has come, each of them again after the interval.
    fn kill_due(&self, now: Timestamp) {
        let mut state = self.state.lock();
        let due =
            |entry: &&mut Entry| entry.is_fenced && entry.next_kill.is_some_and(|at| at <= now);
        let holders: Vec<_> = state
            .entries
            .iter_mut()
            .filter(due)
            .filter_map(|entry| {
                entry.next_kill = Some(now + KILL_INTERVAL);
                entry.holder.upgrade()
            })
            .collect();
        for holder in &holders {
            if !mutation!(KillSkipped) {
                holder.kill();
            }
        }
        drop(state);
    }

    /// The file systems with lease files of holders, each of them once or more.
    pub fn file_systems(&self) -> Vec<FileSystem> {
        let state = self.state.lock();
        let held = state
            .entries
            .iter()
            .filter(|entry| entry.killed_at.is_none());
        held.flat_map(|entry| entry.files.iter().map(WatchedFile::file_system))
            .collect()
    }

    /// Inspects each holder's lease files on the file system `on`, mends their names, and notifies those
    /// for whom one is lost. May block as the file system does; the board's lock is not held then.
    pub fn check_files(&self, on: FileSystem, round: &mut Refreshed, now: impl Fn() -> Timestamp) {
        let entries: Vec<_> = {
            let state = self.state.lock();
            let held = state
                .entries
                .iter()
                .filter(|entry| entry.killed_at.is_none());
            held.map(|entry| (entry.id, Arc::clone(&entry.files)))
                .collect()
        };
        let all = entries
            .iter()
            .flat_map(|(id, files)| files.iter().map(move |file| (*id, file)));
        let here = all.filter(|(_, file)| file.file_system() == on).collect();
        for (id, lost) in WatchedFile::lost_of(here, round) {
            if self.announce_one(id, &LossReason::LeaseReplaced, now()) {
                tracing::error!(path = ?lost.file().path(), "a lease file was removed, replaced or cut short: its lock is lost");
            }
        }
    }

    /// Runs the actions of `holder` once more: there is something new to be run.
    pub fn act_again(&self, holder: &Arc<dyn Holder>) {
        self.state.lock().to_run.push(Arc::downgrade(holder));
        self.changed.notify_all();
    }

    /// Runs actions as losses come, until the board is closed. The body of the board's thread.
    pub fn run(&self) {
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
            // Never with the lock held: an action may drop its guard, which takes it off the board.
            MutexGuard::unlocked(&mut state, || {
                for holder in due {
                    // One action that hangs must not hold up another's.
                    run_apart("dl-action", move || {
                        if let Some(holder) = holder.upgrade() {
                            holder.act();
                        }
                    });
                }
            });
        }
    }

    /// Ends [`run`](Self::run) once nothing is left to be run.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

impl HolderBoard {
    /// Puts `holder`, whose leases lie in `files`, on the board. If the leases are lost already it
    /// is told at once.
    pub fn subscribe(
        self: &Arc<Self>,
        holder: &Arc<dyn Holder>,
        files: Vec<WatchedFile>,
        now: Timestamp,
    ) -> Subscription {
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        state.entries.push(Entry {
            id,
            holder: Arc::downgrade(holder),
            is_fenced: holder.is_fenced(),
            files: files.into(),
            killed_at: None,
            next_kill: None,
            is_foreign: holder.is_foreign(),
        });
        if let Some(reason) = state.reason.clone() {
            self.lose(&mut state, id, &reason, now);
            self.tell_of_loss();
        }
        self.set_deadman(&mut state);
        drop(state);
        Subscription {
            board: Arc::downgrade(self),
            id,
        }
    }
}

impl Subscription {
    /// The holder has lost its leases, though the host has not.
    pub fn lose(&self, reason: &LossReason, now: Timestamp) {
        if let Some(board) = self.board.upgrade() {
            board.announce_one(self.id, reason, now);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(board) = self.board.upgrade() {
            let mut state = board.state.lock();
            state.entries.retain(|entry| entry.id != self.id);
            if !mutation!(DeadmanKept) {
                board.set_deadman(&mut state);
            }
        }
    }
}

impl std::fmt::Debug for HolderBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("HolderBoard")
            .field("holders", &state.entries.len())
            .field("reason", &state.reason)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
