//! Taking a host id.
//!
//! Read the sector; where another host owns it, wait until it is free or its owner dead; write it
//! with a generation one higher; wait for the short delay; read it back. Whoever then finds exactly
//! what it wrote owns the id: of two hosts that started at the same time the earlier one sees the write
//! of the later one within the delay.

use std::time::Duration;

use super::area::{DeltaSectorError, DeltaSectorErrorKind, LockspaceArea};
use super::lease::DeltaLease;
use super::put_back::PutBack;
use super::record::DeltaRecord;
use super::rules;
use super::silence::Silence;
use super::watch::{Change, ReadSpan, Watcher};
use crate::format::{DeltaLeader, Generation, HostId, HostName, HostNote, Incarnation, NameBytes};
use crate::timing::{IoTimeout, Timing};
use crate::world::{Timestamp, World};

/// The version of the protocol that this crate speaks, as hosts tell it to each other in their notes.
const PROTOCOL: u16 = 1;

/// The pause before a claim that could not be written, or not be read back, is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The shortest time that a clock tells: an owner is dead when it was silent for *longer* than it may be.
const MOMENT: Duration = Duration::from_nanos(1);

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
    /// This incarnation, different from every other one of any host. On the disk from the claim on.
    pub incarnation: Incarnation,
    /// Written into the host note with each renewal, though not with the claim itself: which process
    /// lock this process holds, 0 for none. Two processes with the same token exclude each other by a
    /// lock of their own host.
    pub process_token: u32,
    /// What is known of an earlier generation under the same name.
    pub earlier_incarnation: EarlierIncarnation,
}

/// What is known of an earlier generation of this host: one that has the same name and left the id owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierIncarnation {
    /// Something of it may still run: it must be waited for like any other host.
    MayRun,
    /// Of all processes of this boot of this machine that ever had this token, it is proven that neither
    /// a process nor a descendant nor an I/O is left, and that this was their last incarnation. The id is taken
    /// without waiting if the sector shows this host's name, this boot, this process token and this incarnation.
    ProvenEnded(Incarnation),
}

/// What a claim is waiting for. Times are this host's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimProgress {
    /// Another host, or another generation of this one, owns the id and does not renew it. If that stays so
    /// until `until`, the owner is dead.
    WaitingForOwner {
        /// The name in the sector.
        owner: NameBytes,
        /// Its generation.
        generation: Generation,
        /// When the owner will have been silent for long enough.
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
    /// The sector cannot be read or written, or holds no delta lease of this lockspace.
    #[error(transparent)]
    Sector(#[from] DeltaSectorError),
    /// Another host owns the id: its sector changed while we waited, or came to hold another name
    /// than ours.
    #[error(
        "the host id is in use by host \"{owner}\" (generation {generation}): give each process that joins an id of its own"
    )]
    InUse {
        /// Which host owns it.
        owner: NameBytes,
        /// Which join of it.
        generation: Generation,
    },
    /// After the claim was written the sector shows what was there before.
    #[error("{0}; try again when nobody does that any more")]
    PutBack(PutBack),
    /// Another process that was given the same host id and the same name claims or renews the id.
    #[error(
        "the host id is being claimed or renewed by another host with the same name \"{owner}\" (generation {generation}): give each machine a host id and a host name of its own"
    )]
    Twin {
        /// The name that both have.
        owner: NameBytes,
        /// Its generation.
        generation: Generation,
    },
    /// From the read of the sector to the end of the write it took longer than the delay in which another
    /// host must be able to see the write; or a claim was to be renewed long after it was last written.
    /// Another host may own the id now.
    #[error(
        "the storage is too slow to claim the host id: it took {took:.1?} where {limit:?} are allowed; try again, or use a longer io timeout"
    )]
    TooSlow {
        /// How long it took.
        took: Duration,
        /// How long it may take.
        limit: Duration,
    },
    /// The generation cannot be raised any more.
    #[error("the generation of the host id is used up: use another id")]
    GenerationsUsedUp,
}

