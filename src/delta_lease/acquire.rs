//! Taking a host id.
//!
//! Read the sector; where a stranger owns it, wait until it is free or its owner dead; write it
//! with a generation one higher; wait for the short delay; read it back. Whoever then finds exactly
//! what it wrote owns the id: of two hosts that began at the same time the later writer is seen by
//! the earlier one within the delay.

use std::time::Duration;

use super::{DeltaLease, DeltaRecord, DeltaSectorError, LockspaceArea, PutBack, rules};
use crate::format::{
    DeltaLeader, Generation, HostBitmap, HostId, HostName, HostNote, Incarnation, NameBytes,
};
use crate::probe::{mutation, witness};
use crate::timing::{IoTimeout, Timing};
use crate::world::{Timestamp, World, WriteError};

/// The version of the protocol that this crate speaks, as hosts tell it to each other in their notes.
const PROTOCOL: u16 = 1;

/// The pause before a claim that could not be written, or not be read back, is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Who claims a host id.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// The id.
    pub host_id: HostId,
    /// This host's name, different from every other host's.
    pub host_name: HostName,
    /// This host's times.
    pub timing: Timing,
    /// This process, for the host note.
    pub pid: u32,
    /// This boot of this machine, for the host note.
    pub boot_id: [u8; 16],
    /// This join, different from every other one of any host. On the disk from the claim on.
    pub incarnation: Incarnation,
    /// Written into the host note with each renewal, though not with the claim itself: which life
    /// lock this process holds, 0 for none. Two processes with the same mark exclude each other by a
    /// lock of their own host.
    pub life_mark: u32,
    /// What is known of an earlier life under the same name.
    pub earlier_life: EarlierLife,
}

/// What is known of an earlier life of this host: one that has the same name and left the id owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierLife {
    /// Something of it may still run: it must be waited for like any stranger.
    MayRun,
    /// It is proven that of all processes of this boot of this machine that ever carried this
    /// life mark neither one nor a descendant nor an I/O is left, and this was the last join of them. The id
    /// is taken without waiting if the sector shows this host's name, this boot, this mark and this join.
    ProvenOver(Incarnation),
}

/// What a claim is waiting for. Times are this host's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimProgress {
    /// Another life owns the id and does not renew it. If that stays so until `until`, it is dead.
    WaitingForOwner {
        /// The name in the sector.
        owner: NameBytes,
        /// Its generation.
        generation: Generation,
        /// When it will have been silent for long enough.
        until: Timestamp,
    },
    /// The sector is written; others that want the same id must show themselves before `until`.
    Confirming {
        /// When the sector is read back.
        until: Timestamp,
    },
}

/// Why a host id was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The sector cannot be read, or holds no delta lease of this lockspace.
    #[error(transparent)]
    Sector(#[from] DeltaSectorError),
    /// Another host owns the id: its sector changed while we waited, or came to hold another name
    /// than ours.
    #[error("host id {host_id} is in use by host \"{owner}\" (generation {generation})")]
    InUse {
        /// The id.
        host_id: HostId,
        /// Who owns it.
        owner: NameBytes,
        /// Which life of it.
        generation: Generation,
    },
    /// After the claim was written the sector shows what was there before.
    #[error("{0}")]
    PutBack(PutBack),
    /// Another run under the same name claims or renews the id.
    #[error(
        "host id {host_id} is claimed or renewed by another host with the same name \"{owner}\" (generation {generation})"
    )]
    Twin {
        /// The id.
        host_id: HostId,
        /// The name that both have.
        owner: NameBytes,
        /// Its generation.
        generation: Generation,
    },
    /// The sector could not be written.
    #[error("the delta lease of host {host_id} cannot be written at byte {offset}: {error}")]
    Write {
        /// The id.
        host_id: HostId,
        /// Where its sector lies on the disk.
        offset: u64,
        /// Why.
        error: WriteError,
    },
    /// From reading the sector to having written it took longer than the delay in which another host must
    /// be able to see it; or a claim was to be renewed long after it was last written. Another host may own
    /// the id now.
    #[error(
        "the storage is too slow to take host id {host_id}: {took:?} went by between two steps of the claim, {limit:?} are allowed"
    )]
    TooSlow {
        /// The id.
        host_id: HostId,
        /// How long it took.
        took: Duration,
        /// How long it may take.
        limit: Duration,
    },
    /// The generation cannot be raised any more.
    #[error("the generation of host id {host_id} is used up")]
    GenerationsUsedUp {
        /// The id.
        host_id: HostId,
    },
}

