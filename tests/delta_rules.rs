//! The rules of leases on host ids, one test for each, in virtual time.

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

#[path = "delta_rules/expiry.rs"]
mod expiry;
#[path = "delta_rules/fire_timeouts.rs"]
mod fire_timeouts;
#[path = "delta_rules/hosts.rs"]
mod hosts;
#[path = "delta_rules/join.rs"]
mod join;
#[path = "delta_rules/join_races.rs"]
mod join_races;
#[path = "delta_rules/late_twins.rs"]
mod late_twins;
#[path = "delta_rules/renewal.rs"]
mod renewal;
#[path = "delta_rules/twins.rs"]
mod twins;
#[path = "delta_rules/wrong.rs"]
mod wrong;
