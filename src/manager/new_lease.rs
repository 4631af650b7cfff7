//! Lease files that are missing: linked back, or made new when nobody can hold what was there.
//!
//! A file whose second link is there was removed by hand: it is linked back, whoever holds it. Where
//! the second link is missing too, the lease is a new one, unless the directory of the second links
//! was removed as well. That directory is *settled* when it is made with the lockspace. Where it is
//! not, it is settled by a host that is alone and holds nothing, or that has given all others the time
//! to make their second links again, or to stop: [`Timing::removal_quarantine`]. Each member counts that
//! time in the background (`lockspace/path_watch.rs`), for those that come and go.
//!
//! [`Timing::removal_quarantine`]: crate::timing::Timing::removal_quarantine

use std::time::Duration;

use super::error::{AcquireError, LeaseFault};
use super::lease::{Lease, Leaving, Target};
use crate::libvirt::{CreateError, LeaseDirectory, LeaseNames, SecondLinks};
use crate::lockspace::Lockspace;
use crate::paxos_lease::Holding;
use crate::runtime::disk::{Identity, Refreshed};

/// Settles the directory of the second links, if it is not and that may be done at once.
///
/// To be called before this host takes anything: it is not alone with what it holds itself.
pub(super) fn settle_if_alone(lockspace: &Lockspace, directory: &LeaseDirectory) {
    if let Err(error) = remaining(lockspace, &directory.second_links()) {
        tracing::debug!(%error, "whether the second links are there cannot be told");
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
    let create = |error: CreateError| AcquireError::Create {
        locked: target.locked.clone(),
        error,
    };
    let names = directory.lease_names(&target.name);
    if names.restore_first().map_err(create)? || !may_create {
        return Ok(());
    }
    // A directory that was removed as a whole, or is not mounted, has no lockspace either.
    if !lockspace.inner().is_still_named() {
        return Err(AcquireError::LockspaceReplaced {
            path: lockspace.path().to_owned(),
        });
    }
    if let Some(remaining) = remaining(lockspace, names.links()).map_err(create)? {
        return Err(target.fault(LeaseFault::MayBeHeld { remaining }));
    }
    let geometry = lockspace.membership().area().geometry;
    directory
        .create_lease(&target.name, geometry)
        .map_err(create)
}

/// For how long a lease that is missing may not be made yet. `None`: each that is missing is new.
pub(super) fn remaining(
    lockspace: &Lockspace,
    links: &SecondLinks,
) -> Result<Option<Duration>, CreateError> {
    if links.is_settled(&mut Refreshed::default())? {
        return Ok(None);
    }
    let quarantine = lockspace.inner().shared.removal_quarantine();
    // Nothing is made where the storage is not in its place.
    if !lockspace.inner().is_still_named() {
        return Ok(Some(quarantine));
    }
    // First: a host that joins, and a lease that is taken, after this instant makes its second links.
    let waited = links.unsettled_for()?;
    let shared = &lockspace.inner().shared;
    let nobody_holds = || shared.leases.in_use() == 0 && !lockspace.others_now().of_ours;
    if waited >= quarantine || nobody_holds() {
        links.settle()?;
        return Ok(None);
    }
    Ok(Some(quarantine.saturating_sub(waited)))
}

/// Puts the second name of `target` right, which named another file than `first`, in which the lease was
/// acquired: a lease file that was replaced, or a removed one whose name a sanlock host has given to a new
/// file.
///
/// Only who holds what the second name names may do that: its holder, if it has one, is refused to
/// nobody's loss.
pub(super) fn put_second_right(
    lockspace: &Lockspace,
    target: &Target,
    holding: &Holding,
    first: Identity,
) -> Result<(), AcquireError> {
    let Some(names) = &target.names else {
        return Ok(());
    };
    let held = at_second_name(target, names).try_acquire(lockspace, holding)?;
    // What has its place now may be empty, or anything.
    let replaced = names.replace_second(first);
    held.release_quietly(Leaving::Unused);
    let replaced = replaced.map_err(|error| AcquireError::Create {
        locked: target.locked.clone(),
        error,
    })?;
    if replaced {
        tracing::warn!(path = ?target.path, "the lease file was replaced since it was last used: nobody holds the old one");
    }
    Ok(())
}

/// Puts the first name of `target` right, which names an empty file, while the second one names another:
/// the lease was removed by hand, and somebody has made a file of its name.
///
/// The second name leads to the lease that was held. Whoever has that is asked, and refuses with `Held`;
/// only who holds it puts it in the place of the empty file. Not while a sanlock host may run, which knows
/// of no second names, and may be about to initialise the empty file.
pub(super) fn put_first_right(
    lockspace: &Lockspace,
    directory: &LeaseDirectory,
    target: &Target,
    holding: &Holding,
    error: AcquireError,
) -> Result<(), AcquireError> {
    if lockspace.others_now().without_second_links {
        return Err(error);
    }
    let names = directory.lease_names(&target.name);
    let held = at_second_name(target, &names).try_acquire(lockspace, holding)?;
    let replaced = replace_first(lockspace, target, &names, &held, || {
        Ok(directory.look_at_lease(&target.name)?.is_empty())
    });
    held.release_quietly(Leaving::Unused);
    if replaced? {
        tracing::warn!(path = ?target.path, "an empty file was in the place of the lease: the lease is put back there from its second link");
    }
    Ok(())
}

/// Puts the first name of `target` right, which names a lease that another host holds, by what stands there,
/// while the second one names another file: a held lease was replaced by a copy of itself, which nobody gives
/// back.
///
/// The lease that the second name leads to tells whether the owner whom the copy names has ended its ownership:
/// see [`has_ended_elsewhere`]. Only who holds that lease puts it in the place of the copy. Not while a sanlock
/// host may run, which knows of no second names, and takes what the first one leads to.
///
/// # Errors
///
/// `refused`, unless the copy gave way.
///
/// [`has_ended_elsewhere`]: crate::paxos_lease::has_ended_elsewhere
pub(super) fn replace_copy(
    lockspace: &Lockspace,
    target: &Target,
    holding: &Holding,
    refused: AcquireError,
) -> Result<(), AcquireError> {
    let names = target.names.as_ref();
    let Some(names) = names.filter(|names| names.is_second_another() == Ok(true)) else {
        return Err(refused);
    };
    let lease = at_second_name(target, names);
    let is_copy = || target.is_outlived_by(&lease, lockspace);
    if !is_copy() || lockspace.others_now().without_second_links {
        return Err(refused);
    }
    let held = lease.try_acquire(lockspace, holding)?;
    let replaced = replace_first(lockspace, target, names, &held, || Ok(is_copy()));
    held.release_quietly(Leaving::Unused);
    if !replaced? {
        return Err(refused);
    }
    tracing::warn!(path = ?target.path, "a copy was in the place of the lease: the lease is put back there from its second link");
    Ok(())
}

/// The lease that the second name of `target` leads to.
fn at_second_name(target: &Target, names: &LeaseNames) -> Target {
    Target {
        path: names.second().to_owned(),
        names: None,
        ..target.clone()
    }
}

/// Lets the first name of `target` name the lease `held`, which was acquired by the second one, if
/// `may_replace` says so of the file that the first one names. Returns whether it does.
fn replace_first(
    lockspace: &Lockspace,
    target: &Target,
    names: &LeaseNames,
    held: &Lease,
    may_replace: impl FnOnce() -> Result<bool, CreateError>,
) -> Result<bool, AcquireError> {
    let replaced = names.find_first().and_then(|found| {
        let is_to_be = found.is_some()
            && may_replace()?
            && held.verify().is_ok()
            // Again: to acquire it may have taken long.
            && !lockspace.others_now().without_second_links
            && names.find_first()? == found
            && lockspace.is_held();
        Ok(is_to_be && names.replace_first(held.identity())?)
    });
    replaced.map_err(|error| AcquireError::Create {
        locked: target.locked.clone(),
        error,
    })
}

/// The file that was acquired, if it was not given out because its second name names another one.
pub(super) const fn file_beside_second_link(error: &AcquireError) -> Option<Identity> {
    match error {
        AcquireError::Lease {
            fault: LeaseFault::SecondLink { first },
            ..
        } => Some(*first),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use super::super::guard::Locked;
    use super::*;
    use crate::format::{DeltaLeader, Geometry, HostId, HostName};
    use crate::libvirt::lease_name;
    use crate::lockspace::Watchdog;
    use crate::paxos_lease::Patience;
    use crate::runtime::disk::Links;
    use crate::world::CancelToken;

    struct Place {
        _dir: tempfile::TempDir,
        lockspace: Lockspace,
        target: Target,
        names: LeaseNames,
        holding: Holding,
    }

    /// A host, and a lease whose second name names a copy of it.
    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let directory = LeaseDirectory::new(dir.path());
        let n = Duration::from_secs(1);
        let path = directory.create_lockspace(n).unwrap();
        let options = Lockspace::options(Watchdog::None).io_timeout(n);
        let options = options.runtime_dir(dir.path().join("run"));
        let lockspace = options.join(path, HostId::FIRST).unwrap();
        let disk = std::path::PathBuf::from("/a");
        let names = directory.lease_names(&lease_name(&disk));
        let geometry = lockspace.membership().area().geometry;
        directory
            .create_lease(&lease_name(&disk), geometry)
            .unwrap();
        put_copy(names.first(), names.second());
        let target = Target {
            name: lease_name(&disk),
            locked: Locked::Disk(disk),
            path: names.first().to_owned(),
            offset: 0,
            lockspace: *lockspace.name(),
            names: Some(names.clone()),
        };
        let holding = Holding {
            patience: Patience::Refuse,
            note: None,
            expected: None,
            cancel: CancelToken::new(),
        };
        Place {
            _dir: dir,
            lockspace,
            target,
            names,
            holding,
        }
    }

    fn put_copy(from: &Path, to: &Path) {
        let copy = to.with_extension("copy");
        fs::copy(from, &copy).unwrap();
        fs::rename(copy, to).unwrap();
    }

    fn identity(path: &Path) -> Identity {
        Identity::of_path(path, Links::Refuse).unwrap()
    }

    /// Nobody has asked for the lease in a third file that the first name has got meanwhile.
    #[test]
    fn the_second_name_gets_the_very_file_that_was_acquired() {
        let place = place();
        let (names, target) = (&place.names, &place.target);
        let refused = target.try_acquire(&place.lockspace, &place.holding);
        let acquired = file_beside_second_link(&refused.unwrap_err()).unwrap();
        assert_eq!(acquired, identity(names.first()));
        let second = identity(names.second());
        let aside = names.first().with_extension("aside");
        fs::hard_link(names.first(), &aside).unwrap();
        put_copy(&aside, names.first());
        let put_right = || put_second_right(&place.lockspace, target, &place.holding, acquired);
        put_right().unwrap();
        assert_eq!(identity(names.second()), second);
        fs::rename(aside, names.first()).unwrap();
        put_right().unwrap();
        assert_eq!(identity(names.second()), acquired);
    }

    /// To acquire the lease by its second name may have taken long.
    #[test]
    fn all_is_asked_again_right_before_a_first_name_is_replaced() {
        let place = place();
        let (names, lockspace) = (&place.names, &place.lockspace);
        let held = at_second_name(&place.target, names);
        let held = held.try_acquire(lockspace, &place.holding).unwrap();
        let first = identity(names.first());
        let replace = |may_replace: &dyn Fn() -> bool| {
            let may_replace = || Ok(may_replace());
            replace_first(lockspace, &place.target, names, &held, may_replace)
        };
        // A sanlock host has joined: it writes no note.
        let mut sector = [0; 512];
        let free = DeltaLeader::free(Geometry::S512_A1M, lockspace.name(), 1);
        let name = HostName::new("sanlock").unwrap();
        let joined = free.acquired(HostId::new(2).unwrap(), &name, 7, 1).unwrap();
        joined.write_to(&mut sector);
        let sectors = File::options().write(true).open(lockspace.path()).unwrap();
        sectors.write_all_at(&sector, 512).unwrap();
        assert_eq!(replace(&|| true), Ok(false), "a sanlock host may hold it");
        free.write_to(&mut sector);
        sectors.write_all_at(&sector, 512).unwrap();

        assert_eq!(replace(&|| false), Ok(false), "it is not to be replaced");
        let other = names.first().with_extension("other");
        fs::copy(names.first(), &other).unwrap();
        let by_another = || {
            fs::rename(&other, names.first()).unwrap();
            true
        };
        assert_eq!(replace(&by_another), Ok(false), "it is another by now");
        assert_ne!(identity(names.first()), first);
        assert_eq!(replace(&|| true), Ok(true));
        assert_eq!(identity(names.first()), held.identity());

        put_copy(names.second(), names.first());
        let lease = File::options().write(true).open(names.second()).unwrap();
        lease.write_all_at(&[0; 512], 0).unwrap();
        assert_eq!(
            replace(&|| true),
            Ok(false),
            "the lease is not held any more"
        );
        lockspace.membership().expiry().lose();
    }
}
