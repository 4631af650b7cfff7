//! What all machines of a run share: the storage, the disks, the history.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use disklease::LeaseDirectory;
use disklease::format::{Geometry, ResourceName, lease_image};
use disklease::libvirt::{LOCKSPACE_NAME, lease_name, lockspace_name};
use tempfile::TempDir;

use super::counter::Counter;
use super::history::History;
use disklease_fixtures::host_process::IO_TIMEOUT;
use disklease_fixtures::sanlock::ScratchLease;

/// Where the counters, the history and the words of the processes lie. Memory, if there is some: nothing there may
/// hang.
const MEMORY: &str = "/dev/shm";

/// 8N: a host without a renewal for so long holds nothing.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(8 * IO_TIMEOUT.as_secs());

pub(crate) struct Place {
    /// F.
    pub(crate) fire_timeout: Duration,
    pub(crate) disks: Vec<Disk>,
    pub(crate) history: History,
    /// The lease directory behind all mounts.
    pub(crate) shared: PathBuf,
    stage: AtomicU8,
    // Removed on drop.
    scratch: ScratchLease,
    memory: TempDir,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Chaos,
    /// The time has ended, but something has not happened that has to.
    Overtime,
    /// Moves under way are made to their end.
    Calm,
    End,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Chaos, Self::Overtime, Self::Calm, Self::End];
}

/// What the guests want to write to.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) lease: ResourceName,
    pub(crate) counter: PathBuf,
}

impl Place {
    pub(crate) fn new(fire_timeout: Duration, disks: usize) -> Self {
        let scratch = ScratchLease::new();
        let memory = if Path::new(MEMORY).is_dir() {
            TempDir::with_prefix_in("disklease-chaos-", MEMORY)
        } else {
            TempDir::with_prefix_in("chaos-", scratch.path())
        };
        let memory = memory.expect("a directory");
        let shared = scratch.path().join("shared");
        let leases = LeaseDirectory::new(&shared).geometry(Geometry::S512_A1M);
        leases.create_lockspace(IO_TIMEOUT).expect("a lockspace");
        let disks = (0..disks).map(|number| {
            let path = PathBuf::from(format!("/var/lib/libvirt/images/{number}.img"));
            let disk = Disk {
                lease: lease_name(&path),
                counter: memory.path().join(format!("counter{number}")),
                path,
            };
            let geometry = Geometry::S512_A1M;
            let image = lease_image(geometry, &lockspace_name(), &disk.lease, 0);
            let file = leases.lease_path(&disk.path);
            std::fs::write(&file, image).expect("a lease file");
            File::open(&file)
                .and_then(|file| file.sync_all())
                .expect("a lease file");
            Counter::create(&disk.counter);
            disk
        });
        Self {
            fire_timeout,
            disks: disks.collect(),
            history: History::open(&memory.path().join("history")),
            shared,
            stage: AtomicU8::new(0),
            scratch,
            memory,
        }
    }

    /// A new directory or file of one machine alone, which is not shared storage.
    pub(crate) fn local(&self, name: &str) -> PathBuf {
        self.memory.path().join(name)
    }

    /// Where a machine mounts the shared storage.
    pub(crate) fn mount_point(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn lockspace(&self) -> PathBuf {
        self.shared.join(LOCKSPACE_NAME)
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.stage.load(Ordering::Acquire))]
    }

    /// Nobody waits for anything any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.stage() == Stage::End
    }

    /// 8N + F: before that a machine has been stopped, after that others take over.
    pub(crate) fn stopped_by(&self) -> Duration {
        LOST_AFTER + self.fire_timeout
    }
}
