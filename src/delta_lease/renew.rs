//! Keeping a host id: read, check that it is still ours, write with a new time.

use std::fmt;

use super::area::DeltaSectorError;
use super::hosts::log_damage;
use super::lease::DeltaLease;
use super::membership::Membership;
use super::put_back::PutBack;
use super::rules;
use super::watch::ReadSpan;
use crate::format::{Generation, HostId, NameBytes};
use crate::world::{ReadError, World, WriteError};

/// Why a renewal was not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The storage did not give the lockspace. To be tried again.
    #[error("the lockspace cannot be read: {0}")]
    Read(#[source] ReadError),
    /// The storage did not take the sector. To be tried again; the write may have landed or still
    /// land.
    #[error("the delta lease cannot be written: {0}")]
    Write(#[source] WriteError),
    /// Our sector is not ours any more.
    #[error(transparent)]
    Lost(HostIdLoss),
    /// The leases were lost before the renewal could be written. Nothing was written: the sector
    /// may be somebody else's by now, whatever the read before showed.
    #[error("host id {host_id} was not renewed: its leases were lost before")]
    Expired {
        /// The id.
        host_id: HostId,
    },
}

/// How a host has lost its host id, and all its leases with it: what a renewal found in the host's sector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostIdLoss {
    /// Our sector is not a delta lease of this lockspace any more.
    #[error(transparent)]
    Damaged(#[from] DeltaSectorError),
    /// Our sector belongs to another host, or to another generation of this one.
    #[error("host id {host_id} was taken by host \"{owner}\" (generation {generation})")]
    TakenOver {
        /// The id.
        host_id: HostId,
        /// The name that now stands in the sector.
        owner: NameBytes,
        /// The generation that now stands there.
        generation: Generation,
    },
    /// Our sector shows what was there before this generation, or that nobody has the id.
    #[error("{0}")]
    PutBack(PutBack),
    /// Our sector is ours by name, but not what we wrote last: somebody else writes it.
    #[error(
        "the sector of host id {host_id} was changed by somebody else: it has this host's name and generation, but not what this process wrote; give each process that joins a host id of its own"
    )]
    Changed {
        /// The id.
        host_id: HostId,
    },
    /// Another process with our id, our name and our generation renews the sector.
    #[error(
        "host id {host_id} is renewed by another host with this host's name: give each machine a host id and a name of its own"
    )]
    Twin {
        /// The id.
        host_id: HostId,
    },
}

impl RenewError {
    /// Whether the leases are lost by this at once, however much time would be left.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Read(_) | Self::Write(_) => false,
            Self::Lost(_) => rules::is_lost_with_sector(),
            Self::Expired { .. } => true,
        }
    }
}

/// Renews `lease` once, and takes in what the scan shows of the other hosts.
///
/// The expiry counts from the instant **before** the write was started, however long it took
/// (**INV-RENEW**): the write may have reached the disk right then, and that is when others start
/// to count.
///
/// # Errors
///
/// [`RenewError`]; after one that [is fatal](RenewError::is_fatal) the lease must not be renewed
/// again.
pub async fn renew<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &mut DeltaLease,
) -> Result<(), RenewError> {
    let area = membership.area();
    let started = world.now();
    let scan = area
        .read_all(world, lease.timing.io())
        .await
        .map_err(RenewError::Read)?;
    let completed = world.now();
    let read = ReadSpan { started, completed };
    log_damage(membership.hosts(|table| table.observe(&scan, read)));

    rules::checked(check_own_sector(membership, lease, &scan)).map_err(RenewError::Lost)?;
    if !rules::may_renew(membership.expiry().is_held(world.now())) {
        let host_id = lease.host_id;
        tracing::debug!(name: "renewal_expired", %host_id,
            "the leases were lost before the renewal could be written");
        return Err(RenewError::Expired { host_id });
    }

    let next = lease.next(world.clock_secs());
    lease.last_secs = next.timestamp_secs();
    let started = world.now();
    // One write at a time is all that may be under way, and there is nothing better to do than to
    // wait for it, until it can save nothing any more. It is not started after that.
    let left = lease.expires_at().since(started);
    let timeout = rules::limit_of_renewal(left, lease.timing);
    let written = area.write_sector(world, lease.host_id, &next, Some(&lease.note), timeout);
    if let Err(error) = rules::written(written.await) {
        tracing::debug!(name: "renewal_failed", host_id = %lease.host_id, %error,
            "the write of a renewal failed: it may be on the disk");
        lease.leader_is_on_disk &= rules::is_known_after(&error);
        return Err(RenewError::Write(error));
    }
    if !lease.leader_is_on_disk {
        tracing::debug!(name: "renewed_after_failure", host_id = %lease.host_id,
            "a renewal succeeded after writes that failed");
    }
    lease.leader = next;
    lease.leader_is_on_disk = true;
    lease.renewed_at = rules::renewal_counts_from(started, world.now());
    Ok(())
}

/// The sector must be ours by id, generation and name; and exactly what we wrote, when we know what that
/// was.
fn check_own_sector<D: Clone + fmt::Debug>(
    membership: &Membership<D>,
    lease: &DeltaLease,
    scan: &[u8],
) -> Result<(), HostIdLoss> {
    let area = membership.area();
    let host_id = lease.host_id;
    let at = area.geometry.delta_offset(host_id);
    let record = match area.geometry.sector(scan, at) {
        Ok(sector) => area.decode_sector(sector, host_id),
        Err(error) => Err(area.error(host_id, error)),
    }?;
    let (found, ours) = (&record.leader, &lease.leader);
    let is_ours = found.owner_id() == ours.owner_id()
        && found.generation() == ours.generation()
        && found.host_name() == ours.host_name()
        && !found.is_free();
    if rules::is_taken(is_ours) {
        // For the simulation alone, as below: nothing is logged before the leases are lost. Their loss is logged
        // with this reason.
        #[cfg(feature = "__sim")]
        tracing::trace!(name: "renewal_taken_over", "the sector of this host shows another owner");
        let put_back = PutBack::of(host_id, found, ours.generation());
        return Err(put_back.map_or_else(
            || HostIdLoss::TakenOver {
                host_id,
                owner: found.host_name(),
                generation: found.generation(),
            },
            HostIdLoss::PutBack,
        ));
    }
    // Also after a write that failed: whichever version is there, its note is ours.
    let is_by_another = rules::is_by_another(lease.wrote(&record));
    if is_by_another && record.incarnation().is_some() {
        #[cfg(feature = "__sim")]
        tracing::trace!(name: "renewal_of_twin", "another host with this host's id and name renews the host id");
        return Err(HostIdLoss::Twin { host_id });
    }
    if is_by_another || rules::is_changed(lease.leader_is_on_disk, found == ours) {
        #[cfg(feature = "__sim")]
        tracing::trace!(name: "renewal_changed", "the sector of this host shows what this host did not write");
        return Err(HostIdLoss::Changed { host_id });
    }
    Ok(())
}
