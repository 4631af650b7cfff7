//! The directory that holds a lockspace and one lease file for each disk.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::create::{self, CreateError, CreateErrorKind, NewFile, Prepared, create_whole};
use super::names::{LOCKSPACE_NAME, lease_name, lockspace_name};
use super::second_link::{LeaseNames, SecondLinks, holds_leases};
use crate::format::{Geometry, LockspaceId, ResourceName, lease_image, lockspace_image};
use crate::runtime::clock;
use crate::runtime::disk::file_system_of_one_host;
use crate::timing::IoTimeout;

/// What an operator reads where no lockspace is. Nobody makes one unasked: on a host where the
/// share is not mounted, it would be one that no other host sees.
pub(crate) const MISSING_HINT: &str =
    "is the share mounted? `disklease init --lease-dir DIR` makes a new lockspace";

/// A directory with the lockspace `__LIBVIRT__DISKS__` and a lease file for each disk, as libvirt
/// lays it out. It must lie on storage that all hosts share and that lets them use `O_DIRECT`.
///
/// Files are created whole under a temporary name and linked into place, so nobody ever sees half a
/// file, and of two hosts that create the same file at once both go on with the one that was first.
#[derive(Clone, Debug)]
pub struct LeaseDirectory {
    path: PathBuf,
    mode: u32,
    owner: Option<(u32, u32)>,
    geometry: Option<Geometry>,
    single_host: bool,
}

