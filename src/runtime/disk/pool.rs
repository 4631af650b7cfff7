//! The worker threads that do the I/O of some disks, so that an I/O that hangs costs its caller no
//! more than its limit.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::addr_eq;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::raw::Failure;
use crate::runtime::clock;

/// How long a worker above the least number waits for work before it ends.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// How long the drop of a pool waits for its workers, those in a hung I/O among them.
const DROP_PATIENCE: Duration = Duration::from_millis(100);

/// Plenty for a system call and a wake; a process that locks its memory pays for all of it.
const STACK_SIZE: usize = 256 * 1024;

/// Worker threads for the I/O of any number of disks.
///
/// When it is dropped, what was asked for and not started fails, and its threads end; one that is in
/// a hung I/O ends when that I/O does. The disks on it can then do no more I/O.
pub struct IoPool {
    shared: Arc<Shared>,
}

impl IoPool {
    /// Starts as many threads as `threads` begins with (one at the least). More are added on
    /// demand, up to its end, and end again when they were idle for ten seconds. With both ends the
    /// same no thread is started later on.
    ///
    /// A thread does one I/O at a time, so the upper end bounds how many hung I/Os the pool can
    /// bear. The name, with a number, is that of the threads, and cut off after 15 bytes.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub fn new(name: &str, threads: RangeInclusive<usize>) -> io::Result<Self> {
        Self::with_idle_limit(name, threads, IDLE_LIMIT)
    }

    pub(super) fn with_idle_limit(
        name: &str,
        threads: RangeInclusive<usize>,
        idle_limit: Duration,
    ) -> io::Result<Self> {
        let min = (*threads.start()).max(1);
        let shared = Arc::new(Shared {
            // A zero byte would make the spawn panic.
            name: name.replace('\0', ""),
            min,
            max: (*threads.end()).max(min),
            idle_limit,
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            under_way: Arc::default(),
        });
        // From here on the drop ends those that were started before one was refused.
        let pool = Self { shared };
        for _ in 0..min {
            pool.shared.spawn(&mut pool.shared.state.lock())?;
        }
        Ok(pool)
    }

    /// How many reads and writes are under way. Nothing of one that was awaited to its end is counted any
    /// more.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.shared.under_way.load(Ordering::Acquire)
    }

    /// A handle that tells of this pool's I/O also after the pool was dropped.
    #[must_use]
    pub fn watch(&self) -> IoWatch {
        IoWatch {
            shared: Arc::clone(&self.shared),
        }
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.shared.state.lock().queue.len()
    }

    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Tells whether I/O of a pool is under way, for as long as anybody wants to know.
#[derive(Clone)]
pub struct IoWatch {
    shared: Arc<Shared>,
}

impl IoWatch {
    /// Whether any read or write was started and has not completed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.shared.under_way.load(Ordering::Acquire) > 0
    }
}

impl fmt::Debug for IoWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoWatch")
            .field("busy", &self.is_busy())
            .finish()
    }
}

impl Drop for IoPool {
    fn drop(&mut self) {
        let until = clock::now() + DROP_PATIENCE;
        let mut state = self.shared.state.lock();
        state.closing = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        self.shared.work.notify_all();
        for request in queue {
            request.refuse(Failure::Stopped);
        }
        let mut state = self.shared.state.lock();
        while !state.handles.is_empty() {
            let left = until.since(clock::now());
            if left.is_zero() {
                break;
            }
            self.shared.ended.wait_for(&mut state, left);
        }
        let ended = std::mem::take(&mut state.ended);
        state.handles.clear();
        drop(state);
        for handle in ended {
            // Its last act was to put itself there. What it may have panicked with was reported by the
            // panic hook.
            drop(handle.join());
        }
    }
}

impl fmt::Debug for IoPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoPool")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

pub(super) struct Shared {
    name: String,
    min: usize,
    max: usize,
    idle_limit: Duration,
    state: Mutex<State>,
    /// There is something in the queue, or it is closing time.
    work: Condvar,
    /// A worker has ended at closing time.
    ended: Condvar,
    /// I/Os that were started and have not completed, whether or not anyone still waits for them.
    under_way: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<dyn Job>>,
    /// Workers that wait for work.
    idle: usize,
    /// Workers that will not come to the queue before their I/O has completed.
    busy: usize,
    closing: bool,
    /// The workers that live.
    handles: BTreeMap<u64, JoinHandle<()>>,
    next_worker: u64,
    /// Those that have ended at closing time.
    ended: Vec<JoinHandle<()>>,
}

