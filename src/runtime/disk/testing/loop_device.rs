//! Real block devices over files, through `losetup`. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device over a file, taken away when dropped.
pub(crate) struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    pub(crate) fn new(file: &Path, sector_size: u32) -> Self {
        Self::with(&[], file, sector_size)
    }

    pub(crate) fn read_only(file: &Path) -> Self {
        Self::with(&["--read-only"], file, 512)
    }

    fn with(options: &[&str], file: &Path, sector_size: u32) -> Self {
        let sector_size = sector_size.to_string();
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", &sector_size])
            .args(options)
            .arg(file)
            .output()
            .expect("these tests need losetup (package util-linux)");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "losetup failed, these tests need root: {errors}"
        );
        Self {
            path: String::from_utf8(output.stdout).unwrap().trim().into(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = Command::new("losetup")
            .arg("--detach")
            .arg(&self.path)
            .status();
        if !std::thread::panicking() {
            assert!(
                detached.unwrap().success(),
                "{:?} is still in use",
                self.path
            );
        }
    }
}
