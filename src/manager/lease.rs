//! One lease of a request: opened, acquired, released.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::{AcquireError, LeaseFault, ReleaseError, VerifyError};
use super::guard::Locked;
use crate::format::{HolderNote, LeaseVersion, LockspaceName, OfferId, ResourceName};
use crate::host::{NotReserved, OnLoss};
use crate::libvirt::{LeaseNames, Second};
use crate::lockspace::{LeaseKey, Lockspace, Reservation, WatchedFile};
use crate::paxos_lease;
use crate::paxos_lease::{
    Debt, HeldLease, Holding, LeaseArea, LeaseShape, acquire, has_ended_elsewhere, release,
    release_with_note, verify,
};
use crate::runtime::clock;
use crate::runtime::disk::{
    Access, Disk, Identity, Links, NamedFile, OpenErrorKind, OpenOptions, StorageWorld,
};
use crate::runtime::executor::block_on;
use crate::world::Timestamp;

/// A lease that was acquired longer ago than this is looked at once more before it is given out.
const CHECKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where a lease lies, and what it stands for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) locked: Locked,
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) lockspace: LockspaceName,
    pub(super) name: ResourceName,
    /// Both names of the file, where it is one of a lease directory.
    pub(super) names: Option<LeaseNames>,
}

/// A lease that this process holds.
#[derive(Debug)]
pub(super) struct Lease {
    lockspace: Lockspace,
    target: Target,
    area: LeaseArea<Disk>,
    held: HeldLease,
    /// What other hosts are told of who holds it.
    note: Option<HolderNote>,
    acquired_at: Timestamp,
    /// `None` once the lease was given up.
    reservation: Mutex<Option<Reservation>>,
}

/// Leases that no guest has run on yet: given back as such, the last one first, unless they are
/// taken out.
#[derive(Debug, Default)]
pub(super) struct Unstarted(Vec<Lease>);

/// How a lease is left behind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaving {
    /// A guest had it.
    Used,
    /// No guest ever ran on it.
    Unused,
    /// Another host goes on with the guest.
    HandedOver(OfferId),
}

impl Target {
    /// Links are followed where devices have their names. What lies in a lease directory is a file
    /// of ours, wherever the directory is: `/dev/shm` is writable to all.
    pub(super) fn links(&self) -> Links {
        match self.locked {
            Locked::Lease { .. } if self.path.starts_with("/dev") => Links::Follow,
            Locked::Lease { .. } | Locked::Disk(_) => Links::Refuse,
        }
    }

    /// Whether its file is one of a lease directory, by either name.
    const fn is_in_directory(&self) -> bool {
        self.names.is_some() || matches!(self.locked, Locked::Disk(_))
    }

    pub(super) fn fault(&self, fault: LeaseFault) -> AcquireError {
        AcquireError::Lease {
            locked: self.locked.clone(),
            path: self.path.clone(),
            fault,
        }
    }

    /// Whether this file names an owner that has ended its ownership in `lease`. Where that cannot be told it
    /// has not.
    pub(super) fn is_outlived_by(&self, lease: &Self, lockspace: &Lockspace) -> bool {
        let area = |target: &Self| {
            let opened = OpenOptions::new(Access::ReadOnly).links(target.links());
            let opened = opened.open(&target.path).ok()?;
            Some(LeaseArea {
                disk: Disk::new(opened, lockspace.inner().lease_pool()),
                offset: target.offset,
                lockspace: target.lockspace,
                resource: target.name,
                expected_shape: expected_shape(lockspace),
            })
        };
        let (Some(copy), Some(lease)) = (area(self), area(lease)) else {
            return false;
        };
        let membership = lockspace.membership();
        let ended = has_ended_elsewhere(&StorageWorld, membership, &copy, &lease);
        block_on(ended).unwrap_or(false)
    }

