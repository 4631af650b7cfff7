//! Lease files that another program began to create and did not finish.
//!
//! Where the second name leads to another file, that one is the lease, and the empty one was made by
//! somebody else: see `misnamed_lease::put_first_right`.
//!
//! This crate links lease files into place whole. libvirt creates them empty and initialises them
//! afterwards; a crash in between leaves a file that would block every later start. Such a leftover
//! is replaced, under these conditions:
//!
//! - It is empty, and the storage shows that it always was. The time of the last change of the inode
//!   counts beside that of the content: only the latter can be set by hand.
//! - Nobody has touched it for [`Timing::leftover_age`], by the clock of the storage itself.
//! - It has no second link. A lease that a disklease host has ever held has one, so a held lease that
//!   was emptied is never taken for a leftover.
//! - No sanlock host may run, which may hold a lease without a second link.
//! - It is replaced under a lease of its own, so that of several hosts only one does it, and none over
//!   a file that another has just put into use. All of this is checked again right before.
//!
//! [`Timing::leftover_age`]: crate::timing::Timing::leftover_age

use std::time::Duration;

use super::error::{AcquireError, AcquireErrorKind, LeaseFault};
use super::lease::{Attempt, Lease, Leaving};
use super::locked::Locked;
use super::misnamed_lease::{file_beside_second_link, put_first_right, put_second_right};
use super::missing_lease;
use super::place::expect_held;
use super::request::LeaseSpec;
use super::target::Target;
use crate::format::ResourceName;
use crate::libvirt::{CreateError, Found, LeaseDirectory, LeaseNames};
use crate::lockspace::Lockspace;
use crate::paxos_lease::{Holding, Patience};
use crate::runtime::clock;
use crate::runtime::disk::StorageWorld;
use crate::runtime::executor::block_on;
use crate::world::World;

/// How long to wait for another host that replaces a leftover in the same directory.
const PATIENCE: Duration = Duration::from_secs(10);

/// A repair takes some milliseconds.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The lease, and the file, under which leftovers are replaced. No disk's: those are 32 digits.
const REPAIR: &str = "disklease_repair";

/// Whether the error is one that a file gives whose creation was started and not finished.
pub(super) fn may_be_leftover(target: &Target, error: &AcquireError) -> bool {
    let is_unfinished = matches!(
        error.kind(),
        AcquireErrorKind::Lease(LeaseFault::NotInitialised { .. } | LeaseFault::TooShort { .. })
    );
    is_unfinished && matches!(target.locked, Locked::Disk(_))
}

/// Replaces the lease file of `target` by a new one, if it is a leftover.
///
/// # Errors
///
/// `refused` itself if it is not a leftover; [`LeaseFault::BeingCreated`] while it is too young;
/// otherwise whatever goes wrong.
pub(super) fn replace_leftover(
    attempt: Attempt<'_>,
    directory: &LeaseDirectory,
    refused: AcquireError,
) -> Result<(), AcquireError> {
    let target = attempt.target;
    let Some(names) = &target.names else {
        return Err(refused);
    };
    let create = |error: CreateError| target.error(error);
    let found = names.inspect_first().map_err(create)?;
    if !found.is_empty {
        // Its creator has just finished it; or it is damaged, which the next try will say.
        return Ok(());
    }
    if names.is_second_another().map_err(create)? {
        return put_first_right(attempt, names, refused);
    }
    let lockspace = attempt.lockspace;
    let is_expected = attempt.holding.expected.is_some();
    if is_expected || may_be_a_lease(lockspace, names, found).map_err(create)? {
        return Err(refused);
    }
    missing_lease::expect_none_missing(lockspace, directory, target)?;
    let replacement = Replacement {
        lease: acquire_repair(attempt, directory)?,
        lockspace,
        directory,
        target,
        names,
    };
    let replaced = replacement.replace();
    replacement.lease.release_quietly(Leaving::Used);
    if replaced? {
        tracing::warn!(path = ?target.lease.path, "replaced a lease file that was never initialised");
    }
    Ok(())
}

