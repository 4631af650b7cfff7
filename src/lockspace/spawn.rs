//! Starting threads, and seeing them end.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::host::Notify;
use crate::runtime::clock;
use crate::runtime::disk::StorageWorld;
use crate::runtime::executor::block_on;
use crate::world::World;

/// Plenty for the futures that run on it; a process that locks its memory pays for all of it.
const STACK_SIZE: usize = 512 * 1024;

/// How often to check whether a thread has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A thread of this name, with our stack.
pub(super) fn builder(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(STACK_SIZE)
}

/// A thread that ends when a flag is set.
pub(super) struct Stoppable<T> {
    stop: Arc<Notify>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Stoppable<T> {
    /// Runs `body`, which ends soon after the flag is set.
    pub(super) fn start(
        name: &str,
        body: impl FnOnce(&Notify) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(Notify::default());
        let stopped = Arc::clone(&stop);
        let thread = builder(name).spawn(move || body(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// What it gives, if it ends within `limit`: see [`end_soon`].
    pub(super) fn end(self, limit: Duration) -> Option<T> {
        self.stop.set();
        end_soon(self.thread, limit)
    }
}

/// Runs `work` on a thread of its own; where none is available, here and now.
pub(super) fn run_apart(name: &str, work: impl Fn() + Send + Sync + 'static) {
    let work = Arc::new(work);
    let apart = Arc::clone(&work);
    let started = Builder::new().name(name.to_owned()).spawn(move || apart());
    if let Err(error) = started {
        tracing::warn!(name, %error, "no thread is available for a callback or a helper: it runs on the thread that runs those of all holders, which wait for it");
        work();
    }
}

/// Waits a moment for a thread that ends soon, unless the thread hangs: in the inspection of a path, a log
/// that is full, or a callback where no thread was available for it. Then it ends with that.
///
/// A thread that notifies a holder keeps the holder alive for that long, and a holder keeps its member host alive; so
/// the last handle may be dropped on any of these threads. None can wait for itself.
pub(super) fn end_soon<T>(thread: JoinHandle<T>, limit: Duration) -> Option<T> {
    if thread.thread().id() == std::thread::current().id() {
        return None;
    }
    let until = clock::now() + limit;
    block_on(async {
        while !thread.is_finished() && clock::now() < until {
            StorageWorld.sleep(POLL_INTERVAL).await;
        }
    });
    thread.is_finished().then(|| thread.join().ok()).flatten()
}
