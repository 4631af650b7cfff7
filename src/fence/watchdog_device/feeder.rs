//! The thread that feeds a device.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Builder;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use super::device::Device;
use super::feeding::Feeding;
use crate::fence::watchdog::WatchdogError;
use crate::runtime::clock;
use crate::world::{OsError, Timestamp};

const STACK_SIZE: usize = 128 * 1024;

/// A device that is fed.
#[derive(Debug)]
pub(super) struct Feeder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    feeding: Feeding,
    /// Nanoseconds of the clock: from then on it is not fed. Moved without waiting for the thread.
    end: AtomicU64,
    alive: AtomicBool,
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug)]
struct State {
    /// `None`: stopped and closed.
    device: Option<Device>,
    failure: Option<WatchdogError>,
}

impl Feeder {
    /// Feeds `device` from now on, until F is nearly over after `expires_at`.
    pub(super) fn start(
        device: Device,
        path: &Path,
        feeding: Feeding,
        expires_at: Timestamp,
    ) -> Result<Self, WatchdogError> {
        if let Err(error) = device.feed() {
            // What can be done lest the host be reset, though nothing is held.
            let _ = device.stop();
            return Err(error);
        }
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            feeding,
            end: AtomicU64::new(feeding.end(expires_at).as_nanos()),
            alive: AtomicBool::new(true),
            state: Mutex::new(State {
                device: Some(device),
                failure: None,
            }),
            stopped: Condvar::new(),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            let builder = Builder::new().name("dl-watchdog".to_owned());
            builder.stack_size(STACK_SIZE).spawn(move || {
                let death = Death(&shared);
                shared.feed();
                drop(death);
            })
        };
        if let Err(error) = thread {
            let errno = error.raw_os_error().unwrap_or(Errno::AGAIN.raw_os_error());
            shared.stop()?;
            return Err(WatchdogError::NoFeeder {
                path: path.to_owned(),
                error: OsError(errno),
            });
        }
        Ok(Self { shared })
    }

    /// Moves the end. Waits for nobody.
    pub(super) fn extend(&self, expires_at: Timestamp) -> Result<(), WatchdogError> {
        let shared = &self.shared;
        let end = shared.feeding.end(expires_at).as_nanos();
        shared.end.store(end, Ordering::Release);
        if !shared.alive.load(Ordering::Acquire) {
            return Err(WatchdogError::FeederDied {
                path: shared.path.clone(),
            });
        }
        // While it is locked the thread is feeding; how that ended the next call tells.
        match shared.state.try_lock() {
            Some(state) => state.failure.clone().map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    /// Stops and closes the device. The thread ends soon.
    pub(super) fn stop(&self) -> Result<(), WatchdogError> {
        self.shared.stop()
    }
}

impl Shared {
    fn stop(&self) -> Result<(), WatchdogError> {
        let device = self.state.lock().device.take();
        self.stopped.notify_all();
        device.map_or(Ok(()), Device::stop)
    }

    fn feed(&self) {
        let mut told = None;
        loop {
            let mut state = self.state.lock();
            let Some(device) = &state.device else { return };
            // The clock is read right before it is fed: what is between is reckoned with, but short.
            let fed = if clock::now().as_nanos() < self.end.load(Ordering::Acquire) {
                Some(device.feed())
            } else {
                None
            };
            let news = match &fed {
                Some(Ok(())) => None,
                Some(Err(error)) => Some(News::Failed(error.clone())),
                None => Some(News::Over),
            };
            state.failure = match fed {
                Some(Err(error)) => Some(error),
                _ => None,
            };
            if news != told {
                // Logging may hang with the disk. It is done without the lock, and only when the
                // host is lost anyway, or was so.
                drop(state);
                self.tell(news.as_ref());
                told = news;
                state = self.state.lock();
            }
            if state.device.is_none() {
                return;
            }
            self.stopped.wait_for(&mut state, self.feeding.interval());
        }
    }

    fn tell(&self, news: Option<&News>) {
        let path = &self.path;
        match news {
            None => tracing::warn!(?path, "the watchdog device is fed again"),
            Some(News::Failed(error)) => tracing::error!(%error, "this host may be reset"),
            Some(News::Over) => tracing::error!(
                ?path,
                within = ?self.feeding.timeout(),
                "holders of lost leases have not stopped: the watchdog device is not fed any more, and this host is reset"
            ),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Failed(WatchdogError),
    Over,
}

/// Tells, also when the thread panics, that nobody feeds any more.
struct Death<'a>(&'a Shared);

impl Drop for Death<'_> {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Release);
        if std::thread::panicking() {
            tracing::error!(
                path = ?self.0.path,
                within = ?self.0.feeding.timeout(),
                "the thread that feeds the watchdog device has died: this host is reset"
            );
        }
    }
}
