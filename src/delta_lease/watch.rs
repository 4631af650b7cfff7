//! What a watcher of a delta sector compares.

use crate::format::{Generation, Incarnation, NameBytes};
use crate::timing::{FireTimeout, Timing};
use crate::world::Timestamp;

/// Who watches the sector of another host, and by which own times the death of that host is waited for.
///
/// All watchers go by one rule, [`Silence`](super::Silence). They are kept apart so that a mutant can get
/// the rule wrong for one of them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// A host that claims the host id.
    Claimant(Timing),
    /// The table of hosts.
    Table(FireTimeout),
    /// A host that acquires a lease which the other host owns.
    Acquirer(Timing),
}

impl Watcher {
    /// The watcher's own fire timeout.
    pub(super) const fn fire_timeout(self) -> FireTimeout {
        match self {
            Self::Claimant(own) | Self::Acquirer(own) => own.fire_timeout(),
            Self::Table(own) => own,
        }
    }
}

/// When a read was started, and when it had completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadSpan {
    /// The instant before the read was handed to the storage.
    pub started: Timestamp,
    /// The instant at which its bytes were there.
    pub completed: Timestamp,
}

/// What a host changes in its sector when it claims the id, renews it or leaves. The rest of a good
/// record is the same for all hosts of the lockspace, or has no meaning. The io timeout is not in it: no
/// checksum covers that field, so a change of it alone is damage and no sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Which join of the host id.
    pub generation: Generation,
    /// The name of the host.
    pub host_name: NameBytes,
    /// Which incarnation of the host, where the record says so.
    pub incarnation: Option<Incarnation>,
    /// The host's clock at its last renewal.
    pub timestamp_secs: u64,
}

/// What became of a sector since it was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It shows no sign of life.
    Nothing,
    /// Its host has renewed.
    Renewed,
    /// Another host, or another incarnation, has written it in the same generation.
    OtherWriter,
    /// It belongs to another generation of the host id.
    OtherGeneration,
}

impl Change {
    /// From `before` to `after`.
    pub(super) fn between(before: &Sign, after: &Sign) -> Self {
        if before.generation == after.generation {
            Self::in_generation(before, after)
        } else {
            Self::OtherGeneration
        }
    }

    /// The same, where the generation is not compared.
    pub(super) fn in_generation(before: &Sign, after: &Sign) -> Self {
        let writer = |sign: &Sign| (sign.host_name, sign.incarnation);
        if writer(before) == writer(after) {
            Self::in_time(before, after)
        } else {
            Self::OtherWriter
        }
    }

    /// The same, where nothing but the time is compared.
    pub(super) const fn in_time(before: &Sign, after: &Sign) -> Self {
        if before.timestamp_secs == after.timestamp_secs {
            Self::Nothing
        } else {
            Self::Renewed
        }
    }
}
