//! How the path of a disk is spelled: its bytes are what the disk is known by.
//!
//! libvirt names a lease by the MD5 of the path as it stands, so two spellings of one disk are two leases,
//! and two guests on one disk. Nothing is normalised silently, for libvirt hosts do not either. What is
//! certainly another spelling is refused; what may be one is warned of.

use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock};
use std::thread::Builder;
use std::time::Duration;

use super::error::{AcquireError, AcquireErrorKind};
use crate::runtime::clock;

/// How long an acquire waits for the inspection of the paths of its disks, whose storage may hang.
const INSPECTION_LIMIT: Duration = Duration::from_secs(1);

/// So many inspections may hang. No more are started then.
const HANGING_MAX: usize = 16;

/// Each inspection that runs has a clone.
static RUNNING: LazyLock<Arc<()>> = LazyLock::new(Arc::default);

/// Names that the kernel gives to devices in the order in which it finds them.
const NAMES_BY_ORDER: [&str; 9] = [
    "dm-", "hd", "loop", "mmcblk", "nbd", "nvme", "sd", "vd", "xvd",
];

/// Whether `path` says by itself, wherever it is asked, which file it means.
pub(super) fn check_absolute(path: &Path) -> Result<(), AcquireError> {
    if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) {
        return Ok(());
    }
    let path = path.to_owned();
    Err(AcquireErrorKind::PathNotAbsolute { path }.into())
}

/// Whether a disk may be known by `path`. No disk is inspected.
///
/// # Errors
///
/// [`AcquireErrorKind::PathNotAbsolute`], [`AcquireErrorKind::PathNotNormal`].
pub(crate) fn check_disk_path(path: &Path) -> Result<(), AcquireError> {
    check_absolute(path)?;
    let normal = normal_form(path);
    if normal.as_os_str() == path.as_os_str() {
        return Ok(());
    }
    let path = path.to_owned();
    Err(AcquireErrorKind::PathNotNormal { path, normal }.into())
}

/// An absolute path without `//`, `.`, `..` and a slash at its end.
fn normal_form(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    normal
}

/// Logs a warning of each of `disks` that is likely to have another name, by which a second guest could
/// have it.
///
/// Of symbolic links, but for those below `/dev`: there udev makes them as the stable names of devices,
/// whose own names are the ones to be warned of.
pub(super) fn warn_of_other_names(disks: impl Iterator<Item = PathBuf>) {
    let (devices, files): (Vec<_>, Vec<_>) = disks.partition(|disk| disk.starts_with("/dev"));
    for disk in devices.iter().filter(|disk| is_named_by_order(disk)) {
        tracing::warn!(
            ?disk,
            "the kernel may give this name to another device on another host or after a reboot, and to this one another: name the disk by a link in /dev/disk/by-id or /dev/mapper, the same on every host"
        );
    }
    if files.is_empty() {
        return;
    }
    for (disk, link) in links_within_limit(files) {
        tracing::warn!(
            ?disk,
            ?link,
            "the path of the disk leads over a symbolic link: a guest whose configuration names the disk by its other path has another lease, and would run beside this one. Name it by the path without links, the same on every host"
        );
    }
}

fn is_named_by_order(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    let name = name.as_encoded_bytes();
    device.parent() == Some(Path::new("/dev"))
        && (NAMES_BY_ORDER.iter()).any(|known| name.starts_with(known.as_bytes()))
}

/// Those of `disks` whose path has a symbolic link, each with the first link: as far as a thread of its own,
/// which may hang with their storage, finds them within the limit.
fn links_within_limit(disks: Vec<PathBuf>) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    let token = Arc::clone(&RUNNING);
    let running = Arc::strong_count(&RUNNING).saturating_sub(2);
    if running >= HANGING_MAX {
        return found;
    }
    let (sender, links) = channel();
    let inspect = move || {
        for disk in disks {
            if let Some(link) = first_link(&disk) {
                // Nobody may wait for it any more.
                let _ = sender.send((disk, link));
            }
        }
        drop(token);
    };
    if let Err(error) = Builder::new().name("dl-links".to_owned()).spawn(inspect) {
        tracing::debug!(%error, "whether the paths of the disks have links is not known");
        return found;
    }
    let until = clock::now() + INSPECTION_LIMIT;
    while let Ok(link) = links.recv_timeout(until.since(clock::now())) {
        found.push(link);
    }
    found
}

/// The first directory on the way to `path`, or that itself, that is a symbolic link.
fn first_link(path: &Path) -> Option<PathBuf> {
    let mut on_the_way: Vec<_> = path.ancestors().collect();
    on_the_way.reverse();
    let is_link = |path: &&Path| path.symlink_metadata().is_ok_and(|stat| stat.is_symlink());
    on_the_way.into_iter().find(is_link).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_normal_form() {
        for (path, normal) in [
            ("/srv/a", "/srv/a"),
            ("//srv/a", "/srv/a"),
            ("/srv//a", "/srv/a"),
            ("/srv/./a", "/srv/a"),
            ("/srv/a/", "/srv/a"),
            ("/srv/a/.", "/srv/a"),
            ("/srv/b/../a", "/srv/a"),
            ("/../srv/a", "/srv/a"),
            ("/srv/...", "/srv/..."),
            ("/srv/.a", "/srv/.a"),
            ("/", "/"),
        ] {
            let checked = check_disk_path(Path::new(path));
            let refused = AcquireErrorKind::PathNotNormal {
                path: path.into(),
                normal: normal.into(),
            };
            match checked {
                Ok(()) => assert_eq!(path, normal),
                Err(error) => {
                    assert_ne!(path, normal);
                    assert_eq!(*error.kind(), refused);
                }
            }
        }
    }

    #[test]
    fn names_that_the_kernel_gives_by_order_are_known() {
        for (path, is_known) in [
            ("/dev/sdb", true),
            ("/dev/dm-3", true),
            ("/dev/nvme0n1", true),
            ("/dev/vg0/sdb", false),
            ("/dev/disk/by-id/dm-name-vg0-a", false),
            ("/dev/mapper/vg0-a", false),
            ("/dev/drbd0", false),
        ] {
            assert_eq!(is_named_by_order(Path::new(path)), is_known, "{path}");
        }
    }

    #[test]
    fn the_first_link_on_the_way_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let at = |name: &str| dir.join(name);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/a"), "").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        std::os::unix::fs::symlink("a", at("real/b")).unwrap();
        assert_eq!(first_link(&at("real/a")), None);
        assert_eq!(first_link(&at("real/none")), None);
        assert_eq!(first_link(&at("link/a")), Some(at("link")));
        assert_eq!(first_link(&at("link/b")), Some(at("link")));
        assert_eq!(first_link(&at("real/b")), Some(at("real/b")));
        let found = links_within_limit(vec![at("real/a"), at("link/a")]);
        assert_eq!(found, [(at("link/a"), at("link"))]);
    }
}
