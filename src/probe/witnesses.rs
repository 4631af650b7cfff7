//! What is worth seeing: each time that one of these is reached, it is counted.

use std::cell::Cell;

/// Declares the enum, and the list of all.
macro_rules! witnesses {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Something that happens only in some schedules.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(clippy::exhaustive_enums, reason = "only for this package's own tests")]
        pub enum Witness {
            $($(#[doc = $doc])* $name,)*
        }

        impl Witness {
            /// All of them, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

witnesses! {
    // Host ids.
    /// An id was claimed whose owner had been silent for long enough.
    ClaimOfDead,
    /// An id was claimed that its owner freed while it was waited for.
    ClaimOfFreed,
    /// An id was taken without a wait: the earlier life was proven to be over.
    FastRejoin,
    /// A claim found another host.
    ClaimInUse,
    /// A claim found another run under its own name.
    ClaimOfTwin,
    /// From the read to the end of the write it took too long.
    ClaimTooSlow,
    /// A claim was renewed before it was confirmed.
    ClaimRenewed,
    /// A claim whose write failed was written again.
    ClaimWrittenAgain,
    /// A claim was written and not confirmed.
    ClaimFailed,
    /// A renewal's write failed, or timed out.
    RenewalFailed,
    /// A renewal was good after others had failed, so either version could be on the disk.
    RenewedAfterFailure,
    /// A renewal found the sector with another owner, life or name.
    RenewalTakenOver,
    /// A renewal found its own sector with something that it did not write.
    RenewalChanged,
    /// A renewal found its own sector as another run of the same name had written it.
    RenewalOfTwin,
    /// The leases were lost between a renewal's read and its write.
    RenewalExpired,
    /// A question found the deadline passed.
    ExpiredByDeadline,
    /// A renewal was good, and came too late.
    ExtendedTooLate,
    /// An id was given back.
    IdFreed,
    /// An id was not given back: its leases were lost.
    IdLeftOwnedWhenLost,
    /// An id was not given back: the last renewal had failed.
    IdLeftOwnedUnknown,
    /// A table held a damaged sector.
    SectorDamaged,

    // Acquiring a lease.
    /// Refused, as a write of this host's own was in flight.
    WriteInFlightRefused,
    /// The leader named this host: of an earlier life.
    OwnEarlierLife,
    /// The leader named this host: of this life, without a holder.
    OwnLeftover,
    /// The leader named this host in this generation, and its block was another run's.
    LeaseOfTwin,
    /// What was owed on a lease was found to be a twin's.
    RetractOfTwin,
    /// The owner was alive, or out of patience.
    OwnerRefused,
    /// The owner's sector could not be read or believed.
    OwnerUnreadable,
    /// The leader named a generation that the lockspace has not reached.
    FromTheFuture,
    /// An owner was silent for long enough.
    TakeoverOfDead,
    /// An owner had freed its id.
    OwnerFreedTakeover,
    /// An owner had entered a later life.
    OwnerRejoinedTakeover,
    /// An owner had marked its block, and the leader was another host's late commit.
    ReleasedBelieved,
    /// The leader changed while its owner was watched.
    LeaderChangedWhileWatched,
    /// A block was newer than the leader (INV-NEXT).
    StaleLeader,
    /// The lease was used since it was left.
    VersionChanged,
    /// A version that its owner had not used was passed over.
    UnusedPassedOver,
    /// A lease was given back, or its owner was dead, but it was not handed over.
    NotHandedOver,
    /// A lease that was handed over was taken.
    HandedOverTaken,
    /// The flush before a hand-over failed.
    HandoverKept,
    /// A lease was handed over.
    HandoverGone,
    /// The leases of this host were lost in the middle of an acquire.
    LostInAcquire,
    /// A leader that was read again before a ballot had moved.
    RestartLeaderMoved,
    /// A leader that was read again showed this acquire's own input: another host committed it.
    NamesOurInput,
    /// Phase 1 carried on what this host had accepted before (INV-KEEP).
    KeptValue,
    /// A higher ballot overtook.
    Overtaken,
    /// A newer version was met.
    NewerVersion,
    /// Phase 2 took over what another host, or another acquire, had proposed.
    AdoptedValue,
    /// The value committed was not this acquire's own.
    CommittedOther,
    /// A lease was won by the own commit.
    CommittedOwn,
    /// What was left behind turned out to be decided otherwise.
    DebtDecided,
    /// An acquire that failed was retracted.
    Retracted,
    /// An acquire that failed could not be retracted yet.
    DebtOwed,
    /// A debt was settled later.
    DebtSettled,
    /// A retraction freed the leader.
    RetractFreedLeader,
    /// A retraction left a leader alone that named this host: another host wrote it.
    RetractLeftLeader,
    /// A retraction waited for the end of the own commit.
    RetractInFlight,
    /// A retraction did not find its own block.
    RetractNotThere,
    /// A retraction found something else than the lease.
    RetractVoid,

    // Giving a lease back.
    /// The leader was freed.
    ReleaseFreedLeader,
    /// The leader was left alone: another host's late commit.
    ReleaseLeftLeader,
    /// The lease was not ours any more.
    ReleaseNotOurs,
    /// A release did not find its own block.
    ReleaseNotThere,
    /// A lease that was held was found to be gone, or another's.
    HeldNotThere,
    /// A lease was held though the leader showed an older version.
    HeldUnderStaleLeader,

    // Shared holders.
    /// A shared holder that may be alive was respected before the ballot.
    SharerRefused,
    /// A shared holder that may be alive was found after the ballot: the lease was given back.
    SharerRespected,
    /// The mark of a dead shared holder was cleared away.
    SharerCleared,
}

const COUNT: usize = Witness::ALL.len();

thread_local! {
    static COUNTS: [Cell<u64>; COUNT] = const { [const { Cell::new(0) }; COUNT] };
}

/// How often each was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessCounts([u64; COUNT]);

impl Witness {
    /// The name as it stands in the source.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    #[expect(clippy::as_conversions, reason = "the number of a variant")]
    const fn index(self) -> usize {
        self as usize
    }

    #[inline]
    pub(crate) fn count(self) {
        COUNTS.with(|counts| {
            if let Some(count) = counts.get(self.index()) {
                count.set(count.get().saturating_add(1));
            }
        });
    }

    /// What this thread has counted since it was last asked.
    #[must_use]
    pub fn take_counts() -> WitnessCounts {
        COUNTS.with(|counts| {
            WitnessCounts(std::array::from_fn(|at| {
                counts.get(at).map_or(0, Cell::take)
            }))
        })
    }
}

impl WitnessCounts {
    /// None of all.
    #[must_use]
    pub const fn none() -> Self {
        Self([0; COUNT])
    }

    /// How often `witness` was reached.
    #[must_use]
    pub fn of(&self, witness: Witness) -> u64 {
        self.0.get(witness.index()).copied().unwrap_or(0)
    }

    /// All with their counts, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = (Witness, u64)> {
        Witness::ALL
            .iter()
            .map(|&witness| (witness, self.of(witness)))
    }

    /// Adds what another thread, or another run, has counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }
}
