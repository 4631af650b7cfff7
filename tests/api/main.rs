//! The public API over real files, and over storage that hangs or fails: what is promised, and every error.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test, of real files and real processes in real time: a panic is how it fails"
)]

mod handover;
mod inspection;
mod lease_directory;
mod lockspace_errors;
mod manager_contract;

#[test]
#[ignore = "not a test: a host of ours that tests start as a process of its own"]
fn host_process() {
    handover::host_process();
}
