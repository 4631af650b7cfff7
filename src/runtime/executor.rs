//! Runs one future, and all that it joins, on the calling thread.
//!
//! There is no more to it than a parked thread and a sorted list of timers: the algorithms spawn
//! nothing, and their I/O is done by the workers of [`disk`](super::disk), which wake this thread when an
//! I/O has completed.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use super::clock;
use super::timer::{Entered, Timers};

/// The longest uninterrupted wait for a timer.
///
/// Parking is timed by `CLOCK_MONOTONIC`, which stands still in system suspend, while timers are of
/// `CLOCK_BOOTTIME`. So after a suspend a timer fires at most this much too late.
const LONGEST_PARK: Duration = Duration::from_secs(1);

/// Runs `future` to its end on this thread, which is parked while there is nothing to do.
///
/// Any waker of it may be called from any thread. A panic of `future` goes through to the caller.
///
/// May be called inside of itself: the inner call has timers of its own, and all of the outer one
/// stands still until the inner one has ended.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let parker = Arc::new(Parker {
        thread: thread::current(),
        woken: AtomicBool::new(true),
    });
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    let timers = Arc::new(Timers::default());
    let _entered = Entered::new(Arc::clone(&timers));
    loop {
        if parker.woken.swap(false, Ordering::Acquire)
            && let Poll::Ready(output) = future.as_mut().poll(&mut context)
        {
            return output;
        }
        let now = clock::now();
        let next = timers.fire(now);
        if parker.woken.load(Ordering::Acquire) {
            continue;
        }
        // A wake between the load and the park is not lost: it leaves the token that ends the park
        // at once.
        match next {
            Some(at) => thread::park_timeout(at.since(now).min(LONGEST_PARK)),
            None => thread::park(),
        }
    }
}

/// What a waker holds. The flag is there because the thread's own token may be taken by anyone who
/// parks in between, such as a nested `block_on`.
struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU32;

    use futures_util::future::{Either, join, join_all, select};
    use futures_util::stream::{FuturesUnordered, StreamExt};
    use rustix::time::{ClockId, clock_gettime};

    use super::super::timer::{Sleep, current};
    use super::*;
    use crate::world::Timestamp;

    fn sleep(millis: u64) -> Sleep {
        Sleep::until(clock::now() + Duration::from_millis(millis))
    }

    /// What takes no time, or little, takes less than this on a busy machine, in milliseconds.
    const BUSY: u128 = 10_000;

    /// How long `body` took, in milliseconds.
    fn millis(body: impl FnOnce()) -> u128 {
        let begin = clock::now();
        body();
        clock::now().since(begin).as_millis()
    }

    #[test]
    fn a_ready_future_needs_no_wait() {
        assert_eq!(block_on(ready(7)), 7);
    }

    #[test]
    fn a_sleep_ends_in_time_and_never_early() {
        let took = millis(|| block_on(sleep(40)));
        assert!((40..BUSY).contains(&took), "{took} ms");
        assert!(millis(|| block_on(Sleep::until(Timestamp::default()))) < BUSY);
    }

    #[test]
    fn joined_sleeps_pass_side_by_side() {
        let took = millis(|| {
            block_on(join(sleep(60), join_all((0..100).map(|_| sleep(50)))));
        });
        assert!((60..BUSY).contains(&took), "{took} ms");
    }

    #[test]
    fn the_sooner_of_two_wins_and_the_other_leaves_no_timer() {
        block_on(async {
            let timers = current().expect("inside of block_on");
            match select(sleep(10), sleep(60_000)).await {
                Either::Left(((), later)) => {
                    assert_eq!(timers.len(), 1);
                    drop(later);
                    assert_eq!(timers.len(), 0);
                }
                Either::Right(_) => panic!("the later one won"),
            }
        });
    }

    #[test]
    fn an_unordered_set_yields_in_order_of_time() {
        let order = block_on(async {
            // From one instant, and so late that all are asked for before the first has ended.
            let begin = clock::now();
            let mut set: FuturesUnordered<_> = [900, 500, 700]
                .into_iter()
                .map(|after| async move {
                    Sleep::until(begin + Duration::from_millis(after)).await;
                    after
                })
                .collect();
            let mut order = Vec::new();
            while let Some(after) = set.next().await {
                order.push(after);
            }
            order
        });
        assert_eq!(order, [500, 700, 900]);
    }

    #[test]
    fn another_thread_wakes_it() {
        let (done, waker) = (
            AtomicBool::new(false),
            parking_lot::Mutex::new(None::<Waker>),
        );
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    if let Some(waker) = waker.lock().take() {
                        done.store(true, Ordering::Release);
                        waker.wake();
                        return;
                    }
                    thread::yield_now();
                }
            });
            block_on(poll_fn(|context| {
                if done.load(Ordering::Acquire) {
                    return Poll::Ready(());
                }
                *waker.lock() = Some(context.waker().clone());
                Poll::Pending
            }));
        });
        assert!(done.into_inner());
    }

    #[test]
    fn a_nested_call_has_timers_of_its_own_and_loses_no_wake_of_the_outer_one() {
        let took = millis(|| {
            block_on(async {
                let outer = sleep(20);
                // The inner run parks, and so eats whatever token the thread has.
                let inner = async { block_on(sleep(50)) };
                join(outer, inner).await;
                sleep(10).await;
            });
        });
        assert!((60..BUSY).contains(&took), "{took} ms");
        assert!(current().is_none());
    }

    #[test]
    fn a_future_may_go_on_under_another_run() {
        let mut moved = sleep(30);
        assert!(matches!(
            block_on(select(&mut moved, ready(()))),
            Either::Right(_)
        ));
        block_on(moved);
    }

    #[test]
    fn a_panic_goes_through_and_leaves_the_thread_as_it_was() {
        let result = catch_unwind(AssertUnwindSafe(|| {
            block_on(async { panic!("on purpose") })
        }));
        assert!(result.is_err());
        assert!(current().is_none());
        block_on(sleep(1));
    }

    #[test]
    fn outside_of_a_run_a_sleep_asks_to_be_polled_again() {
        #[derive(Default)]
        struct Count(AtomicU32);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut waiting = pin!(sleep(60_000));
        assert!(
            waiting
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn waiting_costs_no_processor_time() {
        let cpu = || clock_gettime(ClockId::ThreadCPUTime);
        let begin = cpu();
        block_on(select(sleep(300), pending::<()>()));
        let end = cpu();
        let used = (end.tv_sec - begin.tv_sec) * 1_000_000_000 + end.tv_nsec - begin.tv_nsec;
        assert!(used < 20_000_000, "{used} ns of processor time");
    }
}
