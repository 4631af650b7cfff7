//! Joining: open, recognise, claim the host id while the others are observed, start the threads, and see
//! that the others go by the same fire timeout.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Lockspace;
use super::error::{JoinError, JoinErrorKind};
use super::health::RenewalRecord;
use super::joined::{Joined, NotEntered};
use super::live::{Inner, wait_for_io};
use super::options::{JoinProgress, LockspaceOptions, OnProgress, Watchdog};
use super::owners::OwnerWatch;
use super::path_watch::PathWatch;
use super::process_lock::{InUseHere, ProcessLock};
use super::recognise::recognise;
use super::reread_pools::RereadPools;
use super::rules;
use super::shared::{LeaseTable, Shared};
use super::threads::Threads;
use super::watchdog_use::WatchdogUse;
use super::watched_file::WatchedFile;
use crate::delta_lease::{
    AgreeError, ClaimProgress, Claimant, DeltaLease, EarlierIncarnation, HostTable, InDoubt,
    LockspaceArea, Membership, agree_on_fire_timeout,
};
use crate::fence::{Deadman, HostWatchdog, WDMD_SOCKET, WatchdogDevice, WatchdogError, Wdmd};
use crate::format::{Hex, HostId, HostName, Incarnation, LockspaceName};
use crate::host::{HolderRegistry, LossReason, ProcessTimer, claim_with_timer};
use crate::libvirt;
use crate::runtime::clock;
use crate::runtime::disk::{
    Access, Disk, IoPool, Links, NamedFile, OpenOptions, OpenedDisk, StorageWorld,
};
use crate::runtime::executor::block_on;
use crate::timing::{FireTimeout, IoTimeout, Timing};
use crate::world::{OsError, Timestamp};

/// Workers for the lockspace: one for a read, one for a write, one for when a read hangs.
const LOCKSPACE_THREADS: usize = 3;
/// Workers for the leases at most: each lease under way needs one.
const LEASE_THREADS_MAX: usize = 16;

impl LockspaceOptions {
    /// Joins the lockspace in the file or device at `path` as host `host_id`.
    ///
    /// Blocks for 2N when the id is free, where N is the io timeout that stands in its sector; for
    /// 8N + F and a second more when it was left owned by a crash. Meanwhile the other hosts are
    /// watched, so that afterwards it is known which of them live. A host that names another fire timeout,
    /// and was not seen to live, is waited for like the owner of an id: a join beside a live one is
    /// refused. Symbolic links are followed below `/dev` only.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: each way in which a lockspace can be missing, damaged, foreign or
    /// unreachable, and each way in which the host id can be somebody else's.
    pub fn join(self, path: impl AsRef<Path>, host_id: HostId) -> Result<Lockspace, JoinError> {
        let path = path.as_ref();
        let links = if path.starts_with("/dev") {
            Links::Follow
        } else {
            Links::Refuse
        };
        let opened = OpenOptions::new(Access::ReadWrite)
            .links(links)
            .open(path)
            .map_err(|error| JoinError::new(path, host_id, error.into()))?;
        self.join_opened(opened, Some(links), host_id)
    }

    /// The same for a descriptor that the caller has opened for reading and writing.
    ///
    /// # Errors
    ///
    /// As [`Self::join`].
    pub fn join_fd(self, fd: OwnedFd, host_id: HostId) -> Result<Lockspace, JoinError> {
        let opened = OpenOptions::new(Access::ReadWrite)
            .adopt(fd)
            .map_err(|error| {
                let path = error.path().to_owned();
                JoinError::new(&path, host_id, JoinErrorKind::Open(error))
            })?;
        self.join_opened(opened, None, host_id)
    }

    /// `named`: how its path was opened, if it was opened by its path.
    fn join_opened(
        self,
        opened: OpenedDisk,
        named: Option<Links>,
        host_id: HostId,
    ) -> Result<Lockspace, JoinError> {
        let path = opened.info().path().to_owned();
        let joined = self.try_join(opened, named, host_id);
        joined.map_err(|kind| JoinError::new(&path, host_id, kind))
    }

