//! Taking a lease only if nobody has used it since: for a guest that was suspended or is handed
//! over, and must find its disk as it left it.
//!
//! Each version is one instance of Disk Paxos, and goes to one input. So whoever wins version v + 1
//! knows that nobody else ever had it, and that nobody had a newer one: that needs v + 1 in the
//! leader first. What is left is to see to it that the acquire ballots for v + 1 and no other
//! version, and that a leader which *says* v is believed only if no block contradicts it: a late
//! write may have put an older record over a newer one.
//!
//! Versions that were had and not used are passed over. Whoever fails to acquire, or gives back what
//! was handed over without having started the guest, leaves a note beside its block that says so, and
//! which earlier version the disk is still as of.

use std::fmt;

use super::acquire::{AcquireError, Attempt};
use super::area::{BlockSeen, LeaseImage};
use super::ballot::accepted_of;
use crate::format::{
    Generation, HolderNote, HostId, Input, LeaseVersion, NameBytes, NoteState, OfferId,
    PaxosLeader, Tenure,
};
use crate::probe::{mutation, witness};
use crate::world::World;

/// How the lease must have been left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The version under which the disk was last used.
    pub version: LeaseVersion,
    /// Whose version that was, if it is known. Tells it from the same version of a lease that was
    /// made anew.
    pub holder: Option<(HostId, Generation)>,
    /// How that holder's time must have ended.
    pub passage: Passage,
}

/// How a holder's time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// In any way: it released, or its host's time is over.
    AnyEnd,
    /// It handed the lease over by this offer.
    HandedOver(OfferId),
}

/// That a lease is not as it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionChange {
    /// The version under which it was left.
    pub expected: LeaseVersion,
    /// The version that it has, or that was found to be taken.
    pub found: LeaseVersion,
    /// Who has or had that version; `None` if the disk names nobody.
    pub taken_by: Option<LaterHolder>,
}

/// Who has, or had, a lease after somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaterHolder {
    /// Its host id.
    pub host_id: HostId,
    /// Which life of it.
    pub generation: Generation,
    /// Its name, if the lockspace shows that very life.
    pub host_name: Option<NameBytes>,
    /// Whether the lease was not given back.
    pub holds: bool,
    /// What a disklease host left beside its block while it held.
    pub note: Option<HolderNote>,
}

impl fmt::Display for VersionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at version {}, not at {} as it was left: ",
            self.found, self.expected
        )?;
        match &self.taken_by {
            None if self.found < self.expected => {
                f.write_str("it was initialised anew, or put back to an older state")
            }
            None => f.write_str("somebody has had it since"),
            Some(by) => {
                let verb = if by.holds { "has" } else { "had" };
                write!(f, "{by} {verb} it since")
            }
        }
    }
}

impl fmt::Display for LaterHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.host_id)?;
        if let Some(name) = &self.host_name {
            write!(f, " \"{name}\"")?;
        }
        write!(f, " (generation {})", self.generation)?;
        match &self.note {
            Some(note) => write!(
                f,
                " for guest \"{}\", process {},",
                note.guest_name.escape_debug(),
                note.pid
            ),
            None => Ok(()),
        }
    }
}

/// Whose version contradicts what is expected.
#[derive(Clone, Copy)]
struct Taken {
    version: LeaseVersion,
    by: Option<(HostId, Generation)>,
}

/// The version under which the disk was last used, where `owner` has `version` and these are the
/// blocks: an earlier one, if a note says so.
///
/// The owner's own note says it of the owner's version. Whoever failed to get a newer one has seen
/// who had this one, and says it too.
fn last_used(
    blocks: &[BlockSeen],
    owner: Option<HostId>,
    generation: Generation,
    version: LeaseVersion,
) -> LeaseVersion {
    let said = blocks.iter().filter_map(|seen| {
        let note = seen.note.as_ref()?;
        let Tenure::Unused { since } = note.tenure else {
            return None;
        };
        let by_owner = Some(seen.host) == owner
            && (note.is_of(generation, version) || mutation!(UnusedNoteOfAnyVersion));
        let by_later = note.version > version;
        (since < version && (by_owner || by_later)).then_some(since)
    });
    match said.min() {
        Some(since) => {
            witness!(UnusedPassedOver);
            since
        }
        None => version,
    }
}

