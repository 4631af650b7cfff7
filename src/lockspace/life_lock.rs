//! A lock of this host that shows whether an earlier life of a host id is over.
//!
//! Each joined process holds a lock on a file of its host for as long as it lives. The descriptor
//! is **inherited by its children on purpose**: as long as any descendant lives, or a thread of the
//! process hangs in an I/O, the lock is held. Who gets the lock therefore knows that nothing of the
//! earlier life is left that could write, and may enter the next life without waiting.
//!
//! Which earlier life that is stands in the file: each join writes its incarnation there before it
//! claims its host id. A machine that was cloned with its memory has boot id and lock of the first one;
//! but what it finds on the disk of a join of the other machine, its own file does not record.
//!
//! Two things escape it. A child that closes what it inherited, as some daemons do, is not seen: a
//! guest must not be started so. And a network file system lets a killed process end while the
//! kernel has still to send what it wrote; so there the lock counts as no proof.
//!
//! Beside it the process holds a lock that the programs which its children run do **not** inherit: who finds
//! that one taken has a live process of the same host id beside it, on the same machine, and is refused.
//! A child that was forked and runs no other program has a copy. When the process gives its lock back, it
//! does so for all copies; should it be killed, such a child keeps it, and others are refused until that
//! one has ended, too.
//!
//! The file's own identity goes into the host note as a mark. A note with another mark, from
//! another machine, another container or a file that was replaced, proves nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt, FileExt as _, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};
use rustix::fs::FlockOperation;
use rustix::io::FdFlags;

use crate::disk::StorageWorld;
use crate::format::{Hex, HostId, Incarnation, LockspaceName};
use crate::probe::mutation;
use crate::world::executor::block_on;
use crate::world::{World, clock};

/// How long a lock that is held is asked for again: a process that was killed may be about to end, and
/// a child of it between its fork and its exec has a copy for a moment.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Where to keep life locks when nobody says: only the superuser can write below `/run`.
fn default_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/disklease"));
    }
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    Some(PathBuf::from(dir).join("disklease"))
}

/// The locks, held until this is dropped and, of the one that is inherited, every copy is closed.
#[derive(Debug)]
pub(super) struct LifeLock {
    #[cfg_attr(not(test), expect(dead_code, reason = "held, not used"))]
    process: ProcessLock,
    /// `None` while something that an earlier process has started lives on.
    life: Option<Life>,
}

/// The lock that children inherit.
#[derive(Debug)]
struct Life {
    file: File,
    mark: u32,
    /// What stood there when the lock was taken.
    earlier: Option<Incarnation>,
}

/// The lock that refuses other processes.
#[derive(Debug)]
struct ProcessLock {
    file: File,
    /// The process that took it.
    pid: u32,
}

