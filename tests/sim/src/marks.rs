//! Coverage marks: the rare things that the algorithms reach, each a `tracing` event of the library with a name
//! of its own. A set of schedules in which one of them never happens shows less than it seems to.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use tracing::callsite::Identifier;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Metadata};

/// All of them, by the names of their events.
pub const MARKS: &[&str] = &[
    // Host ids.

    // An id was claimed whose owner had been silent for long enough.
    "claimed_from_dead",
    // An id was claimed that its owner freed while it was waited for.
    "claimed_once_freed",
    // An id was taken without a wait: the earlier generation was proven to have ended.
    "rejoined_at_once",
    // A claim found another host.
    "claim_in_use",
    // A claim found another run under its own name.
    "claim_of_twin",
    // From the read to the end of the write it took too long.
    "claim_too_slow",
    // A claim was renewed before it was confirmed.
    "claim_renewed",
    // A claim could not be written.
    "claim_not_written",
    // A claim was written and not confirmed.
    "claim_failed",
    // A renewal's write failed, or timed out.
    "renewal_failed",
    // A renewal was good after others had failed, so either version could be on the disk.
    "renewed_after_failure",
    // A renewal found the sector with another owner, generation or name.
    "renewal_taken_over",
    // A renewal found its own sector with something that it did not write.
    "renewal_changed",
    // A renewal found its own sector as another run of the same name had written it.
    "renewal_of_twin",
    // The leases were lost between a renewal's read and its write.
    "renewal_expired",
    // A question found the deadline passed.
    "expired_by_deadline",
    // A renewal was good, and came too late.
    "renewed_too_late",
    // An id was given back.
    "host_id_freed",
    // An id was not given back: its leases were lost.
    "host_id_kept_when_lost",
    // An id was not given back: the last renewal had failed.
    "host_id_kept_in_doubt",
    // A table held a damaged sector.
    "sectors_damaged",
    // Acquiring a lease.

    // Refused, as a write of this host's own was in flight.
    "write_in_flight",
    // The leader named this host: of an earlier generation.
    "own_earlier_generation",
    // The leader named this host: of this generation, without a holder.
    "own_leftover",
    // The leader named this host in this generation, and its block was another run's.
    "lease_of_twin",
    // What was to be cleaned up on a lease was found to be a twin's.
    "cleanup_of_twin",
    // The owner was alive; or may have been, and was not waited for any longer.
    "owner_respected",
    // The owner's sector could not be read or believed.
    "owner_unreadable",
    // The leader named a generation that the lockspace has not reached.
    "owner_from_the_future",
    // An owner was silent for long enough.
    "owner_dead",
    // An owner had freed its id.
    "owner_left",
    // An owner had entered a later generation.
    "owner_rejoined",
    // An owner had marked its block, and the leader was another host's late commit.
    "owner_released",
    // The leader changed while its owner was watched.
    "leader_moved_while_watched",
    // A block was newer than the leader (INV-NEXT).
    "leader_stale",
    // The lease was used since it was left.
    "version_changed",
    // A version that its owner had not used was skipped.
    "version_skipped",
    // A lease was given back, or its owner was dead, but it was not handed over.
    "not_handed_over",
    // A lease that was handed over was taken.
    "taken_as_handed_over",
    // The flush before a hand-over failed.
    "handover_kept",
    // A lease was handed over.
    "handover_gone",
    // The leases of this host were lost in the middle of an acquire.
    "lost_in_acquire",
    // A leader that was read again before a ballot had moved.
    "leader_moved_before_ballot",
    // A leader that was read again showed this acquire's own input: another host committed it.
    "committed_by_another",
    // Phase 1 carried on what this host had accepted before (INV-KEEP).
    "value_kept",
    // A higher ballot overtook.
    "ballot_overtaken",
    // A newer version was met.
    "newer_version_met",
    // Phase 2 took over what another host, or another acquire, had proposed.
    "value_adopted",
    // The value committed was not this acquire's own.
    "committed_for_another",
    // A lease was won by the own commit.
    "committed",
    // What was left behind turned out to be decided otherwise.
    "proposal_decided",
    // An acquire that failed was cleaned up.
    "acquire_cleaned_up",
    // An acquire that failed could not be cleaned up yet.
    "cleanup_pending",
    // A pending cleanup was done later.
    "cleanup_done",
    // A cleanup freed the leader.
    "cleanup_freed_leader",
    // A cleanup left a leader alone that named this host: another host wrote it.
    "cleanup_left_leader",
    // A cleanup waited for the end of the own commit.
    "cleanup_awaits_commit",
    // A cleanup did not find its own block.
    "cleanup_not_there",
    // A cleanup found something else than the lease.
    "cleanup_void",
    // Giving a lease back.

    // The leader was freed.
    "release_freed_leader",
    // The leader was left alone: another host's late commit.
    "release_left_leader",
    // The lease was not ours any more.
    "release_not_ours",
    // A release did not find its own block.
    "release_not_there",
    // A lease that was held was found to be gone, or another's.
    "held_not_there",
    // A lease was held though the leader showed an older version.
    "held_under_stale_leader",
    // Shared holders.

    // A shared holder that may be alive was respected before the ballot.
    "sharer_refused",
    // A shared holder that may be alive was found after the ballot: the lease was given back.
    "sharer_respected",
    // The mark of a dead shared holder was cleared away.
    "sharer_cleared",
];

/// How often each was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarkCounts(BTreeMap<&'static str, u64>);

impl MarkCounts {
    /// How often `mark` was reached.
    pub fn of(&self, mark: &str) -> u64 {
        assert!(is_mark(mark), "there is no mark {mark}");
        self.0.get(mark).copied().unwrap_or(0)
    }

    /// All with their counts, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        MARKS.iter().map(|&mark| (mark, self.of(mark)))
    }

    /// Adds what another thread, or another run, has counted.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.0 {
            *self.0.entry(mark).or_default() += count;
        }
    }
}

fn is_mark(name: &str) -> bool {
    MARKS.contains(&name)
}

thread_local! {
    static COUNTS: RefCell<HashMap<Identifier, (&'static str, u64)>> = RefCell::default();
}

/// Counts from now on, on all threads of this process, each for itself.
///
/// For the whole process, because `tracing` caches whether anybody wants an event: a subscriber of one thread
/// alone goes without the events that another thread reaches first.
pub fn count_marks() {
    // It fails where it was done before.
    let _ = tracing::subscriber::set_global_default(Counter);
}

/// What this thread has counted since it was last asked.
pub fn take_marks() -> MarkCounts {
    let counted = COUNTS.with_borrow_mut(std::mem::take);
    MarkCounts(counted.into_values().collect())
}

/// Counts marks, and does nothing else: millions of schedules run under it.
struct Counter;

impl Subscriber for Counter {
    /// Asked once of each place in the source.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("disklease::") && is_mark(metadata.name())
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        COUNTS.with_borrow_mut(|counts| {
            let (_, count) = counts
                .entry(metadata.callsite())
                .or_insert_with(|| (metadata.name(), 0));
            *count += 1;
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
