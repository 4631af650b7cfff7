//! One instance of Disk Paxos: the two phases and the commit, with the retries of a ballot that was
//! overtaken.
//!
//! | paper | here |
//! | --- | --- |
//! | processor p | host id |
//! | `dblock[p]` | the block in the sector of that host |
//! | `mbal`, `bal`, `inp` | the fields of those names; `inp` is owner, generation and stamp |
//! | commit | the leader record is written with the chosen input |

use std::time::Duration;

use super::acquire::{AcquireError, Attempt};
use super::area::{BlockSeen, LeaseImage};
use super::{HeldLease, names_us};
use crate::format::{
    Commit, Dblock, FormatError, Generation, HostId, Input, LeaseVersion, PaxosLeader, Structure,
};
use crate::probe::{mutation, waypoint, witness};
use crate::world::World;

/// How many ballot numbers one acquire uses for one version before it gives up.
const ROUNDS_MAX: u32 = 64;

/// A ballot that was overtaken waits for less than this before it tries again, so that someone gets
/// through.
const RETRY_DELAY_MILLIS: u64 = 1000;

/// What the leader is when it is read again.
#[expect(
    clippy::large_enum_variant,
    reason = "made once for each round and moved on at once"
)]
enum LeaderNow {
    /// What it was at first.
    Unchanged,
    /// Another host committed this acquire's own input: the lease is won.
    NamesOurInput(HeldLease),
    /// Anything else.
    Moved,
}

/// How a ballot ended.
#[expect(
    clippy::large_enum_variant,
    reason = "made once for each acquire and moved on at once"
)]
pub(super) enum BallotEnd {
    /// This acquire's own input is committed.
    Won {
        held: HeldLease,
        sharers: Vec<(HostId, Generation)>,
    },
    /// Everything must be read again: the version went to somebody else, or newer ones exist.
    Restart,
}

/// What one look at all blocks says about our ballot.
enum Outlook {
    /// Nobody overtook us. The accepted input with the highest ballot, if any host accepted one.
    Clear { accepted: Option<Input> },
    /// Someone began a higher ballot for the same version: this is its number.
    HigherBallot(u64),
    /// Someone ballots for a newer version.
    NewerVersion,
}

