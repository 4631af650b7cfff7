//! Taking a lease: read all, judge the owner, ballot; again from the start where something moved.

use super::area::{LeaseArea, LeaseIo};
use super::attempt::Attempt;
use super::ballot::{self, Abort};
use super::continuity;
use super::error::AcquireError;
use super::give_back::{LeftBehind, retract};
use super::held::HeldLease;
use super::holding::Holding;
use super::judge::{self, Watched, Whose};
use super::{rules, sharers};
use crate::delta_lease::Membership;
use crate::probe::waypoint;
use crate::world::World;

/// How often an acquire begins anew, because others moved, before it gives up.
const RESTARTS_MAX: u32 = 64;

/// An acquire that failed, and what it may have left behind.
#[derive(Clone, Debug)]
pub struct AcquireFailure {
    /// Why.
    pub error: AcquireError,
    /// What has to be cleaned up still, because the storage did not take the clean-up: until that
    /// is done, other hosts may yet make this one the owner without its knowledge.
    pub pending: Option<LeftBehind>,
    /// What was cleaned up, or found not to be there, where others may commit a value that was in it. The
    /// lease is to be observed for some time: a storage that does a write after it reported it as failed could
    /// bring this host's ownership back. See [`came_back`](super::came_back).
    pub cleaned_up: Option<LeftBehind>,
}

/// Acquires the lease at `lease`, exclusively, for the host of `membership`, which neither holds the lease nor
/// runs another acquire, release or clean-up of it.
///
/// An uncontended acquire of a free lease is six dependent I/Os: read all, write the own block,
/// read all, write the own block, read all, write the leader. A live owner is reported after three reads:
/// the lease, the owner's delta sector, and the owner's block for its note; after one more of the block where
/// another host wrote the leader.
///
/// # Errors
///
/// [`AcquireFailure`]. What another host could still commit of this acquire was cleaned up, or is in the
/// failure's `pending`.
pub async fn acquire<W: World>(
    world: &W,
    membership: &Membership<W::Disk>,
    lease: &LeaseArea<W::Disk>,
    holding: &Holding,
) -> Result<HeldLease, AcquireFailure> {
    let mut io = LeaseIo::new(world, membership, lease, lease.expected_shape);
    let mut attempt = Attempt::new(holding);
    match read_judge_ballot(&mut io, &mut attempt).await {
        Ok(held) => Ok(held),
        Err(error) => Err(clean_up(&io, attempt, error).await),
    }
}

/// Begins anew from the read where something moved.
async fn read_judge_ballot<W: World>(
    io: &mut LeaseIo<'_, W>,
    attempt: &mut Attempt<'_>,
) -> Result<HeldLease, AcquireError> {
    for _ in 0..RESTARTS_MAX {
        io.check_member()?;
        if rules::must_await_own_write(io.is_lease_in_flight()) {
            tracing::debug!(name: "write_in_flight", resource = %io.area.resource,
                "an earlier write of this host to the lease has not completed");
            return Err(AcquireError::WriteInFlight);
        }
        waypoint!(io.shape, attempt);
        let image = io.read_all().await?;
        let has_expected_shape = io.shape.covers(image.shape);
        io.shape = image.shape;
        if rules::must_read_again(has_expected_shape) {
            continue;
        }
        attempt.forget_if_decided(&image.leader, io.me());
        judge::refuse_twin(io, attempt, &image)?;
        continuity::check_image(io, attempt, &image).await?;
        let last_used = continuity::last_used(attempt, &image);
        waypoint!(image.essence(io.me()), last_used, attempt);

        let leader_may_have_moved = match judge::whose(&image, io.membership)? {
            Whose::Nobodys => false,
            // No read is atomic over sectors: the newer version may have been committed in the middle of it.
            Whose::Stale => true,
            // Time has passed.
            Whose::Others(owner) => {
                match judge::watch_owner(io, attempt.holding, &image, owner).await? {
                    Watched::Ended => true,
                    Watched::LeaderMoved => continue,
                }
            }
        };
        continuity::check_handed_over(io, attempt.holding).await?;
        sharers::refuse_live(io, &image)?;

        let version = image.leader.version();
        let next = rules::next_version(version, image.newest_version());
        let next = next.ok_or(AcquireError::NumbersUsedUp)?;
        // Who had the version right before `next` is known; of an earlier one it is not.
        attempt.last_used_before = (version.next() == Some(next)).then_some((next, last_used));
        match ballot::decide(io, attempt, &image, next, leader_may_have_moved).await {
            Ok(held) => return sharers::respect_or_clear(io, attempt, held).await,
            Err(Abort::BeginAnew | Abort::Overtaken(_)) => {}
            Err(Abort::Failed(error)) => return Err(error),
        }
    }
    let rounds = RESTARTS_MAX;
    Err(AcquireError::Contended { rounds })
}

/// Sees to it that an acquire which failed leaves no ownership behind.
async fn clean_up<W: World>(
    io: &LeaseIo<'_, W>,
    attempt: Attempt<'_>,
    error: AcquireError,
) -> AcquireFailure {
    let mut failure = AcquireFailure {
        error,
        pending: None,
        cleaned_up: None,
    };
    let written = attempt.written.clone();
    let Some(left) = written.filter(|left| rules::must_be_cleaned_up(&left.block())) else {
        return failure;
    };
    let note = attempt.unused_note(io, left.version());
    let left = left.with_note(note);
    waypoint!(failure.error, left);
    match retract(io.world, io.membership, io.area, &left).await {
        Ok(_) => {
            tracing::debug!(name: "acquire_cleaned_up", resource = %io.area.resource, version = %left.version(),
                "an acquire that failed is cleaned up");
            // Phase 1 alone, with no value kept from before, proposes nothing that others could commit.
            let has_value = rules::accepted(left.block()).is_some();
            failure.cleaned_up = has_value.then_some(left);
        }
        Err(failed) => {
            tracing::warn!(name: "cleanup_pending", resource = %io.area.resource, lease = ?io.area.disk, error = %failed,
                "pending cleanup: what an acquire that failed has left on the lease could not be taken back yet");
            failure.pending = rules::still_pending(left);
        }
    }
    failure
}
