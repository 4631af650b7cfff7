//! What the tests of the public interface have in common: scratch directories, hosts, children.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test program includes this and uses a part of it"
)]
#![allow(clippy::print_stderr, reason = "what goes wrong in a drop")]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes and real disks, in real time"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]

mod child;
mod files;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use disklease::format::{HostName, HostNote, NoteState};
use disklease::lockspace::LockspaceOptions;
use disklease::{
    Access, HostId, JoinError, LeaseDirectory, LockRequest, Lockspace, Owner, PaxosManager,
    Watchdog,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};

pub(crate) use child::{Child, child_role, say, wait_for_parent};
pub(crate) use files::{bytes_of, copy_dir, overwrite, set_age};

/// N of all hosts in these tests.
pub(crate) const N: Duration = Duration::from_secs(1);

/// For what must happen soon, on a machine that is busy with something else.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What waits for nobody takes less than this, on such a machine too; and is then not what waits for 8 N.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);

/// A directory on a file system with direct I/O, gone when dropped.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A directory that all tests of this program share, made anew by each run; not one that another run has now.
pub(crate) fn shared_dir(name: &str) -> PathBuf {
    for n in 0.. {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{n}"));
        let lock = File::create(dir.with_extension(format!("{n}.lock"))).unwrap();
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Until this process ends.
            std::mem::forget(lock);
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).unwrap();
            return dir;
        }
    }
    unreachable!()
}

pub(crate) fn host_id(id: u64) -> HostId {
    HostId::new(id).unwrap()
}

/// Options of the host called `name`, with its life locks beside the leases in `dir`.
pub(crate) fn options(dir: &Path, name: &str) -> LockspaceOptions {
    Lockspace::options(Watchdog::None)
        .io_timeout(N)
        .host_name(HostName::new(name).unwrap())
        .runtime_dir(dir.join("run").join(name))
}

/// The lockspace of `dir`, made if it is not there.
pub(crate) fn lockspace_in(dir: &Path) -> PathBuf {
    LeaseDirectory::new(dir).create_lockspace(N).unwrap()
}

/// Joins the lockspace of `dir`, made if it is not there.
pub(crate) fn try_join(dir: &Path, id: u64, name: &str) -> Result<Lockspace, JoinError> {
    options(dir, name).join(lockspace_in(dir), host_id(id))
}

/// A host in `dir`, which is made a lease directory if it is none.
pub(crate) fn manager(dir: &Path, id: u64, name: &str) -> PaxosManager {
    PaxosManager::new(try_join(dir, id, name).unwrap(), LeaseDirectory::new(dir)).unwrap()
}

pub(crate) fn request() -> LockRequest {
    LockRequest::new(Owner::this_process("guest-1").uuid([7; 16]))
}

/// A request for these disks.
pub(crate) fn disks(paths: &[&str]) -> LockRequest {
    paths.iter().fold(request(), |request, path| {
        request.disk(path, Access::Exclusive)
    })
}

/// Waits until `host` has renewed for the first time, and so left its life mark on the disk: before that, nothing
/// proves that its life is over.
pub(crate) fn wait_for_life_mark(lockspace: &Path, host: usize) {
    wait_until("the life mark", SOON, || {
        let sector = &bytes_of(lockspace)[(host - 1) * 512..][..512];
        let NoteState::Present(note) = HostNote::read_from(sector) else {
            return None;
        };
        (note.life_mark != 0).then_some(())
    });
}

/// Whether the descriptor is readable at this moment.
pub(crate) fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .unwrap()
        == 1
}

/// Asks `probe` until it has an answer, and panics naming `what` if it has none in `limit`.
pub(crate) fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How long `body` took, and what it gave.
pub(crate) fn timed<T>(body: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let value = body();
    (begin.elapsed(), value)
}
