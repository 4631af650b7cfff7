//! A sector that shows what was there before.

use std::fmt;

use crate::format::{DeltaLeader, Generation, NameBytes};

/// What a sector shows that was cleared, freed or put back to an older state while a host used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutBack {
    /// The name there: empty if nobody ever had the id.
    pub owner: NameBytes,
    /// The generation there: 0 if nobody ever had the id.
    pub generation: Generation,
    /// Whether nobody has the id, by what is there.
    pub is_free: bool,
}

impl PutBack {
    /// What `found` shows, if it is free or older than generation `ours`.
    pub(super) fn of(found: &DeltaLeader, ours: Generation) -> Option<Self> {
        (found.is_free() || found.generation() < ours).then(|| Self {
            owner: found.host_name(),
            generation: found.generation(),
            is_free: found.is_free(),
        })
    }
}

impl fmt::Display for PutBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            owner, generation, ..
        } = self;
        f.write_str("the sector of the host id ")?;
        if self.is_free && generation.get() == 0 {
            f.write_str("was cleared or put back by hand: it shows that nobody ever had the id")
        } else if self.is_free {
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