impl LeaseDirectory {
    /// The directory at `path`, whose files are created with mode 0600 for the user who creates
    /// them.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: 0o600,
            owner: None,
            geometry: None,
            single_host: false,
        }
    }

    /// Creates files with these permission bits: libvirt uses 0660 where a group is configured. Of
    /// files that exist they are not changed.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Gives files that are created to this user and group, which needs the privilege to do so.
    #[must_use]
    pub const fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// Creates the lockspace, and with it all leases, with this geometry. By default 512-byte
    /// sectors and 1 MiB, or 4096 and 8 MiB where the storage takes no smaller I/O.
    #[must_use]
    pub const fn geometry(mut self, geometry: Geometry) -> Self {
        self.geometry = Some(geometry);
        self
    }

    /// Says that this host alone uses the lockspace: no warning then where it is made on a file system
    /// that no other host sees.
    #[must_use]
    pub const fn single_host(mut self) -> Self {
        self.single_host = true;
        self
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the lockspace lies.
    #[must_use]
    pub fn lockspace_path(&self) -> PathBuf {
        self.path.join(LOCKSPACE_NAME)
    }

    /// Where the lease of the disk at `disk` lies: see [`lease_name`].
    #[must_use]
    pub fn lease_path(&self, disk: &Path) -> PathBuf {
        self.path.join(lease_name(disk).to_string())
    }

    /// Creates the lockspace where it is missing, and the directory too. What exists is left as it
    /// is, and so is what the directory lies in.
    ///
    /// Done once for a directory, when the storage that the hosts share is certainly in its place:
    /// nothing else creates a lockspace. On a host where the share is not mounted this creates one
    /// of that host alone.
    ///
    /// `io_timeout` goes into the lockspace as what the first join of each host id goes by.
    ///
    /// # Errors
    ///
    /// [`CreateError`].
    pub fn create_lockspace(&self, io_timeout: Duration) -> Result<PathBuf, CreateError> {
        let path = self.lockspace_path();
        let io_timeout = IoTimeout::new(io_timeout)
            .map_err(|error| CreateError::of(&path, CreateErrorKind::Timing(error)))?;
        match std::fs::create_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(create::io("create the directory", &self.path)(error));
            }
            _ => {}
        }
        self.warn_of_foreign_writers();
        if let (Some(file_system), false) = (file_system_of_one_host(&self.path), self.single_host)
        {
            warn_of_one_host(&self.path, file_system);
        }
        if self.is_without_lockspace(&path)? {
            // No host has a lease here: each name without a second link is a new one. Said before
            // there is a lockspace that a host could join.
            self.second_links().mark_complete()?;
        }
        let secs = u16::from(io_timeout.as_secs());
        let id = random_id();
        let is_new = create_whole(&self.new_file(&path, self.geometry), |geometry| {
            lockspace_image(geometry, &lockspace_name(), secs, Some(id))
        })?;
        if is_new {
            tracing::info!(?path, %id, "created the lockspace");
        }
        Ok(path)
    }

    /// Whether the lockspace is missing. One that is missing where leases are was removed.
    fn is_without_lockspace(&self, lockspace: &Path) -> Result<bool, CreateError> {
        let is_missing = || std::fs::symlink_metadata(lockspace).is_err();
        if !is_missing() {
            return Ok(false);
        }
        let has_leases = holds_leases(&self.path)? || self.second_links().has_leases()?;
        // Asked again: another host may have created both in the meantime.
        if has_leases && is_missing() {
            let kind = CreateErrorKind::LeasesWithoutLockspace;
            return Err(CreateError::of(&self.path, kind));
        }
        Ok(!has_leases)
    }

    pub(crate) fn second_links(&self) -> SecondLinks {
        SecondLinks::of(&self.path)
    }

    /// The names of the lease called `name`.
    pub(crate) fn lease_names(&self, name: &ResourceName) -> LeaseNames {
        self.second_links().names(name)
    }

    /// Creates the file of the lease `name` where both its names are missing, with the geometry of
    /// its lockspace.
    ///
    /// The second name first: of several that create it at once, and of one that stops half-way, the
    /// file that has got it is the lease.
    pub(crate) fn create_lease(
        &self,
        name: &ResourceName,
        geometry: Geometry,
    ) -> Result<(), CreateError> {
        let names = self.lease_names(name);
        let new = self.new_file(names.second(), Some(geometry));
        if create_whole(&new, |geometry| new_lease(name, geometry))? {
            tracing::debug!(path = ?names.first(), "created a lease file");
        }
        names.link_first().map(drop)
    }

    /// Prepares a new file for the lease `name`, to replace what has its first name.
    pub(crate) fn prepare_lease(
        &self,
        name: &ResourceName,
        geometry: Geometry,
    ) -> Result<Prepared, CreateError> {
        let path = self.path.join(name.to_string());
        let image = |geometry| new_lease(name, geometry);
        Prepared::new(&self.new_file(&path, Some(geometry)), image)
    }

    const fn new_file<'a>(&self, path: &'a Path, geometry: Option<Geometry>) -> NewFile<'a> {
        NewFile {
            path,
            mode: self.mode,
            owner: self.owner,
            geometry,
        }
    }

    /// Whoever may write to the directory can put another file in a lease's place.
    fn warn_of_foreign_writers(&self) {
        if let Ok(stat) = std::fs::metadata(&self.path) {
            let mode = stat.permissions().mode();
            if mode & 0o022 != 0 && mode & 0o1000 == 0 {
                tracing::warn!(
                    directory = ?self.path,
                    mode = format_args!("{:04o}", mode & 0o7777),
                    uid = stat.uid(),
                    "others may replace files in the lease directory: take their write permission away, or set the sticky bit"
                );
            }
        }
    }
}

/// A lease that nobody ever held, for all hosts of a lockspace.
fn new_lease(name: &ResourceName, geometry: Geometry) -> Vec<u8> {
    lease_image(geometry, &lockspace_name(), name, geometry.max_hosts())
}

fn random_id() -> LockspaceId {
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        half.copy_from_slice(&clock::random(u64::MAX).to_le_bytes());
    }
    LockspaceId::new(bytes)
}

/// What is at `path` is seen by this host alone, as far as its file system tells.
pub(crate) fn warn_of_one_host(path: &Path, file_system: &str) {
    tracing::warn!(
        ?path,
        file_system,
        "only this host sees this file system: its locks keep no other host out. Is the share mounted? If only this host is to use them, say so (--single-host, single_host)"
    );
}
