//! Watching that the paths still name the files that are in use.
//!
//! A lockspace or lease file that is removed or replaced under its path goes on to work for whoever
//! has it open, and does not exist for everybody else: both sides would hold the same disk. No read
//! of the open file shows it, so files and paths are inspected once a second, on threads of their own:
//! such a look can hang, and must not hold up a renewal.
//!
//! Nor must it hold up the looks at other file systems. At each there is one look under way at most,
//! and there are as many threads as file systems, so that one that hangs keeps its own thread alone.
//! They are started when a lease is acquired, not when a look is due, and stay until the end: a
//! process that holds locks may be forbidden new threads.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Shared;
use super::loss::LossReason;
use super::thread::{Death, builder};
use super::watched_file::WatchedFile;
use crate::disk::{Disk, FileSystem, Refreshed};
use crate::timing::Timing;
use crate::world::{Timestamp, clock};

/// Threads of a join at most. More file systems and block devices than that share them, and none of
/// those is inspected while so many hang.
const THREADS_MAX: usize = 16;

/// What the watching threads of a join have agreed on.
#[derive(Debug, Default)]
pub(super) struct PathWatch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    threads: Vec<JoinHandle<()>>,
    /// When the looks of this second were due.
    due_at: Option<Timestamp>,
    /// The file systems whose look of this second was begun.
    begun: BTreeSet<FileSystem>,
    /// Those at which a look is under way.
    under_way: BTreeSet<FileSystem>,
    /// The proof that this life is over is to be taken away.
    is_proof_void: bool,
}

impl PathWatch {
    /// Starts a thread for each file system that has none, as far as there may be more.
    pub(super) fn start_threads(shared: &Arc<Shared>) -> io::Result<()> {
        let mut state = shared.watch.state.lock();
        let mut watched = file_systems(shared);
        watched.extend(&state.under_way);
        let wanted = watched.len().clamp(1, THREADS_MAX);
        while !state.stopped && state.threads.len() < wanted {
            let of_thread = Arc::clone(shared);
            let thread = builder("dl-watch").spawn(move || {
                let death = Death::of(&of_thread);
                watch_paths(&of_thread);
                death.ended_well();
            })?;
            state.threads.push(thread);
        }
        Ok(())
    }

    /// Has one of the threads take away the proof of this life: its file may lie where writes hang. After
    /// the loss they have nothing else to do.
    pub(super) fn revoke_proof(&self) {
        self.state.lock().is_proof_void = true;
        self.changed.notify_all();
    }

    /// Ends the watch; a look that hangs goes on.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// All threads, for whoever waits for their ends.
    pub(super) fn threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.state.lock().threads)
    }
}

/// The body of a watching thread: until the stop.
fn watch_paths(shared: &Shared) {
    let PathWatch { state, changed } = &shared.watch;
    let mut state = state.lock();
    loop {
        let now = clock::now();
        if std::mem::take(&mut state.is_proof_void) {
            MutexGuard::unlocked(&mut state, || shared.revoke_proof());
        } else if state.stopped {
            return;
        } else if !shared.membership.expiry().is_held(now) {
            // Nothing is left to look at; but the end of a thread takes system calls that nothing
            // else does.
            changed.wait(&mut state);
        } else if let Some(on) = state.begin(&file_systems(shared), now) {
            MutexGuard::unlocked(&mut state, || look(shared, on));
            state.under_way.remove(&on);
        } else {
            let due_at = state.due_at.unwrap_or(now) + Timing::NAMES_INSPECTED_EVERY;
            changed.wait_for(&mut state, due_at.since(clock::now()));
        }
    }
}

impl State {
    /// Where a look is due and none is under way, if anywhere; from now on one is.
    fn begin(&mut self, watched: &BTreeSet<FileSystem>, now: Timestamp) -> Option<FileSystem> {
        let mut next = self.due(watched);
        let is_over = |due_at| now.since(due_at) >= Timing::NAMES_INSPECTED_EVERY;
        // Not before each has had its turn: where one thread has several, a slow one must not keep it.
        if next.is_none() && self.due_at.is_none_or(is_over) {
            self.due_at = Some(now);
            self.begun.clear();
            next = self.due(watched);
        }
        let on = next?;
        self.begun.insert(on);
        self.under_way.insert(on);
        Some(on)
    }

    fn due(&self, watched: &BTreeSet<FileSystem>) -> Option<FileSystem> {
        let is_due = |on: &&FileSystem| !self.begun.contains(on) && !self.under_way.contains(on);
        watched.iter().find(is_due).copied()
    }
}

/// Where there is anything to look at. Does not block.
fn file_systems(shared: &Shared) -> BTreeSet<FileSystem> {
    let lockspace = shared.named.iter().map(WatchedFile::file_system);
    let held = shared.board.file_systems();
    let owing = shared.leases.owing_on(Disk::file_system);
    let directories = shared.directories.lock();
    let directories = directories
        .values()
        .map(|(_, lockspace)| lockspace.file_system());
    lockspace
        .chain(held)
        .chain(owing)
        .chain(directories)
        .collect()
}

/// One look at all paths on one file system.
fn look(shared: &Shared, on: FileSystem) {
    let mut round = Refreshed::default();
    let lockspace = shared.named.iter().filter(|file| file.file_system() == on);
    let lockspace = lockspace.map(|file| ((), file)).collect();
    if !WatchedFile::lost_of(lockspace, &mut round).is_empty() {
        // First the reason, which marks all guards: the renewal thread would have another one to tell.
        shared
            .board
            .announce(&LossReason::LockspaceReplaced, clock::now());
        shared.membership.expiry().lose();
        tracing::error!(
            path = ?shared.membership.area().disk.info().path(),
            "the lockspace was removed or replaced: all its leases are lost"
        );
        return;
    }
    shared.board.check_files(on, &mut round, clock::now);
    // Those that were mended by now need not be waited for any longer than that.
    shared.settle_directories(on, &mut round);
    let is_gone_here = |disk: &Disk| disk.file_system() == on && disk.is_gone();
    shared.leases.forget_gone(is_gone_here);
}
