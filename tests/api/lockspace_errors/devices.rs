//! A lockspace on a block device, whose links below `/dev` come and go.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use disklease::LossReason;

use disklease_fixtures::host::{
    N, SOON, bytes_of, host_id, lockspace_in, options, scratch, wait_until,
};

/// A block device over a file; detached when dropped.
struct LoopDevice(PathBuf);

impl LoopDevice {
    fn new(file: &Path) -> Self {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show"]).arg(file);
        let made = losetup.output().expect("losetup of util-linux");
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

/// udev takes a link away and puts it back; to other hosts nothing has happened.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs a loop device")]
fn a_link_to_the_device_may_be_missing_for_a_while_but_not_name_another() {
    let dir = scratch();
    let bytes = bytes_of(&lockspace_in(dir.path()));
    let [device, other] = ["device", "other"].map(|name| {
        let file = dir.path().join(name);
        std::fs::write(&file, &bytes).unwrap();
        LoopDevice::new(&file)
    });
    // Links are followed below /dev only.
    let links = tempfile::tempdir_in("/dev/shm").unwrap();
    let link = links.path().join("lockspace");
    symlink(&device.0, &link).unwrap();
    let options = options(dir.path(), "alpha");
    let lockspace = options.join(&link, host_id(1)).unwrap();

    std::fs::remove_file(&link).unwrap();
    // The link is inspected every 2N.
    thread::sleep(5 * N);
    assert!(lockspace.is_held(), "{:?}", lockspace.loss());
    symlink(&device.0, &link).unwrap();
    thread::sleep(3 * N);
    assert!(lockspace.is_held(), "{:?}", lockspace.loss());

    let another = links.path().join("another");
    symlink(&other.0, &another).unwrap();
    std::fs::rename(&another, &link).unwrap();
    wait_until("the loss", SOON, || (!lockspace.is_held()).then_some(()));
    assert_eq!(lockspace.loss(), Some(LossReason::LockspaceReplaced));
    drop(lockspace.leave());
}
