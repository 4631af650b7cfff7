//! A wait that another thread can end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends waits: all clones are one token, and [`cancel`](Self::cancel) ends whatever one of them was
/// given to, for good.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that ends nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the waits. Never blocks, and takes no lock: a signal handler may call it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the waits are ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
