//! The other hosts, as the scans of the lockspace show them.

use std::collections::BTreeMap;

use super::record::DeltaRecord;
use super::rules;
use super::silence::{HostState, Silence};
use super::watch::{ReadSpan, Watcher};
use crate::format::{
    DeltaLeader, FormatError, Generation, Geometry, HostId, HostNote, Incarnation, LockspaceName,
    NameBytes,
};
use crate::probe::witness;
use crate::timing::{FireTimeout, IoTimeout};
use crate::world::Timestamp;

/// What was last seen of one host id that was ever used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRecord {
    silence: Option<Silence>,
    damage: Option<FormatError>,
}

impl HostRecord {
    /// What the reads of the sector show of the host's life; `None` if all of them found damage.
    #[must_use]
    pub const fn silence(&self) -> Option<&Silence> {
        self.silence.as_ref()
    }

    /// What was wrong with the sector at the last read, if anything. The rest is then what was seen
    /// before, or nothing.
    #[must_use]
    pub const fn damage(&self) -> Option<FormatError> {
        self.damage
    }

    fn leader(&self) -> Option<&DeltaLeader> {
        self.silence().map(|silence| &silence.seen().leader)
    }

    /// Which join of the host id.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.leader()
            .map_or(Generation::new(0), DeltaLeader::generation)
    }

    /// The name of the host that owns, or last owned, the id.
    #[must_use]
    pub fn host_name(&self) -> NameBytes {
        self.leader()
            .map_or(NameBytes::EMPTY, DeltaLeader::host_name)
    }

    /// What stands in the sector as time of the last renewal; 0 when the id is free. Says nothing but
    /// "changed".
    #[must_use]
    pub fn timestamp_secs(&self) -> u64 {
        self.leader().map_or(0, DeltaLeader::timestamp_secs)
    }

    /// The host's io timeout, the longest where nothing is known of it.
    #[must_use]
    pub fn io_timeout(&self) -> IoTimeout {
        self.silence()
            .map_or(IoTimeout::MAX, |silence| silence.timing().io_timeout())
    }

    /// Our note, when a disklease host wrote the sector.
    #[must_use]
    pub fn note(&self) -> Option<&HostNote> {
        self.silence()
            .and_then(|silence| silence.seen().note.as_ref())
    }

    /// Which incarnation of the host wrote the sector, where that is told.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.silence()
            .and_then(|silence| silence.seen().incarnation())
    }

    /// The state of the host at `now`. A damaged sector is never proof of death: its owner may be
    /// renewing it in a way that cannot be read.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> HostState {
        match self.silence() {
            Some(silence) if rules::counts(self.damage) => silence.state(now),
            _ => HostState::Unknown,
        }
    }

    fn take_in(&mut self, by: Watcher, seen: &DeltaRecord, read: ReadSpan) {
        self.damage = None;
        if let Some(silence) = &mut self.silence {
            silence.observe(seen, read);
        } else {
            self.silence = Some(Silence::first(by, seen, read));
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
    records: BTreeMap<HostId, HostRecord>,
    scanned_from: Option<Timestamp>,
}

impl HostTable {
    /// A table that has seen nothing. `own` is always live in it, whatever the scans show.
    #[must_use]
    pub const fn new(
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
            records: BTreeMap::new(),
            scanned_from: None,
        }
    }

    /// What was seen of `host`. `None` when its id was never used, or no scan was made yet.
    #[must_use]
    pub fn record(&self, host: HostId) -> Option<&HostRecord> {
        self.records.get(&host)
    }

    /// The state of `host` at `now`. An id that was never used is free.
    #[must_use]
    pub fn state(&self, host: HostId, now: Timestamp) -> HostState {
        if self.own == Some(host) {
            return HostState::Live;
        }
        self.record(host)
            .map_or(HostState::Free, |record| record.state(now))
    }

    /// All ids that were ever used, in order.
    pub fn iter(&self) -> impl Iterator<Item = (HostId, &HostRecord)> {
        self.records.iter().map(|(&host, record)| (host, record))
    }

    /// When the last scan that was taken in was started. What came after that was not seen.
    #[must_use]
    pub const fn scanned_from(&self) -> Option<Timestamp> {
        self.scanned_from
    }

    fn entry(&mut self, host: HostId) -> &mut HostRecord {
        self.records.entry(host).or_default()
    }

    /// Takes in the whole area, as a read showed it.
    pub fn observe(&mut self, area: &[u8], read: ReadSpan) {
        self.scanned_from = Some(read.started);
        let by = Watcher::Table(self.fire_timeout);
        let sectors = area
            .chunks_exact(self.geometry.sector_size())
            .take(usize::from(self.geometry.max_hosts()));
        for (id, sector) in (1_u64..).zip(sectors) {
            let Ok(host) = HostId::new(id) else { break };
            match DeltaRecord::decode(sector, host, &self.name) {
                Ok(seen) if seen.is_never_used() => {
                    self.records.remove(&host);
                }
                Ok(seen) => self.entry(host).take_in(by, &seen, read),
                Err(error) => {
                    witness!(SectorDamaged);
                    self.entry(host).damage = Some(error);
                }
            }
        }
    }
}
