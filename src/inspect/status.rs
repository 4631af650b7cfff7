//! The status of a lease directory: which hosts live, which disks are held, by whom.

mod hosts;
mod leases;
mod local;

use std::path::PathBuf;
use std::time::Duration;

pub use hosts::HostStatus;
pub use leases::{HeldDisk, Holding, LeaseProblem, LeaseProblemKind};
pub use local::LocalRenewal;

use local::Machine;

use super::area::Area;
use super::error::{LookError, StatusError};
use super::file::area_at;
use super::source::Source;
use crate::delta_lease::{HostState, HostTable, ReadSpan};
use crate::format::{Geometry, HostId, LockspaceId};
use crate::libvirt::{LeaseDirectory, lockspace_name};
use crate::runtime::clock;
use crate::runtime::disk::{Links, OpenErrorKind, StorageWorld};
use crate::runtime::executor::block_on;
use crate::timing::FireTimeout;
use crate::world::{Timestamp, World};

/// How often the lockspace is read while the hosts are watched.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// What a watch waits beyond the time in which every host that lives must renew.
const WATCH_MARGIN: Duration = Duration::from_secs(2);

/// For how long to watch the hosts of a lockspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Watch {
    /// Not at all: one read, which cannot tell a host that lives from one that does not.
    Once,
    /// Until each host was seen to renew, but no longer than a host that lives can take for it:
    /// twice the longest io timeout of them, and 2 s.
    UntilSeen,
    /// For this long, whatever is seen.
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
    /// Watches until each host was seen to renew; the fire timeout is 60 s; a read may take ten
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

    /// For how long to watch the hosts.
    #[must_use]
    pub const fn watch(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// The fire timeout that the hosts of this lockspace have. sanlock's hosts do not tell it.
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

/// What a lease directory shows to an observer who takes no part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseDirectoryStatus {
    /// The directory.
    pub path: PathBuf,
    /// The id of its lockspace, if it has a good one. One that sanlock made has none.
    pub lockspace_id: Option<LockspaceId>,
    /// The sizes of its lockspace.
    pub geometry: Geometry,
    /// Whether everything was read past the page cache. If not, what other hosts wrote may not be
    /// seen.
    pub is_direct: bool,
    /// For how long the hosts were watched.
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
    /// Inspects `directory`. Blocks for as long as the hosts are watched.
    ///
    /// The leases are read before the last read of the hosts: a holder whose host has left by then
    /// is not shown.
    ///
    /// # Errors
    ///
    /// [`StatusError`] where the lockspace cannot be read or is none. Damage is part of what is
    /// shown.
    pub fn observe(
        directory: &LeaseDirectory,
        options: StatusOptions,
    ) -> Result<Self, StatusError> {
        let lockspace = Lockspace::open(directory, options)?;
        let mut table = lockspace.empty_table();
        let began = clock::now();
        lockspace.scan(&mut table)?;
        lockspace.watch(&mut table, options.watch)?;
        let leases = leases::read_all(directory.path(), options.timeout)?;
        let machine = Machine::now();
        lockspace.scan(&mut table)?;
        let now = clock::now();
        let (held, problems) = leases::held(&leases, &table);
        Ok(Self {
            path: directory.path().to_owned(),
            lockspace_id: lockspace.id,
            geometry: lockspace.geometry,
            is_direct: lockspace.source.info().is_direct() && leases.is_direct,
            watched_for: now.since(began),
            hosts: hosts::all(&table, &machine, now),
            held,
            lease_files: leases.files.len(),
            problems,
        })
    }

    /// What was seen of this host. `None` if its id was never used.
    #[must_use]
    pub fn host(&self, host: HostId) -> Option<&HostStatus> {
        self.hosts.iter().find(|status| status.host_id == host)
    }
}

/// The lockspace of a lease directory, open for reading.
struct Lockspace {
    source: Source,
    geometry: Geometry,
    id: Option<LockspaceId>,
    fire_timeout: FireTimeout,
}

impl Lockspace {
    fn open(directory: &LeaseDirectory, options: StatusOptions) -> Result<Self, StatusError> {
        let path = directory.lockspace_path();
        let source =
            Source::open(&path, Links::Refuse, options.timeout).map_err(|error| match error {
                LookError::Open(error) if error.kind() == OpenErrorKind::NotFound => {
                    StatusError::Missing {
                        path: error.path().to_owned(),
                    }
                }
                error => StatusError::Lockspace(error),
            })?;
        match area_at(&source, 0).map_err(StatusError::Lockspace)? {
            (Area::Lockspace(look), _) => {
                let id = look.id.present();
                if let Some(expected) = options.lockspace_id
                    && id != Some(expected)
                {
                    return Err(StatusError::OtherLockspace {
                        path,
                        expected,
                        found: id,
                    });
                }
                Ok(Self {
                    source,
                    geometry: look.geometry,
                    id,
                    fire_timeout: options.fire_timeout,
                })
            }
            _ => Err(StatusError::NoLockspace { path }),
        }
    }

    fn empty_table(&self) -> HostTable {
        HostTable::new(self.geometry, lockspace_name(), self.fire_timeout, None)
    }

    fn scan(&self, table: &mut HostTable) -> Result<(), StatusError> {
        let len = self.geometry.area_size();
        let started = clock::now();
        let chunk = self.source.read(0, len).map_err(StatusError::Lockspace)?;
        // Where the file is cut, nothing is known of a host: zeros are a damaged sector.
        let mut area = chunk.from(0).to_vec();
        area.resize(len, 0);
        let completed = clock::now();
        table.observe(&area, ReadSpan { started, completed });
        Ok(())
    }

    fn watch(&self, table: &mut HostTable, watch: Watch) -> Result<(), StatusError> {
        let began = clock::now();
        loop {
            let now = clock::now();
            let left = match watch {
                Watch::Once => return Ok(()),
                Watch::For(time) => time.saturating_sub(now.since(began)),
                Watch::UntilSeen => match longest_silence(table, now) {
                    Some(limit) => limit.saturating_sub(now.since(began)),
                    None => return Ok(()),
                },
            };
            if left.is_zero() {
                return Ok(());
            }
            block_on(StorageWorld.sleep(left.min(SCAN_INTERVAL)));
            self.scan(table)?;
        }
    }
}

/// For how long hosts may be silent that were not yet seen to renew; `None` if all were.
fn longest_silence(table: &HostTable, now: Timestamp) -> Option<Duration> {
    let unseen = table.iter().filter(|(host, record)| {
        record.damage.is_none()
            && !record.silence.renewal_seen()
            && table.state(*host, now) != HostState::Free
    });
    let longest = unseen
        .map(|(_, record)| record.silence.timing().io_timeout())
        .max()?;
    let renewal = longest.as_duration().saturating_mul(2);
    Some(renewal.saturating_add(WATCH_MARGIN))
}
