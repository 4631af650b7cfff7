//! `status` over a lease directory whose files were changed in places, or cut.

use std::sync::LazyLock;

use disklease::format::{DblockSector, DeltaLeader, Geometry, HostId, PaxosLeader};
use disklease::inspect::{
    Holding, InspectErrorKind, LeaseDirectoryStatus, LeaseProblemKind, StatusOptions, Watch,
};
use disklease::libvirt::{lease_name, lockspace_name};
use disklease::{HostState, LeaseDirectory};

use super::{Template, directory};
use crate::edits::{self, Site};
use crate::images::{self, delta_sites, host, lease_sites};
use crate::input::Input;
use crate::shown;

/// A few hosts with a cheap lockspace.
const GEOMETRY: Geometry = Geometry::S4K_A1M;
/// The host that holds the lease.
const HOLDER: u64 = 1;

/// A directory with a lockspace and one lease.
struct Scene {
    directory: LeaseDirectory,
    lockspace: Template,
    lease: Template,
    delta_sites: Vec<Site>,
    lease_sites: Vec<Site>,
    lease_file: String,
}

impl Scene {
    fn new(name: &str, is_shared: bool) -> Self {
        let path = directory().join(name);
        std::fs::create_dir_all(&path).unwrap();
        let disk = lease_name("/a/disk".as_ref());
        let space = images::lockspace(GEOMETRY, &lockspace_name());
        let lease = images::lease(GEOMETRY, &lockspace_name(), &disk, is_shared);
        let directory = LeaseDirectory::new(&path);
        Self {
            delta_sites: delta_sites(&space, GEOMETRY),
            lease_sites: lease_sites(&lease, GEOMETRY),
            lockspace: Template::new(directory.lockspace_path(), space),
            lease: Template::new(path.join(disk.to_string()), lease),
            directory,
            lease_file: disk.to_string(),
        }
    }
}

static SCENES: LazyLock<[Scene; 2]> =
    LazyLock::new(|| [Scene::new("exclusive", false), Scene::new("shared", true)]);

