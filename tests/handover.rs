//! Guests that are suspended, resumed, and handed over between real processes; each step fails once,
//! and what is left is right.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test in real time: it fails by panicking, and tells what it measured"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test code: a panic is how it fails"
)]

#[path = "handover/party.rs"]
mod party;
#[path = "handover/steps.rs"]
mod steps;
#[path = "handover/suspended.rs"]
mod suspended;
#[path = "handover/with_sanlock.rs"]
mod with_sanlock;

#[test]
#[ignore = "not a test: a host of ours that tests start as a process of its own"]
fn host_process() {
    party::serve();
}
