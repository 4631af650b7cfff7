//! The other hosts, as seen by watching their sectors change.

use std::time::Duration;

use super::area::fire_timeout_of;
use super::{DeltaRecord, rules};
use crate::format::{
    FormatError, Generation, Geometry, HostId, HostNote, Incarnation, LockspaceName, NameBytes,
};
use crate::probe::{mutation, witness};
use crate::timing::{FireTimeout, IoTimeout, Timing};
use crate::world::Timestamp;

/// What was last seen of one host id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Which life of the host id.
    pub generation: Generation,
    /// The name of the host that owns, or last owned, the id.
    pub name: NameBytes,
    /// What stands in the sector as time of the last renewal; 0 when the id is free. It says
    /// nothing but "changed".
    pub timestamp_secs: u64,
    /// That host's io timeout.
    pub io_timeout: IoTimeout,
    /// Our note, when a disklease host wrote the sector.
    pub note: Option<HostNote>,
    /// When a read that showed the present content first ended. Only time after this counts towards
    /// death.
    pub changed_at: Timestamp,
    /// When the last read that showed the present content was begun. What came after that was not
    /// seen.
    pub unchanged_until: Timestamp,
    /// Whether the content was seen to change since it was first seen: whether a renewal was really
    /// observed.
    pub renewal_seen: bool,
    /// What was wrong with the sector at the last look, if anything. The rest is then what was seen
    /// before.
    pub damage: Option<FormatError>,
}

/// What can be said of a host, from this host's point of view, at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostState {
    /// Nobody owns the host id.
    Free,
    /// It renewed not long ago.
    Live,
    /// Its sector was seen only once so far, or is damaged: it may be alive or dead.
    Unknown {
        /// When it counts as dead, should it not renew before.
        dead_at: Timestamp,
    },
    /// It was not seen to renew for so long that its own leases must be lost to it, but it may not
    /// be stopped yet; or it renews, and only the scans are too rare.
    Failing {
        /// When it counts as dead, should a scan that is begun later show no renewal.
        dead_at: Timestamp,
    },
    /// It has not renewed for so long that it is gone for certain, and a scan that was begun after
    /// that long has shown it.
    Dead {
        /// Since when.
        since: Timestamp,
    },
}

impl HostState {
    /// Whether nobody runs under the host id any more, for certain.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Free | Self::Dead { .. })
    }

    /// The state's name, as operators know it.
    #[cfg(feature = "__sim")]
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Live => "live",
            Self::Unknown { .. } => "unknown",
            Self::Failing { .. } => "failing",
            Self::Dead { .. } => "dead",
        }
    }
}

impl HostRecord {
    /// Which run of the host wrote the sector, where that is told.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.note.as_ref().and_then(|note| note.incarnation)
    }

    /// How long this host must have been silent to be dead, counted from [`Self::changed_at`].
    #[must_use]
    pub fn dead_after(&self, fire_timeout: FireTimeout) -> Duration {
        let fire_timeout = fire_timeout_of(self.note.as_ref(), fire_timeout);
        rules::dead_after(Timing::new(self.io_timeout, fire_timeout))
    }

    /// The state at `now`.
    #[must_use]
    pub fn state(&self, fire_timeout: FireTimeout, now: Timestamp) -> HostState {
        if self.timestamp_secs == 0 && self.damage.is_none() {
            return HostState::Free;
        }
        let dead_at = self.changed_at + self.dead_after(fire_timeout);
        let age = now.since(self.changed_at);
        if age <= Timing::new(self.io_timeout, fire_timeout).lost_after() {
            return if self.renewal_seen && self.damage.is_none() {
                HostState::Live
            } else {
                HostState::Unknown { dead_at }
            };
        }
        // A damaged sector is never proof of death: its owner may be renewing it in a way that
        // cannot be read.
        if self.damage.is_some() && !mutation!(TableDamageIsSilence) {
            HostState::Unknown { dead_at }
        } else if self.unchanged_until > dead_at || mutation!(TableDeadUnseen) && now > dead_at {
            HostState::Dead { since: dead_at }
        } else {
            HostState::Failing { dead_at }
        }
    }
}

/// The table of all hosts of a lockspace, fed with scans of the whole area.
#[derive(Clone, Debug)]
pub struct HostTable {
    geometry: Geometry,
    name: LockspaceName,
    fire_timeout: FireTimeout,
    own: Option<HostId>,
    /// One for each host id that a scan has reached, from 1 on.
    records: Vec<Option<HostRecord>>,
    scanned_from: Option<Timestamp>,
}

impl HostTable {
    /// A table that has seen nothing. `own` is always live in it, whatever the scans show.
    #[must_use]
    pub fn new(
        geometry: Geometry,
        name: LockspaceName,
        fire_timeout: FireTimeout,
        own: Option<HostId>,
    ) -> Self {
        Self {
            geometry,
            name,
            fire_timeout,
            own,
            records: Vec::new(),
            scanned_from: None,
        }
    }

