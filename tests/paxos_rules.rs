//! The rules of leases on resources, one test for each, in virtual time.

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

#[path = "paxos_rules/acquire.rs"]
mod acquire;
#[path = "paxos_rules/as_left.rs"]
mod as_left;
#[path = "paxos_rules/ballot.rs"]
mod ballot;
#[path = "paxos_rules/counter_examples.rs"]
mod counter_examples;
#[path = "paxos_rules/faults.rs"]
mod faults;
#[path = "paxos_rules/owner.rs"]
mod owner;
#[path = "paxos_rules/release.rs"]
mod release;
#[path = "paxos_rules/restored.rs"]
mod restored;
#[path = "paxos_rules/setup.rs"]
mod setup;
#[path = "paxos_rules/shared.rs"]
mod shared;
#[path = "paxos_rules/wrong.rs"]
mod wrong;
