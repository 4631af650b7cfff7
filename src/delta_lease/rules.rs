//! Rules that are easy to get wrong, each a function of its own, so that a mutant can get it wrong
//! and a test must notice.

use std::time::Duration;

use crate::format::{FormatError, Generation};
use crate::probe::{mutation, with_checksum};
use crate::timing::Timing;

/// Where the checksum of a leader is in its sector.
const LEADER_CHECKSUM_AT: usize = 168;

/// How long a host must have been silent to be dead: [`Timing::dead_after`], by the times of that host.
pub(crate) fn dead_after(timing: Timing) -> Duration {
    if mutation!(TakeoverAtLost) {
        return timing.lost_after();
    }
    mutation!(MarginDropped, timing.stopped_by(), timing.dead_after())
}

/// The generation that a claim writes: each join has its own, lest leases of an earlier generation be
/// taken for leases of this one.
pub(super) fn generation_of_claim(found: Generation) -> Option<Generation> {
    mutation!(GenerationKept, Some(found), found.next())
}

/// Decodes the leader of a delta lease or a paxos lease. A leader whose checksum does not match its
/// bytes decides nothing.
pub(crate) fn decode_leader<T>(
    sector: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
) -> Result<T, FormatError> {
    match decode(sector) {
        Err(FormatError::Checksum { computed, .. }) if mutation!(LeaderChecksumIgnored) => {
            decode(&with_checksum(sector, LEADER_CHECKSUM_AT, computed))
        }
        decoded => decoded,
    }
}
