//! A host id that this process owns.

use super::record::DeltaRecord;
use super::rules;
use crate::format::{DeltaLeader, Generation, HostId, HostNote, Incarnation};
use crate::timing::Timing;
use crate::world::Timestamp;

/// A host id that this process owns, as its sector was last written.
#[derive(Clone, Debug)]
pub struct DeltaLease {
    pub(super) host_id: HostId,
    pub(super) timing: Timing,
    pub(super) leader: DeltaLeader,
    pub(super) note: HostNote,
    pub(super) incarnation: Incarnation,
    /// When the write that claimed the id had completed, and so was on the disk.
    pub(super) claimed_at: Timestamp,
    /// When the last write that is known to have reached the disk was started.
    pub(super) renewed_at: Timestamp,
    /// The latest time that was given to any write, also to one that failed.
    pub(super) last_secs: u64,
    /// Whether `leader` is known to be what the disk holds: not so after a write that failed or
    /// timed out.
    pub(super) leader_is_on_disk: bool,
}

impl DeltaLease {
    /// The host id that is owned.
    #[must_use]
    pub const fn host_id(&self) -> HostId {
        self.host_id
    }

    /// Which join of the host id this is.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.leader.generation()
    }

    /// Which incarnation of the host this is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// This host's times.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// **INV-INCARNATION**: whether this very process wrote the note that was found. Nobody else has its
    /// incarnation; and where there is none, somebody else has written the sector.
    pub(super) fn wrote(&self, found: &DeltaRecord) -> bool {
        found.incarnation() == Some(self.incarnation)
    }

    /// From when on every read of the sector showed others that the id is claimed.
    #[must_use]
    pub const fn claimed_at(&self) -> Timestamp {
        self.claimed_at
    }

    /// The instant just before the last good write was started. Everything is counted from here.
    #[must_use]
    pub const fn renewed_at(&self) -> Timestamp {
        self.renewed_at
    }

    /// When this lease can no longer be counted on: 8N after [`Self::renewed_at`].
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.renewed_at + rules::held_for(self.timing)
    }

    /// What the next renewal writes.
    pub(super) fn next(&self, clock_secs: u64) -> DeltaLeader {
        let secs = rules::next_renewal_secs(clock_secs, self.last_secs);
        let io_timeout_secs = u16::from(self.timing.io_timeout().as_secs());
        self.leader.renewed(secs, io_timeout_secs)
    }
}