    fn try_join(
        self,
        opened: OpenedDisk,
        named: Option<Links>,
        host_id: HostId,
    ) -> Result<Lockspace, JoinErrorKind> {
        let timing = Timing::new(
            IoTimeout::new(self.io_timeout)?,
            FireTimeout::new(self.fire_timeout)?,
        );
        if self.deadman && !Deadman::is_of_use() {
            return Err(JoinErrorKind::DeadmanOfInit);
        }
        let boot_id = clock::boot_id().map_err(JoinErrorKind::BootId)?;
        let host_name = match self.host_name {
            Some(name) => name,
            None => default_host_name(&boot_id)?,
        };
        let path = opened.info().path().to_owned();
        if let (Some(file_system), false) =
            (opened.info().file_system_of_one_host(), self.single_host)
        {
            libvirt::warn_of_one_host(&path, file_system);
        }
        let joined =
            Joined::enter(opened.info().identity(), self.offset, host_id).map_err(|error| {
                match error {
                    NotEntered::Joined(as_host) => JoinErrorKind::AlreadyJoined { as_host },
                    NotEntered::IoInFlight => JoinErrorKind::IoInFlight,
                }
            })?;

        let deadman = self.deadman.then(Deadman::new).transpose();
        let deadman = deadman.map_err(JoinErrorKind::Deadman)?;
        let threads = JoinErrorKind::Threads;
        let lockspace_pool =
            IoPool::new("dl-lockspace", LOCKSPACE_THREADS..=LOCKSPACE_THREADS).map_err(threads)?;
        let fixed = self.lease_threads;
        let lease_threads = fixed.map_or(1..=LEASE_THREADS_MAX, |number| number..=number);
        let lease_pool = IoPool::new("dl-lease", lease_threads).map_err(threads)?;
        let reread_pools =
            RereadPools::new(opened.info().identity().file_system(), fixed.is_some())
                .map_err(threads)?;
        let disk = Disk::new(opened, &lockspace_pool);
        let name = self.name.unwrap_or_else(libvirt::lockspace_name);
        let area = recognise(disk, self.offset, name, self.lockspace_id, timing.io())?;
        if host_id.get() > area.geometry.max_hosts() {
            let geometry = area.geometry;
            return Err(JoinErrorKind::HostIdTooLarge { geometry });
        }

        // Before the watchdog is tried: an earlier process of this host id may be using it.
        let lock = ProcessLock::take(self.runtime_dir.as_deref(), &path, &area.name, host_id)
            .map_err(|InUseHere { lock, pid }| JoinErrorKind::HostIdInUseHere { lock, pid })?;
        let lock = lock.map(Arc::new);
        let watchdog = self.probe_watchdog(&area.name, host_id, timing)?;
        let incarnation = clock::random_bits().map_err(JoinErrorKind::Random)?;
        let claimant = Claimant {
            host_id,
            host_name,
            timing,
            pid: std::process::id(),
            boot_id,
            incarnation: Incarnation::new(incarnation)
                .ok_or(JoinErrorKind::Random(OsError::new(libc::EIO)))?,
            process_token: 0,
            earlier_incarnation: EarlierIncarnation::MayRun,
        };
        let proof = lock.as_deref().filter(|_| !self.holds_for_others);
        let claimant = with_proof(claimant, proof, &area.disk);
        let (lease, hosts) = match self.claim(&area, &claimant, deadman.as_ref()) {
            Ok(claimed) => claimed,
            Err(error) => {
                let left = wait_for_io(&[&lockspace_pool], timing.io());
                joined.end_after(left, lock);
                return Err(error);
            }
        };

        let disk = area.disk.clone();
        let timer = deadman.map(|deadman| -> Box<dyn ProcessTimer> { Box::new(deadman) });
        let membership = Membership::new(area, &lease, hosts);
        let shared = Arc::new(Shared {
            membership,
            leases: Arc::new(LeaseTable::default()),
            holders: HolderRegistry::new(timing, lease.renewed_at(), timer),
            renewals: RenewalRecord::default(),
            watchdog: WatchdogUse::new(watchdog),
            named: named.map(|links| WatchedFile::new(NamedFile::new(path, links, disk), None)),
            files: Mutex::default(),
            watch: PathWatch::default(),
            directories: Mutex::default(),
            process_lock: Mutex::new(lock),
        });
        let inner = Inner {
            host_name,
            boot_id,
            pid: std::process::id(),
            owners: OwnerWatch::new(),
            threads: Mutex::new(None),
            lockspace_pool,
            lease_pool,
            reread_pools,
            joined: Mutex::new(Some(joined)),
            shared,
        };
        begin(inner, &lease, &self)
    }

    /// The watchdog that was chosen, unarmed: sees that it is there, works, and goes with the times.
    fn probe_watchdog(
        &self,
        lockspace: &LockspaceName,
        host_id: HostId,
        timing: Timing,
    ) -> Result<Option<Box<dyn HostWatchdog>>, WatchdogError> {
        match &self.watchdog {
            Watchdog::None => Ok(None),
            Watchdog::Wdmd => {
                let socket = self.wdmd_socket.as_deref();
                let socket = socket.unwrap_or_else(|| Path::new(WDMD_SOCKET));
                let name = format!("disklease_{lockspace}:{host_id}");
                Ok(Some(Box::new(Wdmd::probe(socket, name, timing)?)))
            }
            Watchdog::Device(path) => Ok(Some(Box::new(WatchdogDevice::probe(path, timing)?))),
        }
    }

    /// Claims the host id, and watches all hosts until that is done. A process that stands still
    /// meanwhile is killed by `deadman`, which stays armed.
    fn claim(
        &self,
        area: &LockspaceArea<Disk>,
        claimant: &Claimant,
        deadman: Option<&Deadman>,
    ) -> Result<(DeltaLease, HostTable), JoinErrorKind> {
        let progress = |event| self.report(&event);
        let timer = deadman.map(|deadman| -> &dyn ProcessTimer { deadman });
        let claim = claim_with_timer(&StorageWorld, area, claimant, &progress, timer);
        let claimed = block_on(claim).map_err(JoinErrorKind::Deadman)?;
        Ok(claimed?)
    }

