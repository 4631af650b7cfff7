//! Creating a file whole: written under a temporary name, made durable, linked into place.

use std::error::Error;
use std::fmt;
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

/// How much of a file is read in one go, and at most.
const CHUNK_LEN: usize = 64 * 1024;
const AREA_LEN_MAX: usize = 8 << 20;

/// Why a lockspace or lease could not be created: what went wrong, and with which file.
///
/// Its text is whole: it includes that of its [`source`](Error::source).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateError {
    path: PathBuf,
    kind: Box<CreateErrorKind>,
}

/// What went wrong with the creation of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateErrorKind {
    /// The io timeout is out of its limits.
    #[error("is not created: {0}")]
    Timing(#[source] TimingError),
    /// There are leases in the directory, but no lockspace: it was removed, and hosts that joined it
    /// may still hold them. A new one would not know of them.
    #[error(
        "has leases but no lockspace: if it was not removed by mistake, and no host uses the leases, delete them first, also those in its .disklease/leases"
    )]
    LeasesWithoutLockspace,
    /// The file system refuses something.
    #[error("cannot be used, to {action} it: {error}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// Why it was refused.
        error: OsError,
    },
    /// Something that should be a lease file is none.
    #[error("is not a file: it is in the place of a lease, take it away")]
    NotAFile,
    /// The new file cannot be opened for direct I/O.
    #[error("cannot be created: the new file cannot be opened: {0}")]
    Open(#[source] OpenError),
    /// The new file cannot be written.
    #[error("cannot be created: the new file cannot be written: {0}")]
    Write(#[source] WriteError),
    /// What was to be written cannot be made.
    #[error("cannot be initialised: {0}")]
    Format(#[source] FormatError),
}

/// An error of the file system, which did not do `action` with what is at `path`.
pub(super) fn io<E: Into<io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> CreateError {
    move |error| {
        let error = OsError::from(error.into());
        CreateError::of(path, CreateErrorKind::Io { action, error })
    }
}

impl CreateError {
    pub(super) fn of(path: &Path, kind: CreateErrorKind) -> Self {
        let (path, kind) = (path.to_owned(), Box::new(kind));
        Self { path, kind }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &CreateErrorKind {
        &self.kind
    }

    /// With which file or directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file system reported one of these error numbers.
    fn is_errno(&self, numbers: &[i32]) -> bool {
        matches!(*self.kind, CreateErrorKind::Io { error, .. } if numbers.contains(&error.errno()))
    }

    /// Whether a directory or a file on the way was removed meanwhile.
    pub(crate) fn is_of_missing_name(&self) -> bool {
        self.is_errno(&[libc::ENOENT, libc::ESTALE])
    }

    /// Whether the file system has no such thing.
    pub(super) fn is_unsupported(&self) -> bool {
        self.is_errno(&[libc::ENOSYS, libc::EOPNOTSUPP])
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &*self.kind {
            CreateErrorKind::Io { action, error } => write!(f, "cannot {action} {path:?}: {error}"),
            kind => write!(f, "{path:?} {kind}"),
        }
    }
}

impl Error for CreateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
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

/// A file that is complete and durable, under a temporary name; gone when this is dropped, however that comes
/// about.
pub(crate) struct Prepared {
    temporary: PathBuf,
    /// The name that it is to have.
    path: PathBuf,
    handle: File,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.temporary)
            // Its name was changed to the one that it is to have.
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(path = ?self.temporary, %error, "a temporary file stays behind");
        }
    }
}

impl Prepared {
    /// Prepares `file` with the `image` of its area. A crash leaves a temporary file at the worst, whose name
    /// nobody inspects.
    pub(super) fn new(
        file: &NewFile<'_>,
        image: impl Fn(Geometry) -> Vec<u8>,
    ) -> Result<Self, CreateError> {
        let prepared = Self::open(file)?;
        prepared.write_area(file.geometry, image)?;
        let synced = prepared.handle.sync_all();
        synced.map_err(io("make durable", &prepared.temporary))?;
        Ok(prepared)
    }

    /// Gives it its name, unless that exists. Returns whether this file has got it.
    pub(super) fn link(self) -> Result<bool, CreateError> {
        match std::fs::hard_link(&self.temporary, &self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(io("link the new file to", &self.path)(error)),
        }
        let path = self.path.clone();
        drop(self);
        make_name_durable(&path)?;
        Ok(true)
    }

    /// What has the name that it is to have, and how long ago that was last touched, by the clock of the
    /// storage.
    pub(crate) fn found(&self) -> Result<(Found, Duration), CreateError> {
        let now = self.handle.metadata().and_then(|stat| stat.modified());
        let now = now.map_err(io("inspect", &self.temporary))?;
        inspect_at(&self.path, now).map_err(io("inspect", &self.path))
    }

