//! How many schedules the simulator plays in a second, on one core.
//!
//! `cargo bench --features __sim --bench simulation`. Each profile by itself, and all as the test
//! `simulation` mixes them: a schedule is one run of two or three whole hosts, some hundred steps.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::items_after_statements,
    clippy::redundant_closure_for_method_calls,
    clippy::result_large_err,
    clippy::semicolon_if_nothing_returned,
    clippy::single_match_else,
    clippy::struct_excessive_bools,
    clippy::type_complexity,
    clippy::unchecked_time_subtraction,
    clippy::wrong_self_convention,
    clippy::unwrap_used,
    dead_code,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "a bench; and each user uses only some of the harness"
)]

#[path = "../tests/sim/harness.rs"]
mod sim;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use sim::scenario::Profile;
use sim::trial::run_seed;

/// Schedules in one measured piece of work.
const SCHEDULES: u64 = 320;

fn schedules(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedules");
    group
        .throughput(Throughput::Elements(SCHEDULES))
        .sample_size(10);
    let profiles = Profile::ALL.into_iter().map(Some).chain([None]);
    for profile in profiles {
        let name = profile.map_or_else(|| "mixed".to_owned(), |profile| format!("{profile:?}"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for seed in 0..SCHEDULES {
                    let profile = profile.unwrap_or_else(|| Profile::of(seed));
                    let verdict = run_seed(profile, seed);
                    assert_eq!(verdict.broken, None, "seed {seed} of {profile:?}");
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, schedules);
criterion_main!(benches);
