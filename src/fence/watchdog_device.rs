//! A watchdog device of this process alone.
//!
//! The device is tried while the lockspace is joined, opened only while there are holders, and then fed
//! by a thread that does nothing else: no storage, however it hangs, can stop the feeding. If that thread
//! or its process dies, the device goes on counting and resets the host.
//!
//! A device can be open once. It must be able to stop at a close that was announced ("magic close"), and only
//! then: one that stops at every close is refused, since it would stop with the death of the
//! process, and one that never stops is refused, as far as sysfs shows it, since it
//! would reset the host when the last holder has gone.

mod device;
mod feeder;
mod feeding;
mod ioctl;
#[cfg(all(test, feature = "__machine"))]
#[allow(
    clippy::disallowed_methods,
    clippy::multiple_unsafe_ops_per_block,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a real watchdog, in real time"
)]
mod tests;

use std::path::{Path, PathBuf};

use super::watchdog::{HostWatchdog, WatchdogError, WatchdogErrorKind as Fault};
use crate::timing::Timing;
use crate::world::Timestamp;
use device::Device;
use feeder::Feeder;

/// The fence. The device is open only while it is armed.
#[derive(Debug)]
pub struct WatchdogDevice {
    path: PathBuf,
    timing: Timing,
    feeder: Option<Feeder>,
}

impl WatchdogDevice {
    /// Sees whether there is such a device here that can do what is needed of it: opens the device, sets its
    /// timeout, stops and closes it.
    ///
    /// # Errors
    ///
    /// If it is not so.
    pub fn probe(path: &Path, timing: Timing) -> Result<Self, WatchdogError> {
        let this = Self {
            path: path.to_owned(),
            timing,
            feeder: None,
        };
        let (device, feeding) = Device::open(path, timing)?;
        this.named(device.stop())?;
        tracing::debug!(?path, timeout = ?feeding.timeout(), "the watchdog device can be used");
        Ok(this)
    }

    /// Says which device it was.
    fn named<T>(&self, result: Result<T, Fault>) -> Result<T, WatchdogError> {
        result.map_err(|kind| WatchdogError::of_device(&self.path, None, kind))
    }
}

impl HostWatchdog for WatchdogDevice {
    fn arm(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError> {
        if self.feeder.is_none() {
            let (device, feeding) = Device::open(&self.path, self.timing)?;
            self.feeder = Some(self.named(Feeder::start(device, feeding, expires_at))?);
            tracing::debug!(path = ?self.path, timeout = ?feeding.timeout(), "the watchdog device counts");
        }
        self.extend(expires_at)
    }

    fn extend(&mut self, expires_at: Timestamp) -> Result<(), WatchdogError> {
        let feeder = self.feeder.as_ref();
        self.named(feeder.map_or(Ok(()), |feeder| feeder.extend(expires_at)))
    }

    fn disarm(&mut self) -> Result<(), WatchdogError> {
        let feeder = self.feeder.take();
        self.named(feeder.map_or(Ok(()), |feeder| feeder.stop()))
    }
}

impl Drop for WatchdogDevice {
    fn drop(&mut self) {
        if self.feeder.is_some() {
            tracing::error!(
                path = ?self.path,
                "the watchdog device was not stopped though nobody holds a lock here any more: this host will be reset"
            );
        }
    }
}
