//! Whether the lockspace is where and what it was when it was joined, and whether a lease directory is that of
//! the lockspace.
//!
//! Hosts of another lockspace would take the same leases for free. A directory that was the right one
//! may be unmounted, mounted over or mounted anew at any time, so this is asked for each lease.

use std::path::PathBuf;

use crate::delta_lease::LockspaceArea;
use crate::format::LockspaceId;
use crate::libvirt::{LeaseDirectory, SecondLinks};
use crate::lockspace::Lockspace;
use crate::runtime::disk::{
    Access, Disk, Identity, Links, OpenError, OpenErrorKind, OpenOptions, Refreshed, StorageWorld,
};
use crate::runtime::executor::block_on;
use crate::world::{ReadError, SectorBuf, World};

use super::error::{AcquireError, AcquireErrorKind, DirectoryError};

/// How often this host's sector is compared: a renewal may come in between.
const COMPARISONS: u32 = 3;

/// Whether `lockspace` is still held.
pub(super) fn expect_held(lockspace: &Lockspace) -> Result<(), AcquireError> {
    if lockspace.is_held() {
        Ok(())
    } else {
        Err(AcquireErrorKind::lockspace_lost(lockspace).into())
    }
}

/// Whether the path by which `lockspace` was joined still names it.
pub(super) fn expect_named(lockspace: &Lockspace) -> Result<(), AcquireError> {
    if lockspace.inner().is_still_named() {
        Ok(())
    } else {
        let path = lockspace.path().to_owned();
        Err(AcquireErrorKind::LockspaceReplaced { path }.into())
    }
}

/// Whether the lockspace in `directory` is `lockspace`. From now on their directory there is
/// marked complete in the background.
pub(super) fn check(
    lockspace: &Lockspace,
    directory: &LeaseDirectory,
) -> Result<(), DirectoryError> {
    let area = lockspace.membership().area();
    let path = directory.lockspace_path();
    let open = |error: OpenError| match error.kind() {
        OpenErrorKind::NotFound => DirectoryError::Missing {
            path: error.path().to_owned(),
        },
        _ => DirectoryError::Open(error),
    };
    let found = Identity::of_path(&path, Links::Refuse).map_err(open)?;
    let is_same = area.offset == 0 && {
        let joined = area.disk.info().identity();
        found == joined || is_mounted_twice(lockspace, directory, found)?
    };
    if !is_same {
        return Err(DirectoryError::OtherLockspace {
            found: path,
            joined: area.disk.info().path().to_owned(),
            offset: area.offset,
        });
    }
    register(lockspace, directory, path, found);
    Ok(())
}

/// Has the directory of the second links marked complete in the background, where there is one: a process may be forbidden to make
/// directories later on, and not every file system has them.
fn register(lockspace: &Lockspace, directory: &LeaseDirectory, path: PathBuf, found: Identity) {
    let directories = &lockspace.inner().shared.directories;
    let is_known = |known: &(SecondLinks, Identity)| known.1 == found;
    if directories.lock().get(&path).is_some_and(is_known) {
        return;
    }
    let links = directory.second_links();
    if links.is_complete(&mut Refreshed::default()) == Ok(true) || links.incomplete_for().is_ok() {
        directories.lock().insert(path, (links, found));
    }
}

/// Whether the other file `found` in `directory` is the same lockspace, seen by way of another mount.
///
/// It has the same random id then; but so has a copy. What no copy has is the last renewal of this host.
fn is_mounted_twice(
    lockspace: &Lockspace,
    directory: &LeaseDirectory,
    found: Identity,
) -> Result<bool, DirectoryError> {
    let path = directory.lockspace_path();
    let membership = lockspace.membership();
    let joined = membership.area();
    let opened = OpenOptions::new(Access::ReadOnly)
        .links(Links::Refuse)
        .open(&path)
        .map_err(DirectoryError::Open)?;
    if opened.info().identity() != found {
        return Ok(false);
    }
    let there = LockspaceArea {
        disk: Disk::new(opened, lockspace.inner().lease_pool()),
        ..joined.clone()
    };
    let io = membership.timing().io();
    let read = |area: &LockspaceArea<Disk>, offset| {
        let into = SectorBuf::zeroed(area.geometry.sector_size());
        match block_on(StorageWorld.read(&area.disk, offset, into, io)) {
            Ok(sector) => Ok(Some(sector)),
            Err(ReadError::EndOfFile { .. }) => Ok(None),
            Err(error) => Err(DirectoryError::Unreadable {
                path: area.disk.info().path().to_owned(),
                error,
            }),
        }
    };
    let id_of = |area: &LockspaceArea<Disk>| {
        let sector = read(area, area.geometry.lockspace_id_offset())?;
        Ok(sector.and_then(|sector| LockspaceId::read_from(&sector).present()))
    };
    let id = id_of(joined)?;
    if id.is_none() || id_of(&there)? != id {
        return Ok(false);
    }
    let own = joined.sector_offset(membership.host_id());
    let mut before = read(joined, own)?;
    for _ in 0..COMPARISONS {
        let seen = read(&there, own)?;
        let after = read(joined, own)?;
        let is_seen = |sector: &Option<SectorBuf>| sector.as_deref() == seen.as_deref();
        if seen.is_some() && (is_seen(&before) || is_seen(&after)) {
            return Ok(true);
        }
        before = after;
    }
    Ok(false)
}
