//! A lock of this host that shows whether an earlier generation of a host id has ended.
//!
//! Each joined process holds a lock on a file of its host for as long as the process lives. The descriptor
//! is **inherited by its children on purpose**: as long as any descendant lives, or a thread of the
//! process hangs in an I/O, the lock is held. A process that gets the lock therefore knows that nothing of
//! the earlier generation is left that could write, and may enter the next generation without waiting.
//!
//! Which earlier generation that is stands in the file: each member writes its incarnation there before
//! it claims its host id. A machine that was cloned with its memory has boot id and lock of the first
//! machine; but what it finds on the disk of a member on the other machine, its own file does not record.
//!
//! Two things escape the lock. A child that closes what it inherited, as some daemons do, is not seen: a
//! guest must not be started so. And a network file system lets a killed process end while the
//! kernel has still to send what it wrote; so there the lock counts as no proof.
//!
//! Beside it the process holds a lock that the programs which its children run do **not** inherit: a process
//! that finds this one taken has a live process of the same host id beside it, on the same machine, and is
//! refused. A child that was forked and runs no other program has a copy. When the process gives its lock
//! back, it does so for all copies; should it be killed, such a child keeps it, and others are refused until
//! the child has ended, too.
//!
//! The file's own identity goes into the host note as a token. A note with another token, from
//! another machine, another container or a file that was replaced, proves nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt, FileExt as _, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};
use rustix::fs::FlockOperation;

use super::rules;
use crate::format::{Hex, HostId, Incarnation, LockspaceName};
use crate::runtime::clock;
use crate::runtime::disk::StorageWorld;
use crate::runtime::executor::block_on;
use crate::world::World;

/// How long a lock that is held is asked for again: a process that was killed may be about to end, and
/// a child of it between its fork and its exec has a copy for a moment.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What it means that there is no process lock.
const NO_LOCK: &str = "a join after a crash waits as for another host's id, and a second process with this host id is refused only by the disk";

/// Where to keep process locks when nobody says: only the superuser can write below `/run`.
fn default_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/disklease"));
    }
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    Some(PathBuf::from(dir).join("disklease"))
}

/// The locks, held until this is dropped and, of the one that is inherited, every copy is closed.
#[derive(Debug)]
pub(super) struct ProcessLock {
    #[cfg_attr(not(test), expect(dead_code, reason = "held, not used"))]
    exclusive: ExclusiveLock,
    /// `None` while something that an earlier process has started still runs.
    inherited: Option<InheritedLock>,
}

/// The lock that children inherit.
#[derive(Debug)]
struct InheritedLock {
    file: File,
    token: u32,
    /// What stood there when the lock was taken.
    earlier: Option<Incarnation>,
}

/// The lock that refuses other processes.
#[derive(Debug)]
struct ExclusiveLock {
    file: File,
    /// The process that took it.
    pid: u32,
}

impl InheritedLock {
    /// Over a file that was just locked.
    fn over(file: File) -> io::Result<Self> {
        // Children keep it: see above.
        rustix::io::fcntl_setfd(&file, rules::flags_of_inherited())?;
        let stat = file.metadata()?;
        let mut identity = Vec::with_capacity(16);
        identity.extend_from_slice(&stat.dev().to_le_bytes());
        identity.extend_from_slice(&stat.ino().to_le_bytes());
        Ok(Self {
            // 0 means "no token".
            token: crc32c::crc32c(&identity).max(1),
            earlier: read_record(&file)?,
            file,
        })
    }
}

impl Drop for ExclusiveLock {
    fn drop(&mut self) {
        // Not by the close alone, which leaves the lock to a copy in a forked child; and not by that
        // child, whose copy is none of its own.
        if self.pid == std::process::id() {
            let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
        }
    }
}

/// Another process of this machine has joined with the same host id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InUseHere {
    /// The file that it has locked.
    pub(super) lock: PathBuf,
    /// Its number, as it has written it there.
    pub(super) pid: Option<u32>,
}

impl ProcessLock {
    /// Takes the locks for `host_id` in the lockspace `name` at `path`. `None` when the directory cannot
    /// be used: then there is no proof of anything.
    ///
    /// # Errors
    ///
    /// [`InUseHere`]: a process that has joined with this host id is there, and does not end.
    pub(super) fn take(
        dir: Option<&Path>,
        path: &Path,
        name: &LockspaceName,
        host_id: HostId,
    ) -> Result<Option<Self>, InUseHere> {
        let Some(dir) = dir.map(Path::to_owned).or_else(default_dir) else {
            tracing::warn!(
                %host_id,
                "no process lock, for want of a runtime directory (name one, or set XDG_RUNTIME_DIR): {NO_LOCK}"
            );
            return Ok(None);
        };
        let until = clock::now() + ENDS_WITHIN;
        loop {
            match Self::try_take(&dir, path, name, host_id) {
                Ok(Ok(lock)) => return Ok(Some(lock)),
                Ok(Err(_)) if clock::now() < until => block_on(StorageWorld.sleep(POLL_INTERVAL)),
                Ok(Err(in_use)) => return Err(in_use),
                Err(error) => {
                    tracing::warn!(
                        ?dir,
                        %host_id,
                        %error,
                        "no process lock, for the runtime directory cannot be used: {NO_LOCK}"
                    );
                    return Ok(None);
                }
            }
        }
    }

