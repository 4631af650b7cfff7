//! The list of mutants. Each says which rule is broken, and what goes wrong without it.

/// Declares the enum, the list of all, and their names.
macro_rules! mutations {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// One rule got wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutation {
            $($(#[doc = $doc])* $name,)*
        }

        impl Mutation {
            /// All of them, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name as it stands in the source.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What is got wrong, and what comes of it.
            pub fn rule(self) -> &'static str {
                let lines = match self {
                    $(Self::$name => concat!($($doc),*),)*
                };
                lines.trim_start()
            }
        }
    };
}

mutations! {
    // Times.

    /// A takeover after 8N: the holder has just been notified, and its guest still writes.
    TakeoverAtLost,
    /// A takeover after 8N + F sharp: with a clock that is a little fast the holder is not stopped yet.
    MarginDropped,
    /// The own leases are believed in for 8N + F: nothing is left in which to stop the guest.
    LostTooLate,
    /// A holder that does not stop is killed after F: others write by then.
    GraceBeyondFire,

    // Taking a host id.

    /// A dead owner's id is claimed after 8N: its old guest runs, and its leases are void.
    ClaimAtLost,
    /// The wait for a dead owner goes by the claimant's N: too short beside an owner with a longer one.
    ClaimByOwnTimeout,
    /// Silence counts from the begin of the first read: a renewal that it shows may be younger.
    ClaimSilenceFromReadBegin,
    /// Silence counts to the end of the last read: it has not seen what came after its begin.
    ClaimSilenceToReadEnd,
    /// An owner that renews while it is waited for is not noticed: a live host loses its id.
    ClaimRenewalIgnored,
    /// A re-join without a wait under another name: what stands there is another host's.
    RejoinNameIgnored,
    /// A re-join without a wait though boot and process token are not those of the lock that is held: two
    /// machines of one name void each other's leases.
    RejoinMarkIgnored,
    /// A re-join without a wait though the sector shows another join than this machine has recorded: one of
    /// a machine that was cloned with its memory.
    RejoinIncarnationIgnored,
    /// A claim carries the process token before it is confirmed: when it lands late, over another host's
    /// record, that host's life is taken for an earlier one of the claimant.
    UnconfirmedMarked,
    /// A re-join without a wait and without the process lock: the earlier process may still run.
    RejoinProofIgnored,
    /// A claim keeps the generation: leases of the earlier incarnation are taken for those of the new one.
    GenerationKept,
    /// The sector is read back at once: two claimants see each their own write.
    ShortDelaySkipped,
    /// The delay before the read-back, and the limit of the write, go by the claimant's own N: others
    /// of the same sector go by what stands there.
    ShortDelayByOwnTimeout,
    /// The read-back is not compared: both claimants own the id.
    ConfirmUnchecked,
    /// All hosts have the same incarnation: of twins that join at once both own the id.
    IncarnationConstant,
    /// The read-back goes by the record alone: a twin's is the same to the byte.
    ConfirmIncarnationUnchecked,
    /// From the read to the end of the write it may take any time: the write lands over a claim that
    /// was confirmed in between.
    TooSlowIgnored,
    /// A claim whose write failed is written again for as long as the sector's N allows: others count its
    /// silence since the first write, by its own N.
    ClaimWrittenAgainLate,
    /// A claim with a long way to its confirmation is not renewed: it looks dead, or is expired, when
    /// it is confirmed.
    ClaimNotRenewed,
    /// A claim is renewed whenever it was inspected last, and though it is expired: it writes over who
    /// has taken the id.
    ClaimRenewedLate,
    /// The expiry counts from the confirmation, not from before the write: others begin 2N earlier.
    ClaimCountedFromConfirm,
    /// A claim that was not confirmed frees the id: over the record of another host that is.
    FailedClaimFreed,

    // Keeping and leaving it.

    /// The expiry counts from the end of the renewal's write (INV-RENEW): others began to count when it
    /// reached the disk.
    RenewalCountedFromEnd,
    /// A renewal does not inspect its own sector: it writes over who has taken the id.
    RenewalUnchecked,
    /// A renewal does not compare owner, life and name: after a write that failed, nobody is noticed.
    RenewalOwnerUnchecked,
    /// A renewal does not compare the whole record: another process under the same id, name and life
    /// goes unnoticed.
    RenewalChangeUnchecked,
    /// A renewal does not compare who wrote the note: of twins of one clock each takes the other's
    /// renewals for its own.
    RenewalIncarnationUnchecked,
    /// A renewal that was asked for in time is written after the leases are lost: over who has taken the
    /// id meanwhile.
    RenewedAfterExpiry,
    /// A renewal's write may begin after the leases are lost.
    RenewalBeyondExpiry,
    /// A renewal within the same second, or after a failed one, uses the same timestamp: no sign of life.
    TimestampReused,
    /// After a write that failed the old record is still expected: one that landed looks like somebody
    /// else's, and a good lease is lost.
    FailedRenewalKnown,
    /// A renewal whose write failed or timed out counts as good: nobody else saw it.
    RenewalErrorIgnored,
    /// A sector that is somebody else's is a failed renewal like any other: two hosts of one id go on
    /// until 8N.
    TakenOverNotFatal,
    /// An id is freed after its leases are lost: it is somebody else's by now.
    IdFreedAfterLoss,
    /// An id is freed though it is not known what the disk holds.
    IdFreedAfterFailedRenewal,
    /// An id is freed, and its leases still believed in.
    IdFreedWhileHeld,

    // Believing in the own leases.

    /// A renewal brings back what was lost (EXP-1): a holder was notified, and others have taken over.
    LossNotSticky,
    /// A renewal that ended after the deadline saves the leases.
    LateRenewalCounts,
    /// The question does not read the clock (EXP-2): who was stopped believes until a thread has noticed.
    DeadlineUnchecked,
    /// A renewal moves the deadline back (EXP-3).
    DeadlineMovesBack,
    /// Leases are written though the own are lost (INV-MEMBER): over the next owner.
    WrittenAfterExpiry,
    /// A write that was asked for in time may begin after the leases are lost.
    WriteBegunAfterExpiry,
    /// Two acquires within a second propose the same input (INV-TIMESTAMP): the one takes the other's commit
    /// for its own.
    InputNotUnique,

    // The other hosts.

    /// The N in the sector is believed though the note, which has a checksum, says a longer one.
    TimeoutFieldTrusted,
    /// An N that no host can have written stands for 10 s: too short where it was longer.
    BadTimeoutDefaulted,
    /// F is always the own: a host with a longer one is not stopped yet.
    FireTimeoutIsOwn,
    /// The table counts silence from the begin of the first read.
    TableSilenceFromReadBegin,
    /// The table counts silence to the end of the last read.
    TableSilenceToReadEnd,
    /// A host is dead by the clock though nobody has looked: scans are rare, or fail.
    TableDeadUnseen,
    /// A damaged sector counts as unchanged: a live host dies of a bit.
    TableDamageIsSilence,
    /// A new incarnation with the timestamp of the one before counts as unchanged.
    TableGenerationsMixed,
    /// Another run in the same generation counts as a renewal of the one before.
    TableIncarnationsMixed,
    /// The N of an unchanged record may get shorter: by damage.
    TableTimeoutShrinks,
    /// A host of which nothing was seen yet counts as dead: its shared lock is cleared away.
    UnseenSharerDead,
    /// An earlier incarnation of a host, free or dead in the last scan, speaks for the present one: its shared
    /// lock is cleared away.
    EarlierGenerationOfSharer,
    /// The checksum of leaders is not compared: damage decides who owns an id, or a lease.
    LeaderChecksumIgnored,
    /// The checksum of blocks is not compared.
    BlockChecksumIgnored,

    // Judging an owner.

    /// The owner is not asked for: a live one loses the lease.
    OwnerNotJudged,
    /// A lease of an own earlier incarnation is not known as own: with no other host, it is lost for ever.
    OwnEarlierGenerationRefused,
    /// A lease of a twin in the own generation is taken for own, in a ballot and after: both hold it.
    LeaseOfTwinTaken,
    /// A leader that a twin has committed with our very input is taken for our own commit: both hold the lease.
    CommitOfTwinTaken,
    /// A lease of an own generation to come is taken for own: the lockspace was made anew, and the owner
    /// may run.
    FutureLifeTaken,
    /// The owner's death goes by the acquirer's N.
    OwnerTimeoutIsOwn,
    /// Silence of an owner counts from the begin of the read that showed its content first.
    OwnerSilenceFromReadBegin,
    /// Silence of an owner counts to the end of the last read.
    OwnerSilenceToReadEnd,
    /// A renewal while the owner is watched does not begin the silence anew.
    OwnerRenewalIgnored,
    /// Another run under the owner's id, in the same generation with the same time, goes unnoticed while
    /// the owner is watched.
    OwnerIncarnationIgnored,
    /// A free or silent sector of an older generation than the owner's is believed.
    OlderLifeBelieved,
    /// An owner that re-joined is waited for as if it still held: the lease is never free.
    LaterLifeIgnored,
    /// The watch goes on from the table though it has seen another life.
    TableOfOtherLife,
    /// The table is believed without a read of the sector: an id that was free may be owned again.
    TableBelieved,
    /// An owner whose sector cannot be read counts as dead.
    UnreadableOwnerOver,
    /// RELEASED is not inspected: a late commit leaves a live owner that knows nothing of it.
    ReleasedNotBelieved,
    /// RELEASED is believed though the owner wrote the leader itself. No harm among disklease hosts; next
    /// to sanlock's it can leave a lease that nobody can take.
    ReleasedAlwaysBelieved,
    /// RELEASED, which no checksum covers, is believed against the owner's note.
    ReleasedFlagTrusted,
    /// RELEASED is believed of a block that is older than the leader: the mark of an earlier ownership, in a
    /// sector that was put back, gives a held lease away.
    ReleasedOfEarlierBelieved,
    /// The leader is not read while its owner is watched: who waits does not see it freed.
    LeaderNotWatched,

    // Acquiring.

    /// The version that the caller expects is not compared: a guest resumes over another's writes.
    ExpectedVersionIgnored,
    /// Only the leader is asked for the version, no block: a late write has set the leader back.
    ExpectedBlocksIgnored,
    /// Whose version it was is not compared: a lease that was made anew has come to the same one.
    ExpectedHolderIgnored,
    /// A guest that was lost in an earlier incarnation is resumed wherever the lease names that host: another
    /// has had it in between.
    LostStateTrustsOwner,
    /// A note that a version was not used is believed for whatever version: the next one was used.
    UnusedNoteOfAnyVersion,
    /// A hand-over is accepted when the lease is available, however it was left: the source went on
    /// with its guest.
    HandoverNoteIgnored,
    /// The lease is given back before the guest's writes have ended.
    FlushAfterRelease,
    /// Who has handed over still counts as a holder: both guests run.
    HandoverBothRun,
    /// A commit counts though the leases are lost meanwhile.
    MemberUnchecked,
    /// An acquire begins while a write of this host to the lease is in flight: it reads what is about to
    /// change.
    WriteInFlightIgnored,
    /// The same where the lease turned out to be larger than was inspected.
    GrownInFlightIgnored,
    /// Rule N: the version is the leader's + 1, and a stale leader's owner is judged: aborted for ever.
    BlocksNotCounted,
    /// A stale leader's owner is judged, who may live and know nothing of it.
    StaleOwnerJudged,
    /// The version is newer than every block's: the newest may be held, and its owner was never judged.
    VersionAboveBlocks,
    /// What was left behind is forgotten at each restart: it is committed later, without a holder.
    CleanupForgottenAtRestart,
    /// An acquire that failed is not retracted: another host commits it, without a holder.
    RetractSkipped,
    /// A retraction that failed is forgotten.
    CleanupDropped,
    /// Rule P: an acquire that failed in phase 1 is not retracted.
    Phase1NotRetracted,

    // The ballot.

    /// The leader is not read again before a ballot that comes later.
    LeaderNotReread,
    /// Rule I, before a ballot: a leader that names this host and life counts, for whatever acquire it
    /// was written.
    LeaderNamesUsSuffices,
    /// Rule I, after the commit: a value that names this host counts, of whatever life and acquire.
    CommitNamesUsSuffices,
    /// What phase 1 reads is ignored: what others accepted is not seen.
    Phase1Skipped,
    /// What phase 2 reads is ignored: a higher ballot that has not seen our value goes unnoticed.
    Phase2ReadSkipped,
    /// Larger ballot numbers do not matter.
    MbalIgnored,
    /// Newer versions do not matter: one that was given out long ago is given out again.
    NewerVersionIgnored,
    /// Rule L: a newer version leads to the next ballot number for the old one: overtaken for ever.
    NewerVersionRetried,
    /// What was accepted for an older version is proposed for this one.
    OlderVersionAdopted,
    /// Of several accepted values any is taken, not that of the highest ballot.
    HighestBalIgnored,
    /// What others accepted is not taken over: every host chooses itself.
    AcceptedIgnored,
    /// Rule C: phase 1 zeroes what this host accepted.
    AcceptedForgotten,
    /// What was accepted in an earlier acquire of the same version is not kept.
    EarlierAcceptForgotten,
    /// Ballot numbers count up by one: two hosts use the same.
    BallotNumberShared,
    /// A ballot that was overtaken is tried again with the same number.
    BallotNumberKept,
    /// A block's write that failed or timed out counts as not done: nothing is retracted.
    FailedWriteForgotten,
    /// A commit whose write failed or timed out counts as done.
    CommitErrorIgnored,
    /// A damaged block is skipped: an accepted value may be in it.
    DamagedBlockSkipped,

    // Giving back.

    /// A release does not mark its block: a late commit makes an owner that knows nothing of it.
    ReleaseUnmarked,
    /// A release frees the leader first, then marks its block.
    LeaderFreedFirst,
    /// A release zeroes its block: the value that others rely on is gone.
    ReleaseZeroes,
    /// A release frees the leader whatever it shows.
    ReleaseBlind,
    /// A release frees a leader that another host wrote (INV-WRITER): the next owner may have come
    /// between look and write.
    ReleaseWriterIgnored,
    /// A retraction zeroes the block: version and value are given out twice.
    RetractZeroes,
    /// A retraction does not mark the block.
    RetractUnmarked,
    /// A retraction frees a leader that another host wrote (INV-WRITER).
    RetractWriterIgnored,
    /// A retraction frees whatever leader this host wrote: one that it committed for another.
    RetractOwnerIgnored,
    /// A retraction does not inspect the leader: a commit that landed stays, without a holder.
    RetractLeavesLeader,
    /// A retraction reads the leader while its own commit is in flight.
    RetractInFlightIgnored,
    /// A release marks its block in whatever lies there: in a lease that was initialised anew the mark is
    /// newer than the leader, which others take for stale.
    ReleaseOverRestored,
    /// A release marks its block though the leader names another owner.
    ReleaseOverTaken,
    /// A retraction writes its block into whatever lies there.
    RetractOverRestored,
    /// Whether a lease is still held is asked of its version alone.
    VerifyByVersion,
    /// A leader that another host committed late, of an older version, kills a healthy holder.
    StaleLeaderIsLoss,
    /// An older leader is no loss, whatever the own block says: the lease was put back, and others take it.
    RestoredIsHeld,
    /// Held leases are not read again: one that was put back is held by two.
    HeldNotReread,
    /// A lease in whose place something else lies cannot be read, no more: its holder goes on.
    OtherContentIsDoubt,

    // Shared holders.

    /// Shared holders are not inspected.
    SharersIgnored,
    /// The mark of a live shared holder is cleared away.
    LiveSharerCleared,
    /// The generation in a shared mark, which no checksum covers, is believed against the block's.
    SharerMarkTrusted,

    /// What was reconciled is not inspected again: a write that was reported as failed and done all the same
    /// leaves the lease with a host that lives and does not hold it.
    ReconciledNotWatched,

    // The live lockspace.

    /// A lease is given to the next guard though a pending cleanup of it stands, which is thereby forgotten.
    AcquiredWhileOwing,
    /// A pending cleanup is reconciled while a guard has a lease of the same name by another path, which may be the same
    /// lease.
    ReconciledBesideHolder,
    /// The lockspace is left while guards hold leases.
    LeftWhileHeld,
    /// The host id is freed while I/O is under way, which then lands over the next owner's.
    LeftWithIoInFlight,
    /// A new incarnation begins while I/O of the old one is under way.
    RejoinedWithIoInFlight,
    /// A process lock that is held refuses nobody: two processes of one machine claim one host id.
    ProcessLockIgnored,
    /// Children do not keep the process lock: a guest outlives the process that held its leases.
    ProcessLockNotInherited,
    /// The process lock counts where writes outlive their process, on a network file system.
    NetworkIoForgotten,
    /// Another host's other F is not noticed at the join.
    OtherFireTimeoutJoined,
    /// The grace counts from when a loss was noticed: a process that stood still gets it once more.
    LossSinceNotice,
    /// A holder is killed at 8N already: no guest can be paused in time.
    GraceIgnored,
    /// A holder that does not stop is not killed.
    KillSkipped,
    /// It is killed once: one that could not be killed right then lives on.
    KilledOnce,
    /// The deadman timer fires when others may take over already.
    DeadmanLate,
    /// Renewals do not move the deadman timer: it kills a healthy process.
    DeadmanNotMoved,
    /// The deadman timer is kept when the last holder has stopped: it kills for nothing.
    DeadmanKept,
    /// A loss that is not the clock's does not move the deadman timer: it fires too late for it.
    DeadmanDeafToLoss,
    /// The deadman timer is armed only while there are holders: a member that stood still without any
    /// goes on when its host id is another's.
    DeadmanOnlyWithHolders,
    /// The deadman timer is armed only once the host id is claimed: a claimant that stood still writes over
    /// its successor.
    DeadmanAfterClaim,
    /// The deadline is not waited for while a renewal hangs: the holder is notified too late.
    ExpiryNotWatched,
    /// A sector is written again while a write to it is in flight: the older one lands last. (Also a
    /// rule of each simulated world.)
    SectorWrittenAgain,
}
