//! A lease that a live host holds, damaged in every way: no other host gets it, or writes to it.
//!
//! Host 1 joins and acquires for real. Its lockspace and its lease are copied, and host 2 judges
//! the copies: a lease held by a host that it has never seen renew, and must take for alive.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use disklease::format::{Geometry, HostName, lease_image};
use disklease::libvirt::{lease_name, lockspace_name};
use disklease::{
    AcquireError, AcquireErrorKind, LeaseDirectory, LeaseFault, LockGuard, LockManager as _,
    Lockspace, PaxosManager, Watchdog,
};

use disklease_fixtures::host::{N, bytes_of, copy_dir, disks, host_id, lockspace_in, scratch};

const DISK: &str = "/hostile/disk";
const SECTOR: usize = 512;
/// So long that no damaged look of these tests lasts until the owner counts as dead.
const FIRE_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of a leader that its checksum covers, and the checksum.
const LEADER: usize = 172;
/// The same of a host's block.
const BLOCK: usize = 52;

fn join(dir: &Path, id: u64, name: &str) -> Lockspace {
    Lockspace::options(Watchdog::None)
        .io_timeout(N)
        .fire_timeout(FIRE_TIMEOUT)
        .host_name(HostName::new(name).unwrap())
        .runtime_dir(dir.join("run"))
        .join(lockspace_in(dir), host_id(id))
        .unwrap()
}

/// What is judged: the copies, by host 2.
struct Scene {
    judge: PaxosManager,
    lockspace: PathBuf,
    lease: PathBuf,
    /// The lease as its owner left it.
    good: Vec<u8>,
    /// Held for as long as the scene is.
    holder: LockGuard,
    _dirs: [tempfile::TempDir; 2],
}

impl Scene {
    fn new() -> Self {
        Self::for_hosts(2000)
    }

    /// With a lease for so many hosts: reads of few are quicker.
    fn for_hosts(num_hosts: u16) -> Self {
        let dirs = [scratch(), scratch()];
        let [held, copied] = dirs.each_ref().map(tempfile::TempDir::path);
        let name = lease_name(Path::new(DISK));
        let area = lease_image(Geometry::S512_A1M, &lockspace_name(), &name, num_hosts);
        // No lockspace is made beside leases.
        lockspace_in(held);
        std::fs::write(held.join(name.to_string()), area).unwrap();
        let holder = PaxosManager::new(join(held, 1, "holder"), LeaseDirectory::new(held)).unwrap();
        let holder = holder.acquire(disks(&[DISK])).unwrap();
        copy_dir(held, copied);
        let judge =
            PaxosManager::new(join(copied, 2, "judge"), LeaseDirectory::new(copied)).unwrap();
        let lease = copied.join(name.to_string());
        let scene = Self {
            judge,
            lockspace: lockspace_in(copied),
            good: bytes_of(&lease),
            lease,
            holder,
            _dirs: dirs,
        };
        // Without any damage it is refused like this.
        assert!(scene.look().holder().is_some());
        scene
    }

    /// Host 2 tries to acquire, and must be refused.
    fn look(&self) -> AcquireError {
        match self.judge.acquire(disks(&[DISK])) {
            Ok(guard) => panic!("acquired a lease that is held: {guard:?}"),
            Err(error) => error,
        }
    }

    /// The lease with `bytes` at `at` instead of what was there, inspected and put back.
    fn look_with(&self, at: usize, bytes: &[u8]) -> AcquireError {
        let file = File::options()
            .read(true)
            .write(true)
            .open(&self.lease)
            .unwrap();
        let at_64 = u64::try_from(at).unwrap();
        file.write_all_at(bytes, at_64).unwrap();
        let error = self.look();
        // Nothing that any host writes by itself lies beyond the first sectors.
        let mut expected = self.good[..16 * SECTOR].to_vec();
        if let Some(place) = expected.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected, "byte {at}: written to, then {error}");
        file.write_all_at(&self.good[at..at + bytes.len()], at_64)
            .unwrap();
        error
    }

    fn non_zero_sectors(bytes: &[u8]) -> Vec<usize> {
        let sectors = bytes.chunks(SECTOR).enumerate();
        let used = sectors.filter(|(_, sector)| sector.iter().any(|&byte| byte != 0));
        used.map(|(n, _)| n).collect()
    }

    /// At the end of each test: all is as it was.
    fn end(self) {
        assert!(bytes_of(&self.lease) == self.good);
        assert!(self.holder.is_held() && self.holder.verify() == Ok(()));
        assert!(self.look().holder().is_some());
    }
}

/// The error of a damaged sector says what is wrong and where.
fn assert_names_the_place(error: &AcquireError, offset: usize) {
    let at = format!("byte {offset}");
    let fault = error.fault().unwrap_or_else(|| panic!("{error}"));
    match fault {
        LeaseFault::Damaged { offset: at, .. } => {
            assert_eq!(usize::try_from(*at), Ok(offset), "{error}");
            assert!(error.to_string().contains(&format!("byte {at}")), "{error}");
        }
        LeaseFault::NotInitialised { .. } | LeaseFault::BeingCreated { .. } => {
            assert_eq!(offset, 0, "{error}");
        }
        other => panic!("{at}: {other}"),
    }
}

