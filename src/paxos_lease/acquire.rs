//! Taking a lease: read everything, judge the owner, ballot; again from the start where something
//! moved.

use std::time::Duration;

use super::ballot::BallotEnd;
use super::expected::{Expected, VersionChange};
use super::owner::Ownership;
use super::retract::{Debt, retract};
use super::{HeldLease, Holder, LeaseArea, LeaseIoError, LeaseShape};
use crate::delta_lease::{DeltaSectorError, Membership};
use crate::format::{Dblock, Generation, HolderNote, HostId, Input, LeaseVersion, PaxosLeader};
use crate::probe::{mutation, waypoint, witness};
use crate::world::{CancelToken, Timestamp, World};

/// How often an acquire begins anew, because others moved, before it gives up.
const RESTARTS_MAX: u32 = 64;

/// What an acquire does about an owner that may be dead but is not dead for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It reports the owner at once.
    Refuse,
    /// It waits until the owner shows life or is dead, up to 8N + F and a margin, but not beyond
    /// the given instant.
    WaitForDeath {
        /// When to stop waiting.
        until: Option<Timestamp>,
    },
}

/// How a lease is to be held: what the acquire is told by its caller.
#[derive(Clone, Debug)]
pub struct Holding {
    /// What to do about an owner whose life is in doubt.
    pub patience: Patience,
    /// Who holds the lease, for people on other hosts. Host, generation and version are filled in
    /// by the acquire.
    pub note: Option<HolderNote>,
    /// How the lease must have been left: nobody may have used it since.
    pub expected: Option<Expected>,
    /// Ends a wait for the owner's death.
    pub cancel: CancelToken,
}

/// Why a lease was not acquired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The lease's own sectors could not be read, believed or written.
    #[error(transparent)]
    Lease(#[from] LeaseIoError),
    /// Another host owns it.
    #[error("the lease is held by {0}")]
    Held(Box<Holder>),
    /// Other hosts hold it in shared mode.
    #[error("the lease is held in shared mode by host {}", hosts.iter().map(|(host, _)| host.to_string()).collect::<Vec<_>>().join(", "))]
    HeldShared {
        /// Host ids and generations.
        hosts: Vec<(HostId, Generation)>,
    },
    /// The owner's delta lease cannot be read or is damaged, so its life cannot be judged.
    #[error("the lease is held by host {owner}, whose life cannot be judged: {error}")]
    OwnerUnreadable {
        /// Who owns the lease.
        owner: HostId,
        /// What is wrong.
        error: DeltaSectorError,
    },
    /// The lease names a host in a generation that it has not reached yet: the lockspace was made
    /// anew while the lease was kept. Nothing can be told of that owner's life.
    #[error(
        "the lease is owned by host {host_id} in generation {on_lease}, the lockspace is only at generation {in_lockspace}: was the lockspace initialised anew?"
    )]
    FromTheFuture {
        /// The owner: this host or another.
        host_id: HostId,
        /// What the lease says.
        on_lease: Generation,
        /// What the lockspace says.
        in_lockspace: Generation,
    },
    /// Another run with this host's id, name and generation has it: a twin, by mistake.
    #[error(
        "the lease was taken by another host with this host's id {host_id} and name (generation {generation})"
    )]
    HeldByTwin {
        /// The id of both.
        host_id: HostId,
        /// The generation of both.
        generation: Generation,
    },
    /// Others balloted for it all the time.
    #[error("the lease could not be won against other hosts in {rounds} rounds")]
    Contended {
        /// How many times it was tried.
        rounds: u32,
    },
    /// The lease is not as it was left.
    #[error("the lease is {0}")]
    VersionChanged(Box<VersionChange>),
    /// The lease was given back, or its holder is dead, but it was not handed over by the offer that
    /// was to be accepted.
    #[error("the lease, at version {version}, was not handed over by this offer")]
    NotHandedOver {
        /// The version of the offer.
        version: LeaseVersion,
        /// Who made the offer.
        by: Option<(HostId, Generation)>,
    },
    /// Versions or ballot numbers cannot be raised any more.
    #[error("the lease's version or ballot numbers are used up")]
    NumbersUsedUp,
    /// An earlier write of this host to the lease has not ended; nothing may be decided before it
    /// has.
    #[error("an earlier write of this host to the lease has not ended yet")]
    WriteInFlight,
    /// This host's own delta lease was lost meanwhile.
    #[error("the lockspace was lost")]
    LockspaceLost,
}

