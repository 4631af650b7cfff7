//! What is known of an open disk.

use std::path::{Path, PathBuf};

use super::identity::Identity;

/// What was learnt of a disk when it was opened.
#[derive(Clone, Debug)]
pub struct DiskInfo {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    /// Whether the file had a name when it was opened, as far as its file system says.
    pub(super) has_links: bool,
    pub(super) direct: bool,
    pub(super) len: u64,
    pub(super) io_alignment: u32,
    pub(super) io_dies_with_process: bool,
    pub(super) of_one_host: Option<&'static str>,
}

impl DiskInfo {
    /// What it was opened by; for an adopted descriptor what the kernel calls it, or else its
    /// number.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from others.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether its I/O goes past the page cache: always so with [`Access::ReadWrite`](super::Access::ReadWrite).
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.direct
    }

    /// Whether it is a block device; else it is a regular file.
    #[must_use]
    pub const fn is_block_device(&self) -> bool {
        self.identity.is_block_device()
    }

    /// Its length in bytes when it was opened.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// What every offset and length of an I/O must be a multiple of, in bytes.
    ///
    /// For a block device this is its logical sector size. For a file it is what the kernel tells
    /// (since Linux 6.1), or else 512: the device under it may then turn out to want 4096.
    #[must_use]
    pub const fn io_alignment(&self) -> u32 {
        self.io_alignment
    }

    /// Whether an I/O may begin at byte `offset`.
    #[must_use]
    pub(crate) fn may_begin_at(&self, offset: u64) -> bool {
        offset
            .checked_rem(u64::from(self.io_alignment))
            .is_none_or(|rest| rest == 0)
    }

    /// The name of the file system it lies on, if this host has that for itself. Of devices it is not
    /// known who shares them.
    #[must_use]
    pub const fn file_system_of_one_host(&self) -> Option<&'static str> {
        self.of_one_host
    }

    /// Whether no I/O outlives the process that asked for it: a block device, or a file system over
    /// one. There the kernel lets a killed process end only when its I/O has completed. Network file
    /// systems let it go at once, and may send what it wrote much later.
    #[must_use]
    pub const fn io_dies_with_process(&self) -> bool {
        self.io_dies_with_process
    }
}

/// File systems that one host has for itself, by what `fstatfs` tells.
const OF_ONE_HOST: [(u64, &str); 7] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0x2fc1_2fc1, "zfs"),
    (0x0102_1994, "tmpfs"),
    (OVERLAY, "overlay"),
];

/// File systems over block devices that several hosts share.
const CLUSTER: [u64; 2] = [0x0116_1970, 0x7461_636f];

/// One host has its overlay for itself, but where the upper layer lies is not known.
const OVERLAY: u64 = 0x794c_7630;

/// The name of a file system of this type, if one host has it for itself. One that is not known
/// counts as one that is shared.
pub(super) fn of_one_host(fs_type: u64) -> Option<&'static str> {
    let known = OF_ONE_HOST.iter().find(|(of, _)| *of == fs_type);
    known.map(|&(_, name)| name)
}

/// Whether a file system of this type (as `fstatfs` tells it) lies on block devices or memory of this
/// host. One that is not known counts as one that does not.
pub(super) fn lies_on_block_devices(fs_type: u64) -> bool {
    of_one_host(fs_type).is_some() && fs_type != OVERLAY || CLUSTER.contains(&fs_type)
}

#[cfg(test)]
mod tests {
    use super::{lies_on_block_devices, of_one_host};

    #[test]
    fn network_file_systems_do_not_lie_on_block_devices() {
        // NFS, CIFS, SMB2, Ceph, 9P, FUSE, AFS, and what there is not.
        for network in [
            0x6969,
            0xff53_4d42,
            0xfe53_4d42,
            0x00c3_6400,
            0x0102_1997,
            0x6573_5546,
            0x5346_414f,
            0,
        ] {
            assert!(!lies_on_block_devices(network), "{network:x}");
            assert_eq!(of_one_host(network), None, "{network:x}");
        }
        assert!(lies_on_block_devices(0xef53));
        assert_eq!(of_one_host(0xef53), Some("ext4"));
        assert!(!lies_on_block_devices(0x794c_7630));
        assert_eq!(of_one_host(0x794c_7630), Some("overlay"));
        // GFS2.
        assert!(lies_on_block_devices(0x0116_1970) && of_one_host(0x0116_1970).is_none());
    }
}
