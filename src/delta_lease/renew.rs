//! Keeping a host id: read, check that it is still ours, write with a new time.

use super::{DeltaLease, DeltaSectorError, Membership, PutBack};
use crate::format::{Generation, HostBitmap, HostId, NameBytes};
use crate::probe::{mutation, witness};
use crate::world::{ReadError, World, WriteError};

/// Why a renewal was not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The storage did not give the lockspace. To be tried again.
    #[error("the lockspace cannot be read: {0}")]
    Read(ReadError),
    /// The storage did not take the sector. To be tried again; the write may have landed or still
    /// land.
    #[error("the delta lease cannot be written: {0}")]
    Write(WriteError),
    /// Our sector is not a delta lease of this lockspace any more. The leases are lost.
    #[error(transparent)]
    Damaged(DeltaSectorError),
    /// Our sector belongs to another host, or to another life of this one. The leases are lost.
    #[error("host id {host_id} was taken by host \"{owner}\" (generation {generation})")]
    TakenOver {
        /// The id.
        host_id: HostId,
        /// The name that now stands in the sector.
        owner: NameBytes,
        /// The generation that now stands there.
        generation: Generation,
    },
    /// Our sector shows what was there before this join, or that nobody has the id. The leases are lost.
    #[error("{0}")]
    PutBack(PutBack),
    /// Our sector is ours by name, but not what we wrote last: somebody else writes it. The leases
    /// are lost.
    #[error("the delta lease of host {host_id} was changed by somebody else")]
    Changed {
        /// The id.
        host_id: HostId,
    },
    /// Another run with our id, our name and our generation renews the sector. The leases are lost.
    #[error(
        "host id {host_id} is renewed by another host with this host's name: give each machine a host id and a name of its own"
    )]
    Twin {
        /// The id.
        host_id: HostId,
    },
    /// The leases were lost before the renewal could be written. Nothing was written: the sector
    /// may be somebody else's by now, whatever the look at it before showed.
    #[error("host id {host_id} was not renewed: its leases were lost before")]
    Expired {
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
            Self::Damaged(_)
            | Self::TakenOver { .. }
            | Self::PutBack(_)
            | Self::Changed { .. }
            | Self::Twin { .. } => !mutation!(TakenOverNotFatal),
            Self::Expired { .. } => true,
        }
    }
}

/// Renews `lease` once, and takes in what the scan shows of the other hosts.
///
/// The expiry counts from the instant **before** the write was begun, however long it took
/// (**INV-RENEW**): the write may have reached the disk right then, and that is when others begin
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
    let read_begun = world.now();
    let scan = area
        .read_all(world, lease.timing.io())
        .await
        .map_err(RenewError::Read)?;
    let read_ended = world.now();
    membership.hosts(|table| table.observe(&scan, read_begun, read_ended));

    if !mutation!(RenewalUnchecked) {
        check_own_sector(membership, lease, &scan)?;
    }
    // A process that stood still since the scan was begun, or a host that was suspended, must not
    // write over who has taken the id meanwhile.
    if !membership.expiry().is_held(world.now()) && !mutation!(RenewedAfterExpiry) {
        witness!(RenewalExpired);
        return Err(RenewError::Expired {
            host_id: lease.host_id,
        });
    }

    let io_timeout_secs = u16::from(lease.timing.io_timeout().as_secs());
    let clock_secs = lease.next_stamp_secs(world.clock_secs());
    lease.last_stamp_secs = clock_secs;
    let next = lease.leader.renewed(clock_secs, io_timeout_secs);
    let begun = world.now();
    // One write at a time is all that may be under way, and there is nothing better to do than to
    // wait for it, until it can save nothing any more. It is not begun after that.
    let left = lease.expires_at().since(begun);
    let timeout = mutation!(RenewalBeyondExpiry, lease.timing.stopped_by(), left);
    let written = area
        .write_sector(
            world,
            lease.host_id,
            &next,
            Some(&lease.note),
            &HostBitmap::default(),
            timeout,
        )
        .await;
    if let Err(error) = written
        && !mutation!(RenewalErrorIgnored)
    {
        witness!(RenewalFailed);
        // A write that was not begun leaves things as they are known; any other leaves old or new on
        // the disk.
        let is_known = matches!(error, WriteError::NotBegun(_)) || mutation!(FailedRenewalKnown);
        lease.leader_is_on_disk &= is_known;
        return Err(RenewError::Write(error));
    }
    if !lease.leader_is_on_disk {
        witness!(RenewedAfterFailure);
    }
    lease.leader = next;
    lease.leader_is_on_disk = true;
    lease.renewed_at = mutation!(RenewalCountedFromEnd, world.now(), begun);
    Ok(())
}

/// The sector must be ours by id, life and name; and exactly what we wrote, when we know what that
/// was.
fn check_own_sector<D: Clone + std::fmt::Debug>(
    membership: &Membership<D>,
    lease: &DeltaLease,
    scan: &[u8],
) -> Result<(), RenewError> {
    let area = membership.area();
    let host_id = lease.host_id;
    let damaged = |error| {
        RenewError::Damaged(DeltaSectorError::Format {
            host: host_id,
            offset: area.sector_offset(host_id),
            error,
        })
    };
    let sector = area
        .geometry
        .sector(scan, area.geometry.delta_offset(host_id))
        .map_err(damaged)?;
    let record = area
        .decode_sector(sector, host_id)
        .map_err(RenewError::Damaged)?;
    let found = &record.leader;
    let ours = &lease.leader;
    let is_ours = found.owner_id() == ours.owner_id()
        && found.generation() == ours.generation()
        && found.host_name() == ours.host_name()
        && !found.is_free();
    if !is_ours && !mutation!(RenewalOwnerUnchecked) {
        witness!(RenewalTakenOver);
        if let Some(put_back) = PutBack::of(host_id, found, ours.generation()) {
            return Err(RenewError::PutBack(put_back));
        }
        return Err(RenewError::TakenOver {
            host_id,
            owner: found.host_name(),
            generation: found.generation(),
        });
    }
    // Also after a write that failed: whichever version is there, its note is ours.
    let by_another = !lease.wrote(&record) && !mutation!(RenewalIncarnationUnchecked);
    if by_another && record.incarnation().is_some() {
        witness!(RenewalOfTwin);
        return Err(RenewError::Twin { host_id });
    }
    let changed = lease.leader_is_on_disk && found != ours && !mutation!(RenewalChangeUnchecked);
    if by_another || changed {
        witness!(RenewalChanged);
        return Err(RenewError::Changed { host_id });
    }
    Ok(())
}
