//! Lease files that are missing: linked back, or made new when nobody can hold what was there.
//!
//! A file whose second link is there was removed by hand: it is linked back, whoever holds it. Where
//! the second link is missing too, the lease is a new one, unless the directory of the second links
//! was removed as well. That directory is *complete* when it is made with the lockspace. Where it is
//! not, it is marked complete by a host that is alone and holds nothing, or that has given all others the time
//! to make their second links again, or to stop: [`Timing::removal_quarantine`]. Each member counts that
//! time in the background (`lockspace/path_watch.rs`), for those that come and go.
//!
//! [`Timing::removal_quarantine`]: crate::timing::Timing::removal_quarantine

use std::time::Duration;

use super::error::{AcquireError, LeaseFault};
use super::place::expect_named;
use super::target::Target;
use crate::libvirt::{CreateError, LeaseDirectory, SecondLinks};
use crate::lockspace::Lockspace;
use crate::runtime::disk::Refreshed;

/// Marks the directory of the second links complete, if it is not and that may be done at once.
///
/// To be called before this host takes anything: it is not alone with what it holds itself.
pub(super) fn complete_if_alone(lockspace: &Lockspace, directory: &LeaseDirectory) {
    if let Err(error) = remaining(lockspace, &directory.second_links()) {
        tracing::debug!(%error, "whether the second links are there is not known");
    }
}

/// Sees to it that the lease file of `target` is there. Makes it only if `may_create`.
///
/// # Errors
///
/// [`LeaseFault::MayBeHeld`] while the file cannot be made anew yet; otherwise whatever goes wrong.
pub(super) fn find(
    lockspace: &Lockspace,
    directory: &LeaseDirectory,
    target: &Target,
    may_create: bool,
) -> Result<(), AcquireError> {
    let is_there = directory.lease_names(&target.lease.name).restore_first();
    if is_there.map_err(|error| target.error(error))? || !may_create {
        return Ok(());
    }
    // A directory that was removed as a whole, or is not mounted, has no lockspace either.
    expect_named(lockspace)?;
    expect_none_missing(lockspace, directory, target)?;
    let geometry = lockspace.membership().area().geometry;
    let created = directory.create_lease(&target.lease.name, geometry);
    created.map_err(|error| target.error(error))
}

/// Whether each lease that is missing is new.
///
/// # Errors
///
/// [`LeaseFault::MayBeHeld`] while a running host may hold one.
pub(super) fn expect_none_missing(
    lockspace: &Lockspace,
    directory: &LeaseDirectory,
    target: &Target,
) -> Result<(), AcquireError> {
    match remaining(lockspace, &directory.second_links()) {
        Ok(None) => Ok(()),
        Ok(Some(remaining)) => Err(target.error(LeaseFault::MayBeHeld { remaining })),
        Err(error) => Err(target.error(error)),
    }
}

/// For how long a lease that is missing may not be made yet. `None`: each that is missing is new.
fn remaining(lockspace: &Lockspace, links: &SecondLinks) -> Result<Option<Duration>, CreateError> {
    if links.is_complete(&mut Refreshed::default())? {
        return Ok(None);
    }
    let shared = &lockspace.inner().shared;
    let quarantine = shared.removal_quarantine();
    // Nothing is made where the storage is not in its place.
    if !lockspace.inner().is_still_named() {
        return Ok(Some(quarantine));
    }
    // First: a host that joins, and a lease that is taken, after this instant makes its second links.
    let waited = links.incomplete_for()?;
    let nobody_holds = || shared.leases.in_use() == 0 && !lockspace.others_now().of_ours;
    if waited >= quarantine || nobody_holds() {
        links.mark_complete()?;
        return Ok(None);
    }
    Ok(Some(quarantine.saturating_sub(waited)))
}
