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

pub(super) mod accepted;
mod source;
pub(super) mod token;

pub use accepted::Accepted;
pub use source::{HandedOver, HandoverError, Offer, OfferError};
pub use token::{HandoverAnswer, HandoverOutcome, HandoverToken, TokenError};
