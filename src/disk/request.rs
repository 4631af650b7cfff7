//! One I/O from asking to ending, and the future that waits for it.
//!
//! A request is *queued*, then *begun* by a worker, then *ended*. Its caller may leave it at any
//! time: before it was begun that takes it back, afterwards it goes on to its end by itself and
//! keeps its buffer until then.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;

use super::raw::{read_fully, write_fully};
use super::threads::{Busy, Counted, Shared};
use super::writes::Claim;
use super::{Disk, Inner, byte_range};
use crate::world::{OsError, SectorBuf, Sleep, Timestamp, clock};

/// How an I/O ended otherwise than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Never begun, and never will be: its time was over before that.
    NotBegun,
    /// Never begun, and never will be: its workers were told to end.
    Stopped,
    /// Begun, and not ended in time.
    TimedOut,
    EndOfFile {
        wanted: usize,
        got: usize,
    },
    Os(OsError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    /// Less than was asked for is no failure if the file ends there.
    ReadUpToEnd,
    Write,
}

pub(super) struct Request {
    pool: Arc<Shared>,
    kind: Kind,
    offset: u64,
    /// Not to be begun at or after this.
    deadline: Timestamp,
    slot: Mutex<Slot>,
}

struct Slot {
    state: State,
    waker: Option<Waker>,
}

enum State {
    Queued(Queued),
    Begun,
    Ended(Result<SectorBuf, Failure>),
    /// The caller has the result, or does not want it any more.
    Left,
}

/// What an I/O needs, until it has ended.
struct Queued {
    disk: Arc<Inner>,
    buf: SectorBuf,
    claim: Option<Claim>,
}

/// Asks for an I/O of the whole of `buf`.
pub(super) fn submit(
    disk: &Disk,
    kind: Kind,
    offset: u64,
    buf: SectorBuf,
    timeout: Duration,
) -> Completion {
    let deadline = clock::now() + timeout;
    let claim = match kind {
        Kind::Read | Kind::ReadUpToEnd => None,
        Kind::Write => Some(disk.inner.writes.claim(byte_range(offset, buf.len()))),
    };
    let claim_id = claim.as_ref().map(Claim::id);
    let queued = Queued {
        disk: Arc::clone(&disk.inner),
        buf,
        claim,
    };
    let request = Arc::new(Request {
        pool: Arc::clone(&disk.inner.pool),
        kind,
        offset,
        deadline,
        slot: Mutex::new(Slot {
            state: State::Queued(queued),
            waker: None,
        }),
    });
    if claim_id.is_none_or(|id| disk.inner.writes.line_up(id, &request)) {
        Arc::clone(&request).enqueue();
    }
    Completion {
        request,
        timer: Sleep::until(deadline),
    }
}

impl Request {
    /// Hands it to the workers of its disk.
    pub(super) fn enqueue(self: Arc<Self>) {
        let pool = Arc::clone(&self.pool);
        pool.enqueue(self);
    }

    /// Does it, unless it was left or is too late. Called by a worker.
    pub(super) fn run(&self, busy: Busy) {
        let Some((mut buf, mut running)) = self.begin(busy) else {
            return;
        };
        running.result = running.transfer(&mut buf).map(|()| buf);
    }

    fn begin(&self, busy: Busy) -> Option<(SectorBuf, Running<'_>)> {
        if clock::now() >= self.deadline {
            self.refuse(Failure::NotBegun);
            return None;
        }
        let mut slot = self.slot.lock();
        match mem::replace(&mut slot.state, State::Begun) {
            State::Queued(Queued { disk, buf, claim }) => {
                // Under the lock: whoever finds it begun also finds it counted.
                let counted = self.pool.count(self.kind);
                if let Some(claim) = &claim {
                    claim.begin();
                }
                disk.under_way.fetch_add(1, Ordering::AcqRel);
                let running = Running {
                    request: self,
                    disk: Some(disk),
                    claim,
                    counted: Some(counted),
                    busy: Some(busy),
                    result: Err(Failure::Os(OsError(Errno::IO.raw_os_error()))),
                };
                Some((buf, running))
            }
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// Ends it if it was not begun.
    pub(super) fn refuse(&self, why: Failure) {
        let mut slot = self.slot.lock();
        if !matches!(slot.state, State::Queued(_)) {
            return;
        }
        let queued = mem::replace(&mut slot.state, State::Ended(Err(why)));
        let waker = slot.waker.take();
        drop(slot);
        // Out of the lock, and before anyone is told: the claim that goes may let others on.
        drop(queued);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn end(&self, result: Result<SectorBuf, Failure>) {
        let mut slot = self.slot.lock();
        if matches!(slot.state, State::Left) {
            return;
        }
        slot.state = State::Ended(result);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
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
                self.pool.remove(self);
                Err(Failure::NotBegun)
            }
            State::Begun | State::Left => Err(Failure::TimedOut),
            State::Ended(result) => result,
        }
    }

    fn is_left(&self) -> bool {
        matches!(self.slot.lock().state, State::Left)
    }
}

/// An I/O under way. Dropped at its end however that comes, so that no caller waits for a worker
/// that panicked.
struct Running<'a> {
    request: &'a Request,
    disk: Option<Arc<Inner>>,
    claim: Option<Claim>,
    counted: Option<Counted>,
    busy: Option<Busy>,
    result: Result<SectorBuf, Failure>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let result = mem::replace(&mut self.result, Err(Failure::Stopped));
        if self.request.is_left() {
            self.log_late_end(result.as_ref().err());
        }
        // Before the caller is told, so that it finds nothing of this I/O in its way, nor the disk
        // open after it has closed it.
        self.claim = None;
        self.counted = None;
        self.busy = None;
        if let Some(disk) = self.disk.take() {
            disk.under_way.fetch_sub(1, Ordering::AcqRel);
        }
        self.request.end(result);
    }
}

impl Running<'_> {
    fn transfer(&self, buf: &mut SectorBuf) -> Result<(), Failure> {
        // Taken only by the drop.
        let Some(disk) = &self.disk else {
            return Err(Failure::Stopped);
        };
        match self.request.kind {
            Kind::Read => read_fully(disk.io.as_ref(), buf, self.request.offset),
            Kind::ReadUpToEnd => match read_fully(disk.io.as_ref(), buf, self.request.offset) {
                Err(Failure::EndOfFile { got, .. }) => {
                    buf.truncate(got);
                    Ok(())
                }
                other => other,
            },
            Kind::Write => write_fully(disk.io.as_ref(), buf, self.request.offset),
        }
    }

    fn log_late_end(&self, failure: Option<&Failure>) {
        tracing::info!(
            disk = ?self.disk.as_ref().map(|disk| disk.info.path()),
            offset = self.request.offset,
            kind = ?self.request.kind,
            ?failure,
            "an I/O that was given up has ended"
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
