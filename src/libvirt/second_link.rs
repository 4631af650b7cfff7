//! The second link of each lease file, which outlives a removal of the first by hand.
//!
//! ```text
//! DIR/NAME                        the lease, where libvirt and sanlock hosts look for it
//! DIR/.disklease/leases/NAME      a second hard link to the same file
//! DIR/.disklease/leases/settled   hosts that run have a second link of each lease they hold
//! ```
//!
//! The directory of the second links is *complete* when the file `settled` is there: then no
//! disklease host holds a lease without a second link.
//!
//! A host that finds the first name missing links the file back from the second name: an `rm` of a
//! held lease gives nothing away. Nobody but disklease hosts knows of the second names, and
//! libvirt's clean-up script, which removes first names, does not see a name that begins with a dot.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Statx, StatxFlags, Uid};
use rustix::io::Errno;

use super::create::{
    self, CreateError, CreateErrorKind, Found, inspect, make_name_durable, temporary_name,
};
use crate::format::ResourceName;
use crate::runtime::clock;
use crate::runtime::disk::{Identity, Refreshed};
use crate::world::Timestamp;

const OWN_DIRECTORY: &str = ".disklease";
const LINKS: &str = "leases";
/// No disk's lease: those are 32 digits.
const SETTLED: &str = "settled";

/// An incomplete directory that this process has not inspected for so long may have been marked complete and
/// removed again meanwhile.
const INSPECTED_AT_LEAST_EVERY: Duration = Duration::from_secs(10);

/// Since when this process sees directories incomplete.
static INCOMPLETE: Mutex<BTreeMap<PathBuf, Incomplete>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Copy)]
struct Incomplete {
    /// Another directory of the same name is a new beginning.
    directory: (u64, u64, i64),
    since: Timestamp,
    inspected_at: Timestamp,
}

/// Where the second links of a lease directory are.
#[derive(Clone, Debug)]
pub(crate) struct SecondLinks {
    /// The lease directory.
    directory: PathBuf,
    /// Where the links are.
    links: PathBuf,
}

/// The two names of a lease file.
#[derive(Clone, Debug)]
pub(crate) struct LeaseNames {
    first: PathBuf,
    second: PathBuf,
    links: SecondLinks,
}

/// What the second name is, compared with the file that the first one should name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Second {
    /// A link to the same file, which was there or was just made.
    Same,
    /// Another file.
    Other,
    /// Nothing: the file system has no links, or no directories.
    Unsupported,
}

impl SecondLinks {
    pub(crate) fn of(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            links: directory.join(OWN_DIRECTORY).join(LINKS),
        }
    }

    /// The names of the lease called `name`.
    pub(crate) fn names(&self, name: &ResourceName) -> LeaseNames {
        let name = name.to_string();
        LeaseNames {
            first: self.directory.join(&name),
            second: self.links.join(&name),
            links: self.clone(),
        }
    }

    /// Whether each lease that a running disklease host holds is known to have a second link, so that
    /// a name without one is a new lease.
    ///
    /// # Errors
    ///
    /// Whether that is so cannot be read.
    pub(crate) fn is_complete(&self, round: &mut Refreshed) -> Result<bool, CreateError> {
        let is_complete = named_in(&self.links.join(SETTLED), round)?.is_some();
        if is_complete {
            INCOMPLETE.lock().remove(&self.links);
        }
        Ok(is_complete)
    }

    /// For how long this process has seen the directory incomplete, without a break. Makes the
    /// directory, so that holders can link their leases there meanwhile.
    pub(crate) fn incomplete_for(&self) -> Result<Duration, CreateError> {
        self.make()?;
        let stat = std::fs::metadata(&self.links).map_err(create::io("inspect", &self.links))?;
        let born = stat.created().ok();
        let born = born.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let born = born.map_or(0, |at| i64::try_from(at.as_nanos()).unwrap_or(i64::MAX));
        let directory = (stat.dev(), stat.ino(), born);
        let now = clock::now();
        let mut all = INCOMPLETE.lock();
        let seen = all.entry(self.links.clone()).or_insert(Incomplete {
            directory,
            since: now,
            inspected_at: now,
        });
        if seen.directory != directory || now.since(seen.inspected_at) > INSPECTED_AT_LEAST_EVERY {
            (seen.directory, seen.since) = (directory, now);
        }
        seen.inspected_at = now;
        Ok(now.since(seen.since))
    }

    /// Makes it known that hosts that run have second links of the leases they hold.
    pub(crate) fn mark_complete(&self) -> Result<(), CreateError> {
        self.make()?;
        let path = self.links.join(SETTLED);
        let mut new = OpenOptions::new();
        match new.write(true).create_new(true).mode(0o644).open(&path) {
            Ok(_) => make_name_durable(&path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(create::io("create", &path)(error)),
        }
    }

    /// Marks the directory complete once this process has seen it incomplete for `quarantine`.
    pub(crate) fn complete_after(&self, quarantine: Duration, round: &mut Refreshed) {
        let completed = self.is_complete(round).and_then(|is_complete| {
            if !is_complete && self.incomplete_for()? >= quarantine {
                self.mark_complete()?;
            }
            Ok(())
        });
        if let Err(error) = completed {
            tracing::debug!(%error, "a directory of second links stays incomplete");
        }
    }

    /// Whether there is a second link of any lease.
    pub(super) fn has_leases(&self) -> Result<bool, CreateError> {
        holds_leases(&self.links)
    }

    /// Makes the directory of the links, for whoever may use the lease directory.
    fn make(&self) -> Result<(), CreateError> {
        let own = self.directory.join(OWN_DIRECTORY);
        for path in [&own, &self.links] {
            match std::fs::create_dir(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(create::io("create the directory", path)(error)),
            }
            // Where that is refused, those whom it would have helped are refused, with that reason.
            if let (Ok(like), Ok(made)) = (std::fs::metadata(&self.directory), File::open(path)) {
                let mode = Mode::from_raw_mode(like.mode() & 0o7777);
                let (uid, gid) = (Uid::from_raw(like.uid()), Gid::from_raw(like.gid()));
                let owned = rustix::fs::fchown(&made, Some(uid), Some(gid));
                if let Err(error) = owned.and_then(|()| rustix::fs::fchmod(&made, mode)) {
                    tracing::debug!(?path, %error, "not as accessible as the lease directory");
                }
            }
            make_name_durable(path)?;
        }
        Ok(())
    }
}

