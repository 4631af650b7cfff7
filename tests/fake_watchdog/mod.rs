//! A watchdog device that resets nobody, and knows when it would have.
//!
//! A file in a FUSE file system that answers the calls of a watchdog as the kernel's devices do: it counts from its
//! opening to a close after "V"; a close without that feeds it once more and leaves it counting. Needs `/dev/fuse` and
//! root, and panics without.

#![allow(
    dead_code,
    reason = "every test program includes this and uses a part of it"
)]
#![allow(clippy::disallowed_methods, reason = "a real device in real time")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::host_endian_bytes,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::redundant_closure_for_method_calls,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]

mod model;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, IoctlFlags, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyOpen, ReplyWrite, Request, Session, WriteFlags,
};

pub(crate) use model::{Event, Model, Traits};

/// The one file.
const NAME: &str = "watchdog";
const INODE: INodeNo = INodeNo(2);

const GET_SUPPORT: u32 = 0x8028_5700;
const SET_OPTIONS: u32 = 0x8004_5704;
const KEEPALIVE: u32 = 0x8004_5705;
const SET_TIMEOUT: u32 = 0xc004_5706;
const GET_TIMEOUT: u32 = 0x8004_5707;

/// A device that is there until this is dropped.
pub(crate) struct FakeWatchdog {
    path: PathBuf,
    model: Arc<Mutex<Model>>,
    session: Option<BackgroundSession>,
}

impl FakeWatchdog {
    /// In a new directory of `dir`.
    pub(crate) fn new(dir: &Path, traits: Traits) -> Self {
        let mount = dir.join("dev");
        std::fs::create_dir(&mount).unwrap();
        let model = Arc::new(Mutex::new(Model::new(traits)));
        let mut config = Config::default();
        config.mount_options.push(MountOption::FSName(format!(
            "disklease-test-{}",
            std::process::id()
        )));
        let files = Device(Arc::clone(&model));
        let session = Session::new(files, &mount, &config).and_then(Session::spawn);
        let session = session.unwrap_or_else(|error| {
            panic!("these tests mount FUSE file systems, which needs /dev/fuse and root: {error}")
        });
        Self {
            path: mount.join(NAME),
            model,
            session: Some(session),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at it, or makes it behave otherwise.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Model) -> T) -> T {
        look(&mut self.model.lock().unwrap())
    }

    /// What has happened so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.with(|model| model.events().map(|(_, event)| event).collect())
    }

    /// Waits until it is closed and does not count, which a close tells a little later.
    pub(crate) fn wait_for_stop(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.with(|model| model.is_open() || model.is_counting()) {
            assert!(Instant::now() < end, "it still counts: {:?}", self.events());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it would reset the host, and says when that was.
    pub(crate) fn wait_for_reset(&self, limit: Duration) -> Instant {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.with(|model| model.fired_at()) {
                return at;
            }
            assert!(
                Instant::now() < end,
                "no reset within {limit:?}: {:?}",
                self.events()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for FakeWatchdog {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        // A mount namespace of another process may have a copy of it, which ends with that.
        let (tell, told) = channel();
        std::thread::spawn(move || tell.send(session.umount_and_join()));
        if let Ok(Err(error)) = told.recv_timeout(Duration::from_secs(10)) {
            // A watchdog that was dropped armed keeps it open until the end of the process.
            println!("{}: not unmounted yet: {error}", self.path.display());
            let mount = self.path.parent().unwrap();
            // First the connection is cut: at the end of the process, which closes the device, nobody is
            // left to answer, and the process would wait for that for ever. What is open keeps the mount busy.
            let cut = Command::new("umount").arg("-f").arg(mount).output();
            if !cut.is_ok_and(|cut| cut.status.success()) {
                let detached = Command::new("umount").arg("-l").arg(mount).status();
                assert!(detached.unwrap().success());
            }
        }
    }
}

struct Device(Arc<Mutex<Model>>);

impl Device {
    fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.0.lock().unwrap()
    }
}

fn attributes(inode: INodeNo) -> FileAttr {
    let is_root = inode == INodeNo::ROOT;
    FileAttr {
        ino: inode,
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_root {
            FileType::Directory
        } else {
            FileType::RegularFile
        },
        perm: if is_root { 0o755 } else { 0o600 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

const TTL: Duration = Duration::from_secs(1);

impl Filesystem for Device {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == NAME {
            reply.entry(&TTL, &attributes(INODE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attributes(inode));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<fuser::TimeOrNow>,
        _: Option<fuser::TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&TTL, &attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.model().open() {
            // No close waits for an answer: at the end of the process nobody is left to give one.
            let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
            reply.opened(FileHandle(0), flags);
        } else {
            reply.error(Errno::EBUSY);
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if self.model().write(bytes) {
            reply.written(u32::try_from(bytes.len()).unwrap());
        } else {
            reply.error(Errno::EIO);
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        command: u32,
        bytes: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        let mut model = self.model();
        match command {
            GET_SUPPORT => reply.ioctl(0, &model.support()),
            KEEPALIVE => {
                model.keepalive();
                reply.ioctl(0, &[0; 4]);
            }
            SET_TIMEOUT => {
                let wanted = i32::from_ne_bytes(bytes[..4].try_into().unwrap());
                match model.set_timeout(wanted) {
                    Some(timeout) => reply.ioctl(0, &timeout.to_ne_bytes()),
                    None => reply.error(Errno::EINVAL),
                }
            }
            // FUSE does not hand on what they are, for the number says that they are read. Nobody sends others.
            SET_OPTIONS => {
                if model.disable() {
                    reply.ioctl(0, &[0; 4]);
                } else {
                    reply.error(Errno::EOPNOTSUPP);
                }
            }
            GET_TIMEOUT => reply.ioctl(0, &model.timeout().to_ne_bytes()),
            _ => reply.error(Errno::ENOTTY),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.model().close();
        reply.ok();
    }
}
