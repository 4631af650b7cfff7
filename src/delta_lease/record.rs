//! What one delta sector holds.

use super::rules;
use super::watch::Sign;
use crate::format::{
    DeltaLeader, FormatError, Geometry, HostId, HostNote, Incarnation, LockspaceName, NoteState,
};
use crate::timing::{FireTimeout, IoTimeout, Timing};

/// One delta sector, checked: the leader record and our note beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaRecord {
    /// The record proper.
    pub leader: DeltaLeader,
    /// What a disklease host adds to it, if one wrote the sector and the note belongs to this
    /// generation of the host.
    pub note: Option<HostNote>,
}

impl DeltaRecord {
    /// Decodes and checks the sector of `host` in the lockspace `name`.
    ///
    /// # Errors
    ///
    /// Any [`FormatError`] of the record or its names. A damaged note is not an error: it is only
    /// dropped.
    pub fn decode(sector: &[u8], host: HostId, name: &LockspaceName) -> Result<Self, FormatError> {
        let decode = |sector: &_| DeltaLeader::decode(sector, host);
        let leader = rules::decode_leader(sector, decode)?.expect_space(name)?;
        let note = match HostNote::read_from(sector) {
            NoteState::Present(note) => Some(note),
            _ => None,
        };
        let is_current =
            |note: &HostNote| note.host_id == host && note.generation == leader.generation();
        Ok(Self {
            leader,
            note: note.filter(is_current),
        })
    }

    /// What stands for a sector that was never read well: of nobody, with the longest N.
    pub(super) fn of_nobody(geometry: Geometry, name: &LockspaceName) -> Self {
        Self {
            leader: DeltaLeader::free(geometry, name, 0),
            note: None,
        }
    }

    /// Which incarnation of the host wrote it, where the record says so.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.note.as_ref().and_then(|note| note.incarnation)
    }

    /// Whether the host id was never used since the lockspace was initialised.
    pub(super) const fn is_never_used(&self) -> bool {
        self.leader.is_free() && self.leader.owner_id() == 0
    }

    /// What whoever watches the sector compares.
    pub(super) fn sign(&self) -> Sign {
        Sign {
            generation: self.leader.generation(),
            host_name: self.leader.host_name(),
            incarnation: self.incarnation(),
            timestamp_secs: self.leader.timestamp_secs(),
        }
    }

    /// The io timeout N of the host that owns this sector.
    #[must_use]
    pub fn io_timeout(&self) -> IoTimeout {
        let noted = self.note.as_ref().map(|note| note.io_timeout_secs);
        rules::io_timeout(
            IoTimeout::from_secs(self.leader.io_timeout_secs()),
            noted.and_then(IoTimeout::from_secs),
        )
    }

    /// The times of the host that owns this sector, for whoever waits for its death with this fire
    /// timeout.
    #[must_use]
    pub fn timing(&self, own_fire_timeout: FireTimeout) -> Timing {
        let noted = self.note.as_ref().map(|note| note.fire_timeout_secs);
        Timing::new(
            self.io_timeout(),
            rules::fire_timeout(noted, own_fire_timeout),
        )
    }
}