    /// Tries once to acquire it. What an attempt that failed leaves on the disk is cleaned up, by the
    /// lockspace later where that fails now.
    pub(super) fn try_acquire(
        &self,
        lockspace: &Lockspace,
        holding: &Holding,
    ) -> Result<Lease, AcquireError> {
        let opened = OpenOptions::new(Access::ReadWrite)
            .links(self.links())
            .open(&self.path)
            .map_err(|error| match error.kind() {
                // It was there a moment ago, and is made anew if it may be.
                OpenErrorKind::NotFound if self.is_in_directory() && holding.expected.is_none() => {
                    self.fault(LeaseFault::Replaced)
                }
                _ => self.fault(LeaseFault::Open(error)),
            })?;
        if !opened.info().may_begin_at(self.offset) {
            return Err(self.fault(LeaseFault::Misaligned {
                offset: self.offset,
                needed: opened.info().io_alignment(),
            }));
        }
        let inner = lockspace.inner();
        let disk = Disk::new(opened, inner.lease_pool());
        let key = LeaseKey {
            disk: disk.info().identity(),
            offset: self.offset,
        };
        let leases = &inner.shared.leases;
        let reservation = leases.reserve(key, self.name).or_else(|refused| {
            if refused != NotReserved::CleanupPending {
                return Err(refused);
            }
            leases.inspect_pending(&StorageWorld, &self.name, Disk::is_gone, |disk| {
                let path = disk.info().path().to_owned();
                NamedFile::new(path, self.links(), disk.clone()).is_elsewhere()
            });
            leases.reserve(key, self.name)
        });
        let reservation = reservation
            .map_err(|error| AcquireError::of_reservation(error, self.locked.clone()))?;
        let area = LeaseArea {
            disk,
            offset: self.offset,
            lockspace: self.lockspace,
            resource: self.name,
            expected_shape: expected_shape(lockspace),
        };
        match block_on(acquire(
            &StorageWorld,
            lockspace.membership(),
            &area,
            holding,
        )) {
            Ok(held) => {
                let lease = Lease {
                    lockspace: lockspace.clone(),
                    target: self.clone(),
                    area,
                    held,
                    note: holding.note.clone(),
                    acquired_at: clock::now(),
                    reservation: Mutex::new(Some(reservation)),
                };
                lease.check_name()
            }
            Err(failure) => {
                match (failure.debt, failure.settled) {
                    (Some(debt), _) => reservation.clean_up(area, debt),
                    (None, Some(settled)) => reservation.observe(area, settled),
                    (None, None) => {}
                }
                let loss = lockspace.loss();
                Err(AcquireError::of_algorithm(
                    failure.error,
                    &self.locked,
                    &self.path,
                    loss,
                ))
            }
        }
    }
}

fn expected_shape(lockspace: &Lockspace) -> LeaseShape {
    LeaseShape::of_lockspace(lockspace.membership().area().geometry)
}

impl Lease {
    pub(super) const fn locked(&self) -> &Locked {
        &self.target.locked
    }

    /// The file or device that is locked.
    pub(super) fn identity(&self) -> Identity {
        self.area.disk.info().identity()
    }

    pub(super) const fn path(&self) -> &PathBuf {
        &self.target.path
    }

    /// The file with the lease, to be watched.
    pub(super) fn file(&self) -> WatchedFile {
        let disk = self.area.disk.clone();
        // As far as it went when it was opened: a lease may be smaller than those of its lockspace.
        let len = self.area.expected_shape.geometry.area_size();
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let end = self.target.offset.saturating_add(len);
        let end = end.min(disk.info().len());
        let named = NamedFile::new(self.target.path.clone(), self.target.links(), disk);
        WatchedFile::new(named.used_up_to(end), self.target.names.clone())
    }

    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn version(&self) -> LeaseVersion {
        self.held.version()
    }

    /// Whether `target` is this very lease, by whatever name or path.
    pub(super) fn is_at(&self, target: &Target) -> bool {
        let named = Identity::of_path(&target.path, target.links());
        self.target.name == target.name
            || self.target.offset == target.offset
                && named.is_ok_and(|named| named == self.area.disk.info().identity())
    }