/// Takes the host id of `claimant` in the lockspace at `area`. `progress` hears of each wait as it
/// begins.
///
/// Takes 2N for an id that is free, where N is the io timeout that stands in the sector; 8N + F and
/// a margin more for one whose owner is dead. Fails at once when the owner shows life.
///
/// # Errors
///
/// [`ClaimError`]. After an error that came later than the write the sector may look owned, until
/// somebody has waited that out. **It is not freed**: only a claim that was confirmed is known to be
/// alone. Another claimant may have written since the last look, and be confirmed by the time at which a
/// write that frees the id lands: late, over the record of a host whose leases this gives to everybody
/// while it still holds them.
pub async fn acquire<W: World>(
    world: &W,
    area: &LockspaceArea<W::Disk>,
    claimant: &Claimant,
    progress: &impl Fn(ClaimProgress),
) -> Result<DeltaLease, ClaimError> {
    let claim = Claim {
        world,
        area,
        claimant,
    };
    let (found, read_begun) = claim.wait_until_takeable(progress).await?;
    let mut lease = claim.write(&found, read_begun).await?;
    let delay = short_delay_of(&found, claimant);
    if let Err(error) = claim.confirm(&mut lease, delay, progress).await {
        witness!(ClaimFailed);
        if mutation!(FailedClaimFreed) {
            let _ = claim
                .write_sector(&lease, &lease.leader.released(), claimant.timing.io())
                .await;
        }
        return Err(error);
    }
    lease.note.life_mark = claimant.life_mark;
    if mutation!(ClaimCountedFromConfirm) {
        lease.renewed_at = world.now();
    }
    Ok(lease)
}

struct Claim<'a, W: World> {
    world: &'a W,
    area: &'a LockspaceArea<W::Disk>,
    claimant: &'a Claimant,
}

