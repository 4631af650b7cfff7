//! The disks that are held, by what their lease files show.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::delta_lease::HostTable;
use crate::format::{
    Generation, HolderNote, HostId, LeaseVersion, NameBytes, PaxosLeader, ResourceName, Tenure,
};
use crate::inspect::area::Area;
use crate::inspect::error::{Damage, LookError, StatusError};
use crate::inspect::file::area_at;
use crate::inspect::lease::{HostBlock, LeaseLook};
use crate::inspect::source::Source;
use crate::libvirt::{LOCKSPACE_NAME, lockspace_name};
use crate::runtime::disk::Links;

/// A disk that is held by a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldDisk {
    /// The name of the lease file, which follows from the disk's path but does not tell it.
    pub lease_file: String,
    /// How it is held.
    pub holding: Holding,
    /// The host that holds it.
    pub host_id: HostId,
    /// Which join of the host.
    pub generation: Generation,
    /// The host's name, from its delta lease; empty if that is damaged.
    pub host_name: NameBytes,
    /// The version of the lease.
    pub version: LeaseVersion,
    /// What a disklease host left on the holder: guest, process, time of the acquire.
    pub note: Option<HolderNote>,
}

/// How a disk is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holding {
    /// By this host alone.
    Exclusive,
    /// By this host and perhaps others.
    Shared,
}

/// What is wrong with a lease file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lease file {lease_file:?}: {kind}")]
#[non_exhaustive]
pub struct LeaseProblem {
    /// The name of the file.
    pub lease_file: String,
    /// What is wrong with it.
    pub kind: LeaseProblemKind,
}

/// What is wrong with a lease file, without its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseProblemKind {
    /// It cannot be read, for this reason, in words.
    #[error("{0}")]
    Unreadable(String),
    /// It does not begin with a lease, though it has the name of a lease file.
    #[error("it holds no lease")]
    NotALease,
    /// A record in it is damaged.
    #[error("at byte {offset}: {damage}")]
    Damaged {
        /// Where the damaged sector begins.
        offset: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// The file ends before the lease does.
    #[error("it ends at byte {len}, before the lease does")]
    Cut {
        /// The length of the file.
        len: u64,
    },
}

/// All lease files of a directory, as they were read.
pub(super) struct Leases {
    pub(super) files: Vec<(String, Result<LeaseLook, LeaseProblemKind>)>,
    pub(super) is_direct: bool,
}

/// Reads the lease files in `directory`: those that libvirt's rule names, and others that hold a
/// lease.
pub(super) fn read_all(directory: &Path, timeout: Duration) -> Result<Leases, StatusError> {
    let mut leases = Leases {
        files: Vec::new(),
        is_direct: true,
    };
    for path in paths_in(directory)? {
        let Some(name) = path.file_name().map(|name| name.to_string_lossy()) else {
            continue;
        };
        if name == LOCKSPACE_NAME || name.starts_with('.') {
            continue;
        }
        let found = match read_one(&path, timeout, &mut leases.is_direct) {
            Ok(Area::Lease(look)) => Ok(look),
            _ if !is_lease_name(&name) => continue,
            Ok(_) => Err(LeaseProblemKind::NotALease),
            Err(error) => Err(LeaseProblemKind::Unreadable(error.to_string())),
        };
        leases.files.push((name.into_owned(), found));
    }
    Ok(leases)
}

fn paths_in(directory: &Path) -> Result<Vec<PathBuf>, StatusError> {
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| StatusError::Directory {
        path: directory.to_owned(),
        error: error.into(),
    })?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn read_one(path: &Path, timeout: Duration, is_direct: &mut bool) -> Result<Area, LookError> {
    let source = Source::open(path, Links::Refuse, timeout)?;
    *is_direct &= source.info().is_direct();
    area_at(&source, 0).map(|(area, _)| area)
}

/// Whether it is the MD5 of something, in hexadecimal digits.
fn is_lease_name(name: &str) -> bool {
    name.len() == 32
        && name
            .bytes()
            .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// The holders that `leases` show, if the hosts are as `table` has them; and what is wrong.
pub(super) fn held(leases: &Leases, table: &HostTable) -> (Vec<HeldDisk>, Vec<LeaseProblem>) {
    let (mut held, mut problems) = (Vec::new(), Vec::new());
    for (lease_file, found) in &leases.files {
        let mut wrong = |kind| {
            problems.push(LeaseProblem {
                lease_file: lease_file.clone(),
                kind,
            });
        };
        match found {
            Ok(look) => {
                let view = View {
                    lease_file,
                    look,
                    table,
                };
                view.problems(&mut wrong);
                view.holders(&mut held);
            }
            Err(problem) => wrong(problem.clone()),
        }
    }
    (held, problems)
}

/// One lease among the hosts.
struct View<'a> {
    lease_file: &'a str,
    look: &'a LeaseLook,
    table: &'a HostTable,
}

