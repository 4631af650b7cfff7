//! "I am a holder of leases", as one value.

use std::sync::Arc;

use super::shared::Shared;
use super::watchdog_use::NotProtected;
use super::watched_file::WatchedFile;
use crate::host::{Holder, LossReason, Registration};
use crate::runtime::clock;

/// While this lives its owner holds leases: the host watchdog protects the owner, which is notified of what
/// happens to them, and stopped when they are lost. Dropped, it says that the holder has stopped.
pub(crate) struct HolderToken {
    shared: Arc<Shared>,
    registration: Option<Registration>,
    /// Not for a holder whose loss is ignored.
    is_fenced: bool,
}

impl HolderToken {
    /// For a holder that is not registered yet. A host watchdog is in force from now on, unless it
    /// does not matter whether the holder stops (`is_fenced`). May take two seconds.
    ///
    /// # Errors
    ///
    /// [`NotProtected`]: nothing may be held.
    pub(crate) fn new(shared: &Arc<Shared>, is_fenced: bool) -> Result<Self, NotProtected> {
        if is_fenced {
            let deadline = || shared.membership.expiry().deadline();
            shared.watchdog.hold(deadline)?;
        }
        Ok(Self {
            shared: Arc::clone(shared),
            registration: None,
            is_fenced,
        })
    }

    /// Registers the holder, whose leases lie in `files`. If the leases are lost already it is
    /// notified at once.
    pub(crate) fn register(&mut self, holder: &Arc<dyn Holder>, files: Vec<WatchedFile>) {
        let registration = self.shared.holders.register(holder, clock::now());
        let mut all = self.shared.files.lock();
        all.insert(registration.id(), files.into());
        drop(all);
        self.registration = Some(registration);
    }

    /// The holder has lost its leases, though the host has not.
    pub(crate) fn lose(&self, reason: &LossReason) {
        if let Some(registration) = &self.registration {
            registration.lose(reason, clock::now());
        }
    }
}

impl Drop for HolderToken {
    fn drop(&mut self) {
        if let Some(registration) = self.registration.take() {
            let files = self.shared.files.lock().remove(&registration.id());
            drop((registration, files));
        }
        // Last: until then the watchdog is in force.
        if self.is_fenced {
            self.shared.watchdog.let_go();
        }
    }
}
