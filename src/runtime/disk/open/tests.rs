use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::runtime::disk::error::FileKind;
use crate::runtime::disk::testing::LoopDevice;

const READ_WRITE: OpenOptions = OpenOptions::new(Access::ReadWrite);
const READ_ONLY: OpenOptions = OpenOptions::new(Access::ReadOnly);

/// A directory with a file of 1 MiB in it, on a file system with direct I/O.
fn scratch() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    (dir, path)
}

fn kind_of(error: &OpenError) -> FileKind {
    match error.kind() {
        OpenErrorKind::NotADisk(kind) => kind,
        other => panic!("{other}"),
    }
}

fn flags(opened: &OpenedDisk) -> OFlags {
    rustix::fs::fcntl_getfl(&opened.fd).unwrap()
}

#[test]
fn a_file_is_opened_for_direct_io_and_known() {
    let (_dir, path) = scratch();
    let opened = READ_WRITE.open(&path).unwrap();
    let info = opened.info();
    assert_eq!(
        (info.path(), info.len(), info.is_block_device()),
        (path.as_path(), 1 << 20, false)
    );
    assert!(info.is_direct() && flags(&opened).contains(OFlags::DIRECT | OFlags::RDWR));
    assert!(
        matches!(info.io_alignment(), 512 | 4096),
        "{}",
        info.io_alignment()
    );
    let descriptor_flags = rustix::io::fcntl_getfd(&opened.fd).unwrap();
    assert!(descriptor_flags.contains(FdFlags::CLOEXEC));

    let inspected = READ_ONLY.open(&path).unwrap();
    assert!(inspected.info().is_direct() && flags(&inspected).contains(OFlags::DIRECT));
    assert_eq!(flags(&inspected) & OFlags::RWMODE, OFlags::RDONLY);
    assert_eq!(inspected.info().identity(), info.identity());
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root and a loop device")]
fn loop_devices_of_both_sector_sizes_are_known() {
    let (dir, path) = scratch();
    for sector_size in [512, 4096] {
        let device = LoopDevice::new(&path, sector_size);
        let opened = READ_WRITE.open(device.path()).unwrap();
        let info = opened.info();
        assert_eq!((info.len(), info.io_alignment()), (1 << 20, sector_size));
        assert!(info.is_block_device() && info.is_direct());
        assert_ne!(
            info.identity(),
            READ_WRITE.open(&path).unwrap().info().identity()
        );

        // Another name of the same device is the same disk.
        let link = dir.path().join(format!("link-{sector_size}"));
        symlink(device.path(), &link).unwrap();
        let refused = READ_WRITE.open(&link).unwrap_err();
        assert_eq!(refused.kind(), OpenErrorKind::IsSymlink);
        let followed = READ_WRITE.links(Links::Follow).open(&link).unwrap();
        assert_eq!(followed.info().identity(), info.identity());
    }
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root and a loop device")]
fn a_read_only_device_is_refused_for_writing() {
    let (_dir, path) = scratch();
    let device = LoopDevice::read_only(&path);
    let error = READ_WRITE.open(device.path()).unwrap_err();
    assert!(
        error.to_string().ends_with("the device is read-only"),
        "{error}"
    );
    READ_ONLY.open(device.path()).unwrap();
}

#[test]
fn only_files_and_block_devices_are_disks() {
    let (dir, _) = scratch();
    assert_eq!(
        kind_of(&READ_WRITE.open(dir.path()).unwrap_err()),
        FileKind::Directory
    );
    for options in [READ_WRITE, READ_ONLY] {
        assert_eq!(
            kind_of(&options.open("/dev/null").unwrap_err()),
            FileKind::CharacterDevice
        );
    }
    // Opening this one for reading would block for good.
    let pipe = dir.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(kind_of(&READ_ONLY.open(&pipe).unwrap_err()), FileKind::Pipe);
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(
        kind_of(&READ_WRITE.open(&socket).unwrap_err()),
        FileKind::Socket
    );

    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    assert_eq!(
        kind_of(&READ_ONLY.adopt(null).unwrap_err()),
        FileKind::CharacterDevice
    );
}

#[test]
fn what_is_not_there_is_told_apart() {
    let (dir, path) = scratch();
    for missing in [dir.path().join("missing"), path.join("below-a-file")] {
        let error = READ_WRITE.open(&missing).unwrap_err();
        assert_eq!(error.kind(), OpenErrorKind::NotFound);
        assert_eq!(error.path(), missing);
        assert_eq!(error.to_string(), format!("{missing:?} does not exist"));
    }
    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    let refused = READ_WRITE.open(&dangling).unwrap_err();
    assert_eq!(refused.kind(), OpenErrorKind::IsSymlink);
    let followed = READ_WRITE.links(Links::Follow).open(&dangling);
    assert_eq!(followed.unwrap_err().kind(), OpenErrorKind::NotFound);
}

#[test]
fn a_file_system_without_direct_io_is_refused_but_may_be_looked_at() {
    // A regular file that may be opened for writing; procfs knows no direct I/O.
    let comm = "/proc/self/comm";
    let error = READ_WRITE.open(comm).unwrap_err();
    let no_direct_io = OpenError::new(comm.as_ref(), OpenErrorKind::NoDirectIo);
    assert_eq!(error, no_direct_io);
    assert!(error.to_string().contains("O_DIRECT"));
    let inspected = READ_ONLY.open(comm).unwrap();
    assert!(!inspected.info().is_direct());
    assert_eq!(inspected.info().io_alignment(), 512);

    let fd = OwnedFd::from(File::options().read(true).write(true).open(comm).unwrap());
    let refused = READ_WRITE.adopt(fd).unwrap_err();
    assert_eq!(refused.kind(), OpenErrorKind::NoDirectIo);
    let fd = OwnedFd::from(File::open(comm).unwrap());
    assert!(!READ_ONLY.adopt(fd).unwrap().info().is_direct());
}

/// A tmpfs of its own, taken away when dropped.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn new() -> Self {
        let tmpfs = Self(tempfile::tempdir().unwrap());
        tmpfs.mount(&["-t", "tmpfs", "disklease-test"]);
        tmpfs
    }

    #[allow(clippy::disallowed_methods, reason = "it waits for a real process")]
    fn mount(&self, options: &[&str]) {
        // A child that another test has just started has our descriptors, too, until it runs its
        // program: a file system with one that writes is busy for a read-only mount.
        for _ in 0..100 {
            let mut mount = Command::new("mount");
            let status = mount.args(options).arg(self.0.path()).status();
            if status.expect("needs mount").success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("mount failed, this test needs root");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        if !std::thread::panicking() {
            assert!(unmounted.unwrap().success());
        }
    }
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root to mount")]
fn tmpfs_is_opened_directly_or_refused_as_the_kernel_has_it() {
    let tmpfs = Tmpfs::new();
    let path = tmpfs.0.path().join("disk");
    fs::write(&path, [0; 4096]).unwrap();
    // It takes O_DIRECT since Linux 6.6; what it must never be is opened without.
    match READ_WRITE.open(&path) {
        Ok(opened) => assert!(flags(&opened).contains(OFlags::DIRECT)),
        Err(error) => assert_eq!(error.kind(), OpenErrorKind::NoDirectIo),
    }
    assert_eq!(READ_ONLY.open(&path).unwrap().info().len(), 4096);

    tmpfs.mount(&["-o", "remount,ro"]);
    assert_eq!(
        READ_WRITE.open(&path).unwrap_err(),
        OpenError::new(&path, OpenErrorKind::ReadOnlyFileSystem)
    );
}

#[test]
fn a_descriptor_is_made_direct_and_closed_on_exec() {
    let (_dir, path) = scratch();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let fd = OwnedFd::from(file);
    rustix::io::fcntl_setfd(&fd, FdFlags::empty()).unwrap();
    let opened = READ_WRITE.adopt(fd).unwrap();
    assert!(flags(&opened).contains(OFlags::DIRECT));
    assert!(
        rustix::io::fcntl_getfd(&opened.fd)
            .unwrap()
            .contains(FdFlags::CLOEXEC)
    );
    assert_eq!(opened.info().path(), path);
    assert_eq!(
        opened.info().identity(),
        READ_WRITE.open(&path).unwrap().info().identity()
    );
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root and a loop device")]
fn a_descriptor_of_a_device_keeps_its_position() {
    let (_dir, path) = scratch();
    let device = LoopDevice::new(&path, 512);
    let file = File::options()
        .read(true)
        .write(true)
        .open(device.path())
        .unwrap();
    rustix::fs::seek(&file, SeekFrom::Start(1024)).unwrap();
    let opened = READ_WRITE.adopt(OwnedFd::from(file)).unwrap();
    assert_eq!(opened.info().len(), 1 << 20);
    assert_eq!(rustix::fs::tell(&opened.fd).unwrap(), 1024);
}

#[test]
fn a_descriptor_without_the_access_is_refused() {
    let (_dir, path) = scratch();
    let how = File::options;
    let cases = [
        (
            "reading and writing",
            how().read(true).open(&path),
            READ_WRITE,
        ),
        (
            "reading and writing",
            how().write(true).open(&path),
            READ_WRITE,
        ),
        ("for reading", how().write(true).open(&path), READ_ONLY),
        (
            "appending",
            how().read(true).append(true).open(&path),
            READ_WRITE,
        ),
        (
            "O_PATH",
            how().read(true).custom_flags(0o10_000_000).open(&path),
            READ_WRITE,
        ),
    ];
    for (expected, file, options) in cases {
        let fd = OwnedFd::from(file.unwrap());
        let error = options.adopt(fd).unwrap_err();
        assert_eq!(error.path(), path);
        let OpenErrorKind::Unusable(why) = error.kind() else {
            panic!("{expected}: {error}")
        };
        assert!(why.contains(expected), "{why}");
    }
}

/// What was found fit to be opened is not what was opened then.
#[test]
fn a_file_that_is_replaced_while_it_is_opened_is_refused() {
    let (dir, path) = scratch();
    let seen = Identity::of_path(&path, Links::Refuse).unwrap();
    READ_WRITE.open_seen(&path, seen).unwrap();
    let other = dir.path().join("other");
    fs::copy(&path, &other).unwrap();
    fs::rename(&other, &path).unwrap();
    let error = READ_WRITE.open_seen(&path, seen).unwrap_err();
    let why = "it was replaced while it was opened";
    assert_eq!(error.kind(), OpenErrorKind::Unusable(why));
}

#[test]
fn an_identity_tells_whether_a_path_names_the_file_still() {
    let (dir, path) = scratch();
    let opened = READ_WRITE.open(&path).unwrap();
    let identity = opened.info().identity();
    assert_eq!(Identity::of_path(&path, Links::Refuse), Ok(identity));
    let other = dir.path().join("other");
    fs::write(&other, [0; 512]).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_ne!(Identity::of_path(&path, Links::Refuse), Ok(identity));
}
