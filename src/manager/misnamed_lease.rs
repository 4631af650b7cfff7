//! Lease files whose two names lead to two files: the one that was there first gets both names back.
//!
//! Only who holds the lease in question may do that: what has its place meanwhile has no holder then.

use super::error::{AcquireError, AcquireErrorKind, LeaseFault};
use super::lease::{Attempt, Lease, Leaving};
use super::request::LeaseSpec;
use super::target::Target;
use crate::libvirt::{CreateError, LeaseNames};
use crate::lockspace::Lockspace;
use crate::paxos_lease::has_ended_elsewhere;
use crate::runtime::disk::{Access, Disk, Identity, StorageWorld};
use crate::runtime::executor::block_on;

/// The file that was acquired, if it was not given out because its second name names another one.
pub(super) fn file_beside_second_link(error: &AcquireError) -> Option<Identity> {
    match error.kind() {
        AcquireErrorKind::Lease(LeaseFault::SecondLink { first }) => Some(*first),
        _ => None,
    }
}

/// Puts the second name of `target` right, which named another file than `first`, in which the lease was
/// acquired: a lease file that was replaced, or a removed one whose name a sanlock host has given to a new
/// file.
///
/// Only who holds what the second name names may do that: its holder, if it has one, is refused to
/// nobody's loss.
pub(super) fn put_second_right(attempt: Attempt<'_>, first: Identity) -> Result<(), AcquireError> {
    let target = attempt.target;
    let Some(names) = &target.names else {
        return Ok(());
    };
    let held = acquire_second(attempt, names)?;
    // What has its place now may be empty, or anything.
    let replaced = names.replace_second(first);
    held.release_quietly(Leaving::Unused);
    if replaced.map_err(|error| target.error(error))? {
        tracing::warn!(path = ?target.lease.path, "the lease file was replaced since it was last used: nobody holds the old one");
    }
    Ok(())
}

