//! The client of wdmd: byte for byte against a double of both generations of it, and against wdmd itself with a
//! device that resets nobody.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::host_endian_bytes,
    clippy::indexing_slicing,
    clippy::redundant_closure_for_method_calls,
    clippy::unchecked_time_subtraction,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    reason = "a test, of a real socket in real time"
)]

#[path = "wdmd/answers.rs"]
mod answers;
#[path = "wdmd/life.rs"]
mod life;
#[path = "wdmd/real.rs"]
mod real;

use std::path::Path;
use std::time::Duration;

use disklease::__sim::fence::Wdmd;
use disklease::__sim::runtime::clock;
use disklease::__sim::world::Timestamp;
use disklease::WatchdogError;
use disklease::timing::{FireTimeout, IoTimeout, Timing};

fn timing(io: u64, fire: u64) -> Timing {
    Timing::new(
        IoTimeout::new(Duration::from_secs(io)).unwrap(),
        FireTimeout::new(Duration::from_secs(fire)).unwrap(),
    )
}

fn probe(socket: &Path, io: u64, fire: u64) -> Result<Wdmd, WatchdogError> {
    Wdmd::probe(socket, "disklease_test:7".to_owned(), timing(io, fire))
}

fn in_secs(secs: u64) -> Timestamp {
    clock::now() + Duration::from_secs(secs)
}