/// An acquire that failed, and what it may have left behind.
#[derive(Clone, Debug)]
pub struct AcquireFailure {
    /// Why.
    pub error: AcquireError,
    /// What has to be retracted still, because the storage did not take the retraction: until that
    /// is done, other hosts may yet make this one the owner without its knowledge.
    pub debt: Option<Debt>,
    /// What was retracted. The lease is to be watched for 8N + F: a storage that is worse than it may
    /// be could still bring this host's ownership back. See [`came_back`](super::came_back).
    pub settled: Option<Debt>,
}

/// Acquires the lease at `lease`, exclusively, for the host of `membership`.
///
/// An uncontended acquire of a free lease is six dependent I/Os: read all, write the own block,
/// read all, write the own block, read all, write the leader. A live owner is reported after two:
/// the lease and the owner's delta sector.
///
/// # Errors
///
/// [`AcquireFailure`]. Where this acquire's input might still be committed by another host, it was
/// retracted, or the failure carries the debt.
pub async fn acquire<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    holding: &Holding,
) -> Result<HeldLease, AcquireFailure> {
    let mut attempt = Attempt {
        world,
        membership,
        lease,
        holding,
        own_input: None,
        left_behind: None,
        sharers: Vec::new(),
        unchanged_since: None,
        passed_over: None,
    };
    let error = match attempt.run().await {
        Ok(held) => return Ok(held),
        Err(error) => error,
    };
    // Also what was only announced: others are overtaken by it, and nobody owns it.
    let left_behind = attempt.left_behind.take();
    let left_behind = left_behind
        .filter(|debt| debt.is_of_phase_2() || !mutation!(Phase1NotRetracted))
        .filter(|_| !mutation!(RetractSkipped));
    let Some(debt) = left_behind else {
        return Err(AcquireFailure {
            error,
            debt: None,
            settled: None,
        });
    };
    let note = attempt.unused_note(debt.version());
    let debt = debt.with_note(note);
    waypoint!(error, debt);
    match retract(world, membership, lease, &debt).await {
        Ok(_) => {
            witness!(Retracted);
            Err(AcquireFailure {
                error,
                debt: None,
                settled: Some(debt).filter(Debt::is_of_phase_2),
            })
        }
        Err(failed) => {
            witness!(DebtOwed);
            tracing::warn!(resource = %lease.resource, error = %failed, "an acquire that failed could not be retracted yet");
            Err(AcquireFailure {
                error,
                debt: Some(debt).filter(|_| !mutation!(DebtDropped)),
                settled: None,
            })
        }
    }
}

/// One acquire under way.
pub(super) struct Attempt<'a, W: World> {
    pub(super) world: &'a W,
    pub(super) membership: &'a Membership<W::Disk>,
    pub(super) lease: &'a LeaseArea<W::Disk>,
    pub(super) holding: &'a Holding,
    /// Our input for the version that is being balloted for. One version, one input (INV-INPUT).
    pub(super) own_input: Option<(LeaseVersion, Input)>,
    /// Our block as last written, or tried to be written, as long as another host might commit what
    /// it proposes.
    pub(super) left_behind: Option<Debt>,
    /// Who held the lease in shared mode when phase 1 last looked.
    pub(super) sharers: Vec<(HostId, Generation)>,
    /// For the version that is balloted for: the last one before it under which the disk was used.
    pub(super) unchanged_since: Option<(LeaseVersion, LeaseVersion)>,
    /// Where a version is expected: what was accepted for the next one, by who never used it.
    pub(super) passed_over: Option<(LeaseVersion, Input)>,
}