impl LeaseNames {
    pub(crate) fn first(&self) -> &Path {
        &self.first
    }

    pub(crate) fn second(&self) -> &Path {
        &self.second
    }

    /// The file that the first name names, if any.
    pub(crate) fn find_first(&self) -> Result<Option<Identity>, CreateError> {
        named(&self.first)
    }

    /// What the first name names.
    pub(crate) fn inspect_first(&self) -> Result<Found, CreateError> {
        inspect(&self.first)
    }

    /// The file that the second name names, if any. Each error leaves that open, so it is never taken
    /// for "none".
    pub(crate) fn find_second(&self) -> Result<Option<Identity>, CreateError> {
        named(&self.second)
    }

    /// Whether the first name is there. If it is missing and the second one is not, the first is
    /// linked back.
    pub(crate) fn restore_first(&self) -> Result<bool, CreateError> {
        let was_missing = !exists(&self.first)?;
        let is_there = self.link_first()?;
        if was_missing && is_there {
            tracing::warn!(path = ?self.first, "a lease file had lost its name: linked back");
        }
        Ok(is_there)
    }

    /// The same for a lease that has just got its second name.
    pub(crate) fn link_first(&self) -> Result<bool, CreateError> {
        if exists(&self.first)? {
            return Ok(true);
        }
        if named(&self.second)?.is_none() {
            return Ok(false);
        }
        link(&self.second, &self.first)?;
        Ok(true)
    }

    /// Sees to it that the second name names the file `lease`, which the first one names, if it names
    /// nothing.
    pub(crate) fn keep_second(&self, lease: Identity) -> Result<Second, CreateError> {
        let compare = |found| {
            if found == lease {
                Second::Same
            } else {
                Second::Other
            }
        };
        if let Some(found) = named(&self.second)? {
            return Ok(compare(found));
        }
        match self
            .links
            .make()
            .and_then(|()| link(&self.first, &self.second))
        {
            // The one who made it may be another.
            Ok(()) => Ok(named(&self.second)?.map_or(Second::Other, compare)),
            Err(error) if error.is_unsupported() => Ok(Second::Unsupported),
            Err(error) => Err(error),
        }
    }

    /// Lets the second name name the file `lease`, which the first one names, whatever it named
    /// before. Only for a holder of `lease`, or of what the second one names. Returns whether it does: the
    /// first one may name another file by now.
    pub(crate) fn replace_second(&self, lease: Identity) -> Result<bool, CreateError> {
        replace(&self.second, &self.first, lease)
    }

    /// Whether the second name names another file than the first one, which is there.
    pub(crate) fn is_second_another(&self) -> Result<bool, CreateError> {
        let (first, second) = (named(&self.first)?, named(&self.second)?);
        Ok(first.is_some() && second.is_some() && first != second)
    }

    /// Lets the first name name the file `lease`, which the second one names, whatever it named before.
    /// Only for a holder of `lease`. Returns whether it does.
    pub(crate) fn replace_first(&self, lease: Identity) -> Result<bool, CreateError> {
        replace(&self.first, &self.second, lease)
    }