/// Takes the host id of `claimant` in the lockspace at `area`. `progress` is notified of each wait as it
/// starts.
///
/// Takes 2N for an id that is free, where N is the io timeout that stands in the sector; 8N + F and
/// a margin more for an id whose owner is dead. Fails at once when the owner shows that it is alive.
///
/// # Errors
///
/// [`ClaimError`]. After an error that came later than the write the sector may seem owned, until
/// somebody has waited that out. **It is not freed**: only a claim that was confirmed is known to be
/// alone. Another claimant may have written since the last read, and be confirmed by the time at which a
/// write that frees the id lands: late, over the record of a host whose leases this gives to everybody
/// while it still holds them.
pub async fn claim<W: World>(
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
    let (found, read_started) = claim.wait_until_takeable(progress).await?;
    let mut lease = claim.write(&found, read_started).await?;
    if let Err(error) = claim.confirm(&mut lease, &found, progress).await {
        tracing::debug!(name: "claim_failed", host_id = %claimant.host_id, %error,
            "a claim was written, and not confirmed");
        if let Some(undo) = rules::undo_of_claim(&lease.leader) {
            let _ = claim
                .write_sector(&lease, &undo, claimant.timing.io())
                .await;
        }
        return Err(error);
    }
    lease.note.process_token = claimant.process_token;
    lease.renewed_at = rules::claim_counts_from(lease.renewed_at, world.now());
    Ok(lease)
}

struct Claim<'a, W: World> {
    world: &'a W,
    area: &'a LockspaceArea<W::Disk>,
    claimant: &'a Claimant,
}