impl Shared {
    /// Puts a request at the end of the queue.
    pub(super) fn enqueue(self: &Arc<Self>, request: Arc<dyn Job>) {
        let mut state = self.state.lock();
        if state.closing {
            drop(state);
            request.refuse(Failure::Stopped);
            return;
        }
        state.queue.push_back(request);
        if state.queue.len().saturating_add(state.busy) > state.handles.len()
            && state.handles.len() < self.max
            && let Err(error) = self.spawn(&mut state)
        {
            // Those that are there will come to it, or its limit will.
            tracing::warn!(
                pool = self.name,
                threads = state.handles.len(),
                %error,
                "no further I/O thread could be started: I/O waits for those that there are, and may time out; raise the limit of processes (RLIMIT_NPROC, pids.max)"
            );
        }
        drop(state);
        self.work.notify_one();
    }

    /// Takes a request out of the queue, if it is there still.
    pub(super) fn remove(&self, request: &Arc<dyn Job>) {
        let mut state = self.state.lock();
        let position = state
            .queue
            .iter()
            .position(|queued| addr_eq(Arc::as_ptr(queued), Arc::as_ptr(request)));
        let removed = position.and_then(|position| state.queue.remove(position));
        drop(state);
        drop(removed);
    }

    /// Counts an I/O as under way until what is returned is dropped.
    pub(super) fn count(&self) -> Counted {
        Counted::new(&self.under_way)
    }

    fn spawn(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let number = state.next_worker;
        let shared = Arc::clone(self);
        let handle = Builder::new()
            .name(format!("{}-{number}", self.name))
            .stack_size(STACK_SIZE)
            .spawn(move || Worker { shared, number }.work())?;
        state.next_worker = number.wrapping_add(1);
        state.handles.insert(number, handle);
        Ok(())
    }
}

/// What a worker does. Shared with whoever waits for it.
pub(super) trait Job: Send + Sync {
    /// Does it, unless it was left or is too late. Drops `busy` when it has ended.
    fn run(&self, busy: Busy);
    /// Ends it if it was not started.
    fn refuse(&self, why: Failure);
}

/// An I/O that is counted as under way.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A worker that is at an I/O. Dropped when that has completed, before its caller is notified: a caller
/// that asks for the next I/O at once finds the worker free, and no further one is started for it.
pub(super) struct Busy {
    pool: Arc<Shared>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.busy = state.busy.saturating_sub(1);
    }
}

/// What a thread of the pool is. Dropped when the thread ends, however that comes.
struct Worker {
    shared: Arc<Shared>,
    number: u64,
}

impl Worker {
    fn work(self) {
        while let Some((request, busy)) = self.next() {
            // The request ends by itself when a panic goes through it; the thread goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| request.run(busy)));
        }
    }

    /// Waits for a request; none if this thread is to end.
    fn next(&self) -> Option<(Arc<dyn Job>, Busy)> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(request) = state.queue.pop_front() {
                state.busy = state.busy.saturating_add(1);
                let pool = Arc::clone(&self.shared);
                return Some((request, Busy { pool }));
            }
            if state.closing || !self.wait(&mut state) {
                return None;
            }
        }
    }

    /// False if this thread has waited long enough and is one more than needed.
    fn wait(&self, state: &mut MutexGuard<'_, State>) -> bool {
        let is_extra = |state: &State| state.idle >= self.shared.min;
        let (idle, limited) = (state.idle.saturating_add(1), is_extra(state));
        state.idle = idle;
        let timed_out = if limited {
            let waited = self.shared.work.wait_for(state, self.shared.idle_limit);
            waited.timed_out()
        } else {
            self.shared.work.wait(state);
            false
        };
        state.idle = state.idle.saturating_sub(1);
        !(timed_out && state.queue.is_empty() && is_extra(state))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let Some(handle) = state.handles.remove(&self.number) else {
            return;
        };
        if state.closing {
            state.ended.push(handle);
            self.shared.ended.notify_all();
        }
    }
}
