//! Creating a file whole: written under a temporary name, made durable, linked into place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};

use crate::format::{FormatError, Geometry};
use crate::runtime::clock;
use crate::runtime::disk::{
    Access, Disk, IoPool, OpenError, OpenOptions as OpenDisk, StorageWorld,
};
use crate::runtime::executor::block_on;
use crate::timing::TimingError;
use crate::world::{OsError, SectorBuf, World, WriteError};

/// How long writing a whole area may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long it takes at most to create a file and fill it with zeros.
const CREATION_TIME: Duration = Duration::from_secs(10);

/// How much of a file is looked at in one go, and at most.
const LOOK_LEN: usize = 64 * 1024;
const AREA_LEN_MAX: usize = 8 << 20;

/// Why a lockspace or lease could not be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The io timeout is out of its limits.
    #[error(transparent)]
    Timing(TimingError),
    /// There are leases in the directory, but no lockspace: it was removed, and hosts that joined it
    /// may still hold them. A new one would not know of them.
    #[error(
        "{directory:?} has leases but no lockspace: if it was not removed by mistake, and no host uses the leases, delete them first, also those in its .disklease/leases"
    )]
    LeasesWithoutLockspace {
        /// The lease directory.
        directory: PathBuf,
    },
    /// The file system refuses something.
    #[error("cannot {action} {path:?}: {error}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it was refused.
        error: OsError,
    },
    /// Something that should be a lease file is none.
    #[error("{path:?} is not a file: it is in the place of a lease, take it away")]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// The new file cannot be opened for direct I/O.
    #[error("the new file cannot be opened: {0}")]
    Open(OpenError),
    /// The new file cannot be written.
    #[error("the new file for {path:?} cannot be written: {error}")]
    Write {
        /// The file that was to be created.
        path: PathBuf,
        /// Why.
        error: WriteError,
    },
    /// What was to be written cannot be made.
    #[error("{path:?} cannot be initialised: {error}")]
    Format {
        /// The file that was to be created.
        path: PathBuf,
        /// Why.
        error: FormatError,
    },
}

impl CreateError {
    pub(super) fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        let error = OsError::from(error);
        Self::Io {
            action,
            path: path.to_owned(),
            error,
        }
    }

    /// Whether the file system has no such thing.
    pub(super) fn is_unsupported(&self) -> bool {
        let unsupported = [libc::ENOSYS, libc::EOPNOTSUPP];
        matches!(self, Self::Io { error, .. } if unsupported.contains(&error.0))
    }
}

/// A file to be created.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewFile<'a> {
    pub(super) path: &'a Path,
    pub(super) mode: u32,
    pub(super) owner: Option<(u32, u32)>,
    /// `None`: what suits the storage.
    pub(super) geometry: Option<Geometry>,
}

/// Who created the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This call.
    Created,
    /// Somebody else: it was there before, or came to be meanwhile.
    Existed,
}

/// The temporary file; gone when this is dropped, however that comes about.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = ?self.path, %error, "a temporary file stays behind");
        }
    }
}

/// Creates `file` with the `image` of its area, unless it exists.
///
/// What is linked into place is complete and durable. A crash leaves a temporary file at the worst,
/// whose name nobody looks for.
pub(super) fn create_whole(
    file: &NewFile<'_>,
    image: impl Fn(Geometry) -> Vec<u8>,
) -> Result<Outcome, CreateError> {
    match std::fs::symlink_metadata(file.path) {
        Ok(_) => return Ok(Outcome::Existed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(CreateError::io("look at", file.path, &error)),
    }
    let (temporary, handle) = open_temporary(file)?;
    write_area(file, &temporary, image)?;
    handle
        .sync_all()
        .map_err(|error| CreateError::io("make durable", &temporary.path, &error))?;
    let outcome = match std::fs::hard_link(&temporary.path, file.path) {
        Ok(()) => Outcome::Created,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Outcome::Existed,
        Err(error) => return Err(CreateError::io("link the new file to", file.path, &error)),
    };
    drop(temporary);
    if outcome == Outcome::Created {
        make_name_durable(file.path)?;
    }
    Ok(outcome)
}

/// What stands where a file is to be replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    empty: bool,
    never_used: bool,
}

impl Found {
    /// Whether there is nothing but zeros, or nothing at all.
    ///
    /// A leader of zeros alone does not show that nobody uses the lease: it may have been damaged
    /// while its owner runs, whose block still stands.
    pub(crate) const fn is_empty(self) -> bool {
        self.empty
    }

