//! One lease of a request: opened, acquired, given back.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::{
    AcquireError, AcquireErrorKind, LeaseFault, ReleaseError, ReleaseErrorKind, VerifyError,
    VerifyErrorKind,
};
use super::locked::Locked;
use super::place::expect_named;
use super::target::Target;
use crate::format::{HolderNote, LeaseVersion, OfferId, ResourceName};
use crate::host::{NotReserved, OnLoss};
use crate::libvirt::Second;
use crate::lockspace::{LeaseKey, Lockspace, Reservation, WatchedFile};
use crate::paxos_lease::{HeldLease, Holding, LeaseArea, LeftBehind, acquire, release, verify};
use crate::runtime::clock;
use crate::runtime::disk::{Access, Disk, Identity, NamedFile, OpenErrorKind, StorageWorld};
use crate::runtime::executor::block_on;
use crate::world::Timestamp;

/// A lease that was acquired longer ago than this is read once more before it is given out.
const CHECKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A lease that this process holds.
#[derive(Debug)]
pub(super) struct Lease {
    lockspace: Lockspace,
    target: Target,
    area: LeaseArea<Disk>,
    held: HeldLease,
    /// Who holds it, for people on other hosts.
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

/// One try to acquire a lease: as a host of which lockspace, where, and how.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) lockspace: &'a Lockspace,
    pub(super) target: &'a Target,
    pub(super) holding: &'a Holding,
}

/// The right to the lease `target` on `disk` in this process.
fn reserve(
    target: &Target,
    lockspace: &Lockspace,
    disk: &Disk,
) -> Result<Reservation, NotReserved> {
    let leases = &lockspace.inner().shared.leases;
    let key = LeaseKey {
        disk: disk.info().identity(),
        offset: target.lease.offset,
    };
    let reserved = leases.reserve(key, target.lease.name);
    if !matches!(reserved, Err(NotReserved::CleanupPending)) {
        return reserved;
    }
    leases.inspect_pending(&StorageWorld, &target.lease.name, Disk::is_gone, |disk| {
        let path = disk.info().path().to_owned();
        NamedFile::new(path, target.links(), disk.clone()).is_elsewhere()
    });
    leases.reserve(key, target.lease.name)
}

impl Attempt<'_> {
    /// Tries once. What an attempt that failed leaves on the disk is cleaned up, by the lockspace later where
    /// that fails now.
    pub(super) fn acquire(self) -> Result<Lease, AcquireError> {
        let Self {
            lockspace,
            target,
            holding,
        } = self;
        let opened = target.open(Access::ReadWrite).map_err(|error| {
            // One of a lease directory, by either name.
            let is_ours = target.names.is_some() || matches!(target.locked, Locked::Disk(_));
            target.error(match error.kind() {
                // It was there a moment ago, and is made anew if it may be.
                OpenErrorKind::NotFound if is_ours && holding.expected.is_none() => {
                    LeaseFault::Replaced
                }
                _ => LeaseFault::Open(error),
            })
        })?;
        if !opened.info().may_begin_at(target.lease.offset) {
            return Err(target.error(LeaseFault::Misaligned {
                offset: target.lease.offset,
                needed: opened.info().io_alignment(),
            }));
        }
        let disk = Disk::new(opened, lockspace.inner().lease_pool());
        let reservation = reserve(target, lockspace, &disk)
            .map_err(|refused| target.error(AcquireErrorKind::of_reservation(refused)))?;
        let area = target.area(disk, lockspace);
        let acquired = block_on(acquire(
            &StorageWorld,
            lockspace.membership(),
            &area,
            holding,
        ));
        match acquired {
            Ok(held) => {
                let mut lease = Lease {
                    lockspace: lockspace.clone(),
                    target: target.clone(),
                    area,
                    held,
                    note: holding.note.clone(),
                    acquired_at: clock::now(),
                    reservation: Mutex::new(Some(reservation)),
                };
                let named = lease.check_names();
                lease.unless_refused(named)
            }
            Err(failure) => {
                match (failure.pending, failure.cleaned_up) {
                    (Some(pending), _) => reservation.clean_up(area, pending),
                    (None, Some(cleaned_up)) => reservation.observe(area, cleaned_up),
                    (None, None) => {}
                }
                let kind = AcquireErrorKind::of_algorithm(failure.error, lockspace);
                Err(target.error(kind))
            }
        }
    }
}

impl Lease {
    /// The file or device that is locked.
    pub(super) fn identity(&self) -> Identity {
        self.area.disk.info().identity()
    }

    /// What the lease protects, by its name on the disk.
    pub(super) const fn resource(&self) -> ResourceName {
        self.area.resource
    }

    /// The file with the lease, to be watched.
    pub(super) fn file(&self) -> WatchedFile {
        let disk = self.area.disk.clone();
        // As far as it went when it was opened: a lease may be smaller than those of its lockspace.
        let len = self.area.expected_shape.geometry.area_size();
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let end = self.target.lease.offset.saturating_add(len);
        let end = end.min(disk.info().len());
        let named = NamedFile::new(self.target.lease.path.clone(), self.target.links(), disk);
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
        let named = Identity::of_path(&target.lease.path, target.links());
        self.target.lease.name == target.lease.name
            || self.target.lease.offset == target.lease.offset
                && named.is_ok_and(|named| named == self.identity())
    }

