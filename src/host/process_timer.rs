//! What kills this process should it stand still.

use crate::world::{OsError, Timestamp};

/// What kills this process at an instant of its clock, unless it is set anew before.
pub trait ProcessTimer: Send + Sync {
    /// At this instant, or never.
    ///
    /// # Errors
    ///
    /// It stays as it was.
    fn set(&self, at: Option<Timestamp>) -> Result<(), OsError>;
}
