//! What becomes of real processes that hold locks: how they are stopped, under a filter of system calls too, and how
//! the host's watchdog stops what no signal does.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::host_endian_bytes,
    clippy::indexing_slicing,
    clippy::large_stack_arrays,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::redundant_closure_for_method_calls,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    clippy::zombie_processes,
    missing_docs,
    reason = "a test, of real processes, devices and sockets in real time"
)]

mod fencing;
mod seccomp;
mod watchdog;
