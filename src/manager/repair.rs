//! Lease files that somebody began to create and did not finish.
//!
//! This crate links lease files into place whole. libvirt creates them empty and initialises them
//! afterwards; a crash in between leaves a file that would block every later start. Such a leftover
//! is replaced, under three conditions: it is empty, and the storage shows that it always was, so it
//! is not a lease that was emptied while its owner runs; it has not been touched for
//! [`LEFTOVER_AGE`], by the clock of the storage itself, so nobody is at it any more; and the
//! replacing is done under a lease of its own, so that of several hosts only one does it, and none
//! over a file that another has just put into use.

use std::time::Duration;

use super::error::{AcquireError, LeaseFault};
use super::guard::Locked;
use super::lease::{Leaving, Target};
use crate::disk::StorageWorld;
use crate::format::ResourceName;
use crate::libvirt::{CreateError, LeaseDirectory};
use crate::lockspace::Lockspace;
use crate::paxos_lease::{Holding, Patience};
use crate::world::executor::block_on;
use crate::world::{CancelToken, World, clock};

/// As long as sanlock allows itself for initialising a lease.
const LEFTOVER_AGE: Duration = Duration::from_secs(60);

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
    if !found.was_never_used() {
        return Err(error);
    }
    let geometry = lockspace.membership().area().geometry;
    let name = ResourceName::new(REPAIR).map_err(|_| AcquireError::NothingToLock)?;
    let path = directory.create_lease(&name, geometry).map_err(create)?;
    let locked = Locked::Lease {
        lockspace: *lockspace.name(),
        name,
    };
    let repair = Target {
        locked,
        path,
        offset: 0,
        lockspace: *lockspace.name(),
        name,
    };
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
        if !found.is_empty() || !found.was_never_used() {
            return Ok(false);
        }
        if age < LEFTOVER_AGE {
            let remaining = LEFTOVER_AGE.saturating_sub(age);
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
