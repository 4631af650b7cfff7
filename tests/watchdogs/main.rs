//! The two clients of host watchdogs by themselves, without a lockspace: the device's and wdmd's.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::host_endian_bytes,
    clippy::indexing_slicing,
    clippy::multiple_unsafe_ops_per_block,
    clippy::redundant_closure_for_method_calls,
    clippy::unchecked_time_subtraction,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "a test, of real devices and sockets in real time"
)]

mod device;
mod wdmd;
