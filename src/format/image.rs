//! What initialising writes.

use super::delta_leader::DeltaLeader;
use super::geometry::Geometry;
use super::ids::LockspaceId;
use super::layout::Field;
use super::name::{LockspaceName, ResourceName};
use super::paxos_leader::PaxosLeader;
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
    let mut area = vec![0; geometry.area_size()];
    let mut host = [0; 512];
    DeltaLeader::free(geometry, space, io_timeout_secs).write_to(&mut host);
    let mut last = [0; 512];
    if let Some(id) = id {
        id.write_to(&mut last);
    }
    let mut sectors = area.chunks_exact_mut(geometry.sector_size());
    last.write(sectors.next_back().unwrap_or_default(), 0);
    for sector in sectors.take(geometry.max_hosts().into()) {
        host.write(sector, 0);
    }
    area
}

/// A lease that no host ever held, for `num_hosts` hosts as in `PaxosLeader::free`:
/// [`Geometry::area_size`] bytes.
#[must_use]
pub fn lease_image(
    geometry: Geometry,
    space: &LockspaceName,
    resource: &ResourceName,
    num_hosts: u16,
) -> Vec<u8> {
    let mut area = vec![0; geometry.area_size()];
    let [mut leader, mut request] = [[0; 512]; 2];
    PaxosLeader::free(geometry, space, resource, num_hosts).write_to(&mut leader);
    RequestRecord::empty().write_to(&mut request);
    leader.write(&mut area, 0);
    request.write(&mut area, geometry.sector_size());
    area
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
