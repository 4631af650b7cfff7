//! A lease directory with its leases made, which a test inspects from outside and its holders through storage
//! that hangs when the test says so.

use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use disklease::{LeaseDirectory, LockManager as _, PaxosManager};
use tempfile::TempDir;

use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};
use disklease_fixtures::host::{SOON, disks, host_id, lockspace_in, options, scratch, wait_until};

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
    renewals: Renewals,
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
            let guard = patiently(|| observer.acquire(disks(&[path])));
            guard.release().unwrap();
        }
        let mount = hangs.then(|| Mount::new(&leases, &dir.path().join("seen"), |_| {}));
        Self {
            mount,
            renewals: Renewals::watch(observer.lockspace().path()),
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

    /// When the sector of `host` was last seen to change.
    pub(crate) fn renewed(&self, host: u64) -> Instant {
        self.renewals.last(host).1
    }

    /// The look before that, which did not show it.
    pub(crate) fn renewed_after(&self, host: u64) -> Instant {
        self.renewals.last(host).0
    }

    /// Waits until `host` renews, and gives the instant at which its sector was seen to change.
    pub(crate) fn next_renewal(&self, host: u64) -> Instant {
        let before = self.renewed(host);
        wait_until("a renewal", Duration::from_secs(20), || {
            let last = self.renewed(host);
            (last != before).then_some(last)
        })
    }
}

/// How many sectors of hosts are inspected.
const SECTORS: usize = 64;

/// What is read at once, where direct I/O wants it. Buffered reads would be of no use: a page that is being looked
/// at may not be given up when the sector is written, and what it shows is seconds old then.
#[repr(align(4096))]
struct Sectors([u8; SECTORS * 512]);

/// The sectors of the hosts, inspected from outside all the time.
struct Renewals {
    /// Between two looks each.
    last: Arc<Mutex<Vec<(Instant, Instant)>>>,
    stop: Arc<AtomicBool>,
}

impl Renewals {
    fn watch(lockspace: &Path) -> Self {
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
        let file = File::options()
            .read(true)
            .custom_flags(direct)
            .open(lockspace)
            .unwrap();
        let last = Arc::new(Mutex::new(vec![(Instant::now(), Instant::now()); SECTORS]));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&last), Arc::clone(&stop));
        thread::spawn(move || {
            let mut before = Box::new(Sectors([0; SECTORS * 512]));
            let mut found = Box::new(Sectors([0; SECTORS * 512]));
            let mut looked = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                file.read_exact_at(&mut found.0, 0).unwrap();
                let between = (looked, Instant::now());
                let pairs = found.0.chunks(512).zip(before.0.chunks(512));
                for (host, (found, before)) in pairs.enumerate() {
                    if found != before {
                        seen.lock().unwrap()[host] = between;
                    }
                }
                looked = begun;
                std::mem::swap(&mut before, &mut found);
                thread::sleep(Duration::from_millis(3));
            }
        });
        Self { last, stop }
    }

    fn last(&self, host: u64) -> (Instant, Instant) {
        self.last.lock().unwrap()[usize::try_from(host - 1).unwrap()]
    }
}

impl Drop for Renewals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A host on the leases in `leases`, with its process lock in `dir`.
pub(crate) fn join(leases: &Path, dir: &Path, id: u64, name: &str) -> PaxosManager {
    let options = || options(dir, name).fire_timeout(F);
    let lockspace = patiently(|| options().join(lockspace_of(leases), host_id(id)));
    PaxosManager::new(lockspace, LeaseDirectory::new(leases)).unwrap()
}

/// Tried again when it fails: a machine that is busy with something else may not get an I/O done within N.
pub(crate) fn patiently<T, E: Display>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) if begun.elapsed() < SOON => println!("tried again: {error}"),
            Err(error) => panic!("{error}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
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