/// The lease under which leftovers are replaced in `directory`.
fn acquire_repair(attempt: Attempt<'_>, directory: &LeaseDirectory) -> Result<Lease, AcquireError> {
    let Attempt {
        lockspace,
        target,
        holding,
    } = attempt;
    let name = ResourceName::new(REPAIR).map_err(|_| AcquireErrorKind::NothingToLock)?;
    let repair = LeaseSpec::new(*lockspace.name(), name, "", 0).locked();
    let repair = Target::in_directory(repair, *lockspace.name(), name, directory);
    missing_lease::find(lockspace, directory, &repair, true)?;
    let until = clock::now() + PATIENCE;
    let holding = &Holding {
        patience: Patience::WaitForDeath { until: Some(until) },
        expected: None,
        ..holding.clone()
    };
    let attempt = Attempt {
        lockspace,
        target: &repair,
        holding,
    };
    loop {
        let error = match attempt.acquire() {
            Ok(lease) => return Ok(lease),
            Err(error) => error,
        };
        if let Some(first) = file_beside_second_link(&error) {
            put_second_right(attempt, first)?;
        } else if !error.is_held() && !error.is_contended() {
            return Err(error);
        }
        if holding.cancel.is_cancelled() {
            return Err(target.error(AcquireErrorKind::Cancelled));
        }
        // Somebody is at a leftover, perhaps at this one. Nobody holds the disk.
        if clock::now() >= until {
            let remaining = Duration::ZERO;
            return Err(target.error(LeaseFault::BeingCreated { remaining }));
        }
        block_on(StorageWorld.sleep(RETRY_PAUSE));
    }
}

/// A leftover that is about to be replaced.
struct Replacement<'a> {
    /// [`REPAIR`].
    lease: Lease,
    lockspace: &'a Lockspace,
    directory: &'a LeaseDirectory,
    target: &'a Target,
    names: &'a LeaseNames,
}

impl Replacement<'_> {
    /// Returns whether the leftover was still one, and was replaced.
    fn replace(&self) -> Result<bool, AcquireError> {
        let create = |error: CreateError| self.target.error(error);
        let geometry = self.lockspace.membership().area().geometry;
        let new = self
            .directory
            .prepare_lease(&self.target.lease.name, geometry);
        let new = new.map_err(create)?;
        let (found, age) = new.found().map_err(create)?;
        if !self.may_be_done(found, age)? {
            return Ok(false);
        }
        new.replace().map_err(create)?;
        Ok(true)
    }

    /// Whether what is `found` now, and was last touched `age` ago, is still to be replaced: checked
    /// again, now that nobody else can have come before us.
    fn may_be_done(&self, found: Found, age: Duration) -> Result<bool, AcquireError> {
        let (lockspace, target) = (self.lockspace, self.target);
        let is_lease = may_be_a_lease(lockspace, self.names, found);
        if is_lease.map_err(|error| target.error(error))? || !found.is_empty {
            return Ok(false);
        }
        let leftover_age = lockspace.membership().timing().leftover_age();
        if age < leftover_age {
            let remaining = leftover_age.saturating_sub(age);
            return Err(target.error(LeaseFault::BeingCreated { remaining }));
        }
        // The last thing before the new file takes the old one's name.
        if self.lease.verify().is_err() {
            return Err(target.error(LeaseFault::Replaced));
        }
        expect_held(lockspace)?;
        Ok(true)
    }
}

