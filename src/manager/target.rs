//! Where a lease lies, and what it stands for.

use std::path::Path;

use super::error::{AcquireError, AcquireErrorKind, LockError};
use super::locked::Locked;
use super::request::LeaseSpec;
use crate::format::{LockspaceName, ResourceName};
use crate::libvirt::{LeaseDirectory, LeaseNames};
use crate::lockspace::Lockspace;
use crate::paxos_lease::{LeaseArea, LeaseShape};
use crate::runtime::disk::{Access, Disk, Links, OpenError, OpenOptions, OpenedDisk};

/// A lease to be acquired.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) locked: Locked,
    pub(super) lease: LeaseSpec,
    /// Both names of the file, where it is one of a lease directory.
    pub(super) names: Option<LeaseNames>,
}

impl Target {
    /// The lease that `locked` has in `directory`, of `lockspace`.
    pub(super) fn in_directory(
        locked: Locked,
        lockspace: LockspaceName,
        name: ResourceName,
        directory: &LeaseDirectory,
    ) -> Self {
        let names = directory.lease_names(&name);
        Self {
            locked,
            lease: LeaseSpec::new(lockspace, name, names.first(), 0),
            names: Some(names),
        }
    }

    /// A lease that lies where its user says.
    pub(super) fn of_spec(lease: &LeaseSpec) -> Self {
        Self {
            locked: lease.locked(),
            lease: lease.clone(),
            names: None,
        }
    }

    /// Where it lies.
    pub(super) fn at(&self) -> (&Path, u64) {
        (&self.lease.path, self.lease.offset)
    }

    /// Links are followed where devices have their names. What lies in a lease directory is a file
    /// of ours, wherever the directory is: `/dev/shm` is writable to all.
    pub(super) fn links(&self) -> Links {
        match self.locked {
            Locked::Lease { .. } if self.lease.path.starts_with("/dev") => Links::Follow,
            Locked::Lease { .. } | Locked::Disk(_) => Links::Refuse,
        }
    }

    pub(super) fn open(&self, access: Access) -> Result<OpenedDisk, OpenError> {
        let options = OpenOptions::new(access).links(self.links());
        options.open(&self.lease.path)
    }

    /// The lease on `disk`, as a host of `lockspace` expects it.
    pub(super) fn area(&self, disk: Disk, lockspace: &Lockspace) -> LeaseArea<Disk> {
        LeaseArea {
            disk,
            offset: self.lease.offset,
            lockspace: self.lease.lockspace,
            resource: self.lease.name,
            expected_shape: LeaseShape::of_lockspace(lockspace.membership().area().geometry),
        }
    }

    pub(super) fn error(&self, kind: impl Into<AcquireErrorKind>) -> AcquireError {
        match kind.into() {
            // Of all locks, not of this one.
            kind @ AcquireErrorKind::LockspaceLost { .. } => kind.into(),
            kind => self.about(kind),
        }
    }

    /// An error of whatever operation, with this lock.
    pub(super) fn about<K>(&self, kind: K) -> LockError<K> {
        LockError::of(&self.locked, &self.lease.path, kind)
    }

    /// Pairs each of `targets` with what `left`, a suspended or offered guard, says of it. Both name the same
    /// locks, no fewer and no more.
    pub(super) fn pair<T>(
        targets: Vec<Self>,
        mut left: Vec<T>,
        is_of: impl Fn(&T, &LeaseSpec) -> bool,
    ) -> Result<Vec<(Self, T)>, AcquireError> {
        let mut pairs = Vec::with_capacity(targets.len());
        for target in targets {
            let at = left.iter().position(|lock| is_of(lock, &target.lease));
            let at = at.ok_or_else(|| target.error(AcquireErrorKind::OtherLocks))?;
            pairs.push((target, left.swap_remove(at)));
        }
        match pairs.first() {
            Some((target, _)) if !left.is_empty() => {
                Err(target.error(AcquireErrorKind::OtherLocks))
            }
            _ => Ok(pairs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::{lease_name, lockspace_name};

    #[test]
    fn links_are_followed_to_devices_only() {
        let name = lease_name("/a".as_ref());
        let target = |locked: Locked, path: &str| Target {
            locked,
            lease: LeaseSpec::new(lockspace_name(), name, path, 0),
            names: None,
        };
        let lease = || Locked::Lease {
            lockspace: lockspace_name(),
            name,
        };
        let disk = || Locked::Disk("/a".into());
        for (target, links) in [
            (target(lease(), "/dev/disk/by-id/x"), Links::Follow),
            (target(lease(), "/leases/x"), Links::Refuse),
            (target(disk(), "/dev/shm/leases/x"), Links::Refuse),
            (target(disk(), "/leases/x"), Links::Refuse),
        ] {
            assert_eq!(target.links(), links, "{target:?}");
        }
    }
}
