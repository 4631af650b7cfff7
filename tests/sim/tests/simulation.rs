//! Whole hosts in random schedules: nothing breaks, and everything happens.
//!
//! `tests/sim/src/machine.rs` says what a host does, `scenario.rs` what befalls it, `disk.rs` what the
//! storage may do wrong, `checker.rs` what must never be. A run is all in its seed:
//!
//! * `DISKLEASE_SEED=123` runs that one alone and prints its history, shortened if it breaks
//!   something, or whole with `DISKLEASE_WHOLE=1`; `DISKLEASE_PROFILE=Rejoins` makes it, or all, of this
//!   profile;
//! * `DISKLEASE_SCHEDULES=2000000` sets how many are run, `DISKLEASE_SECONDS=3600` for how long
//!   instead, `DISKLEASE_FIRST_SEED=1` where to begin.

use std::time::Duration;

use disklease_sim::fleet::{Broken, Budget, Seeds, explain, run};
use disklease_sim::mutations::Mutations;
use disklease_sim::scenario::Profile;
use disklease_sim::trial;

/// What a run of the gate makes.
const SCHEDULES: u64 = 2_000_000;

/// Things that no schedule of this simulation brings about: nobody holds leases in shared mode. And one that is
/// too rare to be counted on: a host finds a twin's note where it has a cleanup pending. Single rules have tests
/// of all.
const NOT_HERE: &[&str] = &[
    "cleanup_of_twin",
    "sharer_refused",
    "sharer_respected",
    "sharer_cleared",
];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

#[test]
fn random_schedules_break_nothing_and_reach_everything() {
    let profile = std::env::var("DISKLEASE_PROFILE").ok().map(|name| {
        Profile::named(&name)
            .unwrap_or_else(|| panic!("{name} is none of the profiles {:?}", Profile::ALL))
    });
    if let Some(seed) = number("DISKLEASE_SEED") {
        return show(profile.unwrap_or_else(|| Profile::of(seed)), seed);
    }
    let first = number("DISKLEASE_FIRST_SEED").unwrap_or(0);
    let budget = match number("DISKLEASE_SECONDS") {
        Some(seconds) => Budget::Time(Duration::from_secs(seconds)),
        None => Budget::Runs(number("DISKLEASE_SCHEDULES").unwrap_or(SCHEDULES)),
    };
    let report = run(Seeds { first, profile }, budget, Mutations::NONE);
    println!("seeds from {first} on: {}", report.summary());
    if let Some(broken) = &report.broken {
        println!("{broken:?}: looking for a shorter history");
        panic!("{}", explain(broken, Mutations::NONE));
    }
    if profile.is_some() {
        return;
    }
    let never: Vec<_> = report
        .marks
        .iter()
        .chain(report.tally.fields())
        .filter(|(name, count)| *count == 0 && !NOT_HERE.contains(name))
        .map(|(name, _)| name)
        .collect();
    assert!(never.is_empty(), "these never happened: {never:?}");
}

fn show(profile: Profile, seed: u64) {
    let verdict = trial::run_seed(profile, seed);
    match verdict.broken {
        Some(what) => {
            let broken = Broken {
                profile,
                seed,
                what,
            };
            panic!("{}", explain(&broken, Mutations::NONE));
        }
        None => {
            let (_, drawn) = trial::record_seed(profile, seed);
            let verdict = trial::run_drawn(profile, &drawn, true);
            println!(
                "{}\nseed {seed} breaks nothing",
                verdict.history.unwrap_or_default()
            );
        }
    }
}

/// A run is all in its seed, and all in the numbers that it draws.
#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..200 {
        let profile = Profile::ALL[seed as usize % Profile::ALL.len()];
        let (first, drawn) = trial::record_seed(profile, seed);
        let again = trial::run_seed(profile, seed);
        let told = trial::run_drawn(profile, &drawn, true);
        for other in [&again, &told] {
            assert_eq!(first.steps, other.steps, "seed {seed}");
            assert_eq!(first.tally.fields(), other.tally.fields(), "seed {seed}");
            assert_eq!(first.broken, other.broken, "seed {seed}");
        }
    }
}
