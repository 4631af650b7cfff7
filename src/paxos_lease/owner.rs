//! Whether the time of the owner that the leader names is over.
//!
//! It is over when its host id is free, or has entered a later life, or has been silent for long
//! enough; or when the owner said itself that it released, and only another host's late commit
//! makes the leader look owned.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use super::acquire::{AcquireError, Attempt, Patience};
use super::area::{LeaseImage, Look};
use super::{is_twins, names_us};
use crate::delta_lease::rules::dead_after;
use crate::delta_lease::{DeltaRecord, HostState};
use crate::format::{
    Dblock, Generation, HolderNote, HostId, Incarnation, LeaseVersion, NameBytes, NoteState,
    PaxosLeader, Tenure,
};
use crate::probe::{mutation, witness};
use crate::timing::{IoTimeout, Timing};
use crate::world::{Timestamp, World};

/// How often the owner's sector is looked at while its death is waited for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Who holds a lease, as far as the disk tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The owner's host id.
    pub host_id: HostId,
    /// Which life of it.
    pub generation: Generation,
    /// The owner's host name, from its delta sector.
    pub host_name: NameBytes,
    /// The version of its ownership.
    pub version: LeaseVersion,
    /// What is known of its life.
    pub seen: OwnerSeen,
    /// What a disklease host left beside its block: guest, process, time of the acquire.
    pub note: Option<HolderNote>,
}

/// What is known of an owner's life. Durations are counted at the moment of the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnerSeen {
    /// It was seen to renew.
    Alive {
        /// How long ago its sector last changed.
        renewed_ago: Duration,
    },
    /// It was not seen to renew; it counts as dead, and the lease can be taken, if it stays silent.
    Silent {
        /// For how long its sector has been seen unchanged.
        for_at_least: Duration,
        /// After how much more silence the lease can be taken.
        takeable_in: Duration,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "host {} \"{}\" (generation {})",
            self.host_id, self.host_name, self.generation
        )?;
        if let Some(note) = &self.note {
            write!(
                f,
                " for guest \"{}\", process {}",
                note.guest_name.escape_debug(),
                note.pid
            )?;
        }
        match self.seen {
            OwnerSeen::Alive { renewed_ago } => {
                write!(f, ", alive: it renewed {} s ago", renewed_ago.as_secs())
            }
            OwnerSeen::Silent {
                for_at_least,
                takeable_in,
            } => write!(
                f,
                ", not seen to renew for {} s: unless it renews, the lease can be taken in {} s",
                for_at_least.as_secs(),
                // Rounded up: not to promise too much.
                takeable_in
                    .as_secs()
                    .saturating_add(u64::from(takeable_in.subsec_nanos() != 0)),
            ),
        }
    }
}

/// What became of the owner.
pub(super) enum Ownership {
    /// The leader is free.
    Free,
    /// The owner's time is over. `waited`: since the leader was read, so it must be read again
    /// before the ballot.
    Over { waited: bool },
    /// The leader changed while its owner was watched.
    Changed,
}

/// What is being compared while an owner is watched: its time in the sector, and since when that
/// has not changed.
struct Watch {
    timestamp_secs: u64,
    /// The longest that the sector showed with this time: the field has no checksum.
    io_timeout: IoTimeout,
    incarnation: Option<Incarnation>,
    unchanged_since: Timestamp,
    renewal_seen: bool,
}

impl Watch {
    fn begin(found: &DeltaRecord, silent_from: Timestamp) -> Self {
        Self {
            timestamp_secs: found.leader.timestamp_secs(),
            io_timeout: found.io_timeout(),
            incarnation: found.incarnation(),
            unchanged_since: silent_from,
            renewal_seen: false,
        }
    }

