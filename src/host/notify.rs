//! A flag that futures wait for: the one way in which a thread of ours wakes another.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// Set and cleared from any thread; any number of futures wait for it.
#[derive(Debug, Default)]
pub struct Notify {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_set: bool,
    waiters: Vec<Waker>,
}

impl Notify {
    /// Sets the flag and wakes all that wait for it.
    pub fn set(&self) {
        let waiters = {
            let mut state = self.state.lock();
            state.is_set = true;
            std::mem::take(&mut state.waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Clears the flag. Whether it was set.
    pub fn take(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_set)
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.state.lock().is_set
    }

    /// Ends when the flag is set, and leaves it set.
    pub async fn wait(&self) {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.is_set {
                return Poll::Ready(());
            }
            let waker = context.waker();
            if !state.waiters.iter().any(|known| known.will_wake(waker)) {
                state.waiters.push(waker.clone());
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::executor::block_on;

    #[test]
    fn all_that_wait_are_woken_and_the_flag_stays_set() {
        let notify = Notify::default();
        std::thread::scope(|scope| {
            let waiting = [(); 3].map(|()| scope.spawn(|| block_on(notify.wait())));
            while notify.state.lock().waiters.len() < waiting.len() {
                std::thread::yield_now();
            }
            notify.set();
            for thread in waiting {
                thread.join().unwrap();
            }
        });
        block_on(notify.wait());
        assert!(notify.is_set() && notify.take());
        assert!(!notify.is_set() && !notify.take());
    }
}
