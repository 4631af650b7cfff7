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
//! The file's own identity goes into the host note as a mark. A note with another mark, from
//! another machine, another container or a file that was replaced, proves nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use rustix::fs::FlockOperation;
use rustix::io::FdFlags;

use crate::format::{Hex, HostId, LockspaceName};
use crate::probe::mutation;

/// Where to keep life locks when nobody says: only the superuser can write below `/run`.
fn default_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/disklease"));
    }
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    Some(PathBuf::from(dir).join("disklease"))
}

/// The lock, held until this is dropped and every inherited copy of its descriptor is closed.
#[derive(Debug)]
pub(super) struct LifeLock {
    _file: File,
    mark: u32,
}

impl LifeLock {
    /// Takes the lock for `host_id` in the lockspace `name` at `path`, if it is to be had at once.
    /// `None` when somebody holds it, or the directory cannot be used: then there is no proof.
    pub(super) fn take(
        dir: Option<&Path>,
        path: &Path,
        name: &LockspaceName,
        host_id: HostId,
    ) -> Option<Self> {
        let dir = dir.map(Path::to_owned).or_else(default_dir)?;
        match Self::try_take(&dir, path, name, host_id) {
            Ok(lock) => lock,
            Err(error) => {
                tracing::info!(?dir, %error, "no life lock: a re-join after a crash will have to wait");
                None
            }
        }
    }

    fn try_take(
        dir: &Path,
        path: &Path,
        name: &LockspaceName,
        host_id: HostId,
    ) -> std::io::Result<Option<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut lockspace = Md5::new();
        lockspace.update(path.as_os_str().as_encoded_bytes());
        lockspace.update([0]);
        lockspace.update(name.as_name().as_bytes());
        let digest = lockspace.finalize();
        let lockspace = Hex(&digest);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0))
            .open(dir.join(format!("{lockspace}-{host_id}.life")))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        // Children keep it: see above.
        if !mutation!(LifeLockNotInherited) {
            rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
        }
        let stat = file.metadata()?;
        let mut identity = Vec::with_capacity(16);
        identity.extend_from_slice(&stat.dev().to_le_bytes());
        identity.extend_from_slice(&stat.ino().to_le_bytes());
        // 0 means "no mark".
        let mark = crc32c::crc32c(&identity).max(1);
        Ok(Some(Self { _file: file, mark }))
    }

    /// What goes into the host note.
    pub(super) const fn mark(&self) -> u32 {
        self.mark
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::world::clock;

    fn take(dir: &Path, host: u64) -> Option<LifeLock> {
        let name = LockspaceName::new("LS").unwrap();
        LifeLock::take(
            Some(dir),
            Path::new("/a/b"),
            &name,
            HostId::new(host).unwrap(),
        )
    }

    /// Children that other tests of this process start meanwhile inherit the lock for a moment.
    fn take_soon(dir: &Path, host: u64) -> LifeLock {
        let end = clock::now() + Duration::from_secs(20);
        loop {
            if let Some(lock) = take(dir, host) {
                return lock;
            }
            assert!(clock::now() < end, "the lock is not given back");
            std::thread::yield_now();
        }
    }

    #[test]
    fn is_held_by_one_at_a_time_for_each_host_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path(), 1).unwrap();
        assert!(take(dir.path(), 1).is_none());
        assert!(take(dir.path(), 2).is_some());
        let mark = first.mark();
        drop(first);
        assert_eq!(
            take_soon(dir.path(), 1).mark(),
            mark,
            "the file's own mark stays"
        );
    }

    #[test]
    fn a_child_that_lives_on_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = take(dir.path(), 1).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        drop(lock);
        assert!(take(dir.path(), 1).is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        take_soon(dir.path(), 1);
    }

    #[test]
    fn a_file_that_was_replaced_has_another_mark() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path(), 1).unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        assert_ne!(take(dir.path(), 1).unwrap().mark(), first.mark());
    }

    #[test]
    fn no_directory_is_no_proof() {
        assert!(take(Path::new("/proc/nothing/here"), 1).is_none());
    }
}