    /// Inspects whether both names name the held file `lease`, and mends what can be mended: a name
    /// that is missing is linked back from the other, and a second name that names another file is put
    /// right. Returns whether the first name is right; of errors that leave that open it says yes.
    pub(crate) fn heal(&self, lease: Identity, round: &mut Refreshed) -> bool {
        match named_in(&self.first, round) {
            Ok(None) => {
                if !self.link_back(lease) {
                    return false;
                }
            }
            Ok(Some(found)) if found != lease => return false,
            Err(error) if *error.kind() == CreateErrorKind::NotAFile => return false,
            Ok(Some(_)) => {}
            Err(error) => {
                tracing::debug!(%error, "a held lease file cannot be inspected");
                return true;
            }
        }
        if named_in(&self.second, round) == Ok(Some(lease)) {
            return true;
        }
        let kept = self.keep_second(lease).and_then(|second| match second {
            Second::Same | Second::Unsupported => Ok(()),
            Second::Other => {
                if self.replace_second(lease)? {
                    tracing::warn!(path = ?self.second, "the second link of a held lease was replaced: it is put right");
                }
                Ok(())
            }
        });
        if let Err(error) = kept {
            tracing::debug!(path = ?self.second, %error, "a held lease has no second link");
        }
        true
    }

    /// Gives the held file `lease` its first name back. Only that very file gets it.
    fn link_back(&self, lease: Identity) -> bool {
        let linked = named(&self.second).and_then(|second| {
            if second == Some(lease) {
                link(&self.second, &self.first)?;
            }
            named(&self.first)
        });
        match linked {
            Ok(Some(found)) if found == lease => {
                tracing::warn!(path = ?self.first, "a held lease file was removed: it is linked back");
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "a held lease file was removed and cannot be linked back");
                false
            }
        }
    }
}

/// Lets `name` name the file `lease`, if `other` names that: in one step, and no other file. Returns whether
/// it does.
fn replace(name: &Path, other: &Path, lease: Identity) -> Result<bool, CreateError> {
    let temporary = temporary_name(name);
    let replaced = link(other, &temporary).and_then(|()| {
        if named(&temporary)? != Some(lease) {
            return Ok(false);
        }
        std::fs::rename(&temporary, name)
            .map_err(create::io("put the lease in the place of", name))?;
        make_name_durable(name)?;
        Ok(true)
    });
    // A rename onto another link of the same file leaves both.
    let _ = std::fs::remove_file(&temporary);
    replaced
}

/// Links the file at `from` to `to`, unless that exists: the storage itself tells.
fn link(from: &Path, to: &Path) -> Result<(), CreateError> {
    match std::fs::hard_link(from, to) {
        Ok(()) => make_name_durable(to),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(create::io("link the lease to", to)(error)),
    }
}

