//! A lease directory with its leases made, which a test looks at from outside and its holders through storage
//! that hangs when the test says so.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use disklease::{LeaseDirectory, LockManager as _, PaxosManager};
use tempfile::TempDir;

use crate::storage::Mount;
use crate::storage::gate::{Fault, Mode, Target};
use crate::support::{disks, host_id, lockspace_in, options, scratch};

/// F of all hosts in these tests.
pub(crate) const F: Duration = Duration::from_secs(4);

/// When things happen, counted from the last good renewal.
pub(crate) const WARNED: Duration = Duration::from_secs(6);
pub(crate) const LOST: Duration = Duration::from_secs(8);
pub(crate) const KILLED: Duration = Duration::from_secs(10);
pub(crate) const ALL_OVER: Duration = Duration::from_secs(12);

/// The host of the test itself.
const OBSERVER: u64 = 100;

pub(crate) struct Place {
    mount: Option<Mount>,
    observer: PaxosManager,
    dir: TempDir,
}

impl Place {
    /// With leases for these disks. `hangs`: holders see it through a mount.
    pub(crate) fn new(paths: &[String], hangs: bool) -> Self {
        let dir = scratch();
        let leases = dir.path().join("leases");
        std::fs::create_dir(&leases).unwrap();
        let observer = join(&leases, dir.path(), OBSERVER, "observer");
        for path in paths {
            observer.acquire(disks(&[path])).unwrap().release().unwrap();
        }
        let mount = hangs.then(|| Mount::new(&leases, &dir.path().join("seen"), |_| {}));
        Self {
            mount,
            observer,
            dir,
        }
    }

    /// What a holder is to be given for a directory.
    pub(crate) fn of_holders(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn observer(&self) -> &PaxosManager {
        &self.observer
    }

    pub(crate) fn hang(&self) {
        self.mount.as_ref().unwrap().gate().set(Fault {
            target: Target::All,
            reads: true,
            writes: true,
            mode: Mode::Hold,
        });
    }

    pub(crate) fn heal(&self) {
        self.mount.as_ref().unwrap().gate().drop_held();
    }

    /// Waits until `host` renews, and gives the instant at which its sector was seen to change.
    pub(crate) fn next_renewal(&self, host: u64) -> Instant {
        let renewals = Renewals::watch(self, host);
        renewals.next()
    }

    pub(crate) fn renewals(&self, host: u64) -> Renewals {
        Renewals::watch(self, host)
    }
}

/// The sector of a host, looked at from outside.
pub(crate) struct Renewals {
    lockspace: File,
    offset: u64,
}

impl Renewals {
    fn watch(place: &Place, host: u64) -> Self {
        let path = place.dir.path().join("leases/__LIBVIRT__DISKS__");
        Self {
            lockspace: File::open(path).unwrap(),
            offset: (host - 1) * 512,
        }
    }

    pub(crate) fn look(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        self.lockspace
            .read_exact_at(&mut sector, self.offset)
            .unwrap();
        sector
    }

    fn next(&self) -> Instant {
        let before = self.look();
        let end = Instant::now() + Duration::from_secs(20);
        while self.look() == before {
            assert!(Instant::now() < end, "no renewal is seen");
            thread::sleep(Duration::from_millis(2));
        }
        Instant::now()
    }
}

/// A host on the leases in `leases`, with its life lock in `dir`.
pub(crate) fn join(leases: &Path, dir: &Path, id: u64, name: &str) -> PaxosManager {
    let options = options(dir, name).fire_timeout(F);
    let lockspace = options.join(lockspace_of(leases), host_id(id)).unwrap();
    PaxosManager::new(lockspace, LeaseDirectory::new(leases))
}

/// Made if it is not there; in a mount it is.
fn lockspace_of(leases: &Path) -> PathBuf {
    let path = leases.join("__LIBVIRT__DISKS__");
    if path.exists() {
        path
    } else {
        lockspace_in(leases)
    }
}