    /// Whether the storage shows that the file was not touched since soon after it was created.
    ///
    /// A file that was emptied later may have been a lease, and its owner may still run. So may that
    /// of a file whose storage keeps no time of creation.
    pub(crate) const fn was_never_used(self) -> bool {
        self.never_used
    }
}

/// Replaces `file` by one with the `image` of its area, if `may_replace` says so at the last moment.
///
/// `may_replace` is told what is there, and how long ago it was last touched, by the clock of the
/// storage. Returns whether it was replaced.
pub(super) fn replace_whole<E>(
    file: &NewFile<'_>,
    image: impl Fn(Geometry) -> Vec<u8>,
    may_replace: impl FnOnce(Found, Duration) -> Result<bool, E>,
) -> Result<Result<bool, CreateError>, E> {
    let prepared = open_temporary(file).and_then(|(temporary, handle)| {
        write_area(file, &temporary, image)?;
        handle
            .sync_all()
            .map_err(|error| CreateError::io("make durable", &temporary.path, &error))?;
        let now = handle.metadata().and_then(|stat| stat.modified());
        let now = now.map_err(|error| CreateError::io("look at", &temporary.path, &error))?;
        Ok((temporary, now))
    });
    let (temporary, now) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Err(error)),
    };
    let (found, age) = match look_at(file.path, now) {
        Ok(seen) => seen,
        Err(error) => return Ok(Err(CreateError::io("look at", file.path, &error))),
    };
    if !may_replace(found, age)? {
        return Ok(Ok(false));
    }
    let replaced = std::fs::rename(&temporary.path, file.path)
        .map_err(|error| CreateError::io("put the new file in the place of", file.path, &error))
        .and_then(|()| make_name_durable(file.path));
    Ok(replaced.map(|()| true))
}

/// What is at `path`, if that can be told.
pub(super) fn look(path: &Path) -> Result<Found, CreateError> {
    look_at(path, UNIX_EPOCH)
        .map(|(found, _)| found)
        .map_err(|error| CreateError::io("look at", path, &error))
}

/// What is at `path`, and how long before `now` it was last touched. All times are the storage's.
fn look_at(path: &Path, now: SystemTime) -> io::Result<(Found, Duration)> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(path)?;
    let stat = file.metadata()?;
    let touched = last_touched(stat.modified()?, stat.ctime(), stat.ctime_nsec());
    let never_used = stat
        .created()
        .is_ok_and(|created| is_of_creation(created, touched));
    let mut len = 0_usize;
    let mut any = false;
    let mut chunk = vec![0; LOOK_LEN];
    while len < AREA_LEN_MAX && !any {
        let got = file.read(&mut chunk)?;
        let bytes = chunk.get(..got).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        any = bytes.iter().any(|&byte| byte != 0);
        len = len.saturating_add(got);
    }
    let empty = !any;
    Ok((
        Found { empty, never_used },
        now.duration_since(touched).unwrap_or_default(),
    ))
}

/// The later of two times: that of the content can be set by hand, that of the inode cannot.
fn last_touched(modified: SystemTime, changed_secs: i64, changed_nanos: i64) -> SystemTime {
    let secs = u64::try_from(changed_secs).unwrap_or(0);
    let nanos = u32::try_from(changed_nanos).unwrap_or(0);
    let changed = UNIX_EPOCH.checked_add(Duration::new(secs, nanos));
    changed.map_or(modified, |changed| changed.max(modified))
}

/// Whether a file that was last touched then was just being created.
fn is_of_creation(created: SystemTime, touched: SystemTime) -> bool {
    touched.duration_since(created).unwrap_or_default() <= CREATION_TIME
}

/// A new file beside the one to be created, with its mode and owner.
fn open_temporary(file: &NewFile<'_>) -> Result<(Temporary, File), CreateError> {
    let name = file
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let tag = format!("{:016x}", clock::random(u64::MAX));
    let path = file.path.with_file_name(format!(".{name}.{tag}.tmp"));
    let io = |action, error: &io::Error| CreateError::io(action, &path, error);
    let handle = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(&path)
        .map_err(|error| io("create", &error))?;
    let temporary = Temporary { path: path.clone() };
    // The umask took bits away at creation.
    rustix::fs::fchmod(&handle, Mode::from_raw_mode(file.mode))
        .map_err(|errno| io("set the mode of", &errno.into()))?;
    if let Some((uid, gid)) = file.owner {
        rustix::fs::fchown(&handle, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|errno| io("set the owner of", &errno.into()))?;
    }
    Ok((temporary, handle))
}

