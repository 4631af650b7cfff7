//! Rules got wrong, one at a time, in the random simulation: each is found out, by a run that the
//! right rules pass.
//!
//! Others are found by the exhaustive worlds (`exhaustive`) and by the tests of single rules (`wrong` in
//! `delta_rules` and `paxos_rules`); `mutant_lists` sees to it that none is forgotten.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use disklease_sim::fleet::{Budget, Seeds, cores, explain, run, run_on};
use disklease_sim::mutations::{Mutation, Mutations};
use disklease_sim::scenario::Profile;
use disklease_sim::trial::run_seed;

/// Where each is looked for, and in how many schedules it must be found.
const TABLE: &[(Profile, u64, &[Mutation])] = &[
    (Profile::Ballots, 40_000, BALLOTS),
    (Profile::Takeover, 40_000, TAKEOVER),
    (Profile::Ids, 40_000, IDS),
    (Profile::Twins, 40_000, TWINS),
    (Profile::Moves, 40_000, MOVES),
    (Profile::Fences, 40_000, FENCES),
    (Profile::Operators, 10_000, OPERATORS),
    (Profile::PutBack, 10_000, PUT_BACK),
    (Profile::Frozen, 5000, FROZEN),
];

const BALLOTS: &[Mutation] = &[
    Mutation::AcceptedForgotten,
    Mutation::AcceptedIgnored,
    Mutation::AcquiredWhileOwing,
    Mutation::BallotNumberShared,
    Mutation::BlocksNotCounted,
    Mutation::CommitNamesUsSuffices,
    Mutation::CleanupDropped,
    Mutation::EarlierAcceptForgotten,
    Mutation::FailedWriteForgotten,
    Mutation::HighestBalIgnored,
    Mutation::MbalIgnored,
    Mutation::NewerVersionIgnored,
    Mutation::OlderVersionAdopted,
    Mutation::OwnerNotJudged,
    Mutation::Phase1NotRetracted,
    Mutation::Phase1Skipped,
    Mutation::Phase2ReadSkipped,
    Mutation::ReleaseUnmarked,
    Mutation::ReleaseZeroes,
    Mutation::ReleasedNotBelieved,
    Mutation::RetractLeavesLeader,
    Mutation::RetractOwnerIgnored,
    Mutation::RetractSkipped,
    Mutation::RetractUnmarked,
    Mutation::RetractZeroes,
    Mutation::TableBelieved,
    Mutation::VersionAboveBlocks,
];

/// The escalation and the deadman cover for each other where the process runs.
const FENCES: &[Mutation] = &[Mutation::DeadmanLate];

const TAKEOVER: &[Mutation] = &[
    Mutation::ClaimAtLost,
    Mutation::ClaimCountedFromConfirm,
    Mutation::DeadlineUnchecked,
    Mutation::LossNotSticky,
    Mutation::LostTooLate,
    Mutation::OwnEarlierGenerationRefused,
    Mutation::OwnerRenewalIgnored,
    Mutation::OwnerTimeoutIsOwn,
    Mutation::RejoinProofIgnored,
    Mutation::TakeoverAtLost,
    Mutation::UnreadableOwnerOver,
];

const IDS: &[Mutation] = &[
    Mutation::ClaimByOwnTimeout,
    Mutation::ClaimRenewalIgnored,
    Mutation::ConfirmUnchecked,
    Mutation::RejoinMarkIgnored,
    Mutation::ShortDelaySkipped,
    Mutation::UnconfirmedMarked,
];

const TWINS: &[Mutation] = &[
    Mutation::ConfirmIncarnationUnchecked,
    Mutation::FailedClaimFreed,
    Mutation::IncarnationConstant,
    Mutation::RejoinIncarnationIgnored,
];

const MOVES: &[Mutation] = &[
    Mutation::ExpectedVersionIgnored,
    Mutation::FlushAfterRelease,
    Mutation::HandoverBothRun,
    Mutation::HandoverNoteIgnored,
    Mutation::LostStateTrustsOwner,
];

