//! Hosts that hold the lease in shared mode. The leader does not name them: each says so in the mode
//! block of its own sector, and an exclusive acquire must respect them.

use super::area::LeaseIo;
use super::attempt::Attempt;
use super::error::AcquireError;
use super::give_back::release;
use super::held::HeldLease;
use super::image::{LeaseImage, sharer, sharers};
use super::rules;
use crate::delta_lease::HostState;
use crate::format::{Generation, HostId};
use crate::world::World;

/// Refuses before the ballot when a shared holder is live: sparing everyone a version that is
/// given back at once.
pub(super) fn refuse_live<W: World>(
    io: &LeaseIo<'_, W>,
    image: &LeaseImage,
) -> Result<(), AcquireError> {
    let is_live = |host| {
        let now = io.now();
        let state = io.membership.hosts(|table| table.state(host, now));
        matches!(state, HostState::Live)
    };
    let live = sharers(&image.blocks)
        .filter(|&(host, generation)| is_respected(io, host, generation) && is_live(host));
    let hosts = rules::refuse(live.collect());
    if hosts.is_empty() {
        return Ok(());
    }
    tracing::debug!(name: "sharer_refused", resource = %io.area.resource, ?hosts,
        "live hosts hold the lease in shared mode");
    Err(AcquireError::HeldShared { hosts })
}

/// Whether a shared mark counts: not our own, which our ballot ends, and not one without a
/// generation. A host of which nothing certain is known may be alive.
fn is_respected<W: World>(io: &LeaseIo<'_, W>, host: HostId, generation: Generation) -> bool {
    let may_be_alive = |now| io.membership.may_be_alive(host, generation, now);
    host != io.me() && generation.get() != 0 && rules::respects_sharer(may_be_alive(io.now()))
}

/// The lease is won. Clears away the shared marks of the dead, and gives the lease back if a sharer
/// may be alive.
///
/// The sharers are those seen in phase 1, which is late enough: whoever shares the lease first owns it
/// for a moment, so no host can have come to share it since.
pub(super) async fn respect_or_clear<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
    held: HeldLease,
) -> Result<HeldLease, AcquireError> {
    let mut alive = Vec::new();
    let mut failed = None;
    for (host, _) in std::mem::take(&mut attempt.sharers) {
        match clear_if_dead(io, host).await {
            Ok(None) => {}
            Ok(Some(generation)) => alive.push((host, generation)),
            Err(error) => failed = Some(error),
        }
    }
    let error = match failed {
        Some(error) => error,
        None if alive.is_empty() => return Ok(held),
        None => {
            tracing::debug!(name: "sharer_respected", resource = %io.area.resource, hosts = ?alive,
                "the lease is given back: hosts that may be alive hold it in shared mode");
            AcquireError::HeldShared { hosts: alive }
        }
    };
    let note = attempt.note_for(io, held.version());
    let note = note.and_then(|note| held.unused_note(note));
    let released = release(io.world, io.membership, io.area, &held, note.as_ref());
    if released.await.is_ok() {
        attempt.written = None;
    }
    Err(error)
}

/// Reads the sector of a sharer again, and empties it if that host is dead. Gives the generation of
/// one that is not.
///
/// The dead host's dblock goes with its mark, and nothing is lost by that: it is not newer than the version
/// that this host has won, and what was chosen for that one stays in this host's own block (INV-KEEP).
async fn clear_if_dead<W: World>(
    io: &LeaseIo<'_, W>,
    host: HostId,
) -> Result<Option<Generation>, AcquireError> {
    if host == io.me() {
        return Ok(None);
    }
    let sector = io.read_block(host).await?;
    match sharer(&sector, host) {
        Some(generation) if is_respected(io, host, generation) => Ok(Some(generation)),
        Some(generation) if generation.get() != 0 => {
            tracing::debug!(name: "sharer_cleared", resource = %io.area.resource, %host, %generation,
                "the shared mark of a dead host is cleared");
            io.clear_sector_of(host).await?;
            Ok(None)
        }
        _ => Ok(None),
    }
}
