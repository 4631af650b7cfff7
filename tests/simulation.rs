//! Random runs of whole hosts.
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
    reason = "a test; and each test uses only some of the harness"
)]

#[path = "sim/harness.rs"]
mod sim;

use std::time::Instant;

#[test]
fn nothing_breaks() {
    let runs: u64 = std::env::var("SIM_RUNS").map_or(10_000, |t| t.parse().unwrap());
    let from: u64 = std::env::var("SIM_FROM").map_or(0, |t| t.parse().unwrap());
    let mut total = sim::referee::Tally::default();
    let mut steps = 0;
    let begun = Instant::now();
    let mut failures = std::collections::BTreeMap::<String, (u64, u64)>::new();
    for seed in from..from + runs {
        let verdict = sim::trial::run_seed(seed);
        total.add(&verdict.tally);
        steps += verdict.steps;
        if let Some(broken) = verdict.broken {
            let key = format!(
                "{:?} {}",
                sim::scenario::Profile::of(seed),
                broken.split(':').next().unwrap()
            );
            let entry = failures.entry(key).or_insert((0, seed));
            entry.0 += 1;
        }
    }
    println!("{:#?} {steps} steps {:?}", total, begun.elapsed());
    println!("{failures:#?}");
}

#[test]
fn speed() {
    for profile in [0u64, 9, 13, 15] {
        let begun = Instant::now();
        let mut steps = 0;
        let mut total = sim::referee::Tally::default();
        for k in 0..1000 {
            let v = sim::trial::run_seed(profile + 16 * k);
            steps += v.steps;
            total.add(&v.tally);
        }
        println!(
            "{profile}: {steps} steps {:?} acq {} ref {}",
            begun.elapsed(),
            total.acquires,
            total.refusals
        );
    }
}
