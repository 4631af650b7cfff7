//! The disks that are held, by what their lease files show.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::error::{Damage, InspectError, InspectErrorKind};
use super::file::{Area, area_at};
use super::lease::{HostBlock, LeaseReport};
use super::source::Source;
use crate::delta_lease::HostTable;
use crate::format::{
    Generation, HolderNote, HostId, LeaseVersion, NameBytes, PaxosLeader, ResourceName, Tenure,
};
use crate::libvirt::{LOCKSPACE_NAME, is_lease_name, lockspace_name};
use crate::runtime::disk::Links;

/// A disk that is held by a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldDisk {
    /// The name of the lease file, which follows from the disk's path but does not name the disk.
    pub lease_file: String,
    /// How it is held.
    pub holding: Holding,
    /// The host that holds it.
    pub host_id: HostId,
    /// Which generation of the host.
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
    /// What is wrong with the file.
    #[source]
    pub kind: LeaseProblemKind,
}

/// What is wrong with a lease file, without its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseProblemKind {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] InspectError),
    /// The file does not start with a lease, though the file has the name of a lease file.
    #[error("it holds no lease")]
    NotALease,
    /// A record of the lease is damaged.
    #[error("at byte {offset}: {damage}")]
    Damaged {
        /// Where the damaged sector starts.
        offset: u64,
        /// What is wrong.
        #[source]
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
    pub(super) files: Vec<(String, Result<LeaseReport, LeaseProblemKind>)>,
    pub(super) is_direct: bool,
}

/// Reads the lease files in `directory`: those that libvirt's rule names, and others that hold a
/// lease.
pub(super) fn read_all(directory: &Path, timeout: Duration) -> Result<Leases, InspectError> {
    let mut leases = Leases {
        files: Vec::new(),
        is_direct: true,
    };
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut entries = entries
        .map_err(|error| InspectError::new(directory, InspectErrorKind::Directory(error.into())))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == LOCKSPACE_NAME || name.starts_with('.') {
            continue;
        }
        let is_lease_name = is_lease_name(name.as_bytes());
        let found = Source::open(&entry.path(), Links::Refuse, timeout).and_then(|source| {
            leases.is_direct &= source.info().is_direct();
            area_at(&source, 0)
        });
        let found = match found {
            Ok(Area::Lease(mut lease)) => {
                if is_lease_name && let Ok(expected) = ResourceName::new(&name) {
                    lease.leader = lease
                        .leader
                        .and_then(|leader| Ok(leader.expect_names(&lockspace_name(), &expected)?));
                }
                Ok(lease)
            }
            _ if !is_lease_name => continue,
            Ok(_) => Err(LeaseProblemKind::NotALease),
            Err(error) => Err(LeaseProblemKind::Unreadable(error)),
        };
        leases.files.push((name, found));
    }
    Ok(leases)
}

impl Leases {
    /// What is wrong with the files.
    pub(super) fn problems(&self) -> Vec<LeaseProblem> {
        let problems = self.files.iter().flat_map(|(lease_file, found)| {
            let (lease, unread) = match found {
                Ok(lease) => (Some(lease), None),
                Err(kind) => (None, Some(kind.clone())),
            };
            let damages = lease.into_iter().flat_map(LeaseReport::damages);
            let damages =
                damages.map(|(offset, damage)| LeaseProblemKind::Damaged { offset, damage });
            let cut = lease.and_then(|lease| lease.cut_at);
            let cut = cut.map(|len| LeaseProblemKind::Cut { len });
            unread
                .into_iter()
                .chain(damages)
                .chain(cut)
                .map(|kind| LeaseProblem {
                    lease_file: lease_file.clone(),
                    kind,
                })
        });
        problems.collect()
    }

    /// The holders that the leases show, if the hosts are as `table` has them.
    pub(super) fn held(&self, table: &HostTable) -> Vec<HeldDisk> {
        let mut held = Vec::new();
        for (lease_file, found) in &self.files {
            let Ok(lease) = found else { continue };
            let Ok(leader) = lease.leader else { continue };
            let mut push = |holding, host_id, generation, note: Option<&HolderNote>| {
                let record = table.record(host_id);
                held.push(HeldDisk {
                    lease_file: lease_file.clone(),
                    holding,
                    host_id,
                    generation,
                    host_name: record
                        .map_or(NameBytes::EMPTY, |record| record.seen().leader.host_name()),
                    version: leader.version(),
                    note: note.cloned(),
                });
            };
            if let Some(owner) = leader.last_owner().filter(|_| !leader.is_free()) {
                let (generation, block) = (leader.generation(), lease.block(owner));
                let note = block.and_then(HostBlock::note);
                let note = note.filter(|note| note.is_of(generation, leader.version()));
                if !has_ended(table, owner, generation) && !has_released(&leader, block, note) {
                    push(Holding::Exclusive, owner, generation, note);
                }
            }
            for block in &lease.blocks {
                let shared = block.sector.as_ref().ok().and_then(|sector| sector.shared);
                if let Some(generation) = shared
                    && !has_ended(table, block.host_id, generation)
                {
                    let note = block.note().filter(|note| note.generation == generation);
                    push(Holding::Shared, block.host_id, generation, note);
                }
            }
        }
        held
    }
}

/// Whether this generation of the host has ended for certain, by its delta lease.
fn has_ended(table: &HostTable, host: HostId, generation: Generation) -> bool {
    match table.record(host) {
        // The sector says that no host ever had this id.
        None => true,
        Some(record) if record.damage.is_some() => false,
        Some(record) => {
            let leader = &record.seen().leader;
            leader.is_free() || leader.generation() > generation
        }
    }
}

/// Whether the owner released, and the leader record shows an owner only because another host committed it
/// late. Where the owner's own note says that the lease is held, the note is believed: unlike the
/// flag a note has a checksum.
fn has_released(
    leader: &PaxosLeader,
    block: Option<&HostBlock>,
    note: Option<&HolderNote>,
) -> bool {
    let is_own = leader.last_owner().map(u64::from) == Some(leader.write_id());
    let sector = block.and_then(|block| block.sector.as_ref().ok());
    let has_flag = sector.is_some_and(|sector| sector.released);
    has_flag && !is_own && note.is_none_or(|note| note.tenure != Tenure::Held)
}
