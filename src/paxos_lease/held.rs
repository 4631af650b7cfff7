//! A lease that this host holds.

use super::shape::LeaseShape;
use crate::format::{Dblock, HolderNote, Incarnation, LeaseVersion, OfferId, PaxosLeader, Tenure};

/// A lease that this host holds: what was written to win it, which is also what must be there to
/// give it back.
#[derive(Clone, Debug)]
pub struct HeldLease {
    pub(super) shape: LeaseShape,
    /// The leader record that makes this host the owner.
    pub(super) leader: PaxosLeader,
    /// This host's block as last written.
    pub(super) block: Dblock,
    /// The version under which the disk was last used before, if known.
    pub(super) unchanged_since: Option<LeaseVersion>,
    /// Which process of this host holds it.
    pub(super) incarnation: Incarnation,
}

impl HeldLease {
    /// The version of this ownership. It rises with each change of owner: the fencing token.
    #[must_use]
    pub fn version(&self) -> LeaseVersion {
        self.leader.version()
    }

    /// The note with which to give the lease back if nobody used it at all.
    #[must_use]
    pub fn unused_note(&self, note: HolderNote) -> Option<HolderNote> {
        let since = self.unchanged_since?;
        Some(self.note(note, Tenure::Unused { since }))
    }

    /// The note with which to hand the lease over.
    #[must_use]
    pub fn handed_over_note(&self, note: HolderNote, offer: OfferId) -> HolderNote {
        self.note(note, Tenure::HandedOver(offer))
    }

    fn note(&self, mut note: HolderNote, tenure: Tenure) -> HolderNote {
        note.generation = self.leader.generation();
        note.incarnation = Some(self.incarnation);
        note.version = self.leader.version();
        note.tenure = tenure;
        note
    }

    /// How the lease is laid out on its disk.
    #[cfg(feature = "__sim")]
    #[must_use]
    pub const fn shape(&self) -> LeaseShape {
        self.shape
    }
}