/// Each bit with the feature `__machine`, which takes a processor's minutes, and else one of many.
fn flips(bytes: Range<usize>) -> impl Iterator<Item = (usize, u8)> {
    let every = if cfg!(feature = "__machine") { 1 } else { 61 };
    bytes
        .flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)))
        .step_by(every)
}

#[test]
fn no_flipped_bit_of_a_lease_gives_it_away() {
    let scene = Scene::for_hosts(8);
    let used = Scene::non_zero_sectors(&scene.good);
    assert_eq!(used, [0, 1, 2], "leader, request, block of host 1");
    for sector in used {
        let start = sector * SECTOR;
        let checked = match sector {
            0 => start..start + LEADER,
            2 => start..start + BLOCK,
            _ => 0..0,
        };
        for (at, bit) in flips(start..start + SECTOR) {
            let error = scene.look_with(at, &[scene.good[at] ^ bit]);
            if checked.contains(&at) {
                assert_names_the_place(&error, start);
            } else {
                // It means nothing, or only makes the answer shorter.
                assert!(
                    matches!(error.kind(), AcquireErrorKind::Held(_)),
                    "byte {at}: {error}"
                );
            }
        }
    }
    scene.end();
}

#[test]
fn no_sector_of_zeros_or_ones_gives_a_lease_away() {
    let scene = Scene::new();
    for sector in 0..2002 {
        let at = sector * SECTOR;
        let used = Scene::non_zero_sectors(&scene.good).contains(&sector);
        if used {
            let error = scene.look_with(at, &[0; SECTOR]);
            match sector {
                0 => assert_names_the_place(&error, 0),
                _ => assert!(
                    matches!(error.kind(), AcquireErrorKind::Held(_)),
                    "{sector}: {error}"
                ),
            }
        }
        // Of the blocks that nobody used, some: each of them would be another host's.
        if used || sector % 50 == 1 {
            let error = scene.look_with(at, &[0xff; SECTOR]);
            match sector {
                1 => assert!(matches!(error.kind(), AcquireErrorKind::Held(_)), "{error}"),
                0 => assert!(
                    matches!(error.kind(), AcquireErrorKind::Lease(_)),
                    "{error}"
                ),
                _ => assert_names_the_place(&error, at),
            }
        }
    }
    scene.end();
}

#[test]
fn no_file_that_was_cut_gives_a_lease_away() {
    let scene = Scene::new();
    let used = Geometry::S512_A1M.lease_len(2000);
    let file = File::options().write(true).open(&scene.lease).unwrap();
    // From the end, so that what is cut need not be put back each time.
    let cuts = (0..used).rev().filter(|len| {
        len.is_multiple_of(SECTOR) && (len / SECTOR < 20 || (len / SECTOR).is_multiple_of(37))
            || [1, 199, 511, 513, used - 1].contains(len)
    });
    for len in cuts {
        file.set_len(u64::try_from(len).unwrap()).unwrap();
        let error = scene.look();
        let fault = error.fault().unwrap_or_else(|| panic!("{len}: {error}"));
        match fault {
            LeaseFault::TooShort {
                offset: 0,
                wanted,
                got,
            } => {
                assert_eq!((*wanted, *got), (used, len), "{error}");
            }
            // The copy has no second links, and the holder may run.
            LeaseFault::MayBeHeld { .. } => assert!(len < SECTOR, "{len}: {error}"),
            other => panic!("{len}: {other}"),
        }
        assert_eq!(bytes_of(&scene.lease), scene.good[..len], "{len}");
    }
    std::fs::write(&scene.lease, &scene.good).unwrap();
    scene.end();
}

#[test]
fn no_flipped_bit_of_its_owner_s_own_lease_gives_a_lease_away() {
    let scene = Scene::for_hosts(8);
    let good = bytes_of(&scene.lockspace)[..SECTOR].to_vec();
    let file = File::options().write(true).open(&scene.lockspace).unwrap();
    for (at, bit) in flips(0..SECTOR) {
        let offset = u64::try_from(at).unwrap();
        file.write_all_at(&[good[at] ^ bit], offset).unwrap();
        let error = scene.look();
        match error.kind() {
            AcquireErrorKind::OwnerUnreadable { owner, error } if at < LEADER => {
                assert_eq!(owner.get(), 1);
                assert!(error.to_string().contains("byte 0"), "{error}");
            }
            AcquireErrorKind::Held(holder) if at >= LEADER => {
                assert_eq!(holder.host_id.get(), 1);
            }
            _ => panic!("byte {at}: {error}"),
        }
        file.write_all_at(&good[at..=at], offset).unwrap();
    }
    for byte in [0, 0xff] {
        file.write_all_at(&[byte; SECTOR], 0).unwrap();
        let error = scene.look();
        assert!(
            matches!(error.kind(), AcquireErrorKind::OwnerUnreadable { .. }),
            "{error}"
        );
        file.write_all_at(&good, 0).unwrap();
    }
    scene.end();
}
