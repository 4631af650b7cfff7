//! A file system with the files of one directory, each of whose reads and writes goes through a gate.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};

use super::gate::{Gate, Io};

/// The kernel may believe for so long what it was told of a file's name and attributes.
const TTL: Duration = Duration::from_secs(1);
/// Alignment of direct I/O on the directory behind.
const ALIGNMENT: usize = 4096;
const SECTOR: u64 = 512;
const EIO: i32 = 5;

/// The files that were there when it was made. None can be made or removed.
pub(super) struct PassThrough {
    files: BTreeMap<u64, Arc<Backing>>,
    gate: Arc<Gate>,
}

struct Backing {
    name: String,
    file: File,
    attr: FileAttr,
}

impl PassThrough {
    pub(super) fn new(directory: &Path, gate: Arc<Gate>) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let backing = Backing::open(&entry.path())?;
                files.insert(backing.attr.ino.0, Arc::new(backing));
            }
        }
        Ok(Self { files, gate })
    }

    fn file(&self, inode: INodeNo) -> Option<&Arc<Backing>> {
        self.files.get(&inode.0)
    }

    /// Answers a look when the gate lets it through.
    fn look(&self, answer: impl FnOnce() + Send + 'static) {
        if self.gate.is_open_to_looks() {
            return answer();
        }
        let gate = Arc::clone(&self.gate);
        thread::spawn(move || {
            gate.pass_look();
            answer();
        });
    }

    /// Does `work` when the gate lets it through, and answers; on a thread of its own if that may take time, for
    /// there is one only that hears of requests.
    fn serve<T>(
        &self,
        io: Io,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
        answer: impl FnOnce(io::Result<T>) + Send + 'static,
    ) {
        if self.gate.is_open(&io) {
            return answer(work());
        }
        let gate = Arc::clone(&self.gate);
        let failed = || Err(io::Error::from_raw_os_error(EIO));
        thread::spawn(move || answer(gate.pass(&io, work).unwrap_or_else(failed)));
    }
}

impl Backing {
    /// Past the page cache, as each host has it: what one has written is what the next one reads.
    fn open(path: &Path) -> io::Result<Self> {
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).expect("open flags");
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .custom_flags(direct)
            .open(path)?;
        let stat = file.metadata()?;
        let name = path.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            file,
            attr: attributes(stat.ino(), FileType::RegularFile, stat.size()),
        })
    }

    fn io(&self, offset: u64, write: bool) -> Io {
        Io {
            file: self.name.clone(),
            offset,
            write,
        }
    }

    fn read(&self, offset: u64, wanted: usize) -> io::Result<Vec<u8>> {
        // Who reads through the page cache asks for any bytes.
        let from = offset - offset % SECTOR;
        let skip = usize::try_from(offset - from).expect("less than a sector");
        let len = (skip + wanted).next_multiple_of(ALIGNMENT);
        let (mut buffer, place) = aligned(len);
        let got = self.file.read_at(&mut buffer[place.clone()], from)?;
        let end = got.min(skip + wanted);
        buffer.truncate(place.start + end);
        buffer.drain(..place.start + skip.min(end));
        Ok(buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<u32> {
        let (mut buffer, place) = aligned(bytes.len());
        buffer[place.clone()].copy_from_slice(bytes);
        self.file.write_all_at(&buffer[place], offset)?;
        Ok(u32::try_from(bytes.len()).expect("the kernel's own limit"))
    }
}

/// A buffer, and where in it `len` aligned bytes lie.
fn aligned(len: usize) -> (Vec<u8>, Range<usize>) {
    let buffer = vec![0; len + ALIGNMENT];
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    (buffer, start..start + len)
}

fn attributes(inode: u64, kind: FileType, size: u64) -> FileAttr {
    let is_directory = kind == FileType::Directory;
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size.div_ceil(SECTOR),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: if is_directory { 0o755 } else { 0o600 },
        nlink: if is_directory { 2 } else { 1 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(EIO))
}

impl Filesystem for PassThrough {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without it sanlock's asynchronous I/O would hang in the call that begins it.
        config
            .add_capabilities(InitFlags::FUSE_ASYNC_DIO)
            .map_err(|_| io::Error::other("this kernel's FUSE has no asynchronous direct I/O"))?;
        // What hangs must not be in the way of what does not.
        config
            .set_max_background(1024)
            .map_err(|_| io::Error::other("too many requests in the background"))?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.files.values().find(|file| name == file.name.as_str());
        let found = found.filter(|_| parent == INodeNo::ROOT).cloned();
        self.look(move || match found {
            Some(file) => reply.entry(&TTL, &file.attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        });
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attr = if inode == INodeNo::ROOT {
            Some(attributes(inode.0, FileType::Directory, 0))
        } else {
            self.file(inode).map(|file| file.attr)
        };
        self.look(move || match attr {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        });
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // As on a block device: nothing is cached, and one write does not wait for another.
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.file(inode).cloned() else {
            return reply.error(Errno::ENOENT);
        };
        let wanted = usize::try_from(size).expect("a size in memory");
        let io = file.io(offset, false);
        let work = move || file.read(offset, wanted);
        self.serve(io, work, move |read| match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(file) = self.file(inode).cloned() else {
            return reply.error(Errno::ENOENT);
        };
        let bytes = bytes.to_vec();
        let io = file.io(offset, true);
        let work = move || file.write(offset, &bytes);
        self.serve(io, work, move |written| match written {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(errno(&error)),
        });
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.file(inode).map(|file| file.file.sync_data()) {
            Some(Ok(())) => reply.ok(),
            Some(Err(error)) => reply.error(errno(&error)),
            None => reply.error(Errno::ENOENT),
        }
    }
}
