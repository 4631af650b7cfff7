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
fn hunt() {
    use disklease::__sim::probe::{Mutation, Mutations};
    let budget: u64 = std::env::var("SIM_BUDGET").map_or(20_000, |t| t.parse().unwrap());
    let only = std::env::var("SIM_ONLY").ok();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(&mutation) = Mutation::ALL.get(at) else {
                        return;
                    };
                    if only
                        .as_ref()
                        .is_some_and(|o| !o.split(',').any(|x| x == mutation.name()))
                    {
                        continue;
                    }
                    let begun = Instant::now();
                    let _on = Mutations::from(mutation).switch();
                    let mut hit = None;
                    for seed in 0..budget {
                        let verdict = sim::trial::run_seed(seed);
                        if let Some(broken) = verdict.broken {
                            hit = Some((seed, broken));
                            break;
                        }
                    }
                    match hit {
                        Some((seed, broken)) => {
                            println!(
                                "FOUND {mutation}: {seed} {:?} {:?} {broken}",
                                sim::scenario::Profile::of(seed),
                                begun.elapsed()
                            );
                        }
                        None => println!("NOT {mutation}: {:?}", begun.elapsed()),
                    }
                }
            });
        }
    });
}