    /// Puts it in the place of what has its name.
    pub(crate) fn replace(self) -> Result<(), CreateError> {
        std::fs::rename(&self.temporary, &self.path)
            .map_err(io("put the new file in the place of", &self.path))?;
        make_name_durable(&self.path)
    }

    /// A new file beside the one to be created, with its mode and owner.
    fn open(file: &NewFile<'_>) -> Result<Self, CreateError> {
        let temporary = temporary_name(file.path);
        let handle = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
            .open(&temporary)
            .map_err(io("create", &temporary))?;
        let prepared = Self {
            temporary: temporary.clone(),
            path: file.path.to_owned(),
            handle,
        };
        // The umask took bits away at creation.
        rustix::fs::fchmod(&prepared.handle, Mode::from_raw_mode(file.mode))
            .map_err(io("set the mode of", &temporary))?;
        if let Some((uid, gid)) = file.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::fchown(&prepared.handle, Some(uid), Some(gid))
                .map_err(io("set the owner of", &temporary))?;
        }
        Ok(prepared)
    }

    fn write_area(
        &self,
        geometry: Option<Geometry>,
        image: impl Fn(Geometry) -> Vec<u8>,
    ) -> Result<(), CreateError> {
        let error = |kind| CreateError::of(&self.path, kind);
        let opened = OpenDisk::new(Access::ReadWrite).open(&self.temporary);
        let opened = opened.map_err(|open| error(CreateErrorKind::Open(open.about(&self.path))))?;
        let alignment = opened.info().io_alignment().max(512);
        let geometry = geometry.map_or_else(|| Geometry::for_sector_size(alignment), Ok);
        let geometry = geometry.map_err(|format| error(CreateErrorKind::Format(format)))?;
        let area = SectorBuf::from(&image(geometry)[..]);
        // Dropped last: the disk works by it.
        let pool = IoPool::new("dl-create", 1..=1);
        let pool = pool.map_err(io("start a thread for", &self.path))?;
        let disk = Disk::new(opened, &pool);
        block_on(StorageWorld.write(&disk, 0, area, WRITE_TIMEOUT))
            .map_err(|write| error(CreateErrorKind::Write(write)))
    }
}

/// A name beside `path` that nobody inspects.
pub(super) fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tag = clock::random(u64::MAX);
    path.with_file_name(format!(".{name}.{tag:016x}.tmp"))
}

/// Creates `file` with the `image` of its area, unless it exists. Returns whether this call did.
///
/// What is linked into place is complete and durable.
pub(super) fn create_whole(
    file: &NewFile<'_>,
    image: impl Fn(Geometry) -> Vec<u8>,
) -> Result<bool, CreateError> {
    match std::fs::symlink_metadata(file.path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Prepared::new(file, image)?.link(),
        Err(error) => Err(io("inspect", file.path)(error)),
    }
}

/// What stands where a file is to be replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Whether there is nothing but zeros, or nothing at all.
    ///
    /// A leader of zeros alone does not show that nobody uses the lease: it may have been damaged
    /// while its owner runs, whose block still stands.
    pub(crate) is_empty: bool,
    /// Whether the storage shows that the file was not touched since soon after it was created.
    ///
    /// A file that was emptied later may have been a lease, and its owner may still run. So may that
    /// of a file whose storage keeps no time of creation.
    pub(crate) was_never_used: bool,
}

/// What is at `path`, if that is known.
pub(super) fn inspect(path: &Path) -> Result<Found, CreateError> {
    inspect_at(path, UNIX_EPOCH)
        .map(|(found, _)| found)
        .map_err(io("inspect", path))
}

/// What is at `path`, and how long before `now` it was last touched. All times are the storage's.
fn inspect_at(path: &Path, now: SystemTime) -> io::Result<(Found, Duration)> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(path)?;
    let stat = file.metadata()?;
    let touched = last_touched(stat.modified()?, stat.ctime(), stat.ctime_nsec());
    let created = stat.created();
    let found = Found {
        is_empty: has_zeros_only(&mut file)?,
        was_never_used: created.is_ok_and(|created| is_of_creation(created, touched)),
    };
    Ok((found, now.duration_since(touched).unwrap_or_default()))
}

fn has_zeros_only(file: &mut File) -> io::Result<bool> {
    let mut len = 0_usize;
    let mut chunk = vec![0; CHUNK_LEN];
    while len < AREA_LEN_MAX {
        let got = file.read(&mut chunk)?;
        let bytes = chunk.get(..got).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        if bytes.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        len = len.saturating_add(got);
    }
    Ok(true)
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

/// After a power cut the name must still be there: a host that goes on with a lease must not find
/// it gone, and be made a new one.
pub(super) fn make_name_durable(path: &Path) -> Result<(), CreateError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, directory, flags, Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(io("make durable", directory))
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
        assert_eq!(create_whole(&file, fill_with(7)), Ok(true));
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
        assert_eq!(create_whole(&file, fill_with(7)), Ok(false));
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
        assert_eq!(outcomes.iter().filter(|&&created| created).count(), 1);
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
