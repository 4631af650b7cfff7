//! The geometry of a lockspace or a lease, from its first bytes.

use super::delta_leader::DELTA;
use super::error::{FormatError, Structure};
use super::geometry::Geometry;
use super::ids::HostId;
use super::leader::RawLeader;
use super::paxos_leader;

/// Bytes to read from the start of an area to find out its sizes: one sector, however large sectors
/// are.
pub const PROBE_LEN: usize = 4096;

/// The sizes of the lockspace that begins with these bytes, [`PROBE_LEN`] of them.
///
/// Only magic number, version and sizes of host 1's record count; no checksum, no name.
///
/// # Errors
///
/// [`FormatError::Short`], [`FormatError::Magic`], [`FormatError::Version`],
/// [`FormatError::SectorSize`] or [`FormatError::AlignSize`].
pub fn probe_lockspace(first: &[u8]) -> Result<Geometry, FormatError> {
    let structure = Structure::DeltaLeader(Some(HostId::FIRST));
    RawLeader::read(structure, DELTA, first)?.geometry(structure)
}

/// The sizes of the lease that begins with these bytes, [`PROBE_LEN`] of them.
///
/// Only magic number, version and sizes count; no checksum, no name.
///
/// # Errors
///
/// [`FormatError::Short`], [`FormatError::Cleared`], [`FormatError::Magic`],
/// [`FormatError::Version`], [`FormatError::SectorSize`] or [`FormatError::AlignSize`].
pub fn probe_lease(first: &[u8]) -> Result<Geometry, FormatError> {
    paxos_leader::read_raw(first)?.geometry(Structure::PaxosLeader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::delta_leader::DeltaLeader;
    use crate::format::name::{LockspaceName, ResourceName};
    use crate::format::paxos_leader::PaxosLeader;

    #[test]
    fn finds_every_geometry_without_looking_at_checksums() {
        let space = LockspaceName::new("LS").unwrap();
        let resource = ResourceName::new("RES").unwrap();
        for g in Geometry::ALL {
            let mut first = [0; 512];
            DeltaLeader::free(g, &space, 10).write_to(&mut first);
            first[168] ^= 1;
            assert_eq!(probe_lockspace(&first), Ok(g));
            assert!(matches!(
                probe_lease(&first),
                Err(FormatError::Magic { .. })
            ));
            PaxosLeader::free(g, &space, &resource, 0).write_to(&mut first);
            first[168] ^= 1;
            assert_eq!(probe_lease(&first), Ok(g));
            assert!(matches!(
                probe_lockspace(&first),
                Err(FormatError::Magic { .. })
            ));
            first[6] = 9;
            assert!(matches!(
                probe_lease(&first),
                Err(FormatError::Version { found: 9, .. })
            ));
        }
    }

    #[test]
    fn says_what_is_short() {
        let structure = Structure::DeltaLeader(Some(HostId::FIRST));
        let short = FormatError::Short {
            structure,
            needed: 200,
            found: 12,
        };
        assert_eq!(probe_lockspace(&[0; 12]), Err(short));
        assert_eq!(
            short.to_string(),
            "delta lease of host 1: 200 bytes are needed, 12 are there"
        );
    }
}
