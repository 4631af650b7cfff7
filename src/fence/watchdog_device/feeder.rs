//! The thread that feeds a device.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Builder;

use parking_lot::{Condvar, Mutex};

use super::device::Device;
use super::feeding::Feeding;
use crate::fence::watchdog::WatchdogErrorKind as Fault;
use crate::runtime::clock;
use crate::world::Timestamp;

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
    /// Nanoseconds of the clock: from then on the device is not fed. Moved without waiting for the thread.
    end: AtomicU64,
    alive: AtomicBool,
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug)]
struct State {
    /// `None`: stopped and closed.
    device: Option<Device>,
    unfed: Option<Unfed>,
}

/// Why the device was not fed when that was last due.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unfed {
    /// The device did not take it.
    Failed(Fault),
    /// Holders of lost leases have not stopped.
    Ended,
}

impl Feeder {
    /// Feeds `device` from now on, until F is nearly over after `expires_at`.
    pub(super) fn start(
        device: Device,
        feeding: Feeding,
        expires_at: Timestamp,
    ) -> Result<Self, Fault> {
        if let Err(error) = device.feed() {
            // What can be done lest the host be reset, though nothing is held.
            let _ = device.stop();
            return Err(error);
        }
        let shared = Arc::new(Shared {
            path: device.path().to_owned(),
            feeding,
            end: AtomicU64::new(feeding.end(expires_at).as_nanos()),
            alive: AtomicBool::new(true),
            state: Mutex::new(State {
                device: Some(device),
                unfed: None,
            }),
            stopped: Condvar::new(),
        });
        let feeder = Self {
            shared: Arc::clone(&shared),
        };
        let thread = Builder::new().name("dl-watchdog".to_owned());
        let thread = thread.stack_size(STACK_SIZE).spawn(move || {
            let death = Death(&shared);
            shared.feed();
            drop(death);
        });
        if let Err(error) = thread {
            feeder.stop()?;
            return Err(Fault::NoFeeder(error.into()));
        }
        Ok(feeder)
    }

    /// Moves the end. Waits for nobody.
    pub(super) fn extend(&self, expires_at: Timestamp) -> Result<(), Fault> {
        let shared = &self.shared;
        let end = shared.feeding.end(expires_at).as_nanos();
        shared.end.store(end, Ordering::Release);
        if !shared.alive.load(Ordering::Acquire) {
            return Err(Fault::FeederDied);
        }
        // While the state is locked the thread is feeding; the next call shows how that ended.
        match shared.state.try_lock().as_deref() {
            Some(State {
                unfed: Some(Unfed::Failed(error)),
                ..
            }) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Stops and closes the device. The thread ends soon.
    pub(super) fn stop(&self) -> Result<(), Fault> {
        let device = self.shared.state.lock().device.take();
        self.shared.stopped.notify_all();
        device.map_or(Ok(()), Device::stop)
    }
}

impl Shared {
    fn feed(&self) {
        let mut state = self.state.lock();
        while let Some(device) = &state.device {
            // The clock is read right before the device is fed: what is between is reckoned with, but short.
            let unfed = if clock::now().as_nanos() < self.end.load(Ordering::Acquire) {
                device.feed().err().map(Unfed::Failed)
            } else {
                Some(Unfed::Ended)
            };
            if unfed != state.unfed {
                state.unfed.clone_from(&unfed);
                // Logging may hang with the disk. It is done without the lock, and only when the
                // host is lost anyway, or was so.
                drop(state);
                self.log(unfed);
                state = self.state.lock();
            }
            if state.device.is_some() {
                self.stopped.wait_for(&mut state, self.feeding.interval());
            }
        }
    }

    fn log(&self, unfed: Option<Unfed>) {
        let path = &self.path;
        match unfed {
            None => tracing::warn!(?path, "the watchdog device is fed again"),
            Some(Unfed::Failed(error)) => {
                tracing::error!(?path, %error, "the watchdog device is not fed");
            }
            Some(Unfed::Ended) => tracing::error!(
                ?path,
                within = ?self.feeding.timeout(),
                "holders of lost leases have not stopped: the watchdog device is not fed any more, and this host is reset"
            ),
        }
    }
}

/// Shows, also when the thread panics, that nobody feeds any more.
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
