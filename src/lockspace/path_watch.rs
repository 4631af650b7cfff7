//! When which file system is inspected, by the threads that do so.
//!
//! A lockspace or lease file that is removed or replaced under its path goes on to work for every process
//! that has it open, and does not exist for everybody else: both sides would hold the same disk. No read
//! of the open file shows it, so files and paths are inspected once a second, on threads of their own:
//! such an inspection can hang, and must not hold up a renewal.
//!
//! Nor must it hold up the inspections of other file systems. At each there is one under way at most,
//! and there are as many threads as file systems, so that one that hangs keeps its own thread alone.
//! They are started when a lease is acquired, not when an inspection is due, and stay until the end: a
//! process that holds locks may be forbidden new threads.

use std::collections::BTreeSet;
use std::io;
use std::thread::JoinHandle;

use futures_util::future::select;
use futures_util::pin_mut;
use parking_lot::Mutex;

use crate::host::Notify;
use crate::runtime::disk::{FileSystem, StorageWorld};
use crate::timing::Timing;
use crate::world::{Timestamp, World};

/// Threads of a member host at most. More file systems and block devices than that share them, and none of
/// those is inspected while so many hang.
const THREADS_MAX: usize = 16;

/// What the inspecting threads of a member host have agreed on.
#[derive(Debug, Default)]
pub(super) struct PathWatch {
    state: Mutex<State>,
    stopped: Notify,
    /// The proof that this generation has ended is to be taken away.
    proof_void: Notify,
}

#[derive(Debug, Default)]
struct State {
    threads: Vec<JoinHandle<()>>,
    /// When the inspections of this second were due.
    due_at: Option<Timestamp>,
    /// The file systems whose inspection of this second was started.
    started: BTreeSet<FileSystem>,
    /// Those at which an inspection is under way.
    under_way: BTreeSet<FileSystem>,
}

impl PathWatch {
    /// Starts a thread for each file system of `watched` that has none, as far as there may be more.
    pub(super) fn add_threads(
        &self,
        mut watched: BTreeSet<FileSystem>,
        start: impl Fn() -> io::Result<JoinHandle<()>>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        watched.extend(&state.under_way);
        let wanted = watched.len().clamp(1, THREADS_MAX);
        while !self.is_stopped() && state.threads.len() < wanted {
            state.threads.push(start()?);
        }
        Ok(())
    }

    /// Has one of the threads take away the proof of this generation: its file may lie where writes
    /// hang. After the loss the threads have nothing else to do.
    pub(super) fn revoke_proof(&self) {
        self.proof_void.set();
    }

    /// Whether the proof is to be taken away, by the thread that asks first.
    pub(super) fn takes_proof_away(&self) -> bool {
        self.proof_void.take()
    }

    /// Ends the watch; an inspection that hangs goes on.
    pub(super) fn stop(&self) {
        self.stopped.set();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_set()
    }

    /// All threads, to be waited for.
    pub(super) fn threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.state.lock().threads)
    }

    /// Where an inspection is due and none is under way, if anywhere; from now on one is.
    pub(super) fn begin(
        &self,
        watched: &BTreeSet<FileSystem>,
        now: Timestamp,
    ) -> Option<FileSystem> {
        let mut state = self.state.lock();
        let mut next = state.due(watched);
        let is_over = |due_at| now.since(due_at) >= Timing::NAMES_INSPECTED_EVERY;
        // Not before each has had its turn: where one thread has several, a slow one must not keep it.
        if next.is_none() && state.due_at.is_none_or(is_over) {
            state.due_at = Some(now);
            state.started.clear();
            next = state.due(watched);
        }
        let on = next?;
        state.started.insert(on);
        state.under_way.insert(on);
        Some(on)
    }

    pub(super) fn end(&self, on: FileSystem) {
        self.state.lock().under_way.remove(&on);
    }

    /// Waits until an inspection may be due, or there is something else to do.
    pub(super) async fn next_round(&self, now: Timestamp) {
        let due_at = self.state.lock().due_at.unwrap_or(now) + Timing::NAMES_INSPECTED_EVERY;
        let (due, changed) = (StorageWorld.sleep_until(due_at), self.changed());
        pin_mut!(due, changed);
        select(due, changed).await;
    }

    /// Waits for the stop, or until the proof is to be taken away.
    pub(super) async fn changed(&self) {
        let (stopped, proof_void) = (self.stopped.wait(), self.proof_void.wait());
        pin_mut!(stopped, proof_void);
        select(stopped, proof_void).await;
    }
}

impl State {
    fn due(&self, watched: &BTreeSet<FileSystem>) -> Option<FileSystem> {
        let is_due = |on: &&FileSystem| !self.started.contains(on) && !self.under_way.contains(on);
        watched.iter().find(is_due).copied()
    }
}
