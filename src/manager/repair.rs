//! Lease files that somebody began to create and did not finish.
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
use super::lease::{Leaving, Target};
use super::new_lease;
use crate::disk::StorageWorld;
use crate::format::ResourceName;
use crate::libvirt::{CreateError, Found, LeaseDirectory};
use crate::lockspace::Lockspace;
use crate::paxos_lease::{Holding, Patience};
use crate::world::executor::block_on;
use crate::world::{CancelToken, World, clock};

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
    if may_be_a_lease(lockspace, directory, target, found).map_err(create)? {
        return Err(error);
    }
    let links = directory.second_links();
    if let Some(remaining) = new_lease::remaining(lockspace, &links).map_err(create)? {
        return Err(target.fault(LeaseFault::MayBeHeld { remaining }));
    }
    let geometry = lockspace.membership().area().geometry;
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
        note: None,
        expected: None,
        cancel: CancelToken::new(),
    };
    let lease = loop {
        match repair.try_acquire(lockspace, &holding) {
            Ok(lease) => break lease,
            // Somebody is at a leftover, perhaps at this one. Nobody holds the disk.
            Err(error) if error.is_held() || error.is_contended() => {
                if clock::now() >= until {
                    let remaining = Duration::ZERO;
                    return Err(target.fault(LeaseFault::BeingCreated { remaining }));
                }
                block_on(StorageWorld.sleep(RETRY_PAUSE));
            }
            Err(error) => return Err(error),
        }
    };

    let replaced = directory.replace_lease(&target.name, geometry, |found, age| {
        // Looked at again, now that nobody else can have come before us.
        let is_lease = may_be_a_lease(lockspace, directory, target, found).map_err(create)?;
        if !found.is_empty() || is_lease {
            return Ok(false);
        }
        let leftover_age = lockspace.membership().timing().leftover_age();
        if age < leftover_age {
            let remaining = leftover_age.saturating_sub(age);
            return Err(target.fault(LeaseFault::BeingCreated { remaining }));
        }
        // The last thing before the new file takes the old one's name.
        if lease.verify().is_err() {
            return Err(target.fault(LeaseFault::Replaced));
        }
        if lockspace.is_held() {
            Ok(true)
        } else {
            Err(AcquireError::LockspaceLost {
                reason: lockspace.loss(),
            })
        }
    });
    lease.release_quietly(Leaving::Used);
    match replaced? {
        Ok(true) => {
            tracing::warn!(path = ?target.path, "replaced a lease file that was never initialised");
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(error) => Err(create(error)),
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
        || lockspace.others_now().of_sanlock)
}