impl<W: World> Attempt<'_, W> {
    pub(super) fn io(&self) -> Duration {
        self.membership.timing().io()
    }

    /// INV-MEMBER: the time limit of a write, to be asked for right before it.
    pub(super) fn write_limit(&self) -> Result<Duration, AcquireError> {
        let limit = self.membership.write_limit(self.world.now());
        limit.ok_or(AcquireError::LockspaceLost)
    }

    /// Whether this host still is a member; to be asked where there is nothing to write.
    pub(super) fn check_member(&self) -> Result<(), AcquireError> {
        if self.membership.expiry().is_held(self.world.now()) || mutation!(MemberUnchecked) {
            Ok(())
        } else {
            witness!(LostInAcquire);
            Err(AcquireError::LockspaceLost)
        }
    }

    async fn run(&mut self) -> Result<HeldLease, AcquireError> {
        let mut shape = self.lease.expected_shape;
        for _ in 0..RESTARTS_MAX {
            self.check_member()?;
            let in_flight = self.lease.has_write_in_flight(self.world, shape);
            if in_flight && !mutation!(WriteInFlightIgnored) {
                witness!(WriteInFlightRefused);
                return Err(AcquireError::WriteInFlight);
            }
            waypoint!(
                (shape, self.own_input),
                (&self.left_behind, &self.sharers),
                (self.unchanged_since, self.passed_over),
            );
            let image = self
                .lease
                .read_image(self.world, shape, self.membership.host_id(), self.io())
                .await?;
            // A write in flight to a sector that was not expected to be part of the lease: what was
            // read may be overwritten by it.
            let was_expected = shape.covers(image.shape);
            shape = image.shape;
            if !was_expected && !mutation!(GrownInFlightIgnored) {
                continue;
            }
            self.forget_what_was_decided(&image.leader);
            self.refuse_twin(&image)?;
            self.check_expected(&image).await?;
            waypoint!(
                (image.leader, image.shape, image.max_mbal()),
                (
                    image.max_version(),
                    image.block_of(self.membership.host_id())
                ),
                image.sharers().collect::<Vec<_>>(),
                (self.own_input, &self.left_behind, &self.sharers),
                (
                    self.last_used(&image),
                    self.unchanged_since,
                    self.passed_over
                ),
            );

            // INV-NEXT: a block newer than the leader shows that the leader is stale: a write of an
            // older version landed late over it. Its owner's time was judged to be over by whoever
            // balloted for the newer version.
            let newest_block =
                mutation!(BlocksNotCounted, LeaseVersion::new(0), image.max_version());
            let leader_is_stale = newest_block > image.leader.version();
            let ownership = if leader_is_stale && !mutation!(StaleOwnerJudged) {
                witness!(StaleLeader);
                Ownership::Over { waited: true }
            } else {
                self.judge_owner(&image).await?
            };
            let reread_leader = match ownership {
                Ownership::Changed => continue,
                Ownership::Free => false,
                Ownership::Over { waited } => waited,
            };
            self.check_handed_over(&image).await?;
            self.refuse_live_sharers(&image)?;

            let next = mutation!(
                VersionAboveBlocks,
                image.leader.version().max(newest_block).next(),
                image.leader.version().next()
            );
            let next = next.ok_or(AcquireError::NumbersUsedUp)?.max(newest_block);
            // Only of the version right before it is it known who had it.
            self.unchanged_since = (image.leader.version().next() == Some(next))
                .then(|| (next, self.last_used(&image)));
            match self.ballot(&image, next, reread_leader).await? {
                BallotEnd::Restart => {}
                BallotEnd::Won { held, sharers } => {
                    return self.settle_with_sharers(held, &sharers).await;
                }
            }
        }
        Err(AcquireError::Contended {
            rounds: RESTARTS_MAX,
        })
    }

    /// Once the leader shows that a version went to somebody else, what was proposed for it cannot
    /// be committed as ours.
    fn forget_what_was_decided(&mut self, leader: &PaxosLeader) {
        let decided = self
            .left_behind
            .as_ref()
            .is_some_and(|debt| debt.version() <= leader.version());
        let by_another = leader.owner_id() != Some(self.membership.host_id());
        if decided && by_another || mutation!(DebtForgottenAtRestart) {
            witness!(DebtDecided);
            self.left_behind = None;
        }
    }

    /// This acquire's input for `version`.
    pub(super) fn input_for(&mut self, version: LeaseVersion) -> Input {
        match self.own_input {
            Some((bound_to, input)) if bound_to == version => input,
            _ => {
                let input = Input {
                    owner: u64::from(self.membership.host_id()),
                    generation: self.membership.generation().get(),
                    timestamp: self.membership.unique_stamp_secs(self.world.clock_secs()),
                };
                self.own_input = Some((version, input));
                input
            }
        }
    }

    /// The note that goes with a block for `version`.
    pub(super) fn note_for(&self, version: LeaseVersion) -> Option<HolderNote> {
        let mut note = self.holding.note.clone()?;
        note.host_id = self.membership.host_id();
        note.generation = self.membership.generation();
        note.incarnation = Some(self.membership.incarnation());
        note.version = version;
        Some(note)
    }

    /// Remembers what our block holds, or may hold, from now on.
    pub(super) fn leave_behind(&mut self, shape: LeaseShape, block: Dblock) {
        self.left_behind = Some(Debt::of_acquire(shape, block));
    }
}
