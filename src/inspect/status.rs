//! The status of a lease directory: which hosts live, which disks are held, by whom.

use std::path::PathBuf;
use std::time::Duration;

use super::error::{InspectError, InspectErrorKind};
use super::file::{Area, area_at};
use super::held::{self, HeldDisk, LeaseProblem};
use super::hosts::{self, HostStatus};
use super::local::Machine;
use super::source::Source;
use crate::delta_lease::{HostState, HostTable, ReadSpan};
use crate::format::{Geometry, HostId, LockspaceId};
use crate::libvirt::{LeaseDirectory, lockspace_name};
use crate::runtime::clock;
use crate::runtime::disk::{Links, OpenErrorKind, StorageWorld};
use crate::runtime::executor::block_on;
use crate::timing::FireTimeout;
use crate::world::{Timestamp, World};

/// How often the lockspace is read while the hosts are observed.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// How much longer hosts are observed than a live host can take for a renewal.
const WATCH_MARGIN: Duration = Duration::from_secs(2);

/// For how long to observe the hosts of a lockspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Watch {
    /// Not at all: a single read, which cannot tell whether a host lives.
    Once,
    /// Until each host has renewed, but for no longer than a live host can take for a renewal: twice the
    /// longest io timeout of the hosts, and 2 s.
    UntilSeen,
    /// For this long, whatever the reads show.
    For(Duration),
}

/// How to inspect a lease directory.
#[derive(Clone, Copy, Debug)]
pub struct StatusOptions {
    watch: Watch,
    fire_timeout: FireTimeout,
    timeout: Duration,
    lockspace_id: Option<LockspaceId>,
}

impl StatusOptions {
    /// Observes until each host has renewed; the fire timeout is 60 s; a read may take ten
    /// seconds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            watch: Watch::UntilSeen,
            fire_timeout: FireTimeout::DEFAULT,
            timeout: Duration::from_secs(10),
            lockspace_id: None,
        }
    }

    /// For how long to observe the hosts.
    #[must_use]
    pub const fn watch(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// The fire timeout that the hosts of this lockspace have: sanlock's hosts do not record theirs.
    #[must_use]
    pub const fn fire_timeout(self, fire_timeout: FireTimeout) -> Self {
        Self {
            fire_timeout,
            ..self
        }
    }

    /// The id that the lockspace must have.
    #[must_use]
    pub const fn lockspace_id(self, id: LockspaceId) -> Self {
        Self {
            lockspace_id: Some(id),
            ..self
        }
    }

    /// How long one read may take.
    #[must_use]
    pub const fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

impl Default for StatusOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a lease directory shows to an observer who takes no part in its lockspace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseDirectoryStatus {
    /// The directory.
    pub path: PathBuf,
    /// The id of its lockspace, if there is a good one. A lockspace that sanlock made has none.
    pub lockspace_id: Option<LockspaceId>,
    /// The sizes of its lockspace.
    pub geometry: Geometry,
    /// Whether everything was read past the page cache. If not, what other hosts wrote may not be
    /// seen.
    pub is_direct: bool,
    /// For how long the hosts were observed.
    pub watched_for: Duration,
    /// The host ids that were ever used, and those whose sector is damaged.
    pub hosts: Vec<HostStatus>,
    /// The disks that are held.
    pub held: Vec<HeldDisk>,
    /// How many lease files there are, held or not.
    pub lease_files: usize,
    /// What is wrong with lease files.
    pub problems: Vec<LeaseProblem>,
}

impl LeaseDirectoryStatus {
    /// Inspects `directory`. Blocks for as long as the hosts are observed.
    ///
    /// The leases are read before the last read of the hosts: a holder whose host has left by then
    /// is not shown.
    ///
    /// # Errors
    ///
    /// [`InspectError`] where the lockspace cannot be read or is none. Damage is part of what is
    /// shown.
    pub fn observe(
        directory: &LeaseDirectory,
        options: StatusOptions,
    ) -> Result<Self, InspectError> {
        let (source, geometry, lockspace_id) = open_lockspace(directory, options)?;
        let mut table = HostTable::new(geometry, lockspace_name(), options.fire_timeout, None);
        let started = clock::now();
        scan(&source, geometry, &mut table)?;
        let first_read = clock::now();
        while let Some(left) = options.watch.left(&table, first_read) {
            block_on(StorageWorld.sleep(left.min(SCAN_INTERVAL)));
            scan(&source, geometry, &mut table)?;
        }
        let leases = held::read_all(directory.path(), options.timeout)?;
        let machine = Machine::now();
        scan(&source, geometry, &mut table)?;
        let now = clock::now();
        Ok(Self {
            path: directory.path().to_owned(),
            lockspace_id,
            geometry,
            is_direct: source.info().is_direct() && leases.is_direct,
            watched_for: now.since(started),
            hosts: hosts::all(&table, &machine, now),
            held: leases.held(&table),
            lease_files: leases.files.len(),
            problems: leases.problems(),
        })
    }

    /// What was seen of this host. `None` if the host id was never used.
    #[must_use]
    pub fn host(&self, host: HostId) -> Option<&HostStatus> {
        self.hosts.iter().find(|status| status.host_id == host)
    }
}

impl Watch {
    /// For how much longer the hosts are to be observed, after a first read at `first_read`; `None` for no longer.
    fn left(self, table: &HostTable, first_read: Timestamp) -> Option<Duration> {
        let now = clock::now();
        let limit = match self {
            Self::Once => None,
            Self::UntilSeen => longest_silence(table, now),
            Self::For(time) => Some(time),
        };
        let left = limit?.saturating_sub(now.since(first_read));
        Some(left).filter(|left| !left.is_zero())
    }
}

/// The lockspace of `directory`, open for reading, with its geometry and its id.
fn open_lockspace(
    directory: &LeaseDirectory,
    options: StatusOptions,
) -> Result<(Source, Geometry, Option<LockspaceId>), InspectError> {
    let path = directory.lockspace_path();
    let source = Source::open(&path, Links::Refuse, options.timeout);
    let source = source.map_err(|error| match error.kind() {
        InspectErrorKind::Open(OpenErrorKind::NotFound) => {
            InspectError::new(&path, InspectErrorKind::Missing)
        }
        _ => error,
    })?;
    let Area::Lockspace(lockspace) = area_at(&source, 0)? else {
        return Err(source.error(InspectErrorKind::NoLockspace));
    };
    let found = lockspace.id.present();
    match options.lockspace_id {
        Some(expected) if found != Some(expected) => {
            Err(source.error(InspectErrorKind::OtherLockspace { expected, found }))
        }
        _ => Ok((source, lockspace.geometry, found)),
    }
}

/// Reads all host ids once.
fn scan(source: &Source, geometry: Geometry, table: &mut HostTable) -> Result<(), InspectError> {
    let len = geometry.area_size();
    let started = clock::now();
    let mut area = source.read(0, len)?.from(0).to_vec();
    let completed = clock::now();
    // Where the file is cut, nothing is known of a host: zeros are a damaged sector.
    area.resize(len, 0);
    table.observe(&area, ReadSpan { started, completed });
    Ok(())
}

/// For how long hosts may be silent that have not renewed so far; `None` if all have.
fn longest_silence(table: &HostTable, now: Timestamp) -> Option<Duration> {
    let unseen = table.iter().filter(|(host, record)| {
        record.damage.is_none()
            && !record.silence.renewal_seen()
            && table.state(*host, now) != HostState::Free
    });
    let longest = unseen
        .map(|(_, record)| record.silence.timing().renewal_interval())
        .max()?;
    Some(longest.saturating_add(WATCH_MARGIN))
}
