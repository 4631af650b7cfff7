//! Handing locks over to another host, for a guest that migrates there while it runs.
//!
//! ```text
//! source                                      target
//! guard.offer() -> Offer                      (guest runs at the source)
//!   token ------------ migration stream ----> manager.accept(token)   waits
//!   guest paused, last of its state sent
//! offer.hand_over(flush) -> HandedOver          -> Accepted           (guest runs nowhere)
//!                                             accepted.start()        (guest runs at the target)
//! handed_over.confirm(answer) <-- answer ------
//! ```
//!
//! At each instant at most one side may run: the source until `hand_over` has flushed, the target
//! from `start` on. What the target accepts is tied to this offer by a note that the source leaves
//! on the disk with its release, so neither a source that gave up nor one that died is taken for one
//! that has handed over. The source gets its locks back only by winning them again:
//! [`HandedOver::reclaim`], which the target's win forbids, unless it has declined.
//!
//! Others who want the locks may come between release and accept. Then both sides get an error that
//! names who did, and the guest is to be started anew from its disk.

mod token;

use std::fmt;

use super::LockManager;
use super::error::{AcquireError, ReleaseError};
use super::guard::LockGuard;
use super::lease::Leaving;
use super::request::LockRequest;
use super::state::LockState;
use crate::format::OfferId;
use crate::lockspace::LossReason;
use crate::paxos_lease::{HandoverEnd, hand_over};
use crate::runtime::clock;
use crate::runtime::executor::block_on;

use token::Ticket;
pub use token::{HandoverAnswer, HandoverToken, TokenError, Verdict};

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
#[derive(Debug)]
#[non_exhaustive]
pub enum HandoverError<E> {
    /// The flush failed. Everything is held as before.
    Flush {
        /// The offer, which stands.
        offer: Offer,
        /// What the flush said.
        error: E,
    },
    /// The locks were lost before. Nothing was written: the target will not be able to accept.
    Lost {
        /// What to resume when the lockspace was joined again.
        state: LockState,
        /// Why they were lost, as far as it is known.
        reason: Option<LossReason>,
    },
}

impl<E: fmt::Display> fmt::Display for HandoverError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flush { error, .. } => {
                write!(
                    f,
                    "not handed over, the locks are kept: the flush failed: {error}"
                )
            }
            Self::Lost { reason, .. } => {
                f.write_str("not handed over: the locks were lost before")?;
                match reason {
                    Some(reason) => write!(f, ": {reason}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for HandoverError<E> {}

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
        let state = guard.state();
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
    state: LockState,
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
    pub const fn state(&self) -> &LockState {
        &self.state
    }

    /// Reads the target's answer. [`Verdict::Started`] ends the migration; after
    /// [`Verdict::Declined`] the guest did not run there, and `reclaim` will succeed if nobody else
    /// came first.
    ///
    /// # Errors
    ///
    /// [`TokenError::OtherOffer`] for the answer to something else.
    pub fn confirm(&self, answer: &HandoverAnswer) -> Result<Verdict, TokenError> {
        if answer.offer() == self.offer {
            Ok(answer.verdict())
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
    /// [`AcquireError`], as [`LockManager::resume`]. [`AcquireError::NotAsLeft`] names the target, if
    /// it has accepted and not declined: then the guest runs there, or may.
    pub fn reclaim(
        &self,
        manager: &(impl LockManager + ?Sized),
        request: LockRequest,
    ) -> Result<LockGuard, AcquireError> {
        manager.resume(&self.state, request)
    }
}

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
    pub(super) fn new(guard: LockGuard, token: &HandoverToken) -> Self {
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
        Some((guard, self.ticket.answered(Verdict::Started)))
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
        Ok(self.ticket.answered(Verdict::Declined))
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take()
            && let Err(error) = guard.give_back(Leaving::Unused)
        {
            tracing::warn!(%error, "locks that were accepted and not used were not given back");
        }
    }
}
