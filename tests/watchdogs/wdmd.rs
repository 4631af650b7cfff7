//! The client of wdmd: byte for byte against a double of both generations of it, and against wdmd itself with a
//! device that resets nobody.

mod answers;
mod life;
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