    /// The paths must still name the file that was locked and the lockspace it was locked in:
    /// whoever comes next opens what the paths name. So must the second name, which is made where it
    /// is missing.
    fn check_name(mut self) -> Result<Self, AcquireError> {
        match self.misnamed() {
            None => Ok(self),
            Some(error) => {
                self.release_quietly(Leaving::Unused);
                Err(error)
            }
        }
    }

    fn misnamed(&mut self) -> Option<AcquireError> {
        if !self.lockspace.inner().is_still_named() {
            return Some(AcquireError::LockspaceReplaced {
                path: self.lockspace.path().to_owned(),
            });
        }
        let locked = self.area.disk.info().identity();
        if let Some(names) = &self.target.names {
            match names.keep_second(locked) {
                Ok(Second::Same) => {}
                // Nobody makes a lease file there either, and there is nothing to be mended.
                Ok(Second::Unsupported) => self.target.names = None,
                Ok(Second::Other) => {
                    return Some(self.target.fault(LeaseFault::SecondLink { first: locked }));
                }
                Err(error) => {
                    let locked = self.target.locked.clone();
                    return Some(AcquireError::Create { locked, error });
                }
            }
        }
        match Identity::of_path(&self.target.path, self.target.links()) {
            Ok(named) if named == locked => None,
            Ok(_) => Some(self.target.fault(LeaseFault::Replaced)),
            Err(error) if error.kind() == OpenErrorKind::NotFound => {
                Some(self.target.fault(LeaseFault::Replaced))
            }
            Err(error) => Some(self.target.fault(LeaseFault::Open(error))),
        }
    }

    /// Looks on the disk whether the lease is still held.
    pub(super) fn verify(&self) -> Result<(), VerifyError> {
        let found = block_on(verify(
            &StorageWorld,
            self.lockspace.membership(),
            &self.area,
            &self.held,
        ));
        // What a file holds that was removed is nothing to other hosts, whether or not it can be read.
        if self.file().is_lost() {
            return Err(VerifyError::Replaced {
                locked: self.target.locked.clone(),
                path: self.target.path.clone(),
            });
        }
        found.map_err(|error| {
            VerifyError::of_algorithm(error, &self.target.locked, &self.target.path)
        })
    }

    /// From now on the lease is read again in the background, until it is given back.
    pub(super) fn keep(&self, on_loss: &OnLoss) {
        if let Some(reservation) = &mut *self.reservation.lock() {
            let mut area = self.area.clone();
            area.disk = self.lockspace.inner().reread_pools().disk(&area.disk);
            reservation.hold(area, self.held.clone(), Arc::clone(on_loss));
        }
    }

    /// Whether the lease is still there and held, if it was acquired some time ago. Where the storage
    /// does not tell, it is not given out.
    fn check_again(&self) -> Result<(), AcquireError> {
        if clock::now().since(self.acquired_at) < CHECKED_AGAIN_AFTER {
            return Ok(());
        }
        self.verify().map_err(|error| {
            self.target.fault(match error {
                VerifyError::Lease { fault, .. } | VerifyError::NotThere { fault, .. } => fault,
                VerifyError::NotOurs { version, owner, .. } => LeaseFault::Taken { version, owner },
                VerifyError::Replaced { .. } | VerifyError::Lost { .. } => LeaseFault::Replaced,
            })
        })
    }

