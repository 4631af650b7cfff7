//! Giving a host id back.

use super::lease::DeltaLease;
use super::membership::Membership;
use super::rules;
use crate::format::{HostBitmap, HostId};
use crate::world::{World, WriteError};

/// Why a host id was left owned on the disk. Others then wait for it as for a dead host's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaReleaseError {
    /// The leases of this generation are lost, so the sector may be somebody else's by now. Nothing was
    /// written.
    #[error(
        "host id {host_id} was not freed: its leases are lost and the sector may have a new owner"
    )]
    Lost {
        /// The id.
        host_id: HostId,
    },
    /// The last renewal did not succeed, so it is not known what the sector holds. Nothing was
    /// written.
    #[error("host id {host_id} was not freed: its last renewal failed")]
    NotRenewed {
        /// The id.
        host_id: HostId,
    },
    /// The sector could not be written.
    #[error("host id {host_id} was not freed: {error}")]
    Write {
        /// The id.
        host_id: HostId,
        /// Why; after a time-out the write may still land, which is then a late but good release.
        #[source]
        error: WriteError,
    },
}

/// Frees the host id. Every lease that was held under it must have ended before: others may take
/// them at once.
///
/// # Errors
///
/// [`DeltaReleaseError`]; the id then stays owned on the disk.
pub async fn release<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &DeltaLease,
) -> Result<(), DeltaReleaseError> {
    let host_id = lease.host_id;
    if !rules::may_free(membership.expiry().is_held(world.now())) {
        tracing::debug!(name: "host_id_kept_when_lost", %host_id,
            "the host id is not freed: its leases are lost, another host may own it by now");
        return Err(DeltaReleaseError::Lost { host_id });
    }
    if !rules::may_free_over(lease.leader_is_on_disk) {
        tracing::debug!(name: "host_id_kept_in_doubt", %host_id,
            "the host id is not freed: the last renewal failed");
        return Err(DeltaReleaseError::NotRenewed { host_id });
    }
    tracing::debug!(name: "host_id_freed", %host_id, "this host frees its host id");
    // INV-MEMBER: not started when the leases would have been lost. Nothing that may take time stands between
    // this line and the write.
    let limit = membership.write_limit(world.now()).unwrap_or_default();
    rules::ended(|| membership.expiry().lose());
    let freed = lease.leader.released();
    membership
        .area()
        .write_sector(world, host_id, &freed, None, &HostBitmap::default(), limit)
        .await
        .map_err(|error| DeltaReleaseError::Write { host_id, error })
}