    fn report(&self, event: &ClaimProgress) {
        let now = clock::now();
        let event = match *event {
            ClaimProgress::WaitingForOwner {
                owner,
                generation,
                until,
            } => {
                let remaining = until.since(now);
                tracing::info!(%owner, generation = generation.get(), ?remaining, "waiting for the owner of the host id");
                JoinProgress::WaitingForOwner {
                    owner,
                    generation,
                    remaining,
                }
            }
            ClaimProgress::Confirming { until } => JoinProgress::Confirming {
                remaining: until.since(now),
            },
        };
        self.notify(event);
    }

    fn report_doubt(&self, doubt: InDoubt) {
        let InDoubt {
            host_id,
            theirs,
            dead_at,
        } = doubt;
        let fire_timeout = theirs.as_duration();
        let remaining = dead_at.since(clock::now());
        tracing::info!(%host_id, ?fire_timeout, ?remaining, "waiting for a host with another fire timeout");
        self.notify(JoinProgress::WaitingForHost {
            host_id,
            fire_timeout,
            remaining,
        });
    }

    fn notify(&self, event: JoinProgress) {
        if let Some(OnProgress(notify)) = &self.on_progress {
            notify(event);
        }
    }
}

/// Starts the threads of the member host that was claimed with `lease`, or frees its host id again.
fn begin(
    inner: Inner,
    lease: &DeltaLease,
    options: &LockspaceOptions,
) -> Result<Lockspace, JoinErrorKind> {
    let membership = &inner.shared.membership;
    match Threads::start(&inner.shared, lease.clone()) {
        Ok(threads) => *inner.threads.lock() = Some(threads),
        Err(error) => {
            inner.free(lease);
            return Err(JoinErrorKind::Threads(error));
        }
    }
    // Already with the thread: it may take longer than the claim lasts, and the scans of the
    // renewals are what the others are judged by. One reader at a time feeds their table: with
    // two the older scan could be taken in last.
    let report = |doubt| options.report_doubt(doubt);
    let agreed = agree_on_fire_timeout(&StorageWorld, membership, lease.claimed_at(), &report);
    if let Err(error) = block_on(agreed) {
        return Err(give_up(&inner, error));
    }
    tracing::info!(
        lockspace = %membership.area().name,
        host_id = membership.host_id().get(),
        generation = membership.generation().get(),
        host_name = %inner.host_name,
        "joined the lockspace"
    );
    Ok(Lockspace {
        inner: Arc::new(inner),
    })
}

/// Leaves again, before anybody could use the membership.
fn give_up(inner: &Inner, error: AgreeError) -> JoinErrorKind {
    let loss = inner.shared.loss();
    if let Err(error) = inner.leave() {
        tracing::warn!(%error, "a join that failed has not left cleanly");
    }
    match error {
        AgreeError::Differs { host_id, theirs } => JoinErrorKind::FireTimeoutDiffers {
            other: host_id,
            theirs: theirs.as_duration(),
            ours: inner
                .shared
                .membership
                .timing()
                .fire_timeout()
                .as_duration(),
        },
        AgreeError::Lost => JoinErrorKind::Lost(loss.unwrap_or(LossReason::NotRenewed)),
    }
}

/// `claimant` with what `lock` proves of an earlier generation. From now on the lock records this one.
fn with_proof(mut claimant: Claimant, lock: Option<&ProcessLock>, disk: &Disk) -> Claimant {
    let Some(lock) = lock else {
        return claimant;
    };
    claimant.process_token = lock.token();
    lock.record(claimant.incarnation);
    // The lock says that the processes are gone. Their I/O is only where it ends with them.
    let io_is_gone = rules::ends_with_processes(disk.info().io_dies_with_process());
    if let Some(earlier) = lock.earlier().filter(|_| io_is_gone) {
        claimant.earlier_incarnation = EarlierIncarnation::ProvenEnded(earlier);
    }
    claimant
}

/// This machine's name and the beginning of its boot id: unique, and another after each boot.
fn default_host_name(boot_id: &[u8; 16]) -> Result<HostName, JoinErrorKind> {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    let boot = Hex(boot_id.get(..6).unwrap_or(boot_id)).to_string();
    // The rest of the 47 bytes is for the dot and the boot.
    let room = 46_usize.saturating_sub(boot.len());
    let ends = machine
        .char_indices()
        .map(|(at, c)| at.saturating_add(c.len_utf8()))
        .take_while(|&end| end <= room);
    let name = machine.get(..ends.last().unwrap_or(0)).unwrap_or_default();
    HostName::new(&format!("{name}.{boot}")).map_err(JoinErrorKind::HostName)
}

impl ProcessTimer for Deadman {
    fn set(&self, at: Option<Timestamp>) -> Result<(), OsError> {
        match at {
            Some(at) => self.arm(at),
            None => self.disarm(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the processes are real ones")]
mod tests;
