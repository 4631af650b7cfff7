//! Which sizes a lockspace or a lease has, from its first bytes.

use super::delta_leader::DELTA;
use super::error::{FormatError, Structure};
use super::geometry::Geometry;
use super::ids::HostId;
use super::leader::{Kind, RawLeader};
use super::paxos_leader::PAXOS;

/// Bytes to read from the start of an area to find out its sizes: one sector, however large sectors are.
pub const PROBE_LEN: usize = 4096;

/// The sizes of the lockspace that begins with these bytes, [`PROBE_LEN`] of them.
///
/// Only magic number, version and sizes of host 1's record count; no checksum, no name.
///
/// # Errors
///
/// [`FormatError::Short`], [`FormatError::Magic`], [`FormatError::Version`], [`FormatError::SectorSize`] or
/// [`FormatError::AlignSize`].
pub fn probe_lockspace(first: &[u8]) -> Result<Geometry, FormatError> {
    probe(first, Structure::DeltaLeader(Some(HostId::FIRST)), DELTA)
}

/// The sizes of the lease that begins with these bytes, [`PROBE_LEN`] of them.
///
/// Only magic number, version and sizes count; no checksum, no name. A cleared lease is none.
///
/// # Errors
///
/// [`FormatError::Short`], [`FormatError::Magic`], [`FormatError::Version`], [`FormatError::SectorSize`] or
/// [`FormatError::AlignSize`].
pub fn probe_lease(first: &[u8]) -> Result<Geometry, FormatError> {
    probe(first, Structure::PaxosLeader, PAXOS)
}

fn probe(first: &[u8], structure: Structure, kind: Kind) -> Result<Geometry, FormatError> {
    RawLeader::read(structure, kind, first)?.geometry(structure)
}
