//! Rules that are easy to get wrong, each a function of its own, so that a mutant can get it wrong
//! and a test must notice.

use std::time::Duration;

use crate::probe::mutation;
use crate::timing::Timing;

/// When a holder that has not said that it stopped is killed: [`Timing::killed_after`], well before
/// other hosts may write.
pub(super) fn killed_after(timing: Timing) -> Duration {
    let late = timing.stopped_by().saturating_add(Duration::from_secs(1));
    mutation!(GraceBeyondFire, late, timing.killed_after())
}