const FROZEN: &[Mutation] = &[
    Mutation::DeadmanAfterClaim,
    Mutation::DeadmanOnlyWithHolders,
];

const OPERATORS: &[Mutation] = &[
    Mutation::HeldNotReread,
    Mutation::OtherContentIsDoubt,
    Mutation::ReleaseOverRestored,
    Mutation::RestoredIsHeld,
    Mutation::RetractOverRestored,
    Mutation::VerifyByVersion,
];

const PUT_BACK: &[Mutation] = &[
    Mutation::FutureLifeTaken,
    Mutation::LeaseOfTwinTaken,
    Mutation::OlderLifeBelieved,
    Mutation::RenewalChangeUnchecked,
];

/// Does `work` to each of `items`, on all cores.
fn for_each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

#[test]
fn each_mutant_breaks_something_within_its_budget() {
    let all: Vec<_> = TABLE
        .iter()
        .flat_map(|&(profile, budget, mutations)| {
            mutations.iter().map(move |&wrong| (profile, budget, wrong))
        })
        .collect();
    let unnoticed = Mutex::new(Vec::new());
    for_each(&all, |&(profile, budget, wrong)| {
        let seeds = Seeds {
            first: 0,
            profile: Some(profile),
        };
        let report = run_on(1, seeds, Budget::Runs(budget), wrong.into());
        match report.broken {
            Some(broken) => println!(
                "{wrong}: {profile:?} {}, {:.1?}: {}",
                broken.seed, report.took, broken.what
            ),
            None => unnoticed.lock().unwrap().push(wrong),
        }
    });
    let unnoticed = unnoticed.into_inner().unwrap();
    assert!(
        unnoticed.is_empty(),
        "got wrong and not noticed: {unnoticed:?}"
    );
}

/// What the mutants are found with finds nothing in the right rules.
#[test]
fn the_right_rules_pass_the_same_budget() {
    for &(profile, budget, _) in TABLE {
        let seeds = Seeds {
            first: 0,
            profile: Some(profile),
        };
        let report = run(seeds, Budget::Runs(budget), Mutations::NONE);
        if let Some(broken) = &report.broken {
            panic!("{}", explain(broken, Mutations::NONE));
        }
        assert_eq!(report.runs, budget);
    }
}

/// How many schedules of each profile a mutant survives. Checks nothing: to find out where a new
/// one is best looked for. `DISKLEASE_SCHEDULES` of each profile, or of `DISKLEASE_PROFILE` alone;
/// `DISKLEASE_ONLY` some names, with commas between.
#[test]
#[ignore = "a tool"]
fn survey() {
    let asked = |name: &str| std::env::var(name).ok();
    let most = asked("DISKLEASE_SCHEDULES").map_or(20_000, |text| text.parse().unwrap());
    let only = asked("DISKLEASE_ONLY");
    let profile = asked("DISKLEASE_PROFILE").map(|name| Profile::named(&name).unwrap());
    let wanted = |mutation: &&Mutation| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|name| name == mutation.name()))
    };
    let mutations: Vec<_> = Mutation::ALL
        .iter()
        .copied()
        .filter(|m| wanted(&m))
        .collect();
    std::panic::set_hook(Box::new(|_| {}));
    for_each(&mutations, |&wrong| {
        #[expect(
            clippy::disallowed_methods,
            reason = "how long the hunt took, for people"
        )]
        let begun = Instant::now();
        let _switched = Mutations::from(wrong).switch();
        let profiles = Profile::ALL
            .into_iter()
            .filter(|&one| profile.is_none_or(|profile| profile == one));
        let found: Vec<_> = profiles
            .filter_map(|profile| {
                let first = (0..most).find_map(|seed| {
                    let broken = run_seed(profile, seed).broken?;
                    Some((seed, broken))
                });
                let (seed, broken) = first?;
                let kind = disklease_sim::shrink::kind_of(&broken);
                Some(format!("{profile:?} {seed} {:.1?} {kind}", begun.elapsed()))
            })
            .collect();
        println!("{wrong}: {}", found.join(", "));
    });
}
