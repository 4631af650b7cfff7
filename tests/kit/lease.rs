//! Places of leases, and files to put them in.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tempfile::TempDir;

/// Sector and align size of a lockspace or resource, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// 512 or 4096.
    pub(crate) sector: u32,
    /// 1 MiB; with 4096-byte sectors also 2, 4 or 8 MiB.
    pub(crate) align: u32,
}

impl Geometry {
    /// What sanlock takes for files if not told otherwise; 2000 hosts.
    pub(crate) const DEFAULT: Self = Self::new(512, 1);

    /// Sector size in bytes, align size in MiB.
    pub(crate) const fn new(sector: u32, align_mib: u32) -> Self {
        Self {
            sector,
            align: align_mib << 20,
        }
    }
}

/// A lockspace and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Lockspace {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) geometry: Geometry,
}

impl Lockspace {
    /// A lockspace of the default geometry at the start of `path`.
    pub(crate) fn new(name: &str, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            path: path.into(),
            offset: 0,
            geometry: Geometry::DEFAULT,
        }
    }

    /// A resource of this lockspace and of its geometry.
    pub(crate) fn resource(&self, name: &str, path: impl Into<PathBuf>, offset: u64) -> Resource {
        Resource {
            lockspace: self.name.clone(),
            name: name.to_owned(),
            path: path.into(),
            offset,
            geometry: self.geometry,
        }
    }

    /// As sanlock's command line has it.
    pub(super) fn argument(&self, host_id: u64) -> String {
        let Self { name, offset, .. } = self;
        format!("{name}:{host_id}:{}:{offset}", plain(&self.path))
    }
}

/// A resource and where its lease lies.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) lockspace: String,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) geometry: Geometry,
}

impl Resource {
    /// As sanlock's command line has it.
    pub(super) fn argument(&self) -> String {
        let Self {
            lockspace,
            name,
            offset,
            ..
        } = self;
        format!("{lockspace}:{name}:{}:{offset}", plain(&self.path))
    }
}

/// The command line separates with colons, so a path must have none.
pub(super) fn plain(path: &Path) -> &str {
    let text = path.to_str().expect("a path of a test is text");
    assert!(!text.contains(':'), "{text}: a colon in a path");
    text
}

/// A scratch directory on a file system that can do direct I/O; removed on drop.
#[derive(Debug)]
pub(crate) struct ScratchLease {
    dir: TempDir,
}

impl ScratchLease {
    /// In the build's own scratch directory, else in `/var/tmp`. Panics if neither can do direct I/O (tmpfs
    /// of older kernels can not).
    pub(crate) fn new() -> Self {
        let places = [env!("CARGO_TARGET_TMPDIR"), "/var/tmp"];
        let dir = places.iter().find_map(|place| {
            let dir = tempfile::Builder::new()
                .prefix("lease-")
                .tempdir_in(place)
                .ok()?;
            does_direct_io(dir.path()).then_some(dir)
        });
        Self {
            dir: dir.unwrap_or_else(|| panic!("no direct I/O on any of {places:?}")),
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Creates a file of `mib` MiB of zeros and tells its path.
    pub(crate) fn file(&self, name: &str, mib: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        let file = File::create_new(&path).expect("a new file in the scratch directory");
        file.set_len(mib << 20).expect("a size for the lease file");
        path
    }
}

fn does_direct_io(dir: &Path) -> bool {
    let flags = OFlags::DIRECT.bits();
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(i32::try_from(flags).expect("open flags fit an int"))
        .open(dir.join("probe"))
        .is_ok()
}
