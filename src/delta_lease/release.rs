//! Giving a host id back.

use super::lease::DeltaLease;
use super::membership::Membership;
use super::rules;
use crate::format::HostId;
use crate::world::{World, WriteError};

/// A host id that was left owned on the disk, and why. Others then wait for it as for a dead host's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host id {host_id} was not freed: {kind}")]
#[non_exhaustive]
pub struct DeltaReleaseError {
    /// The host id.
    pub host_id: HostId,
    #[source]
    kind: DeltaReleaseErrorKind,
}

impl DeltaReleaseError {
    /// Why.
    #[must_use]
    pub const fn kind(&self) -> &DeltaReleaseErrorKind {
        &self.kind
    }
}

/// Why a host id was left owned on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaReleaseErrorKind {
    /// The leases of this generation are lost, so the sector may be somebody else's by now. Nothing was
    /// written.
    #[error("its leases are lost and the sector may have a new owner")]
    Lost,
    /// The last renewal did not succeed, so it is not known what the sector holds. Nothing was
    /// written.
    #[error("its last renewal failed")]
    NotRenewed,
    /// The sector could not be written. After a time-out the write may still land, which is then a late
    /// but good release.
    #[error(transparent)]
    Write(#[from] WriteError),
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
    let left_owned = |kind| DeltaReleaseError { host_id, kind };
    if !rules::may_free(membership.expiry().is_held(world.now())) {
        tracing::debug!(name: "host_id_kept_when_lost", %host_id,
            "the host id is not freed: its leases are lost, another host may own it by now");
        return Err(left_owned(DeltaReleaseErrorKind::Lost));
    }
    if !rules::may_free_over(lease.leader_is_on_disk) {
        tracing::debug!(name: "host_id_kept_in_doubt", %host_id,
            "the host id is not freed: the last renewal failed");
        return Err(left_owned(DeltaReleaseErrorKind::NotRenewed));
    }
    tracing::debug!(name: "host_id_freed", %host_id, "this host frees its host id");
    // INV-MEMBER: not started when the leases would have been lost. Nothing that may take time stands between
    // this line and the write.
    let limit = membership.write_limit(world.now()).unwrap_or_default();
    rules::ended(|| membership.expiry().lose());
    let freed = lease.leader.released();
    let written = membership
        .area()
        .write_sector(world, host_id, &freed, None, limit);
    written.await.map_err(|error| left_owned(error.into()))
}