impl<W: World> Claim<'_, W> {
    fn in_use(&self, by: &DeltaRecord) -> ClaimError {
        let host_id = self.claimant.host_id;
        let (owner, generation) = (by.leader.host_name(), by.leader.generation());
        if owner.same_text(&self.claimant.host_name.as_name()) {
            witness!(ClaimOfTwin);
            return ClaimError::Twin {
                host_id,
                owner,
                generation,
            };
        }
        witness!(ClaimInUse);
        ClaimError::InUse {
            host_id,
            owner,
            generation,
        }
    }

    /// Whether `found` was written by an earlier life of this very host that is proven to be over.
    ///
    /// The name alone is no proof: two machines may have been given the same by mistake, and a
    /// process that crashed may have left a guest behind. To enter a new life voids all leases of
    /// the earlier one at once.
    fn is_own_life_that_is_over(&self, found: &DeltaRecord) -> bool {
        let Claimant {
            host_name,
            boot_id,
            life_mark,
            ..
        } = self.claimant;
        let same_name = found.leader.host_name().same_text(&host_name.as_name());
        let same_boot_and_mark = found.note.as_ref().is_some_and(|note| {
            note.boot == HostNote::boot_of(boot_id)
                && note.life_mark == *life_mark
                && *life_mark != 0
        });
        // INV-RECORDED: a machine that was cloned with its memory has the same boot and mark.
        let proven_over = match self.claimant.earlier_life {
            EarlierLife::ProvenOver(last) => {
                found.incarnation() == Some(last) || mutation!(RejoinRunIgnored)
            }
            EarlierLife::MayRun => false,
        };
        (proven_over || mutation!(RejoinProofIgnored))
            && (same_name || mutation!(RejoinNameIgnored))
            && (same_boot_and_mark || mutation!(RejoinMarkIgnored))
    }

    /// One read of the sector. Also gives the instant before the read was begun.
    async fn read(&self, timeout: Duration) -> Result<(DeltaRecord, Timestamp), ClaimError> {
        let begun = self.world.now();
        Ok((
            self.area
                .read_sector(self.world, self.claimant.host_id, timeout)
                .await?,
            begun,
        ))
    }

    /// Waits until the sector may be written, and gives what it then held.
    async fn wait_until_takeable(
        &self,
        progress: &impl Fn(ClaimProgress),
    ) -> Result<(DeltaRecord, Timestamp), ClaimError> {
        let io = self.claimant.timing.io();
        let (first, begun) = self.read(io).await?;
        if first.leader.is_free() {
            return Ok((first, begun));
        }
        if self.is_own_life_that_is_over(&first) {
            witness!(FastRejoin);
            return Ok((first, begun));
        }
        // Silence is counted from the end of the first read that showed this content, by the
        // owner's io timeout.
        let own = self.claimant.timing;
        let owners = mutation!(ClaimByOwnTimeout, own, first.timing(own.fire_timeout()));
        let silent_from = mutation!(ClaimSilenceFromReadBegin, begun, self.world.now());
        let until =
            silent_from + mutation!(ClaimAtLost, owners.lost_after(), rules::dead_after(owners));
        progress(ClaimProgress::WaitingForOwner {
            owner: first.leader.host_name(),
            generation: first.leader.generation(),
            until,
        });
        loop {
            let next_look = (self.world.now() + io).min(until);
            self.world.sleep_until(next_look).await;
            let (found, begun) = self.read(io).await?;
            if found.leader.is_free() {
                witness!(ClaimOfFreed);
                return Ok((found, begun));
            }
            let changed =
                found.leader != first.leader || found.incarnation() != first.incarnation();
            if changed && !mutation!(ClaimRenewalIgnored) {
                return Err(self.in_use(&found));
            }
            // The read that shows the silence must itself have been begun after it was long enough.
            let silent_to = mutation!(ClaimSilenceToReadEnd, self.world.now(), begun);
            if silent_to >= until {
                witness!(ClaimOfDead);
                return Ok((found, begun));
            }
        }
    }

    /// Writes the sector over `found`, which was read from `read_begun` on.
    async fn write(
        &self,
        found: &DeltaRecord,
        read_begun: Timestamp,
    ) -> Result<DeltaLease, ClaimError> {
        let Claimant {
            host_id,
            host_name,
            timing,
            pid,
            boot_id,
            incarnation,
            life_mark,
            ..
        } = self.claimant;
        let host_id = *host_id;
        let io_timeout_secs = u16::from(timing.io_timeout().as_secs());
        let generation = rules::generation_of_claim(found.leader.generation())
            .ok_or(ClaimError::GenerationsUsedUp { host_id })?;
        let now_secs = self.world.clock_secs();
        let leader =
            found
                .leader
                .acquired_in(generation, host_id, host_name, now_secs, io_timeout_secs);
        let mut note = HostNote::new(host_id, generation);
        note.protocol = PROTOCOL;
        note.io_timeout_secs = io_timeout_secs;
        note.fire_timeout_secs = timing.fire_timeout().as_secs();
        note.pid = *pid;
        note.boot = HostNote::boot_of(boot_id);
        let incarnation = mutation!(IncarnationConstant, Incarnation::FIXED, *incarnation);
        note.incarnation = Some(incarnation);
        // INV-MARK: a claim is no life yet. Its write may land late, over the record of a host that
        // was taken into the lockspace meanwhile; whoever then found its own mark there would take
        // that host's life for its own earlier one, and end it.
        note.life_mark = mutation!(UnconfirmedMarked, *life_mark, 0);
        let renewed_at = self.world.now();
        let mut lease = DeltaLease {
            host_id,
            timing: *timing,
            leader,
            note,
            incarnation,
            claimed_at: renewed_at,
            renewed_at,
            last_stamp_secs: leader.timestamp_secs(),
            leader_is_on_disk: true,
        };

        let limit = write_limit_of(found, self.claimant);
        let written = self.write_claim(&lease, read_begun, limit).await;
        lease.claimed_at = self.world.now();
        let took = lease.claimed_at.since(read_begun);
        match written {
            Err(error) => Err(ClaimError::Write {
                host_id,
                offset: self.area.sector_offset(host_id),
                error,
            }),
            Ok(()) if took > limit && !mutation!(TooSlowIgnored) => {
                witness!(ClaimTooSlow);
                Err(ClaimError::TooSlow {
                    host_id,
                    took,
                    limit,
                })
            }
            Ok(()) => Ok(lease),
        }
    }

    /// Writes the claim; where that fails, again, until `limit` has passed since the sector was read, and
    /// 2N of our own, by which others may count since the first write.
    ///
    /// Up to then nobody else can have been confirmed, however many writes it takes: it is as if one had
    /// been slow. What counts is a write that was reported as done, not a look that shows what a failed
    /// one wrote: storage of several legs may show that to one host and not to another.
    async fn write_claim(
        &self,
        lease: &DeltaLease,
        read_begun: Timestamp,
        limit: Duration,
    ) -> Result<(), WriteError> {
        let timing = self.claimant.timing;
        let limit_again = mutation!(
            ClaimWrittenAgainLate,
            limit,
            limit.min(timing.short_delay())
        );
        let mut timeout = timing.io().min(limit);
        loop {
            let written = self.write_sector(lease, &lease.leader, timeout).await;
            if written.is_ok() {
                return written;
            }
            self.world.sleep(RETRY_DELAY).await;
            let left = limit_again.saturating_sub(self.world.now().since(read_begun));
            if left.is_zero() {
                return written;
            }
            witness!(ClaimWrittenAgain);
            timeout = timing.io().min(left);
        }
    }

    async fn write_sector(
        &self,
        lease: &DeltaLease,
        leader: &DeltaLeader,
        timeout: Duration,
    ) -> Result<(), WriteError> {
        let note = (!leader.is_free()).then_some(&lease.note);
        let bitmap = HostBitmap::default();
        self.area
            .write_sector(self.world, lease.host_id, leader, note, &bitmap, timeout)
            .await
    }

    /// Waits for the short delay and looks whether the sector still holds what was written.
    ///
    /// The delay goes by the io timeout that stood in the sector. Where that is much longer than
    /// our own, the claim is renewed meanwhile as a lease is, lest it look dead to others, or be
    /// expired, before it is confirmed. Each renewal is a write after a look that showed our own
    /// record: a claimant that is overwritten by it finds that out when it reads back.
    async fn confirm(
        &self,
        lease: &mut DeltaLease,
        delay: Duration,
        progress: &impl Fn(ClaimProgress),
    ) -> Result<(), ClaimError> {
        let begun = self.world.now();
        let until = mutation!(ShortDelaySkipped, begun, begun + delay);
        progress(ClaimProgress::Confirming { until });
        let pause = self.claimant.timing.renewal_interval();
        let mut next_look = until;
        if delay > pause {
            // As by others counted from the first write, of possibly several.
            next_look = next_look.min(lease.renewed_at + pause);
        }
        loop {
            let give_up_at = lease.renewed_at + self.claimant.timing.warn_after();
            self.world.sleep_until(next_look).await;
            let (found, begun) = match self.read(self.claimant.timing.io()).await {
                Ok(read) => read,
                // The claim stands: to give up is to have everybody wait it out.
                Err(ClaimError::Sector(DeltaSectorError::Read { .. }))
                    if self.world.now() < give_up_at =>
                {
                    next_look = self.world.now() + RETRY_DELAY;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // INV-INCARNATION: of a twin's claim all else may be the same.
            let ours = found.leader == lease.leader
                && (lease.wrote(&found) || mutation!(ConfirmIncarnationUnchecked));
            if !ours && !mutation!(ConfirmUnchecked) {
                let generation = lease.leader.generation();
                if found.leader.generation() < generation
                    && let Some(put_back) = PutBack::of(lease.host_id, &found.leader, generation)
                {
                    return Err(ClaimError::PutBack(put_back));
                }
                return Err(self.in_use(&found));
            }
            if begun >= until {
                return Ok(());
            }
            if !mutation!(ClaimNotRenewed) {
                self.renew_claim(lease, begun).await?;
            }
            next_look = (self.world.now() + pause).min(until);
        }
    }

    /// Renews the claim, which was seen to stand in a look that was begun at `seen_from`.
    async fn renew_claim(
        &self,
        lease: &mut DeltaLease,
        seen_from: Timestamp,
    ) -> Result<(), ClaimError> {
        // As with the first write: what was looked at long ago may be another host's by now.
        // And should this process be stopped now, its timer goes by when it has last written.
        let (now, timing) = (self.world.now(), self.claimant.timing);
        let limits = [
            (seen_from, timing.short_delay()),
            (lease.renewed_at, timing.claim_renewed_within()),
        ];
        for (since, limit) in limits {
            let took = now.since(since);
            if took > limit && !mutation!(ClaimRenewedLate) {
                return Err(ClaimError::TooSlow {
                    host_id: lease.host_id,
                    took,
                    limit,
                });
            }
        }
        let clock_secs = lease.next_stamp_secs(self.world.clock_secs());
        let next = lease
            .leader
            .renewed(clock_secs, lease.leader.io_timeout_secs());
        let begun = self.world.now();
        self.write_sector(lease, &next, self.claimant.timing.io())
            .await
            .map_err(|error| ClaimError::Write {
                host_id: lease.host_id,
                offset: self.area.sector_offset(lease.host_id),
                error,
            })?;
        lease.leader = next;
        lease.last_stamp_secs = clock_secs;
        lease.renewed_at = begun;
        witness!(ClaimRenewed);
        Ok(())
    }
}

/// 2N, by the io timeout that stands in the sector: that is what the other claimants of the same
/// sector go by. Where the sector has none, by our own.
fn short_delay_of(found: &DeltaRecord, claimant: &Claimant) -> Duration {
    let on_disk = IoTimeout::from_secs(found.leader.io_timeout_secs())
        .filter(|_| !mutation!(ShortDelayByOwnTimeout));
    let io_timeout = on_disk.unwrap_or_else(|| claimant.timing.io_timeout());
    Timing::new(io_timeout, claimant.timing.fire_timeout()).short_delay()
}

/// How long it may take from the read of the sector to the end of the write over it: no longer than
/// any claimant waits before it reads back. Where the sector has no N, that may be as little as 2N
/// of the shortest.
fn write_limit_of(found: &DeltaRecord, claimant: &Claimant) -> Duration {
    match IoTimeout::from_secs(found.leader.io_timeout_secs()) {
        Some(_) => short_delay_of(found, claimant),
        None => Timing::new(IoTimeout::MIN, claimant.timing.fire_timeout()).short_delay(),
    }
}
