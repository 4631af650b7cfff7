//! One I/O from asking to ending, and the future that waits for it.
//!
//! A request is *queued*, then *started* by a worker, then *completed*. Its caller may leave it at any
//! time: before it was started that takes it back, afterwards it goes on to its end by itself and
//! keeps its buffer until then.

use std::future::Future;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;

use super::info::DiskInfo;
use super::pool::{Busy, Counted, Job, Shared};
use super::raw::{Failure, Kind, RawIo, transfer};
use super::writes::{Claim, WriteTable};
use crate::runtime::clock;
use crate::runtime::timer::Sleep;
use crate::world::{OsError, SectorBuf, Timestamp};

/// What I/O is done on, by whom, and beside which other writes. Open for as long as anyone has it.
pub(super) struct Target {
    pub(super) io: Arc<dyn RawIo>,
    pub(super) info: DiskInfo,
    pub(super) pool: Arc<Shared>,
    pub(super) writes: Arc<WriteTable>,
    /// I/Os of this open, on whichever pool, that were started and have not completed.
    pub(super) under_way: Arc<AtomicUsize>,
}

struct Request {
    pool: Arc<Shared>,
    kind: Kind,
    offset: u64,
    /// Not to be started at or after this.
    deadline: Timestamp,
    slot: Mutex<Slot>,
}

struct Slot {
    state: State,
    waker: Option<Waker>,
}

enum State {
    Queued(Queued),
    Started,
    Ended(Result<SectorBuf, Failure>),
    /// The caller has the result, or does not want it any more.
    Left,
}

/// What an I/O needs, until it has completed.
struct Queued {
    target: Arc<Target>,
    buf: SectorBuf,
    claim: Option<Claim>,
}

/// The bytes of an I/O. One that would overflow fails as such when it is started.
pub(super) fn byte_range(offset: u64, len: usize) -> Range<u64> {
    offset..offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX))
}

/// Asks for an I/O of the whole of `buf`.
pub(super) fn submit(
    target: &Arc<Target>,
    kind: Kind,
    offset: u64,
    buf: SectorBuf,
    timeout: Duration,
) -> Completion {
    let deadline = clock::now() + timeout;
    let claim = match kind {
        Kind::Read | Kind::ReadUpToEnd => None,
        Kind::Write => Some(target.writes.claim(byte_range(offset, buf.len()))),
    };
    let claim_id = claim.as_ref().map(Claim::id);
    let queued = Queued {
        target: Arc::clone(target),
        buf,
        claim,
    };
    let request = Arc::new(Request {
        pool: Arc::clone(&target.pool),
        kind,
        offset,
        deadline,
        slot: Mutex::new(Slot {
            state: State::Queued(queued),
            waker: None,
        }),
    });
    let job = Arc::<Request>::clone(&request);
    match claim_id {
        Some(id) => target.writes.line_up(id, &target.pool, job),
        None => target.pool.enqueue(job),
    }
    Completion {
        request,
        timer: Sleep::until(deadline),
    }
}

impl Job for Request {
    fn run(&self, busy: Busy) {
        let Some((mut buf, mut running)) = self.start(busy) else {
            return;
        };
        running.result = running.transfer(&mut buf).map(|()| buf);
    }

    fn refuse(&self, why: Failure) {
        let slot = self.slot.lock();
        if matches!(slot.state, State::Queued(_)) {
            end(slot, Err(why));
        }
    }
}

/// Ends the request of `slot`.
fn end(mut slot: MutexGuard<'_, Slot>, result: Result<SectorBuf, Failure>) {
    let before = mem::replace(&mut slot.state, State::Ended(result));
    let waker = slot.waker.take();
    drop(slot);
    // Out of the lock, and before anyone is notified: the claim that goes may let others on.
    drop(before);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Request {
    fn start(&self, busy: Busy) -> Option<(SectorBuf, Running<'_>)> {
        if clock::now() >= self.deadline {
            self.refuse(Failure::NotStarted);
            return None;
        }
        let mut slot = self.slot.lock();
        match mem::replace(&mut slot.state, State::Started) {
            State::Queued(Queued { target, buf, claim }) => {
                // Under the lock: whoever finds it started also finds it counted.
                if let Some(claim) = &claim {
                    claim.start();
                }
                let work = Work {
                    _claim: claim,
                    _counted: [self.pool.count(), Counted::new(&target.under_way)],
                    _busy: busy,
                    target,
                };
                let running = Running {
                    request: self,
                    work: Some(work),
                    result: Err(Failure::Os(OsError::from(Errno::IO))),
                };
                Some((buf, running))
            }
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// The caller goes, with the result if there is one.
    fn leave(self: &Arc<Self>) -> Result<SectorBuf, Failure> {
        let mut slot = self.slot.lock();
        let state = mem::replace(&mut slot.state, State::Left);
        let waker = slot.waker.take();
        drop(slot);
        drop(waker);
        match state {
            State::Queued(_) => {
                let job: Arc<dyn Job> = Arc::<Self>::clone(self);
                self.pool.remove(&job);
                Err(Failure::NotStarted)
            }
            State::Started | State::Left => Err(Failure::TimedOut),
            State::Ended(result) => result,
        }
    }

    fn is_left(&self) -> bool {
        matches!(self.slot.lock().state, State::Left)
    }
}

/// What an I/O under way keeps to itself, in the order in which it is given back.
struct Work {
    _claim: Option<Claim>,
    _counted: [Counted; 2],
    _busy: Busy,
    target: Arc<Target>,
}

/// An I/O under way. Dropped at its end however that comes, so that no caller waits for a worker
/// that panicked.
struct Running<'a> {
    request: &'a Request,
    work: Option<Work>,
    result: Result<SectorBuf, Failure>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let result = mem::replace(&mut self.result, Err(Failure::Stopped));
        if self.request.is_left() {
            self.log_late_end(result.as_ref().err());
        }
        // Before the caller is notified, so that it finds nothing of this I/O in its way, nor the disk
        // open after it has closed it.
        self.work = None;
        let slot = self.request.slot.lock();
        if !matches!(slot.state, State::Left) {
            end(slot, result);
        }
    }
}

impl Running<'_> {
    fn transfer(&self, buf: &mut SectorBuf) -> Result<(), Failure> {
        // Taken only by the drop.
        let work = self.work.as_ref().ok_or(Failure::Stopped)?;
        let (io, request) = (&work.target.io, self.request);
        transfer(io.as_ref(), request.kind, buf, request.offset)
    }

    fn log_late_end(&self, failure: Option<&Failure>) {
        tracing::info!(
            disk = ?self.work.as_ref().map(|work| work.target.info.path()),
            offset = self.request.offset,
            kind = ?self.request.kind,
            ?failure,
            "an I/O that was given up has completed"
        );
    }
}

/// Waits for a request to end, at most to its deadline. Dropping it leaves the request.
pub(super) struct Completion {
    request: Arc<Request>,
    timer: Sleep,
}

impl Future for Completion {
    type Output = Result<SectorBuf, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.request.slot.lock();
        if matches!(slot.state, State::Ended(_)) {
            drop(slot);
            return Poll::Ready(self.request.leave());
        }
        let stale = match &mut slot.waker {
            Some(waker) => (!waker.will_wake(context.waker()))
                .then(|| mem::replace(waker, context.waker().clone())),
            none => none.replace(context.waker().clone()),
        };
        drop(slot);
        drop(stale);
        match Pin::new(&mut self.timer).poll(context) {
            Poll::Ready(()) => Poll::Ready(self.request.leave()),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        drop(self.request.leave());
    }
}
