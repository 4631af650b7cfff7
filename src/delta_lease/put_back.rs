//! A sector that shows what was there before.

use std::fmt;

use crate::format::{DeltaLeader, Generation, HostId, NameBytes};

/// What a sector shows that was cleared, freed or put back to an older state while a host used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutBack {
    /// The host id whose sector it is.
    pub host_id: HostId,
    /// The name there: empty if nobody ever had the id.
    pub owner: NameBytes,
    /// The generation there: 0 if nobody ever had the id.
    pub generation: Generation,
    /// Whether nobody has the id, by what is there.
    pub is_free: bool,
}

impl PutBack {
    /// What `found` shows in the sector of `host_id`, if it is free or older than generation `ours`.
    pub(super) fn of(host_id: HostId, found: &DeltaLeader, ours: Generation) -> Option<Self> {
        (found.is_free() || found.generation() < ours).then(|| Self {
            host_id,
            owner: found.host_name(),
            generation: found.generation(),
            is_free: found.is_free(),
        })
    }

    /// Whether it is as whoever initialises a lockspace makes it.
    const fn is_unused(&self) -> bool {
        self.is_free && self.generation.get() == 0
    }
}

impl fmt::Display for PutBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host_id,
            owner,
            generation,
            is_free,
        } = self;
        write!(f, "the sector of host id {host_id} ")?;
        if self.is_unused() {
            f.write_str("was cleared or put back by hand: it shows that nobody ever had the id")
        } else if *is_free {
            write!(
                f,
                "was freed or put back by hand: it shows that host \"{owner}\" has left (generation {generation})"
            )
        } else {
            write!(
                f,
                "was put back by hand, or an old write has come late: it shows an earlier generation, of host \"{owner}\" (generation {generation})"
            )
        }
    }
}
