//! Joining: open, recognise, claim the host id while watching the others, start the thread, and see
//! that the others go by the same fire timeout.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::board::ProcessTimer;
use super::claim::claim_with_timer;
use super::error::JoinError;
use super::host_fence::HostFence;
use super::leave::wait_for_io;
use super::life_lock::{InUseHere, LifeLock};
use super::options::{JoinProgress, LockspaceOptions, Watchdog};
use super::recognise::recognise;
use super::registry::{Joined, NotEntered};
use super::reread_pools::RereadPools;
use super::thread::RenewalThread;
use super::{
    HolderBoard, Inner, LeaseTable, Lockspace, LossReason, OwnerWatch, PathWatch, RenewalRecord,
    Shared, WatchedFile,
};
use crate::delta_lease::{
    AgreeError, ClaimProgress, Claimant, DeltaLease, EarlierLife, HostTable, InDoubt,
    LockspaceArea, Membership, agree_on_fire_timeout,
};
use crate::fence::{Deadman, HostWatchdog, WDMD_SOCKET, WatchdogDevice, WatchdogError, Wdmd};
use crate::format::{Hex, HostId, HostName, Incarnation, LockspaceName};
use crate::libvirt;
use crate::probe::mutation;
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
    /// watched, so that afterwards their life is known. A host that tells another fire timeout, and
    /// was not seen to live, is waited for like the owner of an id: a join beside one that lives is
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
            .map_err(JoinError::of_open)?;
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
            .map_err(JoinError::Open)?;
        self.join_opened(opened, None, host_id)
    }

    /// `named`: how its path was opened, if it was opened by its path.
    fn join_opened(
        self,
        opened: OpenedDisk,
        named: Option<Links>,
        host_id: HostId,
    ) -> Result<Lockspace, JoinError> {
        let timing = Timing::new(
            IoTimeout::new(self.io_timeout)?,
            FireTimeout::new(self.fire_timeout)?,
        );
        if self.deadman && !Deadman::is_of_use() {
            return Err(JoinError::DeadmanOfInit);
        }
        let boot_id = clock::boot_id().map_err(JoinError::BootId)?;
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
        let joined = Joined::enter(opened.info().identity(), self.offset, host_id)
            .map_err(|error| not_entered(error, &path))?;

        let deadman = self.deadman.then(Deadman::new).transpose();
        let deadman = deadman.map_err(JoinError::Deadman)?;
        let threads = |error| JoinError::Threads { error };
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
            return Err(JoinError::HostIdTooLarge {
                host_id,
                geometry: area.geometry,
            });
        }

        // Before the watchdog is tried: an earlier process of this host id may be using it.
        let life_lock = LifeLock::take(self.runtime_dir.as_deref(), &path, &area.name, host_id)
            .map_err(|InUseHere { lock, pid }| JoinError::HostIdInUseHere {
                path: path.clone(),
                host_id,
                lock,
                pid,
            })?;
        let life_lock = life_lock.map(Arc::new);
        let watchdog = self.probe_watchdog(&area.name, host_id, timing)?;
        let incarnation = clock::random_bits().map_err(JoinError::Random)?;
        let claimant = Claimant {
            host_id,
            host_name,
            timing,
            pid: std::process::id(),
            boot_id,
            incarnation: Incarnation::new(incarnation)
                .ok_or(JoinError::Random(OsError(libc::EIO)))?,
            life_mark: 0,
            earlier_life: EarlierLife::MayRun,
        };
        let proof = life_lock.as_deref().filter(|_| !self.holds_for_others);
        let claimant = with_proof(claimant, proof, &area.disk);
        let (lease, hosts) = match self.claim(&area, &claimant, deadman.as_ref()) {
            Ok(claimed) => claimed,
            Err(error) => {
                let left = wait_for_io(&[&lockspace_pool], timing.io());
                joined.end_after(left, life_lock);
                return Err(error);
            }
        };

        let disk = area.disk.clone();
        let membership = Membership::new(area, &lease, hosts);
        let shared = Arc::new(Shared {
            membership,
            leases: Arc::new(LeaseTable::default()),
            board: HolderBoard::new(timing, lease.renewed_at(), deadman.map(boxed)),
            renewals: RenewalRecord::default(),
            host_fence: HostFence::new(watchdog),
            named: named.map(|links| WatchedFile::new(NamedFile::new(path, links, disk), None)),
            watch: PathWatch::default(),
            directories: Mutex::default(),
            life_lock: Mutex::new(life_lock),
        });
        let inner = Inner {
            host_name,
            boot_id,
            pid: std::process::id(),
            owners: OwnerWatch::new(),
            thread: Mutex::new(None),
            lockspace_pool,
            lease_pool,
            reread_pools,
            joined: Mutex::new(Some(joined)),
            shared,
        };
        inner.begin(&lease, &self)
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
    ) -> Result<(DeltaLease, HostTable), JoinError> {
        let progress = |event| self.tell(&event);
        let timer = deadman.map(|deadman| -> &dyn ProcessTimer { deadman });
        let claim = claim_with_timer(&StorageWorld, area, claimant, &progress, timer);
        let claimed = block_on(claim).map_err(JoinError::Deadman)?;
        claimed.map_err(|error| JoinError::of_claim(error, area.disk.info().path()))
    }

    fn tell(&self, event: &ClaimProgress) {
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
        self.hear(event);
    }

    fn tell_doubt(&self, doubt: InDoubt) {
        let InDoubt {
            host_id,
            theirs,
            dead_at,
        } = doubt;
        let fire_timeout = theirs.as_duration();
        let remaining = dead_at.since(clock::now());
        tracing::info!(%host_id, ?fire_timeout, ?remaining, "waiting for a host with another fire timeout");
        self.hear(JoinProgress::WaitingForHost {
            host_id,
            fire_timeout,
            remaining,
        });
    }

    fn hear(&self, event: JoinProgress) {
        if let Some(hear) = &self.on_progress {
            hear(event);
        }
    }
}