/// Puts the first name of `target` right, which names an empty file, while the second one names another:
/// the lease was removed by hand, and somebody has made a file of its name.
///
/// The second name leads to the lease that was held. Whoever has that is asked, and refuses with `Held`;
/// only who holds it puts it in the place of the empty file. Not while a sanlock host may run, which knows
/// of no second names, and may be about to initialise the empty file.
///
/// # Errors
///
/// `refused` in that case; otherwise whatever goes wrong.
pub(super) fn put_first_right(
    attempt: Attempt<'_>,
    names: &LeaseNames,
    refused: AcquireError,
) -> Result<(), AcquireError> {
    let Attempt {
        lockspace, target, ..
    } = attempt;
    if lockspace.others_now().without_second_links {
        return Err(refused);
    }
    if replace_first(attempt, names, || Ok(names.inspect_first()?.is_empty))? {
        tracing::warn!(path = ?target.lease.path, "an empty file was in the place of the lease: the lease is put back there from its second link");
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
pub(super) fn replace_copy(
    attempt: Attempt<'_>,
    refused: AcquireError,
) -> Result<(), AcquireError> {
    let Attempt {
        lockspace, target, ..
    } = attempt;
    let names = target.names.as_ref();
    let Some(names) = names.filter(|names| names.is_second_another() == Ok(true)) else {
        return Err(refused);
    };
    let lease = at_second_name(target, names);
    let is_copy = || has_ended_in(lockspace, target, &lease);
    if !is_copy() || lockspace.others_now().without_second_links {
        return Err(refused);
    }
    if !replace_first(attempt, names, || Ok(is_copy()))? {
        return Err(refused);
    }
    tracing::warn!(path = ?target.lease.path, "a copy was in the place of the lease: the lease is put back there from its second link");
    Ok(())
}

/// Whether `copy` names an owner that has ended its ownership in `lease`. Where that is not known it has not.
fn has_ended_in(lockspace: &Lockspace, copy: &Target, lease: &Target) -> bool {
    let area = |target: &Target| {
        let opened = target.open(Access::ReadOnly).ok()?;
        let disk = Disk::new(opened, lockspace.inner().lease_pool());
        Some(target.area(disk, lockspace))
    };
    let (Some(copy), Some(lease)) = (area(copy), area(lease)) else {
        return false;
    };
    let membership = lockspace.membership();
    let ended = has_ended_elsewhere(&StorageWorld, membership, &copy, &lease);
    block_on(ended).unwrap_or(false)
}

/// The lease that the second name of `target` leads to.
fn at_second_name(target: &Target, names: &LeaseNames) -> Target {
    let LeaseSpec {
        lockspace,
        name,
        offset,
        ..
    } = target.lease;
    Target {
        locked: target.locked.clone(),
        lease: LeaseSpec::new(lockspace, name, names.second(), offset),
        names: None,
    }
}

fn acquire_second(attempt: Attempt<'_>, names: &LeaseNames) -> Result<Lease, AcquireError> {
    let target = &at_second_name(attempt.target, names);
    Attempt { target, ..attempt }.acquire()
}

/// Acquires the lease that the second name leads to, and lets the first name name it, if `may_replace` says so
/// of the file that the first one names. Returns whether it does.
fn replace_first(
    attempt: Attempt<'_>,
    names: &LeaseNames,
    may_replace: impl FnOnce() -> Result<bool, CreateError>,
) -> Result<bool, AcquireError> {
    let lockspace = attempt.lockspace;
    let held = acquire_second(attempt, names)?;
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
    held.release_quietly(Leaving::Unused);
    replaced.map_err(|error| attempt.target.error(error))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use super::*;
    use crate::format::{DeltaLeader, Geometry, HostId, HostName};
    use crate::libvirt::lease_name;
    use crate::manager::locked::Locked;
    use crate::manager::testing::{at_once, joined};
    use crate::paxos_lease::Holding;
    use crate::runtime::disk::Links;

    struct Place {
        _dir: tempfile::TempDir,
        lockspace: Lockspace,
        target: Target,
        names: LeaseNames,
        holding: Holding,
    }

    impl Place {
        /// A host, and a lease whose second name names a copy of it.
        fn new() -> Self {
            let (dir, directory, lockspace) = joined();
            let disk = Path::new("/a");
            let name = lease_name(disk);
            let locked = Locked::Disk(disk.to_owned());
            let target = Target::in_directory(locked, *lockspace.name(), name, &directory);
            let names = directory.lease_names(&name);
            let geometry = lockspace.membership().area().geometry;
            directory.create_lease(&name, geometry).unwrap();
            put_copy(names.first(), names.second());
            Self {
                _dir: dir,
                lockspace,
                target,
                names,
                holding: at_once(),
            }
        }

        fn attempt(&self) -> Attempt<'_> {
            Attempt {
                lockspace: &self.lockspace,
                target: &self.target,
                holding: &self.holding,
            }
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
        let place = Place::new();
        let names = &place.names;
        let refused = place.attempt().acquire().unwrap_err();
        let acquired = file_beside_second_link(&refused).unwrap();
        assert_eq!(acquired, identity(names.first()));
        let second = identity(names.second());
        let aside = names.first().with_extension("aside");
        fs::hard_link(names.first(), &aside).unwrap();
        put_copy(&aside, names.first());
        let put_right = || put_second_right(place.attempt(), acquired);
        put_right().unwrap();
        assert_eq!(identity(names.second()), second);
        fs::rename(aside, names.first()).unwrap();
        put_right().unwrap();
        assert_eq!(identity(names.second()), acquired);
    }

    /// To acquire the lease by its second name may have taken long.
    #[test]
    fn all_is_asked_again_right_before_a_first_name_is_replaced() {
        let place = Place::new();
        let (names, lockspace) = (&place.names, &place.lockspace);
        let (first, second) = (identity(names.first()), identity(names.second()));
        let replace = |may_replace: &dyn Fn() -> bool| {
            replace_first(place.attempt(), names, || Ok(may_replace()))
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
        assert_eq!(identity(names.first()), second);

        put_copy(names.second(), names.first());
        let lease = File::options().write(true).open(names.second()).unwrap();
        let overwrite = || lease.write_all_at(&[0; 512], 0).is_ok();
        assert_eq!(
            replace(&overwrite),
            Ok(false),
            "the lease is not held any more"
        );
        lockspace.membership().expiry().lose();
    }
}
