//! `dump` over a file with a lockspace and a lease that was changed in places, or cut.

use std::sync::LazyLock;

use disklease::format::{Geometry, LockspaceName, ResourceName};
use disklease::inspect::{Area, FileOptions, FileReport, inspect_file};

use super::{Template, directory, is_in_order};
use crate::edits::{self, Site};
use crate::images::{self, delta_sites, lease_sites};
use crate::input::Input;

/// A file, and what it shows.
struct Scene {
    template: Template,
    geometry: Geometry,
    sites: Vec<Site>,
    /// Without any change.
    good: FileReport,
}

/// What a scene's file holds.
#[derive(Clone, Copy)]
enum Holds {
    /// The beginning of a lockspace: many good sectors, so that its name stands.
    SomeOfLockspace,
    /// The beginning of a lease.
    SomeOfLease,
    /// A lockspace, and a lease behind it, both whole.
    All,
}

impl Scene {
    fn new(name: &str, geometry: Geometry, holds: Holds, is_shared: bool) -> Self {
        let space = LockspaceName::new("LS").unwrap();
        let resource = ResourceName::new("disk-1").unwrap();
        let mut bytes = images::lockspace(geometry, &space);
        let lease = images::lease(geometry, &space, &resource, is_shared);
        let mut sites = delta_sites(&bytes, geometry);
        match holds {
            Holds::SomeOfLockspace => bytes.truncate(24 * geometry.sector_size()),
            Holds::SomeOfLease => {
                sites = lease_sites(&lease, geometry);
                bytes = lease;
                bytes.truncate(12 * geometry.sector_size());
            }
            Holds::All => {
                let behind = u64::try_from(bytes.len()).unwrap();
                let of_lease = lease_sites(&lease, geometry);
                sites.extend(of_lease.into_iter().map(|site| Site {
                    offset: site.offset + behind,
                    ..site
                }));
                bytes.extend(lease);
            }
        }
        let template = Template::new(directory().join(name), bytes);
        let good = inspect_file(&template.path, FileOptions::new()).unwrap();
        Self {
            template,
            geometry,
            sites,
            good,
        }
    }
}

/// Short files first: they are inspected a hundred times as fast.
static SCENES: LazyLock<[Scene; 5]> = LazyLock::new(|| {
    let (small, large) = (Geometry::S512_A1M, Geometry::S4K_A1M);
    [
        Scene::new("lockspace", small, Holds::SomeOfLockspace, false),
        Scene::new("lease", small, Holds::SomeOfLease, false),
        Scene::new("shared", large, Holds::SomeOfLease, true),
        Scene::new("both-large", large, Holds::All, true),
        Scene::new("both-small", small, Holds::All, false),
    ]
});

/// The scene of a number. The long files come seldom.
fn scene(number: u8) -> &'static Scene {
    match number {
        0xfe => &SCENES[3],
        0xff => &SCENES[4],
        number => &SCENES[usize::from(number) % 3],
    }
}

/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let scene = scene(input.u8());
    // Mostly whole, from the start.
    let [from, cut] = [input.u16(), input.u16()].map(|eights| u64::from(eights) * 8);
    let whole = scene.template.len();
    let len = whole.saturating_sub(cut);
    let mut sites = scene.sites.clone();
    edits::apply(&mut input, &mut sites);

    scene.template.change(&sites, len);
    let before = scene.template.written_at();
    let found = inspect_file(&scene.template.path, FileOptions::new().offset(from));
    assert_eq!(scene.template.written_at(), before);
    scene.template.restore(&sites, len);

    if from > len {
        assert!(found.unwrap_err().to_string().contains(&from.to_string()));
        return;
    }
    let found = found.unwrap();
    assert_eq!(found.len, len);
    is_in_order(&found, from);
    if from == 0 && len == whole {
        damage_does_not_spread(scene, &sites, &found);
    }
}

/// Where an area is still seen with its sizes, each sector that was not changed shows what it
/// showed.
fn damage_does_not_spread(scene: &Scene, sites: &[Site], found: &FileReport) {
    let changed = |offset: u64| {
        let mut both = scene.sites.iter().zip(sites);
        both.any(|(old, new)| old.offset == offset && old.bytes != new.bytes)
    };
    for area in &found.areas {
        let good = scene
            .good
            .areas
            .iter()
            .find(|good| good.offset() == area.offset());
        match (good, area) {
            (Some(Area::Lockspace(good)), Area::Lockspace(found))
                if found.geometry == scene.geometry =>
            {
                assert!(found.name.same_text(&good.name));
                let unchanged = |host: &&_| !changed(offset_of(host));
                let shown = found.hosts.iter().filter(unchanged);
                assert!(shown.eq(good.hosts.iter().filter(unchanged)));
            }
            (Some(Area::Lease(good)), Area::Lease(found)) if found.geometry == scene.geometry => {
                if !changed(found.offset) {
                    assert_eq!(found.leader, good.leader);
                }
                if !changed(found.offset + found.geometry.request_offset()) {
                    assert_eq!(found.request, good.request);
                }
                let shown = found.blocks.iter().filter(|block| !changed(block.offset));
                assert!(shown.eq(good.blocks.iter().filter(|block| !changed(block.offset))));
            }
            _ => {}
        }
    }
}

fn offset_of(host: &disklease::inspect::HostSector) -> u64 {
    host.offset
}

/// Each scene, whole and cut, unchanged and with the usual changes.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for scene in [0, 1, 2, 0xfe, 0xff] {
        seeds.push(vec![scene]);
        seeds.push(vec![scene, 0, 8, 0, 0]);
        seeds.push(vec![scene, 1, 0, 0, 16]);
        let header = [scene, 0, 0, 0, 0];
        for sample in edits::samples(if scene < 3 { 7 } else { 2 }) {
            seeds.push([&header[..], &sample].concat());
        }
    }
    seeds
}
