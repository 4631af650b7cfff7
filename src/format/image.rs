//! What initialising writes.

use super::delta_leader::DeltaLeader;
use super::geometry::Geometry;
use super::lockspace_id::LockspaceId;
use super::name::{LockspaceName, ResourceName};
use super::paxos_leader::PaxosLeader;
use super::record::SectorHead;
use super::request::RequestRecord;

/// A lockspace in which no host id was ever used: [`Geometry::area_size`] bytes. One without an `id`
/// is byte for byte what sanlock makes.
///
/// A writer puts this on the disk in two steps: first all of it but with the first four bytes zero,
/// then the first sector as it is here. So a lockspace that is recognised is a whole one.
#[must_use]
pub fn lockspace_image(
    geometry: Geometry,
    space: &LockspaceName,
    io_timeout_secs: u16,
    id: Option<LockspaceId>,
) -> Vec<u8> {
    let mut host = [0; 512];
    DeltaLeader::free(geometry, space, io_timeout_secs).write_to(&mut host);
    let mut last = [0; 512];
    if let Some(id) = id {
        id.write_to(&mut last);
    }
    let mut area = area_of(
        geometry,
        std::iter::repeat_n(host, geometry.max_hosts().into()),
    );
    let mut sectors = area.chunks_exact_mut(geometry.sector_size());
    put(&last, sectors.next_back().unwrap_or_default());
    area
}

/// A lease that nobody ever held, for `num_hosts` hosts as in [`PaxosLeader::free`]:
/// [`Geometry::area_size`] bytes.
#[must_use]
pub fn lease_image(
    geometry: Geometry,
    space: &LockspaceName,
    resource: &ResourceName,
    num_hosts: u16,
) -> Vec<u8> {
    let mut leader = [0; 512];
    PaxosLeader::free(geometry, space, resource, num_hosts).write_to(&mut leader);
    let mut request = [0; 512];
    RequestRecord::empty().write_to(&mut request);
    area_of(geometry, [leader, request])
}

/// An area whose first sectors begin with these heads. The rest is zero.
fn area_of(geometry: Geometry, heads: impl IntoIterator<Item = SectorHead>) -> Vec<u8> {
    let mut area = vec![0; geometry.area_size()];
    let sectors = area.chunks_exact_mut(geometry.sector_size());
    sectors
        .zip(heads)
        .for_each(|(sector, head)| put(&head, sector));
    area
}

fn put(head: &SectorHead, sector: &mut [u8]) {
    for (to, from) in sector.iter_mut().zip(head) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_host_has_is_zero_but_for_the_id() {
        let space = LockspaceName::new("LS").unwrap();
        let g = Geometry::S4K_A1M;
        let mut area = lockspace_image(g, &space, 10, None);
        assert_eq!(area.len(), 1 << 20);
        assert_eq!(area[250 * 4096..], vec![0; 6 * 4096]);
        let id = LockspaceId::new([7; 16]);
        let with_id = lockspace_image(g, &space, 10, Some(id));
        let at = usize::try_from(g.lockspace_id_offset()).unwrap();
        id.write_to(area[at..].first_chunk_mut().unwrap());
        assert!(area == with_id);
    }
}