impl Drop for ProcessLock {
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

impl LifeLock {
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
            return Ok(None);
        };
        let until = clock::now() + ENDS_WITHIN;
        loop {
            match Self::try_take(&dir, path, name, host_id) {
                Ok(Ok(lock)) => return Ok(Some(lock)),
                Ok(Err(_)) if clock::now() < until => block_on(StorageWorld.sleep(LOOK_INTERVAL)),
                Ok(Err(in_use)) => return Err(in_use),
                Err(error) => {
                    tracing::info!(?dir, %error, "no life lock: a re-join after a crash will have to wait");
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
        let mut process = open(&lock)?;
        if !try_lock(&process)? && !mutation!(ProcessLockIgnored) {
            let mut text = String::new();
            // What is there comes from another process.
            let _ = (&process).take(16).read_to_string(&mut text);
            let pid = text.trim_end().parse().ok();
            return Ok(Err(InUseHere { lock, pid }));
        }
        process.set_len(0)?;
        process.rewind()?;
        let pid = std::process::id();
        writeln!(process, "{pid}")?;
        let process = ProcessLock { file: process, pid };

        let life = open(&dir.join(format!("{of_host}.life")))?;
        if !try_lock(&life)? {
            tracing::info!(%host_id, "something that an earlier process has started lives on");
            return Ok(Ok(Self {
                process,
                life: None,
            }));
        }
        // Children keep it: see above.
        if !mutation!(LifeLockNotInherited) {
            rustix::io::fcntl_setfd(&life, FdFlags::empty())?;
        }
        let stat = life.metadata()?;
        let mut identity = Vec::with_capacity(16);
        identity.extend_from_slice(&stat.dev().to_le_bytes());
        identity.extend_from_slice(&stat.ino().to_le_bytes());
        // 0 means "no mark".
        let mark = crc32c::crc32c(&identity).max(1);
        let earlier = read_record(&life)?;
        Ok(Ok(Self {
            process,
            life: Some(Life {
                file: life,
                mark,
                earlier,
            }),
        }))
    }

    /// What goes into the host note; 0 for nothing. That there is a mark proves that of all processes
    /// that ever had it nothing is left.
    pub(super) fn mark(&self) -> u32 {
        self.life.as_ref().map_or(0, |life| life.mark)
    }

    /// The last join that this file recorded before the lock was taken. It is over.
    pub(super) fn earlier(&self) -> Option<Incarnation> {
        self.life.as_ref().and_then(|life| life.earlier)
    }

    /// Records a join, before it claims its host id. What cannot be recorded is not proven over later.
    pub(super) fn record(&self, incarnation: Incarnation) {
        self.write(&record_of(incarnation));
    }

    /// Takes the record away: of this life nobody is to believe that it is over without a wait.
    pub(super) fn revoke(&self) {
        self.write(&[]);
    }

    /// Whether the process `pid` has the inherited lock, and so keeps it when this process is gone. What
    /// cannot be seen is not so.
    pub(super) fn is_inherited_by(&self, pid: u32) -> bool {
        let Some(Life { file, .. }) = &self.life else {
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
        // By its name first: to look at other files may hang as their storage does.
        let mut named = open.filter(|path| std::fs::read_link(path).ok() == name);
        name.is_some()
            && ours.is_some()
            && named.any(|path| std::fs::metadata(path).map(identity).ok() == ours)
    }

    fn write(&self, record: &[u8]) {
        let Some(Life { file, .. }) = &self.life else {
            return;
        };
        let written = file.set_len(0).and_then(|()| file.write_all_at(record, 0));
        if let Err(error) = written {
            tracing::warn!(%error, "the file of the life lock cannot be written");
        }
    }
}

/// Bytes of a record: an incarnation and its checksum.
const RECORD_LEN: usize = 20;

fn record_of(incarnation: Incarnation) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    let bytes = incarnation.bytes();
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

/// Whether the lock was to be had.
fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn take(dir: &Path, host: u64) -> Result<Option<LifeLock>, InUseHere> {
        let name = LockspaceName::new("LS").unwrap();
        let host = HostId::new(host).unwrap();
        LifeLock::take(Some(dir), Path::new("/a/b"), &name, host)
    }

    fn mark(dir: &Path, host: u64) -> u32 {
        take(dir, host).unwrap().unwrap().mark()
    }

    /// Children that other tests of this process start meanwhile inherit the lock, and live on.
    fn mark_soon(dir: &Path, host: u64) -> u32 {
        take_soon(dir, host).mark()
    }

    /// Both locks. A child of another test may have a copy for a moment.
    fn take_soon(dir: &Path, host: u64) -> LifeLock {
        let end = clock::now() + Duration::from_secs(30);
        loop {
            match take(dir, host) {
                Ok(Some(lock)) if lock.mark() != 0 => return lock,
                _ => assert!(clock::now() < end, "the lock is not given back"),
            }
            block_on(StorageWorld.sleep(LOOK_INTERVAL));
        }
    }

    #[test]
    fn is_held_by_one_process_at_a_time_for_each_host_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path(), 1).unwrap().unwrap();
        let refused = take(dir.path(), 1).unwrap_err();
        assert_eq!(refused.pid, Some(std::process::id()));
        assert!(refused.lock.starts_with(dir.path()));
        assert_ne!(mark(dir.path(), 2), 0);
        let mark = first.mark();
        drop(first);
        assert_eq!(mark_soon(dir.path(), 1), mark, "the file's own mark stays");
    }