    /// Gives the lease back. A second call has nothing left to do.
    pub(super) fn release(&self, leaving: Leaving) -> Result<(), ReleaseError> {
        let Some(reservation) = self.reservation.lock().take() else {
            return Ok(());
        };
        reservation.give_back();
        let note = self.note.clone().and_then(|note| match leaving {
            Leaving::Used => None,
            Leaving::Unused => self.held.unused_note(note),
            Leaving::HandedOver(offer) => Some(self.held.handed_over_note(note, offer)),
        });
        let (membership, area, held) = (self.lockspace.membership(), &self.area, &self.held);
        let released = match leaving {
            Leaving::Used => block_on(release(&StorageWorld, membership, area, held)),
            Leaving::Unused | Leaving::HandedOver(_) => {
                let note = note.as_ref();
                block_on(release_with_note(
                    &StorageWorld,
                    membership,
                    area,
                    held,
                    note,
                ))
            }
        };
        if let Err(paxos_lease::GiveBackError::Lease(_)) = released {
            let debt = Debt::of_release(&self.held).with_note(note);
            reservation.clean_up(self.area.clone(), debt);
        }
        released.map_err(|error| {
            ReleaseError::of_algorithm(error, &self.target.locked, &self.target.path)
        })
    }

    /// For where there is an error to report already, or nobody to report to.
    pub(super) fn release_quietly(&self, leaving: Leaving) {
        if let Err(error) = self.release(leaving) {
            tracing::warn!(resource = %self.target.name, %error, "a lease was not given back");
        }
    }
}

impl Unstarted {
    pub(super) fn push(&mut self, lease: Lease) {
        self.0.push(lease);
    }

    /// Whether all are still there and held: the first were not looked after while the last was waited
    /// for.
    pub(super) fn check_again(&self) -> Result<(), AcquireError> {
        self.0.iter().try_for_each(Lease::check_again)
    }

    pub(super) fn as_slice(&self) -> &[Lease] {
        &self.0
    }

    /// From now on a guest may run on them.
    pub(super) fn started(mut self) -> Vec<Lease> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        while let Some(lease) = self.0.pop() {
            lease.release_quietly(Leaving::Unused);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release_quietly(Leaving::Used);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::format::HostId;
    use crate::libvirt::{LeaseDirectory, lease_name, lockspace_name};
    use crate::lockspace::Watchdog;
    use crate::paxos_lease::Patience;
    use crate::world::CancelToken;

    /// Somebody removes the lease, or puts another in its place, while it is acquired: whoever comes next
    /// opens what the path names.
    #[test]
    fn a_lease_whose_path_does_not_name_it_any_more_is_not_given_out() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let directory = LeaseDirectory::new(dir.path());
        let n = Duration::from_secs(1);
        let path = directory.create_lockspace(n).unwrap();
        let options = Lockspace::options(Watchdog::None).io_timeout(n);
        let options = options.runtime_dir(dir.path().join("run"));
        let lockspace = options.join(path, HostId::FIRST).unwrap();
        let name = lease_name("/a".as_ref());
        let geometry = lockspace.membership().area().geometry;
        directory.create_lease(&name, geometry).unwrap();
        let target = Target {
            locked: Locked::Lease {
                lockspace: lockspace_name(),
                name,
            },
            path: dir.path().join(name.to_string()),
            offset: 0,
            lockspace: lockspace_name(),
            name,
            names: None,
        };
        let holding = Holding {
            patience: Patience::Refuse,
            note: None,
            expected: None,
            cancel: CancelToken::new(),
        };
        let aside = dir.path().join("aside");
        for is_replaced in [false, true] {
            let lease = target.try_acquire(&lockspace, &holding).unwrap();
            fs::rename(&target.path, &aside).unwrap();
            if is_replaced {
                fs::copy(&aside, &target.path).unwrap();
            }
            let refused = lease.check_name().unwrap_err();
            assert_eq!(refused, target.fault(LeaseFault::Replaced));
            fs::rename(&aside, &target.path).unwrap();
        }
        // Each time it was given back.
        drop(target.try_acquire(&lockspace, &holding).unwrap());
    }

    #[test]
    fn links_are_followed_to_devices_only() {
        let name = lease_name("/a".as_ref());
        let target = |locked: Locked, path: &str| Target {
            locked,
            path: path.into(),
            offset: 0,
            lockspace: lockspace_name(),
            name,
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
