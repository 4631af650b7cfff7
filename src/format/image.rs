//! What initialising writes.

use super::delta_leader::DeltaLeader;
use super::error::{FormatError, Structure};
use super::geometry::Geometry;
use super::name::{LockspaceName, ResourceName};
use super::paxos_leader::PaxosLeader;
use super::request::RequestRecord;

/// Makes `area` a lockspace in which no host id was ever used.
///
/// A writer puts this on the disk in two steps: first all of it but with the first four bytes zero,
/// then the first sector as it is here. So a lockspace that is recognised is a whole one.
///
/// # Errors
///
/// [`FormatError::Short`] if `area` is smaller than [`Geometry::area_size`]. Bytes beyond that are
/// left alone.
pub fn lockspace_image(
    area: &mut [u8],
    geometry: Geometry,
    space: &LockspaceName,
    io_timeout_secs: u16,
) -> Result<(), FormatError> {
    let area = zeroed(area, geometry)?;
    let leader = DeltaLeader::free(geometry, space, io_timeout_secs);
    let sectors = area.chunks_exact_mut(geometry.sector_size());
    for sector in sectors.take(usize::from(geometry.max_hosts())) {
        leader.write_to(sector)?;
    }
    Ok(())
}

/// Makes `area` a lease that nobody ever held, for `num_hosts` hosts as in [`PaxosLeader::free`].
///
/// # Errors
///
/// [`FormatError::Short`] if `area` is smaller than [`Geometry::area_size`]. Bytes beyond that are
/// left alone.
pub fn lease_image(
    area: &mut [u8],
    geometry: Geometry,
    space: &LockspaceName,
    resource: &ResourceName,
    num_hosts: u16,
) -> Result<(), FormatError> {
    let area = zeroed(area, geometry)?;
    let mut sectors = area.chunks_exact_mut(geometry.sector_size());
    let leader = sectors.next().unwrap_or_default();
    PaxosLeader::free(geometry, space, resource, num_hosts).write_to(leader)?;
    RequestRecord::empty().write_to(sectors.next().unwrap_or_default())
}

/// The first area of the bytes, with nothing in it.
fn zeroed(bytes: &mut [u8], geometry: Geometry) -> Result<&mut [u8], FormatError> {
    let (structure, needed, found) = (Structure::Area, geometry.area_size(), bytes.len());
    let area = bytes.get_mut(..needed).ok_or(FormatError::Short {
        structure,
        needed,
        found,
    })?;
    area.fill(0);
    Ok(area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_small_an_area_is_left_as_it_is() {
        let space = LockspaceName::new("LS").unwrap();
        let resource = ResourceName::new("RES").unwrap();
        let mut area = vec![7; (1 << 20) - 1];
        let short = Err(FormatError::Short {
            structure: Structure::Area,
            needed: 1 << 20,
            found: (1 << 20) - 1,
        });
        assert_eq!(
            lockspace_image(&mut area, Geometry::S512_A1M, &space, 10),
            short
        );
        assert_eq!(
            lease_image(&mut area, Geometry::S512_A1M, &space, &resource, 0),
            short
        );
        assert!(area.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn what_comes_behind_the_area_is_left_as_it_is() {
        let space = LockspaceName::new("LS").unwrap();
        let mut area = vec![7; (1 << 20) + 9];
        lockspace_image(&mut area, Geometry::S4K_A1M, &space, 10).unwrap();
        assert_eq!(area[(1 << 20)..], [7; 9]);
        assert_eq!(area[250 * 4096..1 << 20], vec![0; 6 * 4096]);
    }
}
