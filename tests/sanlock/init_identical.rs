//! What we initialise is, byte for byte, what the `sanlock` program initialises.
//!
//! Needs the program, 3.8 or later, but no daemon: `sanlock direct` writes by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use disklease::format::{Geometry, LockspaceName, ResourceName, lease_image, lockspace_image};
use tempfile::TempDir;

const NAME48: &str = "NNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNNN";

/// A disk on which two areas have room, and something else than zeros was before.
struct Scratch {
    dir: TempDir,
    geometry: Geometry,
}

impl Scratch {
    fn new(geometry: Geometry) -> Self {
        // Not the system's own, which may be a memory file system that refuses O_DIRECT.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let scratch = Self { dir, geometry };
        fs::write(scratch.disk(), vec![0xa5; 2 * geometry.area_size()]).unwrap();
        scratch
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Runs `sanlock direct init`, with sizes unless they are the default ones of a file.
    fn init(&self, args: &[&str]) {
        let mut command = Command::new("sanlock");
        command
            .args(["direct", "init"])
            .args(args)
            .env("SANLOCK_RUN_DIR", self.dir.path());
        if self.geometry != Geometry::S512_A1M {
            let align = format!("{}M", self.geometry.area_size() >> 20);
            command.args(["-Z", &self.geometry.sector_size().to_string(), "-A", &align]);
        }
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("these tests need the program sanlock: {error}"));
        assert!(output.status.success(), "{command:?} failed: {output:?}");
    }

    fn assert_second_area_is(&self, wanted: &[u8], what: &str) {
        let size = self.geometry.area_size();
        let disk = read(&self.disk());
        assert!(
            disk[..size].iter().all(|&byte| byte == 0xa5),
            "{what}: other bytes touched"
        );
        if let Some(at) = disk[size..]
            .iter()
            .zip(wanted)
            .position(|(theirs, ours)| theirs != ours)
        {
            let (theirs, ours) = (disk[size + at], wanted[at]);
            panic!("{what}: byte {at} is {theirs:#04x} by sanlock, {ours:#04x} by us");
        }
        assert_eq!(disk.len() - size, wanted.len(), "{what}");
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn lockspaces() {
    for geometry in Geometry::ALL {
        for (name, io_timeout) in [("LS", 1), (NAME48, 10), ("__LIBVIRT__DISKS__", 20)] {
            let scratch = Scratch::new(geometry);
            let disk = scratch.disk();
            let spec = format!("{name}:0:{}:{}", disk.display(), geometry.area_size());
            scratch.init(&["-s", &spec, "-o", &io_timeout.to_string()]);
            let space = LockspaceName::new(name).unwrap();
            let ours = lockspace_image(geometry, &space, io_timeout, None);
            scratch.assert_second_area_is(&ours, &format!("lockspace {name}, {geometry}"));
        }
    }
}

#[test]
fn leases() {
    for geometry in Geometry::ALL {
        for (space, resource, num_hosts) in [
            ("LS", "RES", None),
            (NAME48, NAME48, Some(8)),
            ("K", "R", Some(0)),
            ("K", "R", Some(2001)),
        ] {
            let scratch = Scratch::new(geometry);
            let disk = scratch.disk();
            let spec = format!(
                "{space}:{resource}:{}:{}",
                disk.display(),
                geometry.area_size()
            );
            let count = num_hosts.map(|count: u16| count.to_string());
            match &count {
                Some(count) => scratch.init(&["-r", &spec, "-n", count]),
                None => scratch.init(&["-r", &spec]),
            }
            let what = format!("lease {space}:{resource} for {num_hosts:?} hosts, {geometry}");
            let space = LockspaceName::new(space).unwrap();
            let resource = ResourceName::new(resource).unwrap();
            let ours = lease_image(geometry, &space, &resource, num_hosts.unwrap_or(0));
            scratch.assert_second_area_is(&ours, &what);
        }
    }
}