    /// What was seen of `host`. `None` when its id was never used, or no scan was made yet.
    #[must_use]
    pub fn record(&self, host: HostId) -> Option<&HostRecord> {
        self.records
            .get(usize::from(host.get()).checked_sub(1)?)?
            .as_ref()
    }

    /// The state of `host` at `now`. An id that was never used is free.
    #[must_use]
    pub fn state(&self, host: HostId, now: Timestamp) -> HostState {
        if self.own == Some(host) {
            return HostState::Live;
        }
        self.record(host).map_or(HostState::Free, |record| {
            record.state(self.fire_timeout, now)
        })
    }

    /// All ids that were ever used, in order.
    pub fn iter(&self) -> impl Iterator<Item = (HostId, &HostRecord)> {
        (1_u64..)
            .zip(&self.records)
            .filter_map(|(id, record)| Some((HostId::new(id).ok()?, record.as_ref()?)))
    }

    /// When the last scan that was taken in was begun. What came after that was not seen.
    #[must_use]
    pub const fn scanned_from(&self) -> Option<Timestamp> {
        self.scanned_from
    }

    /// Takes in the whole area, from a read that was begun at `read_begun` and ended at
    /// `read_ended`.
    ///
    /// Time towards a host's death is counted from the end of a read, never from its start: a
    /// renewal that this read shows was begun before the read ended. And it is counted up to the
    /// start of a read, never to the end, nor to an instant at which nobody looked: a renewal that
    /// came after the start may not have been seen. Hosts with a short io timeout renew, and die,
    /// faster than a host with a long one looks.
    pub fn observe(&mut self, area: &[u8], read_begun: Timestamp, read_ended: Timestamp) {
        self.scanned_from = Some(read_begun);
        let sectors = area
            .chunks_exact(self.geometry.sector_size())
            .take(usize::from(self.geometry.max_hosts()));
        if self.records.len() < sectors.len() {
            self.records.resize(sectors.len(), None);
        }
        for ((id, slot), sector) in (1_u64..).zip(&mut self.records).zip(sectors) {
            let Ok(host) = HostId::new(id) else { break };
            match DeltaRecord::decode(sector, host, &self.name) {
                Ok(found) => take_in(slot, &found, read_begun, read_ended),
                Err(error) => {
                    witness!(SectorDamaged);
                    match slot {
                        Some(record) => record.damage = Some(error),
                        None => *slot = Some(damaged(error, read_ended)),
                    }
                }
            }
        }
    }
}

fn take_in(
    slot: &mut Option<HostRecord>,
    found: &DeltaRecord,
    read_begun: Timestamp,
    read_ended: Timestamp,
) {
    let leader = &found.leader;
    if leader.is_free() && leader.owner_id() == 0 {
        // Never used since it was formatted.
        *slot = None;
        return;
    }
    let same_generation = slot
        .as_ref()
        .filter(|record| record.generation == leader.generation() || mutation!(TableLivesMixed));
    // What another run wrote in the same generation is no renewal of this one.
    let seen_before = same_generation.filter(|record| {
        record.incarnation() == found.incarnation() || mutation!(TableIncarnationsMixed)
    });
    let renewed =
        seen_before.is_some_and(|record| record.timestamp_secs != leader.timestamp_secs());
    let unchanged = seen_before.filter(|_| !renewed);
    let silent_from = mutation!(TableSilenceFromReadBegin, read_begun, read_ended);
    *slot = Some(HostRecord {
        generation: leader.generation(),
        name: leader.host_name(),
        timestamp_secs: leader.timestamp_secs(),
        // The field has no checksum, and only a renewal changes it: without one it must not get
        // shorter. Nor by another run, whose claim may have landed late over a host that lives still.
        io_timeout: same_generation
            .filter(|_| !renewed && !mutation!(TableTimeoutShrinks))
            .map_or(IoTimeout::MIN, |record| record.io_timeout)
            .max(found.io_timeout()),
        note: found.note,
        changed_at: unchanged.map_or(silent_from, |record| record.changed_at),
        unchanged_until: mutation!(TableSilenceToReadEnd, read_ended, read_begun),
        renewal_seen: renewed || seen_before.is_some_and(|record| record.renewal_seen),
        damage: None,
    });
}

/// The record of a sector that was damaged at the first look: nothing is known of its host.
fn damaged(error: FormatError, read_ended: Timestamp) -> HostRecord {
    HostRecord {
        generation: Generation::new(0),
        name: NameBytes::EMPTY,
        timestamp_secs: 0,
        io_timeout: IoTimeout::MAX,
        note: None,
        changed_at: read_ended,
        unchanged_until: read_ended,
        renewal_seen: false,
        damage: Some(error),
    }
}