impl<W: World> Attempt<'_, W> {
    /// Ballots for version `next`. `reread_leader`: time has passed since `image` was read.
    pub(super) async fn ballot(
        &mut self,
        image: &LeaseImage,
        next: LeaseVersion,
        reread_leader: bool,
    ) -> Result<BallotEnd, AcquireError> {
        let me = self.membership.host_id();
        let mut mbal = self.number_above(image, image.max_mbal())?;
        // INV-KEEP: what we accepted for this version, in whatever earlier acquire, stays accepted.
        let mut kept = image
            .block_of(me)
            .filter(|block| block.version == next && !mutation!(EarlierAcceptForgotten))
            .and_then(accepted_of);
        for round in 0..ROUNDS_MAX {
            waypoint!(
                (image.leader, image.shape, next, mbal, kept),
                round > 0 || reread_leader,
                (self.own_input, &self.left_behind, &self.sharers),
                (self.unchanged_since, self.passed_over),
            );
            if (round > 0 || reread_leader) && !mutation!(LeaderNotReread) {
                match self.reread_leader(image, next).await? {
                    LeaderNow::Unchanged => {}
                    LeaderNow::NamesOurInput(held) => {
                        witness!(NamesOurInput);
                        self.check_member()?;
                        return Ok(BallotEnd::Won {
                            held,
                            sharers: std::mem::take(&mut self.sharers),
                        });
                    }
                    LeaderNow::Moved => {
                        witness!(RestartLeaderMoved);
                        return Ok(BallotEnd::Restart);
                    }
                }
            }
            let overtaken_by = match self.one_round(image, next, mbal, &mut kept).await? {
                Round::Won(held) => {
                    return Ok(BallotEnd::Won {
                        held,
                        sharers: std::mem::take(&mut self.sharers),
                    });
                }
                Round::Restart => return Ok(BallotEnd::Restart),
                Round::Overtaken(by) => by,
            };
            let pause = self.world.random(RETRY_DELAY_MILLIS);
            self.world.sleep(Duration::from_millis(pause)).await;
            if !mutation!(BallotNumberKept) {
                mbal = self.number_above(image, overtaken_by.max(mbal))?;
            }
        }
        Err(AcquireError::Contended { rounds: ROUNDS_MAX })
    }

    /// The next ballot number of this host above `seen`. Equal to the host id modulo the number of
    /// hosts, so no two hosts ever use the same.
    fn number_above(&self, image: &LeaseImage, seen: u64) -> Result<u64, AcquireError> {
        if mutation!(BallotNumberShared) {
            return seen.checked_add(1).ok_or(AcquireError::NumbersUsedUp);
        }
        let me = u64::from(self.membership.host_id());
        let hosts = u64::from(image.shape.geometry.max_hosts());
        let number = match seen.checked_rem(hosts) {
            _ if seen == 0 => Some(me),
            Some(rest) => seen
                .checked_sub(rest)
                .and_then(|base| base.checked_add(hosts)?.checked_add(me)),
            None => None,
        };
        number.ok_or(AcquireError::NumbersUsedUp)
    }

    /// Reads the leader again, which another host may have written since `image`, even with our own
    /// input.
    async fn reread_leader(
        &mut self,
        image: &LeaseImage,
        next: LeaseVersion,
    ) -> Result<LeaderNow, AcquireError> {
        let leader = self
            .lease
            .read_leader(self.world, image.shape, self.io())
            .await?;
        if leader == image.leader {
            return Ok(LeaderNow::Unchanged);
        }
        // INV-INPUT: this acquire's own input for this very version, or no success.
        let is_ours = self.own_input == Some((next, leader.input()))
            || mutation!(LeaderNamesUsSuffices) && names_us(&leader, self.membership);
        if is_ours && self.is_twins_commit(&leader, next) {
            return Err(self.held_by_twin());
        }
        match &self.left_behind {
            Some(debt) if is_ours && leader.version() == next && !leader.is_free() => {
                Ok(LeaderNow::NamesOurInput(HeldLease {
                    shape: image.shape,
                    leader,
                    block: debt.block(),
                    unchanged_since: self.unchanged_since.map(|(_, since)| since),
                    incarnation: self.membership.incarnation(),
                }))
            }
            _ => Ok(LeaderNow::Moved),
        }
    }

    async fn one_round(
        &mut self,
        image: &LeaseImage,
        next: LeaseVersion,
        mbal: u64,
        kept: &mut Option<(u64, Input)>,
    ) -> Result<Round, AcquireError> {
        // Phase 1: announce the ballot, then see what others accepted.
        let kept_now = kept.filter(|_| !mutation!(AcceptedForgotten));
        let (bal, input) = kept_now.map_or((0, None), |(bal, input)| (bal, Some(input)));
        let announced = Dblock {
            mbal,
            bal,
            input,
            ..Dblock::for_version(next)
        };
        if input.is_some() {
            witness!(KeptValue);
        }
        let accepted = match self.phase_1(image, announced).await? {
            Outlook::HigherBallot(by) => return Ok(Round::Overtaken(by)),
            Outlook::NewerVersion => return Ok(Round::Restart),
            Outlook::Clear { accepted } => accepted,
        };

        // Phase 2: accept a value ourselves, then see that nobody overtook us meanwhile.
        let own_input = self.input_for(next);
        let chosen = accepted
            .filter(|_| !mutation!(AcceptedIgnored))
            .unwrap_or(own_input);
        if chosen != own_input {
            witness!(AdoptedValue);
        }
        *kept = Some((mbal, chosen));
        let accepting = Dblock {
            bal: mbal,
            input: Some(chosen),
            ..announced
        };
        waypoint!(
            (image.leader, image.shape, accepting),
            (self.own_input, &self.left_behind, &self.sharers),
            (self.unchanged_since, self.passed_over),
        );
        match self.phase_2(image, accepting).await? {
            Outlook::HigherBallot(by) => return Ok(Round::Overtaken(by)),
            Outlook::NewerVersion => return Ok(Round::Restart),
            Outlook::Clear { .. } => {}
        }
        waypoint!(
            (image.leader, image.shape, accepting),
            (self.own_input, &self.left_behind, &self.sharers),
            (self.unchanged_since, self.passed_over),
        );

        // The value is chosen. Make it known.
        let leader = self.commit(image, next, chosen).await?;
        let names_us = chosen.owner == own_input.owner;
        if chosen != own_input && !(names_us && mutation!(CommitNamesUsSuffices)) {
            witness!(CommittedOther);
            return Ok(Round::Restart);
        }
        self.check_member()?;
        witness!(CommittedOwn);
        Ok(Round::Won(HeldLease {
            shape: image.shape,
            leader,
            block: accepting,
            unchanged_since: self.unchanged_since.map(|(_, since)| since),
            incarnation: self.membership.incarnation(),
        }))
    }

    async fn phase_1(
        &mut self,
        image: &LeaseImage,
        announced: Dblock,
    ) -> Result<Outlook, AcquireError> {
        if mutation!(Phase1Skipped) {
            return Ok(Outlook::Clear { accepted: None });
        }
        self.write_own_block(image, announced).await?;
        let look_at = self.lease.read_blocks(self.world, image.shape, self.io());
        let blocks = look_at.await?.blocks;
        self.sharers = blocks
            .iter()
            .filter_map(|seen| Some((seen.host, seen.shared?)))
            .collect();
        self.check_expected_blocks(&image.leader, &blocks).await?;
        Ok(look(&blocks, announced.mbal, announced.version))
    }

    async fn phase_2(
        &mut self,
        image: &LeaseImage,
        accepting: Dblock,
    ) -> Result<Outlook, AcquireError> {
        self.write_own_block(image, accepting).await?;
        if mutation!(Phase2ReadSkipped) {
            return Ok(Outlook::Clear { accepted: None });
        }
        let seen = self
            .lease
            .read_blocks(self.world, image.shape, self.io())
            .await?;
        self.refuse_twin_in_ballot(&seen, accepting.version)?;
        Ok(look(&seen.blocks, accepting.mbal, accepting.version))
    }

    async fn write_own_block(
        &mut self,
        image: &LeaseImage,
        block: Dblock,
    ) -> Result<(), AcquireError> {
        let limit = self.write_limit()?;
        self.leave_behind(image.shape, block);
        let own = self.own_input.map(|(_, input)| input);
        // The note speaks for our own input only: we do not hold what we accept for another host.
        let note = (block.input.is_some() && block.input == own)
            .then(|| self.note_for(block.version))
            .flatten();
        let content = Some((&block, note.as_ref()));
        let me = self.membership.host_id();
        let written = self
            .lease
            .write_block(self.world, image.shape, me, content, limit)
            .await;
        if written.is_err() && mutation!(FailedWriteForgotten) {
            self.left_behind = None;
        }
        Ok(written?)
    }

    /// The owner that an input proposes. A block is any host's bytes: what would make a leader that
    /// no host can read is not committed.
    fn checked_owner(&self, image: &LeaseImage, chosen: Input) -> Result<HostId, AcquireError> {
        let me = self.membership.host_id();
        let bad = |error| {
            self.lease
                .format_error(image.shape.geometry.dblock_offset(me), error)
        };
        let structure = Structure::Dblock(me);
        if chosen.timestamp == 0 {
            return Err(bad(FormatError::InputWithoutTime { structure }).into());
        }
        let owner = HostId::new(chosen.owner)
            .ok()
            .filter(|owner| owner.get() <= image.shape.num_hosts);
        let max = image.shape.num_hosts;
        Ok(owner.ok_or_else(|| {
            bad(FormatError::OwnerRange {
                structure,
                max,
                found: chosen.owner,
            })
        })?)
    }

    async fn commit(
        &self,
        image: &LeaseImage,
        version: LeaseVersion,
        chosen: Input,
    ) -> Result<PaxosLeader, AcquireError> {
        let me = self.membership.host_id();
        let owner = self.checked_owner(image, chosen)?;
        let leader = image.leader.committed(Commit {
            version,
            owner,
            generation: Generation::new(chosen.generation),
            timestamp_secs: chosen.timestamp,
            writer: me,
            writer_generation: self.membership.generation(),
            writer_clock_secs: self.world.clock_secs(),
            clear_short_hold: owner == me,
        });
        let written = self
            .lease
            .write_leader(self.world, image.shape, &leader, self.write_limit()?)
            .await;
        if !mutation!(CommitErrorIgnored) {
            written?;
        }
        Ok(leader)
    }
}