impl View<'_> {
    fn problems(&self, wrong: &mut impl FnMut(LeaseProblemKind)) {
        let mut damaged = |offset, damage| wrong(LeaseProblemKind::Damaged { offset, damage });
        if let Err(damage) = self.named_leader() {
            damaged(self.look.offset, damage);
        } else if let Err(damage) = self.look.request {
            let at = self.look.geometry.request_offset();
            damaged(self.look.offset.saturating_add(at), damage);
        }
        for block in &self.look.blocks {
            let content = match &block.sector {
                Ok(sector) => sector.block.map_err(Damage::Format),
                Err(damage) => Err(*damage),
            };
            if let Err(damage) = content {
                damaged(block.offset, damage);
            }
        }
        if let Some(len) = self.look.cut_at {
            wrong(LeaseProblemKind::Cut { len });
        }
    }

    fn holders(&self, held: &mut Vec<HeldDisk>) {
        let Ok(leader) = self.named_leader() else {
            return;
        };
        if let Some(owner) = leader.owner_id().filter(|_| !leader.is_free()) {
            let generation = leader.generation();
            let block = self.look.block(owner);
            let over = self.has_ended(owner, generation) || has_released(&leader, owner, block);
            if !over {
                let note = block.and_then(HostBlock::note).filter(|note| {
                    note.generation == generation && note.version == leader.version()
                });
                held.push(self.held(&leader, Holding::Exclusive, owner, generation, note));
            }
        }
        for block in &self.look.blocks {
            let shared = block.sector.as_ref().ok().and_then(|sector| sector.shared);
            let Some(generation) = shared else { continue };
            if self.has_ended(block.host_id, generation) {
                continue;
            }
            let note = block.note().filter(|note| note.generation == generation);
            held.push(self.held(&leader, Holding::Shared, block.host_id, generation, note));
        }
    }

    /// The leader, if it is that of the lease which the file's name says.
    fn named_leader(&self) -> Result<PaxosLeader, Damage> {
        let leader = self.look.leader?;
        if !is_lease_name(self.lease_file) {
            return Ok(leader);
        }
        match ResourceName::new(self.lease_file) {
            Ok(name) => Ok(leader.expect_names(&lockspace_name(), &name)?),
            Err(_) => Ok(leader),
        }
    }

    /// Whether this generation of the host has ended for certain, by its delta lease.
    fn has_ended(&self, host: HostId, generation: Generation) -> bool {
        match self.table.record(host) {
            // Its sector says that it never lived.
            None => true,
            Some(record) if record.damage.is_some() => false,
            Some(record) => {
                let leader = &record.seen().leader;
                leader.is_free() || leader.generation() > generation
            }
        }
    }

    fn held(
        &self,
        leader: &PaxosLeader,
        holding: Holding,
        host_id: HostId,
        generation: Generation,
        note: Option<&HolderNote>,
    ) -> HeldDisk {
        let record = self.table.record(host_id);
        HeldDisk {
            lease_file: self.lease_file.to_owned(),
            holding,
            host_id,
            generation,
            host_name: record.map_or(NameBytes::EMPTY, |record| record.seen().leader.host_name()),
            version: leader.version(),
            note: note.cloned(),
        }
    }
}

/// Whether the owner released, and the leader looks owned only because another host committed it
/// late. Where the owner's own note says that it holds the lease, the note is believed: unlike the
/// flag it has a checksum.
fn has_released(leader: &PaxosLeader, owner: HostId, block: Option<&HostBlock>) -> bool {
    if leader.write_id() == u64::from(owner) {
        return false;
    }
    let Some(block) = block else { return false };
    let noted_as_held = block.note().is_some_and(|note| {
        note.is_of(leader.generation(), leader.version()) && note.tenure == Tenure::Held
    });
    let released = block.sector.as_ref().is_ok_and(|sector| sector.released);
    released && !noted_as_held
}
