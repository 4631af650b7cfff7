//! The client of wdmd: byte for byte against a double of both generations of it, and against wdmd itself with a
//! device that resets nobody.

mod answers;
mod course;
#[cfg(feature = "__machine")]
mod real;

use super::*;
use crate::timing::FireTimeout;

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

/// What goes wrong with a probe.
fn refusal(socket: &Path, io: u64, fire: u64) -> Fault {
    let refused = probe(socket, io, fire).map(drop);
    refused.unwrap_err().kind().clone()
}