    /// Gives the lease back, as one that no guest ran on, where `checked` refuses it.
    pub(super) fn unless_refused(
        self,
        checked: Result<(), AcquireError>,
    ) -> Result<Self, AcquireError> {
        match checked {
            Ok(()) => Ok(self),
            Err(error) => {
                self.release_quietly(Leaving::Unused);
                Err(error)
            }
        }
    }

    /// The paths must still name the file that was locked and the lockspace it was locked in:
    /// whoever comes next opens what the paths name. So must the second name, which is made where it
    /// is missing.
    fn check_names(&mut self) -> Result<(), AcquireError> {
        expect_named(&self.lockspace)?;
        let (locked, target) = (self.identity(), &mut self.target);
        if let Some(names) = &target.names {
            match names.keep_second(locked) {
                Ok(Second::Same) => {}
                // Nobody makes a lease file there either, and there is nothing to be mended.
                Ok(Second::Unsupported) => target.names = None,
                Ok(Second::Other) => {
                    return Err(target.error(LeaseFault::SecondLink { first: locked }));
                }
                Err(error) => return Err(target.error(error)),
            }
        }
        match Identity::of_path(&target.lease.path, target.links()) {
            Ok(named) if named == locked => Ok(()),
            Ok(_) => Err(target.error(LeaseFault::Replaced)),
            Err(error) if error.kind() == OpenErrorKind::NotFound => {
                Err(target.error(LeaseFault::Replaced))
            }
            Err(error) => Err(target.error(LeaseFault::Open(error))),
        }
    }

    /// Reads on the disk whether the lease is still held.
    pub(super) fn verify(&self) -> Result<(), VerifyError> {
        let found = block_on(verify(
            &StorageWorld,
            self.lockspace.membership(),
            &self.area,
            &self.held,
        ));
        // What a file holds that was removed is nothing to other hosts, whether or not it can be read.
        let found = if self.file().is_lost() {
            Err(VerifyErrorKind::NotHeld(LeaseFault::Replaced))
        } else {
            found.map_err(VerifyErrorKind::of_algorithm)
        };
        found.map_err(|kind| self.target.about(kind))
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
        let refuse = |error: VerifyError| {
            let fault = error.fault().cloned();
            self.target.error(fault.unwrap_or(LeaseFault::Replaced))
        };
        self.verify().map_err(refuse)
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
        let released = block_on(release(
            &StorageWorld,
            self.lockspace.membership(),
            &self.area,
            &self.held,
            note.as_ref(),
        ));
        released.map_err(|error| {
            let kind = ReleaseErrorKind::of_algorithm(error);
            if let ReleaseErrorKind::Lease(_) = kind {
                let pending = LeftBehind::of_release(&self.held).with_note(note);
                reservation.clean_up(self.area.clone(), pending);
            }
            self.target.about(kind)
        })
    }

    /// What is locked and where its lease is, for the log.
    pub(super) fn describe(&self) -> String {
        format!(
            "{} (lease {:?})",
            self.target.locked, self.target.lease.path
        )
    }

    /// For where there is an error to report already, or nobody to report to.
    pub(super) fn release_quietly(&self, leaving: Leaving) {
        if let Err(error) = self.release(leaving) {
            tracing::warn!(resource = %self.target.lease.name, %error, "a release failed");
        }
    }
}

impl Unstarted {
    pub(super) fn push(&mut self, lease: Lease) {
        self.0.push(lease);
    }

    /// Whether all are still there and held: the first were not read while the last was waited for.
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
    use crate::libvirt::{lease_name, lockspace_name};
    use crate::manager::request::LeaseSpec;
    use crate::manager::testing::{at_once, joined};

    /// Somebody removes the lease, or puts another in its place, while it is acquired: whoever comes next
    /// opens what the path names.
    #[test]
    fn a_lease_whose_path_does_not_name_it_any_more_is_not_given_out() {
        let (dir, directory, lockspace) = joined();
        let name = lease_name("/a".as_ref());
        let geometry = lockspace.membership().area().geometry;
        directory.create_lease(&name, geometry).unwrap();
        let path = dir.path().join(name.to_string());
        let target = Target::of_spec(&LeaseSpec::new(lockspace_name(), name, path, 0));
        let path = &target.lease.path;
        let attempt = Attempt {
            lockspace: &lockspace,
            target: &target,
            holding: &at_once(),
        };
        let acquire = || attempt.acquire().unwrap();
        let aside = dir.path().join("aside");
        for is_replaced in [false, true] {
            let mut lease = acquire();
            fs::rename(path, &aside).unwrap();
            if is_replaced {
                fs::copy(&aside, path).unwrap();
            }
            let named = lease.check_names();
            let refused = lease.unless_refused(named).unwrap_err();
            assert_eq!(refused, target.error(LeaseFault::Replaced));
            fs::rename(&aside, path).unwrap();
        }
        // Each time it was given back.
        drop(acquire());
    }
}