/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let which = usize::from(input.u8()) % SCENES.len();
    let scene = &SCENES[which];
    let [lockspace_len, lease_len] = [&scene.lockspace, &scene.lease].map(|template| {
        let cut = u64::from(input.u16());
        template.len().saturating_sub(cut * 16)
    });
    let deltas = scene.delta_sites.len();
    let mut sites = [&scene.delta_sites[..], &scene.lease_sites].concat();
    edits::apply(&mut input, &mut sites);
    let (delta, lease) = sites.split_at(deltas);

    scene.lockspace.change(delta, lockspace_len);
    scene.lease.change(lease, lease_len);
    let before = [&scene.lockspace, &scene.lease].map(Template::written_at);
    let options = StatusOptions::new().watch(Watch::Once);
    let observed = LeaseDirectoryStatus::observe(&scene.directory, options);
    let after = [&scene.lockspace, &scene.lease].map(Template::written_at);
    assert_eq!(after, before);
    scene.lockspace.restore(delta, lockspace_len);
    scene.lease.restore(lease, lease_len);

    let status = match observed {
        Ok(status) => status,
        Err(error) if *error.kind() == InspectErrorKind::NoLockspace => {
            // Some later sector still tells what it is.
            let has_first = DeltaLeader::decode(&delta[0].bytes, host(1)).is_ok();
            assert!(!has_first || lockspace_len < 200);
            shown::one_line(&error);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    is_in_order(&status, scene, lease_len);
    if which == 0 {
        holder_is_shown(&status, scene, (delta, lockspace_len), (lease, lease_len));
    }
}

fn is_in_order(status: &LeaseDirectoryStatus, scene: &Scene, lease_len: u64) {
    assert_eq!(status.lease_files, 1);
    assert!(status.hosts.is_sorted_by_key(|host| host.host_id));
    for seen in &status.hosts {
        assert!(seen.host_id.get() <= status.geometry.max_hosts());
        assert_eq!(status.host(seen.host_id), Some(seen));
        shown::name(seen.host_name);
        // One inspection tells nothing of any host that has the id.
        assert!(matches!(seen.state, HostState::Free | HostState::Unknown));
        assert!(seen.damage.is_none() || seen.state == HostState::Unknown);
        seen.damage.iter().for_each(shown::error);
    }
    for held in &status.held {
        assert_eq!(held.lease_file, scene.lease_file);
        shown::name(held.host_name);
        if let Some(note) = &held.note {
            assert_eq!(
                (note.host_id, note.generation),
                (held.host_id, held.generation)
            );
        }
    }
    let exclusive = status
        .held
        .iter()
        .filter(|held| held.holding == Holding::Exclusive);
    assert!(exclusive.count() <= 1);
    for problem in &status.problems {
        let text = shown::one_line(problem);
        assert!(text.contains(&scene.lease_file), "{text}");
        match &problem.kind {
            LeaseProblemKind::Damaged { offset, .. } => {
                // Leader and request are missed even where the file ends before them.
                assert!(*offset <= GEOMETRY.request_offset() || *offset < lease_len);
                assert!(text.contains(&format!("byte {offset}")), "{text}");
            }
            LeaseProblemKind::Cut { len } => assert_eq!(*len, lease_len),
            LeaseProblemKind::NotALease => {}
            other => panic!("{other:?}"),
        }
    }
}

/// As long as leader record and the holder's own two sectors say what they said, it is shown to
/// hold, whatever else is damaged.
fn holder_is_shown(
    status: &LeaseDirectoryStatus,
    scene: &Scene,
    (delta, lockspace_len): (&[Site], u64),
    (lease, lease_len): (&[Site], u64),
) {
    let block = usize::try_from(HOLDER).unwrap() + 1;
    let holds = |old: &Site, new: &Site, len: u64| {
        old.bytes == new.bytes && old.offset + u64::try_from(old.bytes.len()).unwrap() <= len
    };
    let unchanged = holds(&scene.delta_sites[0], &delta[0], lockspace_len)
        && holds(&scene.lease_sites[0], &lease[0], lease_len)
        && holds(&scene.lease_sites[block], &lease[block], lease_len);
    let holder = status
        .held
        .iter()
        .find(|held| held.holding == Holding::Exclusive);
    if unchanged {
        let holder = holder.unwrap();
        assert_eq!((holder.host_id, holder.version.get()), (host(HOLDER), 5));
        assert!(holder.note.is_some() && holder.host_name.text() == b"alpha");
    } else if let Some(holder) = holder {
        // It is what the leader record says, and not for a host that has left.
        let leader = PaxosLeader::decode(&lease[0].bytes).unwrap();
        assert!(!leader.is_free() && leader.last_owner() == Some(holder.host_id));
        let owner = usize::from(holder.host_id.get());
        if let Some(sector) = delta.get(owner - 1) {
            let leader = DeltaLeader::decode(&sector.bytes, holder.host_id);
            assert!(
                !leader
                    .is_ok_and(|leader| leader.is_free() && lockspace_len == scene.lockspace.len())
            );
        }
    }
    shared_are_marked(status, lease);
}

fn shared_are_marked(status: &LeaseDirectoryStatus, lease: &[Site]) {
    for held in status
        .held
        .iter()
        .filter(|held| held.holding == Holding::Shared)
    {
        let id: HostId = held.host_id;
        let block = lease.get(usize::from(id.get()) + 1);
        let sector = block.map(|site| DblockSector::decode(&site.bytes, id));
        if let Some(sector) = sector.filter(|_| status.geometry == GEOMETRY) {
            assert_eq!(sector.shared, Some(held.generation));
        }
    }
}

/// Each scene, whole and cut, unchanged and with the usual changes.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for scene in 0..2 {
        seeds.push(vec![scene]);
        seeds.push(vec![scene, 0, 16]);
        seeds.push(vec![scene, 0, 0, 0, 255]);
        let header = [scene, 0, 0, 0, 0];
        for sample in edits::samples(12) {
            seeds.push([&header[..], &sample].concat());
        }
    }
    seeds
}
