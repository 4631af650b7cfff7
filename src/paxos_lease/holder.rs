//! Who holds or held a lease, as a refusal tells it.

use std::fmt;
use std::time::Duration;

use crate::format::{Generation, HolderNote, HostId, LeaseVersion, NameBytes};

/// Who holds a lease, as far as the disk tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The owner's host id.
    pub host_id: HostId,
    /// The generation of the owner.
    pub generation: Generation,
    /// The owner's host name, from its delta sector.
    pub host_name: NameBytes,
    /// The version of this ownership.
    pub version: LeaseVersion,
    /// What is known of whether the owner is alive.
    pub seen: OwnerSeen,
    /// What a disklease host left beside its block: guest, process, time of the acquire.
    pub note: Option<HolderNote>,
}

/// What is known of whether an owner is alive. Durations are counted at the moment of the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnerSeen {
    /// The owner was seen to renew.
    Alive {
        /// How long ago the owner's sector last changed.
        renewed_ago: Duration,
    },
    /// The owner was not seen to renew. It counts as dead, and the lease can be taken, if it stays
    /// silent.
    Silent {
        /// For how long the owner's sector has been seen unchanged.
        for_at_least: Duration,
        /// After how much more silence the lease can be taken.
        takeable_in: Duration,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "host {} \"{}\" (generation {})",
            self.host_id, self.host_name, self.generation
        )?;
        write_guest(f, self.note.as_ref(), "")?;
        match self.seen {
            OwnerSeen::Alive { renewed_ago } => {
                write!(f, ", alive: it renewed {} s ago", renewed_ago.as_secs())
            }
            OwnerSeen::Silent {
                for_at_least,
                takeable_in,
            } => write!(
                f,
                ", watched for {} s without a renewal: unless it renews, the lease can be taken in {} s",
                for_at_least.as_secs(),
                // Rounded up: not to promise too much.
                takeable_in
                    .as_secs()
                    .saturating_add(u64::from(takeable_in.subsec_nanos() != 0)),
            ),
        }
    }
}

/// That a lease is not at the version that is required.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionChange {
    /// The version that is required: that of the suspend, the loss or the offer.
    pub expected: LeaseVersion,
    /// The version that the lease has, or that was found to be taken.
    pub found: LeaseVersion,
    /// Who has or had that version; `None` if the disk names nobody.
    pub taken_by: Option<LaterHolder>,
}

/// Who has, or had, a lease after somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaterHolder {
    /// Its host id.
    pub host_id: HostId,
    /// Its generation.
    pub generation: Generation,
    /// Its name, if the lockspace shows that very generation.
    pub host_name: Option<NameBytes>,
    /// Whether the lease was not given back.
    pub holds: bool,
    /// What a disklease host left beside its block while it held.
    pub note: Option<HolderNote>,
}

impl fmt::Display for VersionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at version {}, not at {}: ", self.found, self.expected)?;
        match &self.taken_by {
            None if self.found < self.expected => {
                f.write_str("it was initialised anew, or restored to an older state")
            }
            None => f.write_str("somebody has had it since"),
            Some(by) => {
                let verb = if by.holds { "has" } else { "had" };
                write!(f, "{by} {verb} it since")
            }
        }
    }
}

impl fmt::Display for LaterHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.host_id)?;
        if let Some(name) = &self.host_name {
            write!(f, " \"{name}\"")?;
        }
        write!(f, " (generation {})", self.generation)?;
        write_guest(f, self.note.as_ref(), ",")
    }
}

/// The part of a refusal that a disklease host's note tells.
fn write_guest(f: &mut fmt::Formatter<'_>, note: Option<&HolderNote>, end: &str) -> fmt::Result {
    let Some(note) = note else { return Ok(()) };
    let guest = note.guest_name.escape_debug();
    write!(f, " for guest \"{guest}\", process {}{end}", note.pid)
}
