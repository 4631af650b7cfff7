//! The lease on a host id: acquired slowly, renewed all the time, and what it says of the other
//! hosts.
//!
//! A lockspace is one sector for each host id. A host owns its sector for as long as it rewrites it
//! in time; whoever does not see a sector change for [`Timing::dead_after`] may treat its owner as
//! gone. This is the light-weight lease of Chockler and Malkhi ("Light-Weight Leases for
//! Storage-Centric Coordination", 2004), in the form that `docs/protocol.md` gives it.
//!
//! | step | function |
//! | --- | --- |
//! | take a host id | [`acquire()`] |
//! | keep it | [`renew()`] |
//! | give it back | [`release()`] |
//! | judge the others | [`HostTable`] |
//! | go by one fire timeout with them | [`agree()`] |
//! | whether this host may still believe in its own leases | [`Expiry`] |

mod acquire;
mod agree;
mod area;
mod expiry;
mod liveness;
mod membership;
mod put_back;
mod release;
mod renew;
pub(crate) mod rules;

pub use acquire::{ClaimError, ClaimProgress, Claimant, EarlierLife, acquire};
pub use agree::{AgreeError, Agreement, InDoubt, agree, judge};
pub use area::{DeltaRecord, DeltaSectorError, LockspaceArea};
pub use expiry::Expiry;
pub use liveness::{HostRecord, HostState, HostTable};
pub use membership::Membership;
pub use put_back::PutBack;
pub use release::{DeltaReleaseError, release};
pub use renew::{RenewError, renew};

use crate::format::{DeltaLeader, Generation, HostId, HostNote, Incarnation};
use crate::probe::mutation;
use crate::timing::Timing;
use crate::world::Timestamp;

/// A host id that this process owns, as its sector was last written.
#[derive(Clone, Debug)]
pub struct DeltaLease {
    host_id: HostId,
    timing: Timing,
    leader: DeltaLeader,
    note: HostNote,
    incarnation: Incarnation,
    /// When the write that claimed the id had ended, and so was on the disk.
    claimed_at: Timestamp,
    /// When the last write that is known to have reached the disk was begun.
    renewed_at: Timestamp,
    /// The latest time that was given to any write, also to one that failed.
    last_stamp_secs: u64,
    /// Whether `leader` is known to be what the disk holds: not so after a write that failed or
    /// timed out.
    leader_is_on_disk: bool,
}

impl DeltaLease {
    /// The host id that is owned.
    #[must_use]
    pub const fn host_id(&self) -> HostId {
        self.host_id
    }

    /// Which life of the host id this is.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.leader.generation()
    }

    /// Which run of the host this is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// **INV-INCARNATION**: whether this very run wrote the note that was found. Nobody else has its
    /// incarnation; and where there is none, somebody else has written the sector.
    fn wrote(&self, found: &DeltaRecord) -> bool {
        found.incarnation() == Some(self.incarnation)
    }

    /// From when on every look at the sector showed others that the id is claimed.
    #[must_use]
    pub const fn claimed_at(&self) -> Timestamp {
        self.claimed_at
    }

    /// The instant just before the last good write was begun. Everything is counted from here.
    #[must_use]
    pub const fn renewed_at(&self) -> Timestamp {
        self.renewed_at
    }

    /// When this lease can no longer be counted on: 8N after [`Self::renewed_at`].
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        if mutation!(LostTooLate) {
            return self.renewed_at + self.timing.stopped_by();
        }
        self.renewed_at + self.timing.lost_after()
    }

    /// The time for the next write. Others see a renewal only by a change of whole seconds, so it
    /// is above that of every write before, also of one that failed: that may have landed.
    fn next_stamp_secs(&self, clock_secs: u64) -> u64 {
        if mutation!(StampReused) {
            return clock_secs;
        }
        clock_secs.max(self.last_stamp_secs.saturating_add(1))
    }
}
