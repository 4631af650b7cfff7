//! The side to which locks are handed over.

use super::token::{HandoverAnswer, HandoverOutcome, HandoverToken, Ticket};
use crate::manager::error::ReleaseError;
use crate::manager::guard::LockGuard;
use crate::manager::lease::Leaving;

/// Locks that were taken over from another host, whose guest has not been started here yet.
///
/// Dropping it declines.
#[derive(Debug)]
#[must_use = "if unused, the hand-over is declined at once"]
pub struct Accepted {
    /// `None` once it was decided.
    guard: Option<LockGuard>,
    ticket: Ticket,
}

impl Accepted {
    pub(in crate::manager) fn new(guard: LockGuard, token: &HandoverToken) -> Self {
        let ticket = Ticket::answer(&guard, token);
        Self {
            guard: Some(guard),
            ticket,
        }
    }

    /// From now on the guest may run here, and nowhere else. The answer goes to the source.
    ///
    /// `None` if the locks were lost meanwhile: the guest must not be started.
    #[must_use]
    pub fn start(mut self) -> Option<(LockGuard, HandoverAnswer)> {
        let guard = self.guard.take_if(|guard| guard.is_held())?;
        Some((guard, self.ticket.answered(HandoverOutcome::Started)))
    }

    /// The guest cannot be started here, and never was: gives the locks back, so that the source may
    /// reclaim them.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`]; until it is written, tried again in the background, the source is refused.
    pub fn decline(mut self) -> Result<HandoverAnswer, ReleaseError> {
        if let Some(guard) = self.guard.take() {
            guard.give_back(Leaving::Unused)?;
        }
        Ok(self.ticket.answered(HandoverOutcome::Declined))
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.give_back_quietly(Leaving::Unused);
        }
    }
}