/// Whether an empty file may be a lease that was emptied, which its holder may still have.
fn may_be_a_lease(
    lockspace: &Lockspace,
    names: &LeaseNames,
    found: Found,
) -> Result<bool, CreateError> {
    Ok(!found.was_never_used
        || names.find_second()?.is_some()
        || lockspace.others_now().without_second_links)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::format::{DeltaLeader, Geometry, HolderNote, HostId, HostName, LeaseVersion};
    use crate::libvirt::lease_name;
    use crate::manager::testing::{at_once, joined};

    /// Between the first check and the last one another host may have done anything.
    #[test]
    fn all_of_it_is_checked_again_right_before_a_leftover_is_replaced() {
        let (_dir, directory, lockspace) = joined();
        let disk = std::path::PathBuf::from("/a");
        let name = lease_name(&disk);
        let target = Target::in_directory(Locked::Disk(disk), *lockspace.name(), name, &directory);
        let names = directory.lease_names(&name);
        fs::write(names.first(), [0; 512]).unwrap();
        let generation = lockspace.generation();
        let note = HolderNote::new(HostId::FIRST, generation, LeaseVersion::new(0));
        let holding = Holding {
            note: Some(note.with_guest_name("guest-1")),
            ..at_once()
        };
        let attempt = Attempt {
            lockspace: &lockspace,
            target: &target,
            holding: &holding,
        };
        let replacement = Replacement {
            lease: acquire_repair(attempt, &directory).unwrap(),
            lockspace: &lockspace,
            directory: &directory,
            target: &target,
            names: &names,
        };
        // It says who is at it; and whoever waits for it can cancel that.
        let lease = fs::read(&replacement.lease.target().lease.path).unwrap();
        let block = &lease[2 * 512..3 * 512];
        let told = HolderNote::read_from(block, HostId::FIRST).present();
        assert_eq!(told.unwrap().guest_name, "guest-1");
        holding.cancel.cancel();
        let begun = clock::now();
        let cancelled = acquire_repair(attempt, &directory).unwrap_err();
        assert_eq!(cancelled, target.error(AcquireErrorKind::Cancelled));
        assert!(clock::now().since(begun) < PATIENCE);

        let checked_after = |secs| {
            let found = names.inspect_first().unwrap();
            replacement.may_be_done(found, Duration::from_secs(secs))
        };
        assert_eq!(checked_after(62), Ok(true));
        let young = checked_after(61).unwrap_err();
        assert!(young.to_string().contains("after 2 s more"), "{young}");

        fs::hard_link(names.first(), names.second()).unwrap();
        assert_eq!(checked_after(100), Ok(false), "it has a second link");
        fs::remove_file(names.second()).unwrap();

        let file = File::options().write(true).open(names.first()).unwrap();
        let created = file.metadata().unwrap().created().unwrap();
        file.set_modified(created + Duration::from_secs(11))
            .unwrap();
        assert_eq!(checked_after(100), Ok(false), "it was touched later");
        file.set_modified(created).unwrap();
        assert_eq!(checked_after(100), Ok(true));

        file.write_all_at(&[1], 0).unwrap();
        assert_eq!(checked_after(100), Ok(false), "it is not empty");
        file.write_all_at(&[0], 0).unwrap();
        assert_eq!(checked_after(100), Ok(true));

        // A sanlock host has joined: it writes no note.
        let sanlock = HostId::new(2).unwrap();
        let mut sector = [0; 512];
        let free = DeltaLeader::free(Geometry::S512_A1M, lockspace.name(), 1);
        let name = HostName::new("sanlock").unwrap();
        let joined = free.acquired(sanlock, &name, 7, 1).unwrap();
        joined.write_to(&mut sector);
        let sectors = File::options().write(true).open(lockspace.path()).unwrap();
        sectors.write_all_at(&sector, 512).unwrap();
        assert_eq!(checked_after(100), Ok(false), "a sanlock host may hold it");
        free.write_to(&mut sector);
        sectors.write_all_at(&sector, 512).unwrap();
        assert_eq!(checked_after(100), Ok(true));

        let repair = File::options()
            .write(true)
            .open(&replacement.lease.target().lease.path);
        repair.unwrap().write_all_at(&[0; 512], 0).unwrap();
        let taken = checked_after(100).unwrap_err();
        assert_eq!(taken, target.error(LeaseFault::Replaced));
    }
}
