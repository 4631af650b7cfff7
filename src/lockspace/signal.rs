//! A flag that a future can wait for.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// Set from any thread; waited for by one future at a time.
#[derive(Debug, Default)]
pub(super) struct Signal {
    set: AtomicBool,
    waiter: AtomicWaker,
}

impl Signal {
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::Release);
        self.waiter.wake();
    }

    pub(super) fn clear(&self) {
        self.set.store(false, Ordering::Release);
    }

    /// Ends when the signal is set, and leaves it set.
    pub(super) async fn wait(&self) {
        poll_fn(|context| {
            self.waiter.register(context.waker());
            if self.set.load(Ordering::Acquire) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