/// How one ballot number fared.
#[expect(
    clippy::large_enum_variant,
    reason = "made once for each round and moved on at once"
)]
enum Round {
    Won(HeldLease),
    Restart,
    Overtaken(u64),
}

/// What a block says was accepted, and in which ballot.
pub(super) fn accepted_of(block: Dblock) -> Option<(u64, Input)> {
    block
        .input
        .filter(|_| block.bal != 0)
        .map(|input| (block.bal, input))
}

/// Judges all blocks, our own among them, for the ballot `mbal` for version `next`.
fn look(blocks: &[BlockSeen], mbal: u64, next: LeaseVersion) -> Outlook {
    let of_interest = || {
        blocks
            .iter()
            .filter_map(|seen| seen.block)
            .filter(|block| block.version >= next || mutation!(OlderVersionAdopted))
    };
    if of_interest().any(|block| block.version > next) && !mutation!(NewerVersionIgnored) {
        witness!(NewerVersion);
        return mutation!(
            NewerVersionRetried,
            Outlook::HigherBallot(mbal),
            Outlook::NewerVersion
        );
    }
    match of_interest().map(|block| block.mbal).max() {
        Some(highest) if highest > mbal && !mutation!(MbalIgnored) => {
            witness!(Overtaken);
            Outlook::HigherBallot(highest)
        }
        _ => {
            let accepted = of_interest()
                .filter_map(accepted_of)
                .max_by_key(|&(bal, _)| mutation!(HighestBalIgnored, 0, bal));
            Outlook::Clear {
                accepted: accepted.map(|(_, input)| input),
            }
        }
    }
}
