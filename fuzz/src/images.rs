//! Lockspaces and leases with a history, made from records alone.

use disklease::format::{
    Commit, Dblock, DeltaLeader, Generation, Geometry, HolderNote, HostBitmap, HostId, HostName,
    HostNote, Input, LeaseVersion, LockspaceName, ModeBlock, PaxosLeader, RequestRecord,
    ResourceName, lease_image, lockspace_image,
};

use crate::edits::{Kind, Site};

/// Ids up to this one were used, no others.
const USED: u64 = 4;

/// The sectors of the ids that were used, and of one that was not.
const OF_INTEREST: u64 = USED + 1;

/// # Panics
///
/// If there is no such host.
#[must_use]
pub fn host(id: u64) -> HostId {
    HostId::new(id).unwrap()
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// A lockspace: host 1 lives, with a note of ours; host 2 has left; hosts 3 and 4 live without
/// notes, as sanlock's do, and host 4 calls host 3.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn lockspace(geometry: Geometry, name: &LockspaceName) -> Vec<u8> {
    let mut area = lockspace_image(geometry, name, 10, None);
    for (id, host_name) in (1..=USED).zip(["alpha", "beta", "gamma", "delta"]) {
        let at = index(geometry.delta_offset(host(id)));
        let sector = area[at..].first_chunk_mut().unwrap();
        let host_name = HostName::new(host_name).unwrap();
        let free = DeltaLeader::free(geometry, name, 10);
        let first = free.acquired(host(id), &host_name, 50, 10).unwrap();
        let second = first
            .released()
            .acquired(host(id), &host_name, 1000, 10)
            .unwrap();
        match id {
            1 => {
                let mut note = HostNote::new(host(1), Generation::new(2));
                note.protocol = 1;
                note.io_timeout_secs = 10;
                note.fire_timeout_secs = 60;
                note.boot = [7; 8];
                note.write_to(sector);
                second.write_to(sector);
            }
            2 => second.released().write_to(sector),
            3 => second.write_to(sector),
            _ => {
                let mut calls = HostBitmap::new();
                calls.set(host(3));
                calls.write_to(sector);
                second.write_to(sector);
            }
        }
    }
    area
}

/// A lease at version 5: held by host 1 with a note of ours, or shared by hosts 3 and 4. Host 2 had
/// version 4.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn lease(
    geometry: Geometry,
    space: &LockspaceName,
    resource: &ResourceName,
    is_shared: bool,
) -> Vec<u8> {
    let mut area = lease_image(geometry, space, resource, 0);
    let (version, generation) = (LeaseVersion::new(5), Generation::new(2));
    let owner = if is_shared { 3 } else { 1 };
    let free = PaxosLeader::free(geometry, space, resource, 0);
    let held = free.committed(Commit {
        version,
        owner: host(owner),
        generation,
        timestamp_secs: 990,
        writer: host(owner),
        writer_generation: generation,
        writer_clock_secs: 991,
        clear_short_hold: true,
    });
    let leader = if is_shared {
        held.freed(host(3), generation, 992)
    } else {
        held
    };
    leader.write_to(area.first_chunk_mut().unwrap());
    let mut request = RequestRecord::empty();
    request.version = LeaseVersion::new(6);
    request.force_mode = RequestRecord::GRACEFUL;
    let at = index(geometry.request_offset());
    request.write_to(area[at..].first_chunk_mut().unwrap());

    let put_block = |area: &mut [u8], id: u64, version: u64, released: bool| {
        let at = index(geometry.dblock_offset(host(id)));
        let ballot = id + u64::from(geometry.max_hosts());
        let block = Dblock {
            mbal: ballot,
            bal: ballot,
            input: Some(Input {
                owner: id,
                generation: 2,
                timestamp: 990,
            }),
            version: LeaseVersion::new(version),
            released,
            other_flags: 0,
        };
        block.write_to(area[at..].first_chunk_mut().unwrap());
        at
    };
    put_block(&mut area, 2, 4, true);
    if is_shared {
        for id in [3, 4] {
            let at = put_block(&mut area, id, 5, id == 4);
            let mode = ModeBlock { shared: generation };
            mode.write_to(area[at..].first_chunk_mut().unwrap());
        }
    } else {
        let at = put_block(&mut area, 1, 5, false);
        let note = HolderNote::new(host(1), generation, version).with_guest_name("guest-1");
        note.write_to(area[at..].first_chunk_mut().unwrap());
    }
    area
}

fn site(kind: Kind, area: &[u8], geometry: Geometry, offset: u64) -> Site {
    let start = index(offset);
    Site {
        kind,
        offset,
        bytes: area[start..start + geometry.sector_size()].to_vec(),
    }
}

/// The sectors of a lockspace that are of interest. Offsets are from its start.
#[must_use]
pub fn delta_sites(area: &[u8], geometry: Geometry) -> Vec<Site> {
    let offset = |id| geometry.delta_offset(host(id));
    let of_host = |id| site(Kind::Delta, area, geometry, offset(id));
    (1..=OF_INTEREST).map(of_host).collect()
}

/// The sectors of a lease that are of interest: leader, request, blocks. Offsets are from its start.
#[must_use]
pub fn lease_sites(area: &[u8], geometry: Geometry) -> Vec<Site> {
    let offset = |id| geometry.dblock_offset(host(id));
    let of_host = |id| site(Kind::Block, area, geometry, offset(id));
    let mut sites = vec![
        site(Kind::Leader, area, geometry, 0),
        site(Kind::Request, area, geometry, geometry.request_offset()),
    ];
    sites.extend((1..=OF_INTEREST).map(of_host));
    sites
}
