//! All geometries that the format knows, on files, and 4096-byte sectors where the device knows no other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use disklease::libvirt::LOCKSPACE_NAME;
use disklease::{HostId, PaxosManager};

use super::exchange::to_and_fro;
use super::setup::{Directory, Lease, Maker, OUR_ID, OUR_NAME, hosts};
use disklease_fixtures::host_process::{IO_TIMEOUT_SECS, options};
use disklease_fixtures::sanlock::{
    Geometry, Lockspace, ScratchLease, init_lockspace, read_resource_leader,
};

const ALL: [Geometry; 5] = [
    Geometry::new(512, 1),
    Geometry::new(4096, 1),
    Geometry::new(4096, 2),
    Geometry::new(4096, 4),
    Geometry::new(4096, 8),
];

fn serve_both(maker: Maker, geometry: Geometry) {
    let directory = Directory::of(maker, geometry);
    let lease = directory.lease("/dev/disk/by-id/guest");
    let (mut sanlock, ours) = directory.hosts();
    to_and_fro(&directory.lockspace, &lease, &mut sanlock, &ours);
    let leader = read_resource_leader(&lease.resource).expect("the leader record");
    assert_eq!(leader.number("sector_size"), u64::from(geometry.sector));
}

fn all_serve_both(maker: Maker) {
    thread::scope(|scope| {
        let tests =
            ALL.map(|geometry| (geometry, scope.spawn(move || serve_both(maker, geometry))));
        for (geometry, test) in tests {
            assert!(
                test.join().is_ok(),
                "{geometry:?} made by {maker:?}: see above"
            );
        }
    });
}

#[test]
fn all_geometries_that_sanlock_makes_serve_both() {
    all_serve_both(Maker::Sanlock);
}

#[test]
fn all_geometries_that_we_make_serve_both() {
    all_serve_both(Maker::Us);
}

/// A block device over a file; detached when dropped.
struct LoopDevice(PathBuf);

impl LoopDevice {
    fn new(file: &Path, sector_size: u32) -> Self {
        let made = Command::new("losetup")
            .args([
                "--find",
                "--show",
                "--sector-size",
                &sector_size.to_string(),
            ])
            .arg(file)
            .output()
            .expect("this test needs losetup (package util-linux)");
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "losetup, which needs root: {errors}");
        Self(String::from_utf8(made.stdout).unwrap().trim().into())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // If it fails it was detached by another.
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_device_of_large_sectors_serves_both() {
    let scratch = ScratchLease::new();
    let device = LoopDevice::new(&scratch.file("device", 24), 4096);
    let geometry = Geometry::new(4096, 8);
    let mut lockspace = Lockspace::new(LOCKSPACE_NAME, &device.0);
    lockspace.geometry = geometry;
    init_lockspace(&lockspace, IO_TIMEOUT_SECS);
    let lease = Lease::at(
        &lockspace,
        "lease",
        device.0.clone(),
        2 * u64::from(geometry.align),
    );
    let (mut sanlock, ours) = hosts(&lockspace, || {
        let joined = options(scratch.path(), OUR_NAME)
            .join(&device.0, HostId::new(OUR_ID).unwrap())
            .unwrap();
        PaxosManager::without_directory(joined)
    });
    to_and_fro(&lockspace, &lease, &mut sanlock, &ours);
}
