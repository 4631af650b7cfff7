//! A lock of this host that shows whether an earlier life of a host id is over.
//!
//! Each joined process holds a lock on a file of its host for as long as it lives. The descriptor
//! is **inherited by its children on purpose**: as long as any descendant lives, or a thread of the
//! process hangs in an I/O, the lock is held. Who gets the lock therefore knows that nothing of the
//! earlier life is left that could write, and may enter the next life without waiting.
//!
//! Two things escape it. A child that closes what it inherited, as some daemons do, is not seen: a
//! guest must not be started so. And a network file system lets a killed process end while the
//! kernel has still to send what it wrote; so there the lock counts as no proof.
//!
//! Beside it the process holds a lock that children do **not** inherit: who finds that one taken has a
//! live process of the same host id beside it, on the same machine, and is refused.
//!
//! The file's own identity goes into the host note as a mark. A note with another mark, from
//! another machine, another container or a file that was replaced, proves nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};
use rustix::fs::FlockOperation;
use rustix::io::FdFlags;

use crate::disk::StorageWorld;
use crate::format::{Hex, HostId, LockspaceName};
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
    _process: File,
    /// `None` while something that an earlier process has started lives on.
    life: Option<(File, u32)>,
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
        writeln!(process, "{}", std::process::id())?;

        let life = open(&dir.join(format!("{of_host}.life")))?;
        if !try_lock(&life)? {
            tracing::info!(%host_id, "something that an earlier process has started lives on");
            return Ok(Ok(Self {
                _process: process,
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
        Ok(Ok(Self {
            _process: process,
            life: Some((life, mark)),
        }))
    }

    /// What goes into the host note; 0 for nothing. That there is a mark proves that of all processes
    /// that ever had it nothing is left.
    pub(super) fn mark(&self) -> u32 {
        self.life.as_ref().map_or(0, |(_, mark)| *mark)
    }
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
    use std::process::Command;

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
        let end = clock::now() + Duration::from_secs(30);
        loop {
            match mark(dir, host) {
                0 => assert!(clock::now() < end, "the lock is not given back"),
                mark => return mark,
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
    fn no_directory_is_no_proof() {
        assert!(take(Path::new("/proc/nothing/here"), 1).unwrap().is_none());
    }
}
