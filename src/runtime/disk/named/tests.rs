use std::fs::{self, File};
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::runtime::disk::raw::{FileNow, RawIo};
use crate::runtime::disk::testing::LoopDevice;
use crate::runtime::disk::{Access, IoPool, OpenOptions, OpenedDisk};

fn scratch() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    (dir, path)
}

fn open(path: &Path, links: Links) -> OpenedDisk {
    let options = OpenOptions::new(Access::ReadWrite).links(links);
    options.open(path).unwrap()
}

fn pool() -> IoPool {
    IoPool::new("test", 1..=1).unwrap()
}

fn inspect(named: &NamedFile) -> FileSeen {
    named.inspect(&mut Refreshed::default())
}

/// Names the file at `path`, as whoever keeps it says `told` of it.
fn told(path: &Path, told: Result<u32, Errno>) -> NamedFile {
    let info = open(path, Links::Refuse).info;
    NamedFile::new(path.into(), Links::Refuse, over(told, info))
}

fn over(told: Result<u32, Errno>, info: crate::runtime::disk::DiskInfo) -> Disk {
    Disk::over(Box::new(Told(told)), info, &pool())
}

/// An open file that has so many names, as its server says.
struct Told(Result<u32, Errno>);

impl RawIo for Told {
    fn read_at(&self, _: &mut [u8], _: u64) -> Result<usize, Errno> {
        Err(Errno::IO)
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<usize, Errno> {
        Err(Errno::IO)
    }

    fn now(&self) -> Result<FileNow, Errno> {
        self.0.map(|links| FileNow {
            links,
            end: 1 << 20,
        })
    }
}

#[test]
fn a_file_is_known_by_its_path_and_by_its_links() {
    let (dir, path) = scratch();
    let disk = Disk::new(open(&path, Links::Refuse), &pool());
    let named = NamedFile::new(path.clone(), Links::Refuse, disk);
    assert_eq!(inspect(&named), FileSeen::Same);
    let spare = dir.path().join("spare");
    fs::hard_link(&path, &spare).unwrap();
    assert_eq!(inspect(&named), FileSeen::Same);
    fs::remove_file(&path).unwrap();
    assert_eq!(inspect(&named), FileSeen::Gone);
    fs::write(&path, b"new").unwrap();
    assert_eq!(inspect(&named), FileSeen::Other);
    // Put back by the name that was left.
    fs::rename(&spare, &path).unwrap();
    assert_eq!(inspect(&named), FileSeen::Same);
    symlink(&path, &spare).unwrap();
    fs::rename(&spare, &path).unwrap();
    assert_eq!(
        inspect(&named),
        FileSeen::Gone,
        "the last name was replaced"
    );
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(inspect(&named).is_loss());
}

/// A server of a network file system gives a number anew as soon as it is free, and a client believes
/// for a while what it knows of a path: the path alone shows the same file.
#[test]
fn a_file_that_was_removed_and_made_anew_with_its_number_is_gone() {
    let (_dir, path) = scratch();
    for (answer, seen) in [
        (Ok(1), FileSeen::Same),
        (Ok(2), FileSeen::Same),
        (Ok(0), FileSeen::Gone),
        (Err(Errno::STALE), FileSeen::Gone),
        (Err(Errno::IO), FileSeen::Unknown),
    ] {
        assert_eq!(inspect(&told(&path, answer)), seen, "{answer:?}");
    }
}

#[test]
fn a_file_that_is_cut_short_is_found_by_the_open_file() {
    let (_dir, path) = scratch();
    let named = |end| told(&path, Ok(1)).used_up_to(end);
    assert_eq!(inspect(&named(1 << 20)), FileSeen::Same);
    assert_eq!(inspect(&named((1 << 20) + 1)), FileSeen::Cut);
}

/// For all names in it, once in a round of inspections.
#[test]
fn a_directory_is_asked_for_once_in_a_round() {
    let (dir, path) = scratch();
    let mut round = Refreshed::default();
    let named = told(&path, Ok(1));
    let other = dir.path().join("other");
    assert_eq!(named.inspect(&mut round), FileSeen::Same);
    round.directory_of(&other);
    assert_eq!(round.0.iter().collect::<Vec<_>>(), [dir.path()]);
}

#[test]
fn a_file_system_that_counts_no_links_has_its_files_known_by_their_paths() {
    let (_dir, path) = scratch();
    let mut info = open(&path, Links::Refuse).info;
    info.has_links = false;
    let named = NamedFile::new(path.clone(), Links::Refuse, over(Ok(0), info));
    assert_eq!(inspect(&named), FileSeen::Same);
    fs::remove_file(path).unwrap();
    assert_eq!(inspect(&named), FileSeen::Gone);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root and a loop device")]
fn a_link_to_a_device_may_be_missing_for_a_while_but_name_no_other() {
    let (dir, path) = scratch();
    let other = dir.path().join("other");
    fs::copy(&path, &other).unwrap();
    let (device, other) = (LoopDevice::new(&path, 512), LoopDevice::new(&other, 512));
    let link = dir.path().join("link");
    symlink(device.path(), &link).unwrap();
    let disk = Disk::new(open(&link, Links::Follow), &pool());
    let named = NamedFile::new(link.clone(), Links::Follow, disk);
    let start = clock::now();
    let inspect = |secs| {
        let at = start + Duration::from_secs(secs);
        named.inspect_at(at, &mut Refreshed::default())
    };
    assert_eq!(inspect(0), FileSeen::Same);
    fs::remove_file(&link).unwrap();
    assert_eq!(
        (inspect(20), inspect(34)),
        (FileSeen::Unknown, FileSeen::Unknown)
    );
    symlink(device.path(), &link).unwrap();
    assert_eq!(inspect(36), FileSeen::Same);
    fs::remove_file(&link).unwrap();
    assert_eq!(
        (inspect(37), inspect(51)),
        (FileSeen::Unknown, FileSeen::Unknown)
    );
    assert_eq!(inspect(52), FileSeen::Gone);
    symlink(other.path(), &link).unwrap();
    assert_eq!(inspect(53), FileSeen::Other);
}
