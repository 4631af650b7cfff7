//! The side that hands locks over.

use super::token::{HandoverAnswer, HandoverOutcome, HandoverToken, TokenError};
use crate::format::OfferId;
use crate::lockspace::LossReason;
use crate::manager::error::{AcquireError, ReleaseError};
use crate::manager::guard::LockGuard;
use crate::manager::lease::Leaving;
use crate::manager::lock_manager::LockManager;
use crate::manager::request::LockRequest;
use crate::manager::suspended::SuspendedLocks;
use crate::paxos_lease::{HandoverEnd, hand_over};
use crate::runtime::clock;
use crate::runtime::executor::block_on;

/// Locks that are offered to another host, and held until they are handed over.
#[derive(Debug)]
#[must_use = "if unused, the locks are released at once"]
pub struct Offer {
    guard: LockGuard,
    token: HandoverToken,
    id: OfferId,
}

/// No offer was made; the locks are held as before.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
#[non_exhaustive]
pub struct OfferError {
    /// The guard.
    pub guard: LockGuard,
    /// Why.
    #[source]
    pub reason: TokenError,
}

impl LockGuard {
    /// Offers the locks to another host. Nothing changes by that: the guest runs on, and the token
    /// goes to the other host with the guest's own state.
    ///
    /// # Errors
    ///
    /// [`OfferError`] if there are more locks than a token has room for.
    pub fn offer(self) -> Result<Offer, OfferError> {
        let id = OfferId::new(clock::random(u64::MAX));
        match HandoverToken::of(&self, id) {
            Ok(token) => Ok(Offer {
                guard: self,
                token,
                id,
            }),
            Err(reason) => Err(OfferError {
                guard: self,
                reason,
            }),
        }
    }
}

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError<E> {
    /// The flush failed. Everything is held as before.
    #[error("not handed over, the locks are kept: the flush failed: {error}")]
    Flush {
        /// The offer, which stands.
        offer: Offer,
        /// What the flush said.
        error: E,
    },
    /// The locks were lost before. Nothing was written: the target will not be able to accept.
    #[error("not handed over: the locks were lost before{}", reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}")))]
    Lost {
        /// What to resume when the lockspace was joined again.
        state: SuspendedLocks,
        /// Why they were lost, as far as it is known.
        reason: Option<LossReason>,
    },
}

impl Offer {
    /// For the target, as bytes in the migration stream.
    #[must_use]
    pub const fn token(&self) -> &HandoverToken {
        &self.token
    }

    /// The guard: held still, and as good as ever.
    pub const fn guard(&self) -> &LockGuard {
        &self.guard
    }

    /// The migration is off. The token is worth nothing from now on: nobody accepts what was not
    /// handed over.
    pub fn cancel(self) -> LockGuard {
        self.guard
    }

    /// Hands the locks over. **The guest is paused, and stays so**; the last of its state was sent,
    /// or is with the VMM.
    ///
    /// `flush` runs first, with the locks still held: it ends all of the guest's writes and has them
    /// on the disk, with everything that an image format keeps in memory. Then the guard ends, and
    /// the leases are released with a note of this offer.
    ///
    /// Blocks as a release does, and as long as `flush`.
    ///
    /// # Errors
    ///
    /// [`HandoverError`]. A release that fails is none: it may have reached the disk, and the locks
    /// are gone all the same; see [`HandedOver::not_written`].
    pub fn hand_over<E>(
        self,
        flush: impl FnOnce() -> Result<(), E>,
    ) -> Result<HandedOver, HandoverError<E>> {
        let Self { guard, token, id } = self;
        let state = SuspendedLocks::of(&guard);
        if !guard.is_held() {
            return Err(HandoverError::Lost {
                state,
                reason: guard.loss(),
            });
        }
        let end = block_on(hand_over(async { flush() }, || guard.end(), async {
            guard.give_back(Leaving::HandedOver(id))
        }));
        match end {
            HandoverEnd::Kept(error) => Err(HandoverError::Flush {
                offer: Self { guard, token, id },
                error,
            }),
            HandoverEnd::Gone(released) => Ok(HandedOver {
                state,
                offer: id,
                not_written: released.err(),
            }),
        }
    }
}

/// Locks that were handed over: this side has none of them any more.
///
/// Ends with [`confirm`](Self::confirm), or with [`reclaim`](Self::reclaim). Dropping it does
/// nothing.
#[derive(Clone, Debug)]
#[must_use = "the target's answer tells whether the guest runs there"]
pub struct HandedOver {
    state: SuspendedLocks,
    offer: OfferId,
    not_written: Option<ReleaseError>,
}

impl HandedOver {
    /// What went wrong with the release, if anything. It is tried again in the background for as long
    /// as the lockspace is joined, and the target waits for it.
    #[must_use]
    pub const fn not_written(&self) -> Option<&ReleaseError> {
        self.not_written.as_ref()
    }

    /// What was handed over.
    #[must_use]
    pub const fn state(&self) -> &SuspendedLocks {
        &self.state
    }

    /// Reads the target's answer. [`HandoverOutcome::Started`] ends the migration; after
    /// [`HandoverOutcome::Declined`] the guest did not run there, and `reclaim` will succeed if nobody else
    /// came first.
    ///
    /// # Errors
    ///
    /// [`TokenError::OtherOffer`] for the answer to something else.
    pub fn confirm(&self, answer: &HandoverAnswer) -> Result<HandoverOutcome, TokenError> {
        if answer.offer() == self.offer {
            Ok(answer.outcome())
        } else {
            Err(TokenError::OtherOffer)
        }
    }

    /// Takes the locks back, for a migration that failed: the guest goes on here from where it was
    /// paused. Only by winning every lease anew, and only if nobody has used one of them since. With
    /// that the token is worth nothing any more.
    ///
    /// # Errors
    ///
    /// [`AcquireError`], as [`LockManager::resume`]. [`VersionConflict`](crate::AcquireErrorKind::VersionConflict) names the target, if
    /// it has accepted and not declined: then the guest runs there, or may.
    pub fn reclaim(
        &self,
        manager: &(impl LockManager + ?Sized),
        request: LockRequest,
    ) -> Result<LockGuard, AcquireError> {
        manager.resume(&self.state, request)
    }
}