/// Whether a file of this name holds the lease of a disk.
pub(crate) fn is_lease_name(name: &[u8]) -> bool {
    name.len() == 32
        && name
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a file in `directory`, if that is there, has the name of a disk's lease.
pub(super) fn holds_leases(directory: &Path) -> Result<bool, CreateError> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(create::io("list", directory))?,
    };
    for entry in entries {
        let name = entry.map_err(create::io("list", directory))?.file_name();
        if is_lease_name(name.as_encoded_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is anything of that name.
fn exists(path: &Path) -> Result<bool, CreateError> {
    Ok(stat(path, &mut Refreshed::default())?.is_some())
}

/// The file that `path` names, by what the storage says and not by what is remembered. What is no
/// file is an error.
fn named(path: &Path) -> Result<Option<Identity>, CreateError> {
    named_in(path, &mut Refreshed::default())
}

/// The same, as one of a round of inspections.
fn named_in(path: &Path, round: &mut Refreshed) -> Result<Option<Identity>, CreateError> {
    let Some(stat) = stat(path, round)? else {
        return Ok(None);
    };
    let named = Identity::of(&stat).map(Some);
    named.map_err(|_| CreateError::of(path, CreateErrorKind::NotAFile))
}

fn stat(path: &Path, round: &mut Refreshed) -> Result<Option<Statx>, CreateError> {
    round.directory_of(path);
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
    match rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(create::io("inspect", path)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::libvirt::lease_name;

    fn place() -> (tempfile::TempDir, LeaseNames) {
        let dir = tempfile::tempdir().unwrap();
        let links = SecondLinks::of(dir.path());
        links.make().unwrap();
        let names = links.names(&lease_name("/a".as_ref()));
        fs::write(names.first(), "the lease").unwrap();
        (dir, names)
    }

    fn heal(names: &LeaseNames, lease: Identity) -> bool {
        names.heal(lease, &mut Refreshed::default())
    }

    fn is_complete(links: &SecondLinks) -> Result<bool, CreateError> {
        links.is_complete(&mut Refreshed::default())
    }

    fn lease(names: &LeaseNames) -> Identity {
        named(names.first()).unwrap().unwrap()
    }

    fn content(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn each_name_is_made_from_the_other() {
        let (_dir, names) = place();
        let held = lease(&names);
        assert!(heal(&names, held));
        assert_eq!(named(names.second()), Ok(Some(held)));
        fs::remove_file(names.first()).unwrap();
        assert!(heal(&names, held));
        assert_eq!(named(names.first()), Ok(Some(held)));
        fs::remove_file(names.first()).unwrap();
        assert_eq!(names.restore_first(), Ok(true));
        assert_eq!(named(names.first()), Ok(Some(held)));
        fs::remove_dir_all(names.links.directory.join(OWN_DIRECTORY)).unwrap();
        assert!(heal(&names, held));
        assert_eq!(named(names.second()), Ok(Some(held)));
    }

    #[test]
    fn only_the_very_file_that_is_held_gets_its_name_back() {
        let (_dir, names) = place();
        let held = lease(&names);
        fs::write(names.second(), "another").unwrap();
        let _open = File::open(names.first()).unwrap();
        fs::remove_file(names.first()).unwrap();
        assert!(!heal(&names, held));
        assert_eq!(content(names.first()), None);
        // Who comes next has nothing better.
        assert_eq!(names.restore_first(), Ok(true));
        assert_eq!(content(names.first()).as_deref(), Some("another"));
        assert!(!heal(&names, held));
    }

    #[test]
    fn a_second_name_of_another_file_is_told_and_put_right_by_the_holder() {
        let (_dir, names) = place();
        let held = lease(&names);
        fs::write(names.second(), "another").unwrap();
        assert_eq!(names.keep_second(held), Ok(Second::Other));
        assert!(heal(&names, held));
        assert_eq!(names.keep_second(held), Ok(Second::Same));
        let left = fs::read_dir(&names.links.links).unwrap().count();
        assert_eq!(left, 1, "a temporary name stays behind");
        // The first name is another's by now: its file must not get the second one.
        fs::remove_file(names.first()).unwrap();
        fs::write(names.first(), "a third").unwrap();
        assert_eq!(names.replace_second(held), Ok(false));
        assert_eq!(content(names.second()).as_deref(), Some("the lease"));
    }

    #[test]
    fn what_cannot_be_inspected_is_not_taken_for_none() {
        let (dir, names) = place();
        let held = lease(&names);
        let own = dir.path().join(OWN_DIRECTORY);
        let spoil: [&dyn Fn(); 3] = [
            &|| fs::create_dir(names.second()).unwrap(),
            &|| {
                fs::remove_dir(names.second()).unwrap();
                std::os::unix::fs::symlink("/nowhere", names.second()).unwrap();
            },
            &|| {
                fs::remove_dir_all(&own).unwrap();
                fs::write(&own, "").unwrap();
            },
        ];
        for spoil in spoil {
            spoil();
            assert!(names.find_second().is_err());
            assert!(names.keep_second(held).is_err());
            // The holder goes on for as long as the first name is right.
            assert!(heal(&names, held));
        }
        fs::remove_file(names.first()).unwrap();
        assert!(names.restore_first().is_err());
        assert!(!heal(&names, held));
        assert!(is_complete(&names.links).is_err());
    }

    #[test]
    fn a_directory_is_incomplete_until_it_was_so_for_long_enough() {
        let (dir, names) = place();
        let links = &names.links;
        assert_eq!(is_complete(links), Ok(false));
        assert_eq!(links.has_leases(), Ok(false));
        links.incomplete_for().unwrap();
        let pause = Duration::from_millis(30);
        crate::runtime::executor::block_on(crate::world::World::sleep(
            &crate::runtime::disk::StorageWorld,
            pause,
        ));
        assert!(links.incomplete_for().unwrap() >= pause);
        // Another directory of that name is a new beginning.
        fs::rename(dir.path().join(OWN_DIRECTORY), dir.path().join("old")).unwrap();
        assert!(links.incomplete_for().unwrap() < pause);
        links.complete_after(Duration::MAX, &mut Refreshed::default());
        assert_eq!(is_complete(links), Ok(false));
        links.complete_after(Duration::ZERO, &mut Refreshed::default());
        links.mark_complete().unwrap();
        assert_eq!(is_complete(links), Ok(true));
        assert_eq!(links.has_leases(), Ok(false));
        names.keep_second(lease(&names)).unwrap();
        assert_eq!(links.has_leases(), Ok(true));
    }
}
