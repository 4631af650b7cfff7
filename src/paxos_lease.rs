//! The lease on a resource: who may write a disk, agreed upon through the sectors of the lease
//! itself.
//!
//! Each change of owner is one instance of Disk Paxos (Gafni and Lamport, 2003), numbered by the
//! lease version. The ballots are those of the paper; around them stand the questions that the
//! paper leaves open: when an owner's time is over, what is left behind by an acquire that failed,
//! and how a lease is given back. `docs/protocol.md` has the whole, with the reason for each rule.
//!
//! | step | function |
//! | --- | --- |
//! | take the lease | [`acquire()`]: read all, judge the owner, ballot, commit |
//! | look whether it is still ours on the disk | [`verify`] |
//! | give it back | [`release()`] |
//! | give it to another host | [`hand_over()`] around [`release_with_note()`] |
//! | make sure that an acquire which failed leaves no ownership behind | [`retract()`] |
//!
//! # Invariants
//!
//! * **INV-INPUT**: an acquire counts as success only if the leader record shows this very
//!   acquire's input: host, generation and stamp. A leader that names this host for an older reason
//!   is not a success.
//! * **INV-KEEP**: what this host accepted for a version (`bal`, `inp`) stays in its block until it
//!   takes part in a ballot for a newer version. Phase 1, release and retract keep it.
//! * **INV-NEXT**: a ballot is for a version newer than the leader's and not older than any
//!   block's.
//! * **INV-RELEASED-FIRST**: a release marks the own block before it frees the leader.
//! * **INV-WRITER**: a release writes the leader only if this host was its last writer.
//! * **INV-AS-LEFT**: an acquire that expects a version takes the very next one, and no other; versions
//!   between count as not there only where their owners' notes say that nobody used them.
//! * **INV-AS-WRITTEN**: a release marks its block only where that, read right before, is what this host
//!   wrote; a retraction marks what it finds. What is remembered of a lease that was initialised anew
//!   or put back is void.
//! * **INV-MEMBER**: nothing is written unless this host's own delta lease is held at that instant,
//!   and no write is begun later than it is.

mod acquire;
mod area;
mod ballot;
mod expected;
mod handover;
mod owner;
mod release;
mod retract;
mod rules;
mod shared_holders;

pub use acquire::{AcquireError, AcquireFailure, Holding, Patience, acquire};
pub use area::{LeaseArea, LeaseIoError, LeaseShape};
pub use expected::{Expected, LaterHolder, Passage, VersionChange};
pub use handover::{HandoverEnd, hand_over};
pub use owner::{Holder, OwnerSeen};
pub use release::{ReleaseError, VerifyError, release, release_with_note, verify};
pub use retract::{Debt, RetractError, Settled, came_back, retract};

use crate::delta_lease::Membership;
use crate::format::{Dblock, HolderNote, Incarnation, LeaseVersion, OfferId, PaxosLeader, Tenure};
use crate::probe::mutation;

/// Whether `leader` names this host in this life, for whatever acquire.
fn names_us<D>(leader: &PaxosLeader, membership: &Membership<D>) -> bool {
    leader.owner_id() == Some(membership.host_id())
        && leader.generation() == membership.generation()
}

/// **INV-INCARNATION**: whether `note`, which stands in this host's own sector of a lease, is of a twin: another
/// run that has this host's id and generation by mistake.
fn is_twins<D>(note: &HolderNote, membership: &Membership<D>) -> bool {
    note.generation == membership.generation()
        && note.incarnation != Some(membership.incarnation())
        && !mutation!(LeaseOfTwinTaken)
}

/// A lease that this host holds: what was written to win it, which is also what must be there to
/// give it back.
#[derive(Clone, Debug)]
pub struct HeldLease {
    shape: LeaseShape,
    /// The leader record that makes this host the owner.
    leader: PaxosLeader,
    /// Our block as last written.
    block: Dblock,
    /// The version under which the disk was last used before, if it is known.
    unchanged_since: Option<LeaseVersion>,
    /// Which run of this host it is held by.
    incarnation: Incarnation,
}

impl HeldLease {
    /// The version of this ownership. It rises with each change of owner: the fencing token.
    #[must_use]
    pub fn version(&self) -> LeaseVersion {
        self.leader.version()
    }

    /// Whether this is what this host wrote to its own sector when it won the lease.
    fn wrote(&self, found: Option<Dblock>) -> bool {
        found.is_some_and(|block| area::same_values(block, self.block))
    }

    /// The note with which to give it back if it was not used at all.
    #[must_use]
    pub fn unused_note(&self, mut note: HolderNote) -> Option<HolderNote> {
        note.tenure = Tenure::Unused {
            since: self.unchanged_since?,
        };
        Some(self.of_this_hold(note))
    }

    /// The note with which to hand it over.
    #[must_use]
    pub fn handed_over_note(&self, mut note: HolderNote, offer: OfferId) -> HolderNote {
        note.tenure = Tenure::HandedOver(offer);
        self.of_this_hold(note)
    }

    fn of_this_hold(&self, mut note: HolderNote) -> HolderNote {
        note.generation = self.leader.generation();
        note.incarnation = Some(self.incarnation);
        note.version = self.leader.version();
        note
    }

    /// How the lease is laid out on its disk.
    #[cfg(feature = "__sim")]
    #[must_use]
    pub const fn shape(&self) -> LeaseShape {
        self.shape
    }
}