    /// Takes in what a read showed that ended at `silent_from`.
    fn see(&mut self, found: &DeltaRecord, silent_from: Timestamp) {
        if self.incarnation != found.incarnation() && !mutation!(OwnerIncarnationIgnored) {
            // Another run under the same id: nobody knows yet whether that renews. Its claim may have
            // landed late over the owner, which lives by its own N.
            *self = Self {
                io_timeout: self.io_timeout.max(found.io_timeout()),
                ..Self::begin(found, silent_from)
            };
        }
        let renewed = self.timestamp_secs != found.leader.timestamp_secs();
        if renewed && !mutation!(OwnerRenewalIgnored) {
            *self = Self {
                renewal_seen: true,
                ..Self::begin(found, silent_from)
            };
        }
        self.io_timeout = self.io_timeout.max(found.io_timeout());
    }
}

impl<W: World> Attempt<'_, W> {
    /// Judges the owner that `image` shows.
    pub(super) async fn judge_owner(&self, image: &LeaseImage) -> Result<Ownership, AcquireError> {
        let leader = &image.leader;
        let Some(owner) = leader.owner_id().filter(|_| !leader.is_free()) else {
            return Ok(Ownership::Free);
        };
        if mutation!(OwnerNotJudged) {
            return Ok(Ownership::Over { waited: false });
        }
        if owner == self.membership.host_id() {
            return self.judge_ourselves(owner, image);
        }
        self.watch_other(image, owner).await
    }

    /// INV-INCARNATION: no other run of this host has its generation but a twin of it, which has the same
    /// host id and name by mistake, and may be at work. Its note stands in our block. It may hold the
    /// lease when the leader names us; or the block does, which is newer than a leader that one of us
    /// wrote late.
    pub(super) fn refuse_twin(&mut self, image: &LeaseImage) -> Result<(), AcquireError> {
        let me = self.membership.host_id();
        let leader = &image.leader;
        let note = image.note_of(me);
        let has_twin = note.is_some_and(|note| is_twins(note, self.membership));
        let names_us = names_us(leader, self.membership) && !leader.is_free();
        let may_hold = |block: Dblock| block.version > leader.version() && !block.released;
        if has_twin && (names_us || image.block_of(me).is_some_and(may_hold)) {
            return Err(self.held_by_twin());
        }
        Ok(())
    }

    /// The same once this host has proposed a value for `version`, and not committed it: what `look` shows of a
    /// twin came since. Its block lies over ours; or it has committed, and ours lies over its block.
    pub(super) fn refuse_twin_in_ballot(
        &mut self,
        look: &Look,
        version: LeaseVersion,
    ) -> Result<(), AcquireError> {
        let me = self.membership.host_id();
        let mut own = look.blocks.iter().filter(|seen| seen.host == me);
        let note = own.find_map(|seen| seen.note.as_ref());
        let leader = look.leader.as_ref();
        if note.is_some_and(|note| is_twins(note, self.membership))
            || leader.is_some_and(|leader| self.is_twins_commit(leader, version))
        {
            return Err(self.held_by_twin());
        }
        Ok(())
    }

    /// Whether a leader that names this host for `version`, which this acquire has not committed, was written by
    /// a twin.
    pub(super) fn is_twins_commit(&self, leader: &PaxosLeader, version: LeaseVersion) -> bool {
        leader.version() == version
            && leader.write_id() == u64::from(self.membership.host_id())
            && names_us(leader, self.membership)
            && !leader.is_free()
            && !mutation!(CommitOfTwinTaken)
    }

    /// Nothing is taken back: what this host has left there may be what its twin holds the lease by.
    pub(super) fn held_by_twin(&mut self) -> AcquireError {
        witness!(LeaseOfTwin);
        self.left_behind = None;
        AcquireError::HeldByTwin {
            host_id: self.membership.host_id(),
            generation: self.membership.generation(),
        }
    }

    /// The leader names this host: of an earlier life, or of this one without a holder.
    fn judge_ourselves(&self, me: HostId, image: &LeaseImage) -> Result<Ownership, AcquireError> {
        let leader = &image.leader;
        let in_lockspace = self.membership.generation();
        match leader.generation().cmp(&in_lockspace) {
            Ordering::Less if !mutation!(OwnEarlierLifeRefused) => witness!(OwnEarlierLife),
            Ordering::Equal => witness!(OwnLeftover),
            Ordering::Greater if mutation!(FutureLifeTaken) => {}
            _ => return Err(from_the_future(me, leader, in_lockspace)),
        }
        Ok(Ownership::Over { waited: false })
    }

    async fn watch_other(
        &self,
        image: &LeaseImage,
        owner: HostId,
    ) -> Result<Ownership, AcquireError> {
        let leader = &image.leader;
        if mutation!(TableBelieved) && self.state_in_table(owner).is_over() {
            return Ok(Ownership::Over { waited: true });
        }
        let mut watch = self.watch_from_table(leader, owner);
        loop {
            let read_begun = self.world.now();
            let sector = self
                .membership
                .area()
                .read_sector(self.world, owner, self.io())
                .await;
            let found = match sector {
                Ok(found) => found,
                Err(_) if mutation!(UnreadableOwnerOver) => {
                    return Ok(Ownership::Over { waited: true });
                }
                Err(error) => {
                    witness!(OwnerUnreadable);
                    return Err(AcquireError::OwnerUnreadable { owner, error });
                }
            };
            let now = self.world.now();
            let life = found.leader.generation();
            if life < leader.generation() && !mutation!(OlderLifeBelieved) {
                return Err(from_the_future(owner, leader, life));
            }
            if found.leader.is_free() {
                witness!(OwnerFreedTakeover);
                return Ok(Ownership::Over { waited: true });
            }
            if life > leader.generation() && !mutation!(LaterLifeIgnored) {
                witness!(OwnerRejoinedTakeover);
                return Ok(Ownership::Over { waited: true });
            }
            // Silence counts from the end of the read that showed this content first. It counts up
            // to the beginning of the last one: a read may take as long as our own io timeout
            // allows, and has seen nothing that came after its beginning.
            let silent_from = mutation!(OwnerSilenceFromReadBegin, read_begun, now);
            let silent_to = mutation!(OwnerSilenceToReadEnd, now, read_begun);
            let watch = watch.get_or_insert_with(|| Watch::begin(&found, silent_from));
            watch.see(&found, silent_from);
            if self.owner_has_released(image, owner).await? && !mutation!(ReleasedNotBelieved) {
                witness!(ReleasedBelieved);
                return Ok(Ownership::Over { waited: true });
            }
            // N is the owner's, from its own sector; never a default, never ours.
            let own = self.membership.timing();
            let io_timeout = mutation!(OwnerTimeoutIsOwn, own.io_timeout(), watch.io_timeout);
            let fire_timeout = found.timing(own.fire_timeout()).fire_timeout();
            let timing = Timing::new(io_timeout, fire_timeout);
            let silent_for = now.since(watch.unchanged_since);
            if silent_to.since(watch.unchanged_since) > dead_after(timing) {
                witness!(TakeoverOfDead);
                return Ok(Ownership::Over { waited: true });
            }
            let alive = watch.renewal_seen && silent_for <= timing.lost_after();
            let out_of_patience = match self.holding.patience {
                Patience::Refuse => true,
                // Of one that is dead and has not handed over, nothing is taken anyway.
                Patience::WaitForDeath { .. } if !self.may_take_from_dead(image) => true,
                Patience::WaitForDeath { until } => until.is_some_and(|until| now >= until),
            };
            if alive || out_of_patience || self.holding.cancel.is_cancelled() {
                witness!(OwnerRefused);
                let seen = if alive {
                    OwnerSeen::Alive {
                        renewed_ago: silent_for,
                    }
                } else {
                    OwnerSeen::Silent {
                        for_at_least: silent_for,
                        takeable_in: dead_after(timing).saturating_sub(silent_for),
                    }
                };
                return Err(self.held_by(image, owner, &found, seen).await);
            }
            self.world.sleep(LOOK_INTERVAL).await;
            self.check_member()?;
            let leader_now = self
                .lease
                .read_leader(self.world, image.shape, self.io())
                .await?;
            if leader_now != *leader && !mutation!(LeaderNotWatched) {
                witness!(LeaderChangedWhileWatched);
                return Ok(Ownership::Changed);
            }
        }
    }

    /// The watch goes on where the scans of the lockspace are, if they have seen this very life of
    /// the owner.
    fn watch_from_table(&self, leader: &PaxosLeader, owner: HostId) -> Option<Watch> {
        let record = self.membership.observed(owner)?;
        let is_this_life = record.generation == leader.generation() || mutation!(TableOfOtherLife);
        (is_this_life && record.damage.is_none()).then_some(Watch {
            timestamp_secs: record.timestamp_secs,
            io_timeout: record.io_timeout,
            incarnation: record.incarnation(),
            unchanged_since: record.changed_at,
            renewal_seen: record.renewal_seen,
        })
    }

    /// Whether the owner released, and the leader looks owned only because another host committed
    /// it late.
    ///
    /// The flag is not covered by the block's checksum. So where the owner's own note says that it
    /// holds the lease, the note, which has a checksum, is believed.
    async fn owner_has_released(
        &self,
        image: &LeaseImage,
        owner: HostId,
    ) -> Result<bool, AcquireError> {
        let leader = &image.leader;
        if leader.write_id() == u64::from(owner) && !mutation!(ReleasedAlwaysBelieved) {
            return Ok(false);
        }
        let sector = self
            .lease
            .read_block(self.world, image.shape, owner, self.io())
            .await?;
        let noted_as_held = match &sector.note {
            NoteState::Present(note) => {
                note.is_of(leader.generation(), leader.version()) && note.tenure == Tenure::Held
            }
            _ => false,
        };
        Ok(sector.released && (!noted_as_held || mutation!(ReleasedFlagTrusted)))
    }

    /// The refusal, with all that can be told of the holder. A note that cannot be read makes it
    /// only shorter.
    async fn held_by(
        &self,
        image: &LeaseImage,
        owner: HostId,
        found: &DeltaRecord,
        seen: OwnerSeen,
    ) -> AcquireError {
        let leader = &image.leader;
        let sector = self
            .lease
            .read_block(self.world, image.shape, owner, self.io())
            .await
            .ok();
        let note = sector.and_then(|sector| match sector.note {
            NoteState::Present(note) if note.is_of(leader.generation(), leader.version()) => {
                Some(note)
            }
            _ => None,
        });
        AcquireError::Held(Box::new(Holder {
            host_id: owner,
            generation: leader.generation(),
            host_name: found.leader.host_name(),
            version: leader.version(),
            seen,
            note,
        }))
    }

    /// Hosts whose state the scans of the lockspace leave no doubt about. Used where doubt means
    /// "alive".
    pub(super) fn is_dead(&self, host: HostId, generation: Generation) -> bool {
        !self
            .membership
            .may_be_alive(host, generation, self.world.now())
    }

    /// The state of `host` as the table has it, for decisions that only refuse.
    pub(super) fn state_in_table(&self, host: HostId) -> HostState {
        let now = self.world.now();
        self.membership.hosts(|table| table.state(host, now))
    }
}

/// The lockspace was made anew, or is not the one that `owner` renews in: what it shows, a free host
/// id above all, says nothing of the owner.
fn from_the_future(owner: HostId, leader: &PaxosLeader, in_lockspace: Generation) -> AcquireError {
    witness!(FromTheFuture);
    AcquireError::FromTheFuture {
        host_id: owner,
        on_lease: leader.generation(),
        in_lockspace,
    }
}
