//! Real sanlock daemons as peers: what we initialise, who holds what, takeovers both ways, contention.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::result_large_err,
    clippy::unwrap_used,
    reason = "a test in real time: it fails by panicking, and tells what it counted and measured"
)]

mod contention;
mod init_identical;
mod interop;
mod takeover;

use disklease_fixtures::host_process::child::{serve, text};

#[test]
#[ignore = "not a test: a host of ours that tests start as a process of its own"]
fn host_process() {
    serve(|host, command| match text(command, "do") {
        "run a guest" => takeover::run_a_guest(host, command),
        "make" => contention::make_lease(host, command),
        "contend" => contention::contend_as_told(host, command),
        other => Err(format!("not a command: {other}")),
    });
}
