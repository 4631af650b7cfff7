//! Each rule, got wrong, is found out.
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

use disklease::__sim::probe::{Mutation, Mutations};

use sim::scenario::Profile;
use sim::trial;

/// How many schedules of each profile a wrong variant survives. Prints, and checks nothing: to find
/// out where a new one is best looked for. `DISKLEASE_SCHEDULES` of each profile, or of
/// `DISKLEASE_PROFILE` alone; `DISKLEASE_ONLY` some names.
#[test]
#[ignore = "a tool"]
fn survey() {
    let most: u64 =
        std::env::var("DISKLEASE_SCHEDULES").map_or(20_000, |text| text.parse().unwrap());
    let only = std::env::var("DISKLEASE_ONLY").ok();
    let wanted = |mutation: &&Mutation| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|name| name == mutation.name()))
    };
    let named = std::env::var("DISKLEASE_PROFILE").ok();
    let asked = |profile| {
        named
            .as_ref()
            .is_none_or(|name| Profile::named(name) == Some(profile))
    };
    let work: Vec<_> = Mutation::ALL.iter().filter(wanted).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..sim::fleet::cores() {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(&&mutation) = work.get(at) else {
                        return;
                    };
                    let begun = Instant::now();
                    let _switched = Mutations::from(mutation).switch();
                    let found: Vec<_> = Profile::ALL
                        .into_iter()
                        .filter(|&profile| asked(profile))
                        .filter_map(|profile| {
                            (0..most).find_map(|seed| {
                                let broken = trial::run_seed(profile, seed).broken?;
                                Some(format!(
                                    "{profile:?} {seed} {:?} {}",
                                    begun.elapsed(),
                                    sim::shrink::kind_of(&broken)
                                ))
                            })
                        })
                        .collect();
                    if found.is_empty() {
                        println!("NOT {mutation}");
                    } else {
                        println!("FOUND {mutation}: {}", found.join(", "));
                    }
                }
            });
        }
    });
}
