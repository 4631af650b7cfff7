//! How a lease is to be held: what the caller of an acquire demands.

use crate::format::{Generation, HolderNote, HostId, LeaseVersion, OfferId};
use crate::world::{CancelToken, Timestamp};

/// How a lease is to be held.
#[derive(Clone, Debug)]
pub struct Holding {
    /// What to do about an owner that may be dead.
    pub patience: Patience,
    /// Who holds the lease, for people on other hosts. Host, generation and version are filled in
    /// by the acquire.
    pub note: Option<HolderNote>,
    /// How the lease must have been left: nobody may have used it since.
    pub expected: Option<VersionPrecondition>,
    /// Ends a wait for the owner's death.
    pub cancel: CancelToken,
}

/// What an acquire does about an owner that may be dead but is not dead for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The acquire reports the owner at once.
    Refuse,
    /// The acquire waits until the owner shows life or is dead, up to 8N + F and a margin, but not
    /// beyond the given instant.
    WaitForDeath {
        /// When to stop waiting.
        until: Option<Timestamp>,
    },
}

/// The version precondition: how the lease must have been left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionPrecondition {
    /// The version under which the disk was last used.
    pub version: LeaseVersion,
    /// Whose version that was, if known. Tells it from the same version of a lease that was
    /// initialised anew.
    pub holder: Option<(HostId, Generation)>,
    /// How that holder's ownership must have ended.
    pub required_end: RequiredEnd,
}

/// How a holder's ownership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredEnd {
    /// In any way: the holder released, or its host is dead.
    AnyEnd,
    /// The holder handed the lease over by this offer.
    HandedOver(OfferId),
}
