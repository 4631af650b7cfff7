//! The other hosts, as the scans of the lockspace show them.

use std::collections::BTreeMap;

use super::record::DeltaRecord;
use super::rules;
use super::silence::{HostState, Silence};
use super::watch::{ReadSpan, Watcher};
use crate::format::{FormatError, Geometry, HostId, LockspaceName};
use crate::timing::FireTimeout;
use crate::world::Timestamp;

/// What was last seen of one host id that was ever used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// What the reads of the sector show of whether the host is alive.
    pub silence: Silence,
    /// What was wrong with the sector at the last read, if anything. The rest is then what was seen
    /// before; or a record of nobody with the longest times that there are, if the sector was always damaged.
    pub damage: Option<FormatError>,
}

impl HostRecord {
    /// What the last good read of the sector showed.
    #[must_use]
    pub const fn seen(&self) -> &DeltaRecord {
        self.silence.seen()
    }

    /// The state of the host at `now`. A damaged sector is never proof of death: its owner may be
    /// renewing it in a way that cannot be read.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> HostState {
        if rules::counts(self.damage) {
            self.silence.state(now)
        } else {
            HostState::Unknown
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

    /// Takes in the whole area, as a read showed it.
    pub fn observe(&mut self, area: &[u8], read: ReadSpan) {
        self.scanned_from = Some(read.started);
        let by = Watcher::Table(self.fire_timeout);
        let nobody = DeltaRecord::of_nobody(self.geometry, &self.name);
        let sectors = area
            .chunks_exact(self.geometry.sector_size())
            .take(usize::from(self.geometry.max_hosts()));
        for (id, sector) in (1_u64..).zip(sectors) {
            let Ok(host) = HostId::new(id) else { break };
            let first = |seen| HostRecord {
                silence: Silence::first(by, seen, read),
                damage: None,
            };
            match DeltaRecord::decode(sector, host, &self.name) {
                Ok(seen) if seen.is_never_used() => {
                    self.records.remove(&host);
                }
                Ok(seen) => {
                    if let Some(record) = self.records.get_mut(&host) {
                        record.silence.observe(&seen, read);
                        record.damage = None;
                    } else {
                        self.records.insert(host, first(&seen));
                    }
                }
                Err(error) => {
                    tracing::trace!(name: "sector_damaged", host_id = %host, %error,
                        "the sector of a host is damaged");
                    let record = self.records.entry(host);
                    record.or_insert_with(|| first(&nobody)).damage = Some(error);
                }
            }
        }
    }
}