    #[test]
    fn a_child_that_lives_on_takes_the_proof_away_and_refuses_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let lock = take(dir.path(), 1).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        drop(lock);
        let without_proof = take(dir.path(), 1).unwrap().unwrap();
        assert_eq!(without_proof.mark(), 0);
        assert!(take(dir.path(), 1).is_err(), "it is a process of its own");
        drop(without_proof);
        child.kill().unwrap();
        child.wait().unwrap();
        mark_soon(dir.path(), 1);
    }

    /// A process that sleeps, with this file or nothing as its input. Killed when dropped.
    struct Sleeper(std::process::Child);

    impl Sleeper {
        fn start(input: Stdio) -> Self {
            let mut sleep = Command::new("sleep");
            Self(sleep.arg("60").stdin(input).spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_has_inherited_the_lock_if_it_has_that_very_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |lock: &LifeLock| {
            let fd = lock.life.as_ref().unwrap().file.as_raw_fd();
            std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap()
        };
        let lock = take_soon(dir.path(), 1);
        let life = path(&lock);
        drop(lock);
        // One that has nothing of it, and one that has a file of the same name.
        let stranger = Sleeper::start(Stdio::null());
        let namesake = Sleeper::start(File::open(&life).unwrap().into());
        std::fs::remove_file(&life).unwrap();
        let lock = take_soon(dir.path(), 1);
        let child = Sleeper::start(Stdio::null());
        for is_removed in [false, true] {
            if is_removed {
                std::fs::remove_file(&life).unwrap();
                let its = std::fs::read_link(format!("/proc/{}/fd/0", namesake.0.id()));
                assert_eq!(its.unwrap(), path(&lock));
            }
            assert!(lock.is_inherited_by(child.0.id()));
            assert!(!lock.is_inherited_by(stranger.0.id()));
            assert!(!lock.is_inherited_by(namesake.0.id()));
        }
    }

    #[test]
    fn a_file_that_was_replaced_has_another_mark() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path(), 1).unwrap().unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        assert_ne!(mark(dir.path(), 1), first.mark());
    }

    #[test]
    fn the_file_has_the_last_join_that_was_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let run = |number| Incarnation::new([number; 16]);
        let mut earlier = None;
        for number in [1, 2] {
            let lock = take_soon(dir.path(), 1);
            assert_eq!(lock.earlier(), earlier);
            lock.record(run(number).unwrap());
            assert_eq!(lock.earlier(), earlier, "as it was found");
            earlier = run(number);
        }
        let lock = take_soon(dir.path(), 1);
        assert_eq!(lock.earlier(), run(2));
        lock.revoke();
        drop(lock);
        assert_eq!(take_soon(dir.path(), 1).earlier(), None);
    }

    /// A forked child that runs no other program has such copies.
    #[test]
    fn the_process_lock_ends_with_its_process_or_by_it_whoever_has_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = take(dir.path(), 1).unwrap().unwrap();
        let copy = lock.process.file.try_clone().unwrap();
        lock.process.pid = 0;
        drop(lock);
        assert!(take(dir.path(), 1).is_err(), "not by the child");
        drop(copy);
        let lock = take(dir.path(), 1).unwrap().unwrap();
        let copy = lock.process.file.try_clone().unwrap();
        drop(lock);
        assert!(take(dir.path(), 1).is_ok());
        drop(copy);
    }

    #[test]
    fn no_directory_is_no_proof() {
        assert!(take(Path::new("/proc/nothing/here"), 1).unwrap().is_none());
    }
}