fn write_area(
    file: &NewFile<'_>,
    temporary: &Temporary,
    image: impl Fn(Geometry) -> Vec<u8>,
) -> Result<(), CreateError> {
    let path = file.path.to_owned();
    let opened = OpenDisk::new(Access::ReadWrite)
        .open(&temporary.path)
        .map_err(|error| CreateError::Open(error.about(file.path)))?;
    let geometry = match file.geometry {
        Some(geometry) => Ok(geometry),
        None => Geometry::for_sector_size(opened.info().io_alignment().max(512)),
    };
    let geometry = geometry.map_err(|error| CreateError::Format {
        path: path.clone(),
        error,
    })?;
    let area = SectorBuf::from(&image(geometry)[..]);
    let pool = IoPool::new("dl-create", 1..=1)
        .map_err(|error| CreateError::io("start a thread for", &path, &error))?;
    let disk = Disk::new(opened, &pool);
    block_on(StorageWorld.write(&disk, 0, area, WRITE_TIMEOUT))
        .map_err(|error| CreateError::Write { path, error })
}

/// After a power cut the name must still be there: a host that goes on with a lease must not find
/// it gone, and be made a new one.
pub(super) fn make_name_durable(path: &Path) -> Result<(), CreateError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, directory, flags, Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(|errno| CreateError::io("make durable", directory, &errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scratch() -> tempfile::TempDir {
        // Not below /tmp, which may know no direct I/O.
        tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
    }

    fn fill_with(byte: u8) -> impl Fn(Geometry) -> Vec<u8> {
        move |geometry| vec![byte; geometry.area_size()]
    }

    #[test]
    fn the_file_is_whole_has_its_mode_and_nothing_else_stays_behind() {
        let dir = scratch();
        let path = dir.path().join("lease");
        let file = NewFile {
            path: &path,
            mode: 0o640,
            owner: None,
            geometry: None,
        };
        assert_eq!(create_whole(&file, fill_with(7)), Ok(Outcome::Created));
        assert_eq!(std::fs::read(&path).unwrap(), vec![7; 1 << 20]);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_exists_is_left_as_it_is() {
        let dir = scratch();
        let path = dir.path().join("lease");
        std::fs::write(&path, b"half").unwrap();
        let file = NewFile {
            path: &path,
            mode: 0o600,
            owner: None,
            geometry: None,
        };
        assert_eq!(create_whole(&file, fill_with(7)), Ok(Outcome::Existed));
        assert_eq!(std::fs::read(&path).unwrap(), b"half");
    }

    #[test]
    fn of_many_who_create_it_at_once_one_does_and_all_go_on() {
        let dir = scratch();
        let path = dir.path().join("lease");
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let creators: Vec<_> = (0..8)
                .map(|n| {
                    let path = &path;
                    scope.spawn(move || {
                        let file = NewFile {
                            path,
                            mode: 0o600,
                            owner: None,
                            geometry: None,
                        };
                        create_whole(&file, fill_with(n))
                    })
                })
                .collect();
            creators
                .into_iter()
                .map(|creator| creator.join().unwrap().unwrap())
                .collect()
        });
        assert_eq!(
            outcomes
                .iter()
                .filter(|&&outcome| outcome == Outcome::Created)
                .count(),
            1
        );
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            bytes.iter().all(|&byte| Some(&byte) == bytes.first()),
            "all of one creator's"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_emptied_later_is_seen_to_be_whatever_time_its_content_is_given() {
        let created = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |secs| created + Duration::from_secs(secs);
        for (modified, changed, never_used) in [
            (at(0), 1_000_001, true),
            (at(9), 1_000_010, true),
            (at(11), 1_000_001, false),
            // What `rsync -a` leaves, or `touch -r`.
            (at(0), 1_000_011, false),
            (at(0), -1, true),
        ] {
            let touched = last_touched(modified, changed, 0);
            assert_eq!(is_of_creation(created, touched), never_used, "{touched:?}");
        }
        assert_eq!(
            last_touched(at(0), 1_000_099, 5),
            at(99) + Duration::from_nanos(5)
        );
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error_with_its_name() {
        let path = Path::new("/nonexistent/lease");
        let file = NewFile {
            path,
            mode: 0o600,
            owner: None,
            geometry: None,
        };
        let error = create_whole(&file, fill_with(0)).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/"), "{error}");
    }
}
