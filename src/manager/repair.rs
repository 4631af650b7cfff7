//! Lease files that somebody began to create and did not finish.
//!
//! Where the second name leads to another file, that one is the lease, and the empty one was made by
//! somebody else: see `new_lease::put_first_right`.
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
//!   a file that another has just put into use. All of it is asked again right before.
//!
//! [`Timing::leftover_age`]: crate::timing::Timing::leftover_age

use std::time::Duration;

use super::error::{AcquireError, LeaseFault};
use super::guard::Locked;
use super::lease::{Lease, Leaving, Target};
use super::new_lease;
use crate::format::ResourceName;
use crate::libvirt::{CreateError, Found, LeaseDirectory};
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

/// Whether the error is one that a file begun and not finished gives.
pub(super) fn may_mend(target: &Target, error: &AcquireError) -> bool {
    let unfinished = matches!(
        error,
        AcquireError::Lease {
            fault: LeaseFault::NotInitialised { .. } | LeaseFault::TooShort { .. },
            ..
        }
    );
    unfinished && matches!(target.locked, Locked::Disk(_))
}

/// Replaces the lease file of `target` by a new one, if it is a leftover.
///
/// # Errors
///
/// `error` itself if it is not a leftover; [`LeaseFault::BeingCreated`] while it is too young;
/// otherwise whatever goes wrong.
pub(super) fn replace_leftover(
    lockspace: &Lockspace,
    directory: &LeaseDirectory,
    target: &Target,
    holding: &Holding,
    error: AcquireError,
) -> Result<(), AcquireError> {
    let create = |error: CreateError| AcquireError::Create {
        locked: target.locked.clone(),
        error,
    };
    let found = directory.look_at_lease(&target.name).map_err(create)?;
    if !found.is_empty() {
        // Its creator has just finished it; or it is damaged, which the next try will say.
        return Ok(());
    }
    let names = directory.lease_names(&target.name);
    if names.is_second_another().map_err(create)? {
        return new_lease::put_first_right(lockspace, directory, target, holding, error);
    }
    let is_expected = holding.expected.is_some();
    if is_expected || may_be_a_lease(lockspace, directory, target, found).map_err(create)? {
        return Err(error);
    }
    let links = directory.second_links();
    if let Some(remaining) = new_lease::remaining(lockspace, &links).map_err(create)? {
        return Err(target.fault(LeaseFault::MayBeHeld { remaining }));
    }
    let replacement = Replacement {
        lease: acquire_repair(lockspace, directory, target, holding)?,
        lockspace,
        directory,
        target,
    };
    let geometry = lockspace.membership().area().geometry;
    let replaced = directory.replace_lease(&target.name, geometry, |found, age| {
        replacement.may_be_done(found, age)
    });
    replacement.lease.release_quietly(Leaving::Used);
    match replaced? {
        Ok(true) => {
            tracing::warn!(path = ?target.path, "replaced a lease file that was never initialised");
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(error) => Err(create(error)),
    }
}

/// The lease under which leftovers are replaced in `directory`.
fn acquire_repair(
    lockspace: &Lockspace,
    directory: &LeaseDirectory,
    target: &Target,
    holding: &Holding,
) -> Result<Lease, AcquireError> {
    let name = ResourceName::new(REPAIR).map_err(|_| AcquireError::NothingToLock)?;
    let names = directory.lease_names(&name);
    let locked = Locked::Lease {
        lockspace: *lockspace.name(),
        name,
    };
    let repair = Target {
        locked,
        path: names.first().to_owned(),
        offset: 0,
        lockspace: *lockspace.name(),
        name,
        names: Some(names),
    };
    new_lease::find(lockspace, directory, &repair, true)?;
    let until = clock::now() + PATIENCE;
    let holding = Holding {
        patience: Patience::WaitForDeath { until: Some(until) },
        note: holding.note.clone(),
        expected: None,
        cancel: holding.cancel.clone(),
    };
    loop {
        let error = match repair.try_acquire(lockspace, &holding) {
            Ok(lease) => return Ok(lease),
            Err(error) => error,
        };
        if let Some(first) = new_lease::file_beside_second_link(&error) {
            new_lease::put_second_right(lockspace, &repair, &holding, first)?;
        } else if !error.is_held()
            && !error.is_contended()
            && !matches!(error, AcquireError::Cancelled { .. })
        {
            return Err(error);
        }
        if holding.cancel.is_cancelled() {
            let locked = target.locked.clone();
            return Err(AcquireError::Cancelled { locked });
        }
        // Somebody is at a leftover, perhaps at this one. Nobody holds the disk.
        if clock::now() >= until {
            let remaining = Duration::ZERO;
            return Err(target.fault(LeaseFault::BeingCreated { remaining }));
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
}

impl Replacement<'_> {
    /// Whether what is `found` now, and was last touched `age` ago, is still to be replaced: asked
    /// again, now that nobody else can have come before us.
    fn may_be_done(&self, found: Found, age: Duration) -> Result<bool, AcquireError> {
        let (lockspace, target) = (self.lockspace, self.target);
        let is_lease = may_be_a_lease(lockspace, self.directory, target, found);
        let is_lease = is_lease.map_err(|error| AcquireError::Create {
            locked: target.locked.clone(),
            error,
        })?;
        if !found.is_empty() || is_lease {
            return Ok(false);
        }
        let leftover_age = lockspace.membership().timing().leftover_age();
        if age < leftover_age {
            let remaining = leftover_age.saturating_sub(age);
            return Err(target.fault(LeaseFault::BeingCreated { remaining }));
        }
        // The last thing before the new file takes the old one's name.
        if self.lease.verify().is_err() {
            return Err(target.fault(LeaseFault::Replaced));
        }
        if lockspace.is_held() {
            Ok(true)
        } else {
            Err(AcquireError::LockspaceLost {
                reason: lockspace.loss(),
            })
        }
    }
}

/// Whether an empty file may be a lease that was emptied, which its holder may still have.
fn may_be_a_lease(
    lockspace: &Lockspace,
    directory: &LeaseDirectory,
    target: &Target,
    found: Found,
) -> Result<bool, CreateError> {
    let names = directory.lease_names(&target.name);
    Ok(!found.was_never_used()
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
    use crate::lockspace::Watchdog;
    use crate::world::CancelToken;

    /// Between the first look and the last one another host may have done anything.
    #[test]
    fn all_of_it_is_asked_again_right_before_a_leftover_is_replaced() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let directory = LeaseDirectory::new(dir.path());
        let n = Duration::from_secs(1);
        let path = directory.create_lockspace(n).unwrap();
        let options = Lockspace::options(Watchdog::None).io_timeout(n);
        let options = options.runtime_dir(dir.path().join("run"));
        let lockspace = options.join(path, HostId::FIRST).unwrap();
        let disk = std::path::PathBuf::from("/a");
        let names = directory.lease_names(&lease_name(&disk));
        let target = Target {
            name: lease_name(&disk),
            locked: Locked::Disk(disk),
            path: names.first().to_owned(),
            offset: 0,
            lockspace: *lockspace.name(),
            names: Some(names.clone()),
        };
        fs::write(names.first(), [0; 512]).unwrap();
        let generation = lockspace.generation();
        let note = HolderNote::new(HostId::FIRST, generation, LeaseVersion::new(0));
        let holding = Holding {
            patience: Patience::Refuse,
            note: Some(note.with_guest_name("guest-1")),
            expected: None,
            cancel: CancelToken::new(),
        };
        let replacement = Replacement {
            lease: acquire_repair(&lockspace, &directory, &target, &holding).unwrap(),
            lockspace: &lockspace,
            directory: &directory,
            target: &target,
        };
        // It says who is at it; and who waits for it can be told to stop.
        let lease = fs::read(replacement.lease.path()).unwrap();
        let block = &lease[2 * 512..3 * 512];
        let told = HolderNote::read_from(block, HostId::FIRST).present();
        assert_eq!(told.unwrap().guest_name, "guest-1");
        holding.cancel.cancel();
        let begun = clock::now();
        let cancelled = acquire_repair(&lockspace, &directory, &target, &holding).unwrap_err();
        let locked = target.locked.clone();
        assert_eq!(cancelled, AcquireError::Cancelled { locked });
        assert!(clock::now().since(begun) < PATIENCE);

        let asked_after = |secs| {
            let found = directory.look_at_lease(&target.name).unwrap();
            replacement.may_be_done(found, Duration::from_secs(secs))
        };
        assert_eq!(asked_after(62), Ok(true));
        let young = asked_after(61).unwrap_err();
        assert!(young.to_string().contains("after 2 s more"), "{young}");

        fs::hard_link(names.first(), names.second()).unwrap();
        assert_eq!(asked_after(100), Ok(false), "it has a second link");
        fs::remove_file(names.second()).unwrap();

        let file = File::options().write(true).open(names.first()).unwrap();
        let created = file.metadata().unwrap().created().unwrap();
        file.set_modified(created + Duration::from_secs(11))
            .unwrap();
        assert_eq!(asked_after(100), Ok(false), "it was touched later");
        file.set_modified(created).unwrap();
        assert_eq!(asked_after(100), Ok(true));

        file.write_all_at(&[1], 0).unwrap();
        assert_eq!(asked_after(100), Ok(false), "it is not empty");
        file.write_all_at(&[0], 0).unwrap();
        assert_eq!(asked_after(100), Ok(true));

        // A sanlock host has joined: it writes no note.
        let sanlock = HostId::new(2).unwrap();
        let mut sector = [0; 512];
        let free = DeltaLeader::free(Geometry::S512_A1M, lockspace.name(), 1);
        let name = HostName::new("sanlock").unwrap();
        let joined = free.acquired(sanlock, &name, 7, 1).unwrap();
        joined.write_to(&mut sector);
        let sectors = File::options().write(true).open(lockspace.path()).unwrap();
        sectors.write_all_at(&sector, 512).unwrap();
        assert_eq!(asked_after(100), Ok(false), "a sanlock host may hold it");
        free.write_to(&mut sector);
        sectors.write_all_at(&sector, 512).unwrap();
        assert_eq!(asked_after(100), Ok(true));

        let repair = File::options().write(true).open(replacement.lease.path());
        repair.unwrap().write_all_at(&[0; 512], 0).unwrap();
        let taken = asked_after(100).unwrap_err();
        assert_eq!(taken, target.fault(LeaseFault::Replaced));
    }
}
