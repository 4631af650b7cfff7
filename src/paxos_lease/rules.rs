//! Rules that are easy to get wrong, each a function of its own, so that a mutant can get it wrong
//! and a test must notice.

use crate::format::{DblockSector, FormatError, HostId};
use crate::probe::{mutation, with_checksum};

/// Where the checksum of a dblock is in its sector.
const DBLOCK_CHECKSUM_AT: usize = 48;

/// Decodes the sector of `host`. A dblock whose checksum does not match its bytes decides nothing.
pub(super) fn decode_block(sector: &[u8], host: HostId) -> DblockSector {
    let decoded = DblockSector::decode(sector, host);
    match decoded.block {
        Err(FormatError::Checksum { computed, .. }) if mutation!(BlockChecksumIgnored) => {
            DblockSector::decode(&with_checksum(sector, DBLOCK_CHECKSUM_AT, computed), host)
        }
        _ => decoded,
    }
}