impl Inner {
    /// Starts the life that was claimed with `lease`, or frees its host id again.
    fn begin(self, lease: &DeltaLease, options: &LockspaceOptions) -> Result<Lockspace, JoinError> {
        let membership = &self.shared.membership;
        match RenewalThread::start(&self.shared, lease.clone()) {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => {
                self.free(lease);
                return Err(JoinError::Threads { error });
            }
        }
        // Already with the thread: it may take longer than the claim lasts, and the scans of the
        // renewals are what the others are judged by. One reader at a time feeds their table: with
        // two the older scan could be taken in last.
        let tell = |doubt| options.tell_doubt(doubt);
        let agreed = agree_on_fire_timeout(&StorageWorld, membership, lease.claimed_at(), &tell);
        if let Err(error) = block_on(agreed) {
            return Err(self.give_up(error));
        }
        tracing::info!(
            lockspace = %membership.area().name,
            host_id = membership.host_id().get(),
            generation = membership.generation().get(),
            host_name = %self.host_name,
            "joined the lockspace"
        );
        Ok(Lockspace {
            inner: Arc::new(self),
        })
    }

    /// Leaves again, before anybody could use the join.
    fn give_up(self, error: AgreeError) -> JoinError {
        if let Err(error) = self.leave() {
            tracing::warn!(%error, "a join that failed could not free its host id");
        }
        let membership = &self.shared.membership;
        let path = membership.area().disk.info().path().to_owned();
        match error {
            AgreeError::Differs { host_id, theirs } => JoinError::FireTimeoutDiffers {
                path,
                other: host_id,
                theirs: theirs.as_duration(),
                ours: membership.timing().fire_timeout().as_duration(),
            },
            AgreeError::Lost => JoinError::Lost {
                path,
                host_id: membership.host_id(),
                // Where the clock alone told it, nobody has announced it before the leave.
                reason: match self.shared.board.reason() {
                    None | Some(LossReason::Left) => LossReason::NotRenewed,
                    Some(reason) => reason,
                },
            },
        }
    }
}

/// `claimant` with what `lock` proves of an earlier life. From now on it records this one.
fn with_proof(mut claimant: Claimant, lock: Option<&LifeLock>, disk: &Disk) -> Claimant {
    let Some(lock) = lock else {
        return claimant;
    };
    claimant.life_mark = lock.mark();
    lock.record(claimant.incarnation);
    // The lock says that the processes are gone. Their I/O is only where it ends with them.
    let io_is_gone = disk.info().io_dies_with_process() || mutation!(NetworkIoForgotten);
    if let Some(earlier) = lock.earlier().filter(|_| io_is_gone) {
        claimant.earlier_life = EarlierLife::ProvenOver(earlier);
    }
    claimant
}

fn boxed(deadman: Deadman) -> Box<dyn ProcessTimer> {
    Box::new(deadman)
}

fn not_entered(error: NotEntered, path: &Path) -> JoinError {
    let path = path.to_owned();
    match error {
        NotEntered::Joined(as_host) => JoinError::AlreadyJoined { path, as_host },
        NotEntered::IoInFlight => JoinError::IoInFlight { path },
    }
}

/// This machine's name and the beginning of its boot id: unique, and another after each boot.
fn default_host_name(boot_id: &[u8; 16]) -> Result<HostName, JoinError> {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    let boot = Hex(boot_id.get(..6).unwrap_or(boot_id)).to_string();
    let mut name = String::new();
    for c in machine.chars() {
        // The rest of the 47 bytes is for the dot and the boot.
        if name
            .len()
            .saturating_add(c.len_utf8())
            .saturating_add(boot.len())
            > 46
        {
            break;
        }
        name.push(c);
    }
    HostName::new(&format!("{name}.{boot}")).map_err(JoinError::HostName)
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
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::libvirt::LeaseDirectory;

    #[test]
    #[ignore = "is to be process 1: run by another test"]
    fn joined_by_process_1() {
        assert_eq!(std::process::id(), 1);
        let dir = tempfile::tempdir().unwrap();
        let n = Duration::from_secs(1);
        let path = LeaseDirectory::new(dir.path()).create_lockspace(n).unwrap();
        let options = Lockspace::options(Watchdog::None).io_timeout(n);
        let options = options.runtime_dir(dir.path().join("run"));
        let joined = options.clone().join(&path, HostId::FIRST);
        assert!(matches!(joined, Err(JoinError::DeadmanOfInit)));
        let joined = options.without_deadman().join(&path, HostId::FIRST);
        joined.unwrap().leave().unwrap();
    }

    /// It would survive its timer, and take others to be safe from it.
    #[test]
    fn process_1_of_a_container_is_told_that_no_timer_can_kill_it() {
        let unshare = || {
            let mut unshare = Command::new("unshare");
            unshare
                .args(["--user", "--map-root-user", "--pid", "--fork"])
                .stdout(Stdio::null());
            unshare
        };
        if !unshare()
            .arg("true")
            .status()
            .is_ok_and(|ended| ended.success())
        {
            // No namespaces are to be had here, so no process 1 either.
            return;
        }
        let ended = unshare()
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored"])
            .arg("lockspace::join::tests::joined_by_process_1")
            .status()
            .unwrap();
        assert!(ended.success(), "{ended}");
    }
}