    fn try_take(
        dir: &Path,
        path: &Path,
        name: &LockspaceName,
        host_id: HostId,
    ) -> io::Result<Result<Self, InUseHere>> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut lockspace = Md5::new();
        lockspace.update(path.as_os_str().as_encoded_bytes());
        lockspace.update([0]);
        lockspace.update(name.as_name().as_bytes());
        let digest = lockspace.finalize();
        let of_host = format!("{}-{host_id}", Hex(&digest));

        let lock = dir.join(format!("{of_host}.process"));
        let mut file = open(&lock)?;
        if !rules::is_only_process(try_lock(&file)?) {
            let mut text = String::new();
            // What is there comes from another process.
            let _ = (&file).take(16).read_to_string(&mut text);
            let pid = text.trim_end().parse().ok();
            return Ok(Err(InUseHere { lock, pid }));
        }
        file.set_len(0)?;
        file.rewind()?;
        let pid = std::process::id();
        writeln!(file, "{pid}")?;
        let exclusive = ExclusiveLock { file, pid };

        let file = open(&dir.join(format!("{of_host}.incarnation")))?;
        let inherited = if try_lock(&file)? {
            Some(InheritedLock::over(file)?)
        } else {
            tracing::info!(
                %host_id,
                lock = ?dir.join(format!("{of_host}.incarnation")),
                "something that an earlier process of this host id has started still runs: this join waits until the leases of that process have expired"
            );
            None
        };
        Ok(Ok(Self {
            exclusive,
            inherited,
        }))
    }

    /// What goes into the host note; 0 for nothing. That there is a token proves that of all processes
    /// that ever had it nothing is left.
    pub(super) fn token(&self) -> u32 {
        self.inherited.as_ref().map_or(0, |lock| lock.token)
    }

    /// The last incarnation that this file recorded before the lock was taken. It has ended.
    pub(super) fn earlier(&self) -> Option<Incarnation> {
        self.inherited.as_ref().and_then(|lock| lock.earlier)
    }

    /// Records an incarnation, before it claims its host id. Of what cannot be recorded no end is proven later.
    pub(super) fn record(&self, incarnation: Incarnation) {
        self.write(&record_of(incarnation));
    }

    /// Takes the record away: of this generation nobody is to believe without a wait that it has ended.
    pub(super) fn revoke(&self) {
        self.write(&[]);
    }

    /// Whether the process `pid` has the inherited lock, and so keeps it when this process is gone. What
    /// cannot be seen is not so.
    pub(super) fn is_inherited_by(&self, pid: u32) -> bool {
        let Some(InheritedLock { file, .. }) = &self.inherited else {
            return false;
        };
        let identity = |stat: std::fs::Metadata| (stat.dev(), stat.ino());
        let ours = file.metadata().map(identity).ok();
        let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let open = open
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        // By its name first: to inspect other files may hang as their storage does.
        let mut named = open.filter(|path| std::fs::read_link(path).ok() == name);
        name.is_some()
            && ours.is_some()
            && named.any(|path| std::fs::metadata(path).map(identity).ok() == ours)
    }

    fn write(&self, record: &[u8]) {
        let Some(InheritedLock { file, .. }) = &self.inherited else {
            return;
        };
        let written = file.set_len(0).and_then(|()| file.write_all_at(record, 0));
        if let Err(error) = written {
            tracing::warn!(
                token = self.token(),
                %error,
                "the file of the process lock cannot be written: a join after a crash will have to wait"
            );
        }
    }
}

/// Bytes of a record: an incarnation and its checksum.
const RECORD_LEN: usize = 20;

fn record_of(incarnation: Incarnation) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    let bytes = incarnation.to_bytes();
    let (text, sum) = record.split_at_mut(bytes.len());
    text.copy_from_slice(&bytes);
    sum.copy_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    record
}

/// `None` for what is no whole record, as in the file of an earlier version, which has none.
fn read_record(file: &File) -> io::Result<Option<Incarnation>> {
    let mut found = Vec::with_capacity(RECORD_LEN);
    let longer = u64::try_from(RECORD_LEN).unwrap_or(0).saturating_add(1);
    file.take(longer).read_to_end(&mut found)?;
    let bytes = found.first_chunk().copied();
    let incarnation = bytes.and_then(Incarnation::new);
    Ok(incarnation.filter(|&incarnation| record_of(incarnation)[..] == found[..]))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(path)
}

/// Whether the lock was free.
fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;