impl<W: World> Claim<'_, W> {
    /// Waits until the sector may be written. Gives what it then held, and when that read was started.
    async fn wait_until_takeable(
        &self,
        progress: &impl Fn(ClaimProgress),
    ) -> Result<(DeltaRecord, Timestamp), ClaimError> {
        let host_id = self.claimant.host_id;
        let (first, read) = self.read().await?;
        if first.leader.is_free() {
            return Ok((first, read.started));
        }
        if self.is_own_and_ended(&first) {
            tracing::debug!(name: "rejoined_at_once", %host_id,
                "the earlier generation of this host has ended: the host id is claimed without a wait");
            return Ok((first, read.started));
        }
        let by = Watcher::Claimant(self.claimant.timing);
        let mut silence = Silence::first(by, &first, read);
        progress(ClaimProgress::WaitingForOwner {
            owner: first.leader.host_name(),
            generation: first.leader.generation(),
            until: silence.dead_at(),
        });
        loop {
            let next_read = self.world.now() + self.claimant.timing.io();
            let next_read = next_read.min(silence.dead_at() + MOMENT);
            self.world.sleep_until(next_read).await;
            let (found, read) = self.read().await?;
            if found.leader.is_free() {
                tracing::debug!(name: "claimed_once_freed", %host_id,
                    "the owner of the host id has freed it: it is claimed");
                return Ok((found, read.started));
            }
            if silence.observe(&found, read) != Change::Nothing {
                return Err(self.in_use(&found));
            }
            if silence.is_dead() {
                let (owner, generation) = (found.leader.host_name(), found.leader.generation());
                tracing::debug!(name: "claimed_from_dead", %host_id, %owner, %generation,
                    "the owner of the host id is dead: it is claimed");
                return Ok((found, read.started));
            }
        }
    }

    /// Whether an earlier generation of this very host wrote `found`, and is proven to have ended.
    fn is_own_and_ended(&self, found: &DeltaRecord) -> bool {
        let Claimant {
            host_name,
            boot_id,
            process_token,
            ..
        } = self.claimant;
        let proven = match self.claimant.earlier_incarnation {
            EarlierIncarnation::ProvenEnded(last) => Some(last),
            EarlierIncarnation::MayRun => None,
        };
        let is_same_name = found.leader.host_name().same_text(&host_name.as_name());
        let is_same_boot_and_mark = found.note.as_ref().is_some_and(|note| {
            let boot = HostNote::boot_of(boot_id);
            *process_token != 0 && (note.boot, note.process_token) == (boot, *process_token)
        });
        let incarnation = found.incarnation();
        rules::has_ended_here(proven, incarnation, is_same_name, is_same_boot_and_mark)
    }

    /// Writes the sector over `found`, of which the read was started at `read_started`.
    async fn write(
        &self,
        found: &DeltaRecord,
        read_started: Timestamp,
    ) -> Result<DeltaLease, ClaimError> {
        let host_id = self.claimant.host_id;
        let lease = self.next_lease(found);
        let mut lease = lease.ok_or(ClaimError::GenerationsUsedUp)?;
        let limit = self.write_limit(found);
        let written = self.write_claim(&lease, read_started, limit).await;
        lease.claimed_at = self.world.now();
        written?;
        let took = lease.claimed_at.since(read_started);
        if rules::is_too_slow(took, limit) {
            tracing::debug!(name: "claim_too_slow", %host_id, ?took, ?limit,
                "the claim took so long that another host may own the host id");
            return Err(ClaimError::TooSlow { took, limit });
        }
        Ok(lease)
    }

    /// The lease that follows on `found`, not written yet. `None` if there is no next generation.
    fn next_lease(&self, found: &DeltaRecord) -> Option<DeltaLease> {
        let Claimant {
            host_id,
            host_name,
            timing,
            pid,
            boot_id,
            incarnation,
            process_token,
            ..
        } = self.claimant;
        let io_timeout_secs = u16::from(timing.io_timeout().as_secs());
        let generation = rules::generation_of_claim(found.leader.generation())?;
        let leader = found.leader.acquired_in(
            generation,
            *host_id,
            host_name,
            self.world.clock_secs(),
            io_timeout_secs,
        );
        let incarnation = rules::incarnation_of_claim(*incarnation);
        let mut note = HostNote::new(*host_id, generation);
        note.protocol = PROTOCOL;
        note.io_timeout_secs = io_timeout_secs;
        note.fire_timeout_secs = timing.fire_timeout().as_secs();
        note.pid = *pid;
        note.boot = HostNote::boot_of(boot_id);
        note.incarnation = Some(incarnation);
        note.process_token = rules::token_of_claim(*process_token);
        let now = self.world.now();
        Some(DeltaLease {
            host_id: *host_id,
            timing: *timing,
            leader,
            note,
            incarnation,
            claimed_at: now,
            renewed_at: now,
            last_secs: leader.timestamp_secs(),
            leader_is_on_disk: true,
        })
    }

    /// Writes the claim; where that fails, again, until `limit` has passed since the sector was read, and
    /// 2N of our own, by which others may count since the first write.
    ///
    /// Up to then nobody else can have been confirmed, however many writes it takes: it is as if this host
    /// had been slow. What counts is a write that was reported as done, not a read that shows what a failed
    /// write left: storage of several legs may show that to one host and not to another.
    async fn write_claim(
        &self,
        lease: &DeltaLease,
        read_started: Timestamp,
        limit: Duration,
    ) -> Result<(), DeltaSectorError> {
        let timing = self.claimant.timing;
        let limit_of_rewrite = rules::limit_of_rewrite(limit, timing.short_delay());
        let mut timeout = timing.io().min(limit);
        loop {
            let written = self.write_sector(lease, &lease.leader, timeout).await;
            let Err(error) = &written else {
                return written;
            };
            tracing::debug!(name: "claim_not_written", host_id = %lease.host_id, %error,
                "the claim could not be written: it is written again, if there is time");
            self.world.sleep(RETRY_DELAY).await;
            let left = limit_of_rewrite.saturating_sub(self.world.now().since(read_started));
            if left.is_zero() {
                return written;
            }
            timeout = timing.io().min(left);
        }
    }

    /// Waits for the short delay and reads whether the sector still holds what was written over `found`.
    ///
    /// The delay goes by the io timeout that stood in the sector. Where that is much longer than
    /// our own, the claim is renewed meanwhile as a lease is, lest it seem dead to others, or be
    /// expired, before it is confirmed. Each renewal is a write after a read that showed our own
    /// record: a claimant that is overwritten by it finds that out when it reads back.
    async fn confirm(
        &self,
        lease: &mut DeltaLease,
        found: &DeltaRecord,
        progress: &impl Fn(ClaimProgress),
    ) -> Result<(), ClaimError> {
        let timing = self.claimant.timing;
        let (delay, pause) = (self.short_delay(found), timing.renewal_interval());
        let until = self.world.now() + rules::delay_of_confirmation(delay);
        progress(ClaimProgress::Confirming { until });
        let mut next_read = until;
        if delay > pause {
            // As by others counted from the first write, of possibly several.
            next_read = next_read.min(lease.renewed_at + pause);
        }
        loop {
            let give_up_at = lease.renewed_at + timing.warn_after();
            self.world.sleep_until(next_read).await;
            let (found, read) = match self.read().await {
                Ok(read) => read,
                // The claim stands: to give up is to have everybody wait it out.
                Err(error)
                    if matches!(error.kind(), DeltaSectorErrorKind::Read(_))
                        && self.world.now() < give_up_at =>
                {
                    next_read = self.world.now() + RETRY_DELAY;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if !rules::stands(found.leader == lease.leader, lease.wrote(&found)) {
                return Err(self.overwritten(lease, &found));
            }
            if read.started >= until {
                return Ok(());
            }
            if rules::renews_claims() {
                self.renew_claim(lease, read.started).await?;
            }
            next_read = (self.world.now() + pause).min(until);
        }
    }

    /// Renews the claim, which was seen to stand in a read that was started at `seen_from`.
    async fn renew_claim(
        &self,
        lease: &mut DeltaLease,
        seen_from: Timestamp,
    ) -> Result<(), ClaimError> {
        // As with the first write: what was read long ago may be another host's by now.
        // And should this process be stopped now, its timer goes by when it has last written.
        let (now, timing) = (self.world.now(), self.claimant.timing);
        let limits = [
            (seen_from, timing.short_delay()),
            (lease.renewed_at, timing.claim_renewed_within()),
        ];
        for (since, limit) in limits {
            let took = now.since(since);
            if rules::is_too_late_to_renew(took, limit) {
                return Err(ClaimError::TooSlow { took, limit });
            }
        }
        let next = lease.next(self.world.clock_secs());
        let started = self.world.now();
        self.write_sector(lease, &next, timing.io()).await?;
        lease.leader = next;
        lease.last_secs = next.timestamp_secs();
        lease.renewed_at = started;
        tracing::debug!(name: "claim_renewed", host_id = %lease.host_id,
            "the claim is renewed before it is confirmed");
        Ok(())
    }

    async fn read(&self) -> Result<(DeltaRecord, ReadSpan), DeltaSectorError> {
        let Claimant {
            host_id, timing, ..
        } = *self.claimant;
        let started = self.world.now();
        let found = self.area.read_sector(self.world, host_id, timing.io());
        let found = found.await?;
        let completed = self.world.now();
        Ok((found, ReadSpan { started, completed }))
    }

    async fn write_sector(
        &self,
        lease: &DeltaLease,
        leader: &DeltaLeader,
        timeout: Duration,
    ) -> Result<(), DeltaSectorError> {
        let (host, note) = (lease.host_id, (!leader.is_free()).then_some(&lease.note));
        let written = self
            .area
            .write_sector(self.world, host, leader, note, timeout);
        written.await.map_err(|error| self.area.error(host, error))
    }

    /// 2N, by the io timeout that stands in the sector.
    fn short_delay(&self, found: &DeltaRecord) -> Duration {
        let own = self.claimant.timing;
        let in_sector = IoTimeout::from_secs(found.leader.io_timeout_secs());
        let io_timeout = rules::io_timeout_of_delay(in_sector, own.io_timeout());
        Timing::new(io_timeout, own.fire_timeout()).short_delay()
    }

    /// How long it may take from the read of the sector to the end of the write over it: no longer than
    /// any claimant waits before it reads back. Where the sector has no N, that may be as little as 2N
    /// of the shortest.
    fn write_limit(&self, found: &DeltaRecord) -> Duration {
        match IoTimeout::from_secs(found.leader.io_timeout_secs()) {
            Some(_) => self.short_delay(found),
            None => Timing::new(IoTimeout::MIN, self.claimant.timing.fire_timeout()).short_delay(),
        }
    }

    fn in_use(&self, by: &DeltaRecord) -> ClaimError {
        let host_id = self.claimant.host_id;
        let (owner, generation) = (by.leader.host_name(), by.leader.generation());
        if owner.same_text(&self.claimant.host_name.as_name()) {
            tracing::debug!(name: "claim_of_twin", %host_id, %owner, %generation,
                "another host with this host's name claims or renews the host id");
            return ClaimError::Twin { owner, generation };
        }
        tracing::debug!(name: "claim_in_use", %host_id, %owner, %generation, "another host uses the host id");
        ClaimError::InUse { owner, generation }
    }

    /// Why `found` stands where `lease` was written.
    fn overwritten(&self, lease: &DeltaLease, found: &DeltaRecord) -> ClaimError {
        let ours = lease.generation();
        PutBack::of(lease.host_id, &found.leader, ours)
            .filter(|put_back| put_back.generation < ours)
            .map_or_else(|| self.in_use(found), ClaimError::PutBack)
    }
}