impl<W: World> Attempt<'_, W> {
    fn expected(&self) -> Option<Expected> {
        let expected = self.holding.expected;
        expected.filter(|_| !mutation!(ExpectedVersionIgnored))
    }

    /// The offer by which it must have been handed over.
    fn offer(&self) -> Option<(Expected, OfferId)> {
        let expected = self.expected()?;
        match expected.passage {
            Passage::HandedOver(offer) if !mutation!(HandoverNoteIgnored) => {
                Some((expected, offer))
            }
            _ => None,
        }
    }

    /// The version under which the disk was last used, as far as it is known.
    pub(super) fn last_used(&self, image: &LeaseImage) -> LeaseVersion {
        let leader = &image.leader;
        let version = leader.version();
        match (self.passed_over, self.expected()) {
            (Some(unused), Some(expected)) if unused == (version, leader.input()) => {
                expected.version
            }
            _ => last_used(
                &image.blocks,
                leader.owner_id(),
                leader.generation(),
                version,
            ),
        }
    }

    /// Refuses a lease that was used since it was left. Writes nothing.
    pub(super) async fn check_expected(&mut self, image: &LeaseImage) -> Result<(), AcquireError> {
        let Some(expected) = self.expected() else {
            return Ok(());
        };
        let leader = &image.leader;
        let is_by = |(host, generation)| {
            leader.owner_id() == Some(host) && leader.generation() == generation
        };
        let is_holders = leader.version() != expected.version
            || expected.holder.is_none_or(is_by)
            || mutation!(ExpectedHolderIgnored);
        let is_own_earlier = leader.owner_id() == Some(self.membership.host_id())
            && leader.generation() < self.membership.generation();
        let as_left = self.last_used(image) == expected.version && is_holders
            || is_own_earlier && mutation!(LostStateTrustsOwner);
        if as_left {
            return self.check_expected_blocks(leader, &image.blocks).await;
        }
        let owner = leader.owner_id();
        let taken = Taken {
            version: leader.version(),
            by: owner.map(|owner| (owner, leader.generation())),
        };
        Err(self.changed(expected, taken, leader, &image.blocks).await)
    }

    /// The same of the blocks alone: none may show that the leader is stale, or that the next
    /// version may have gone to somebody who has used it.
    pub(super) async fn check_expected_blocks(
        &mut self,
        leader: &PaxosLeader,
        blocks: &[BlockSeen],
    ) -> Result<(), AcquireError> {
        let expected = self
            .expected()
            .filter(|_| !mutation!(ExpectedBlocksIgnored));
        let Some(expected) = expected else {
            return Ok(());
        };
        let next = leader.version().next();
        for seen in blocks {
            let Some(block) = seen.block.filter(|block| block.version > leader.version()) else {
                continue;
            };
            let accepted = accepted_of(block).map(|(_, input)| (block.version, input));
            let by = accepted.and_then(|(_, input)| owner_of(input));
            if Some(block.version) == next {
                // What was only announced was not given to anybody: the ballot will tell.
                let Some(accepted) = accepted else { continue };
                if self.own_input == Some(accepted) || self.passed_over == Some(accepted) {
                    continue;
                }
                let (version, input) = accepted;
                let generation = Generation::new(input.generation);
                let owner = by.map(|(owner, _)| owner);
                if last_used(blocks, owner, generation, version) == expected.version {
                    self.passed_over = Some(accepted);
                    continue;
                }
            }
            let taken = Taken {
                version: block.version,
                by,
            };
            return Err(self.changed(expected, taken, leader, blocks).await);
        }
        Ok(())
    }

    /// The refusal, with all that can be told of who was there.
    async fn changed(
        &self,
        expected: Expected,
        taken: Taken,
        leader: &PaxosLeader,
        blocks: &[BlockSeen],
    ) -> AcquireError {
        witness!(VersionChanged);
        let taken_by = match taken.by {
            Some((host_id, generation)) => Some(
                self.later_holder(host_id, generation, taken, leader, blocks)
                    .await,
            ),
            None => None,
        };
        AcquireError::VersionChanged(Box::new(VersionChange {
            expected: expected.version,
            found: taken.version,
            taken_by,
        }))
    }

    async fn later_holder(
        &self,
        host_id: HostId,
        generation: Generation,
        taken: Taken,
        leader: &PaxosLeader,
        blocks: &[BlockSeen],
    ) -> LaterHolder {
        let sector = self
            .membership
            .area()
            .read_sector(self.world, host_id, self.io())
            .await;
        let host_name = sector
            .ok()
            .filter(|found| found.leader.generation() == generation)
            .map(|found| found.leader.host_name());
        let seen = blocks.iter().find(|seen| seen.host == host_id);
        let note = seen
            .and_then(|seen| seen.note.clone())
            .filter(|note| note.is_of(generation, taken.version) && note.tenure == Tenure::Held);
        LaterHolder {
            host_id,
            generation,
            host_name,
            holds: taken.version == leader.version() && !leader.is_free(),
            note,
        }
    }

    /// Refuses a lease that was not handed over as it had to be, though nobody holds it any more:
    /// whoever had it may have gone on with the guest after it was offered.
    pub(super) async fn check_handed_over(&self, image: &LeaseImage) -> Result<(), AcquireError> {
        let Some((expected, offer)) = self.offer() else {
            return Ok(());
        };
        if self.is_handed_over(image, expected, offer).await? {
            witness!(HandedOverTaken);
            return Ok(());
        }
        witness!(NotHandedOver);
        Err(AcquireError::NotHandedOver {
            version: expected.version,
            by: expected.holder,
        })
    }

    /// Whether to wait for the owner's death is of any use.
    pub(super) fn may_take_from_dead(&self, image: &LeaseImage) -> bool {
        let Some((expected, offer)) = self.offer() else {
            return true;
        };
        let holder = expected.holder.map(|(host, _)| host);
        let seen = image.blocks.iter().find(|seen| Some(seen.host) == holder);
        let note = seen.and_then(|seen| seen.note.as_ref());
        note.is_some_and(|note| note.tenure == Tenure::HandedOver(offer))
    }

    /// What the last holder's own note says. Read anew: time may have passed since `image`.
    async fn is_handed_over(
        &self,
        image: &LeaseImage,
        expected: Expected,
        offer: OfferId,
    ) -> Result<bool, AcquireError> {
        let Some((host, generation)) = expected.holder else {
            return Ok(false);
        };
        let sector = self
            .lease
            .read_block(self.world, image.shape, host, self.io())
            .await?;
        Ok(match sector.note {
            NoteState::Present(note) => {
                note.is_of(generation, expected.version) && note.tenure == Tenure::HandedOver(offer)
            }
            _ => false,
        })
    }

    /// The note of an acquire that failed for `version`: nobody used it.
    pub(super) fn unused_note(&self, version: LeaseVersion) -> Option<HolderNote> {
        let (balloted, since) = self.unchanged_since?;
        (balloted == version).then_some(())?;
        let mut note = self.note_for(version)?;
        note.tenure = Tenure::Unused { since };
        Some(note)
    }
}

fn owner_of(input: Input) -> Option<(HostId, Generation)> {
    let owner = HostId::new(input.owner).ok()?;
    Some((owner, Generation::new(input.generation)))
}
