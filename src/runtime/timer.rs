//! Sleeping under the executor: the timers of one `block_on` and the
//! future that waits for one of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::clock;
use crate::world::Timestamp;

thread_local! {
    /// The timers of the innermost `block_on` of this thread.
    static CURRENT: RefCell<Option<Arc<Timers>>> = const { RefCell::new(None) };
}

/// Who is to be woken when, soonest first. The number tells timers of one instant apart.
#[derive(Default)]
pub(super) struct Timers {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    wakers: BTreeMap<(Timestamp, u64), Waker>,
    next_number: u64,
}

impl Timers {
    /// Wakes all whose time has come, and says when the next one's will.
    pub(super) fn fire(&self, now: Timestamp) -> Option<Timestamp> {
        loop {
            // One at a time: a waker may do anything, so it must not run under the lock.
            let (_, waker) = {
                let mut entries = self.entries.lock();
                let (&(at, _), _) = entries.wakers.first_key_value()?;
                if at > now {
                    return Some(at);
                }
                entries.wakers.pop_first()?
            };
            waker.wake();
        }
    }

    fn add(self: &Arc<Self>, at: Timestamp, waker: &Waker) -> Registration {
        let mut entries = self.entries.lock();
        let number = entries.next_number;
        entries.next_number = number.wrapping_add(1);
        entries.wakers.insert((at, number), waker.clone());
        Registration {
            timers: Arc::clone(self),
            key: (at, number),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.lock().wakers.len()
    }
}

/// One entry of [`Timers`], taken out when dropped.
struct Registration {
    timers: Arc<Timers>,
    key: (Timestamp, u64),
}

impl Drop for Registration {
    fn drop(&mut self) {
        let waker = self.timers.entries.lock().wakers.remove(&self.key);
        // After the lock, by the order of these lines: dropping a waker may run anything.
        drop(waker);
    }
}

/// Makes `timers` those of this thread until it is dropped.
pub(super) struct Entered {
    outer: Option<Arc<Timers>>,
}

impl Entered {
    pub(super) fn new(timers: Arc<Timers>) -> Self {
        // While the thread is being taken down there is no current set; a sleep then polls, see
        // `Sleep`.
        let outer = CURRENT
            .try_with(|current| current.replace(Some(timers)))
            .unwrap_or(None);
        Self { outer }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let outer = self.outer.take();
        let inner = CURRENT.try_with(|current| current.replace(outer));
        drop(inner);
    }
}

pub(super) fn current() -> Option<Arc<Timers>> {
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// Ends at a point in time or a little later, never earlier.
///
/// Made for `block_on`. Polled by anything else, where nobody would
/// wake it, it asks to be polled again at once: still right, but busy.
#[must_use = "a sleep does nothing unless awaited"]
pub struct Sleep {
    at: Timestamp,
    registration: Option<Registration>,
}

impl Sleep {
    /// Until `at` of this host's clock.
    pub const fn until(at: Timestamp) -> Self {
        Self {
            at,
            registration: None,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if clock::now() >= self.at {
            self.registration = None;
            return Poll::Ready(());
        }
        let Some(timers) = current() else {
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        // Anew each time: the future may have come to another run since, or to another waker.
        self.registration = Some(timers.add(self.at, context.waker()));
        Poll::Pending
    }
}

impl std::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleep")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
