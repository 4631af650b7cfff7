//! Waiting for a state, with an end.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Kills the process, if it has not ended already, and waits for that. One that hangs in its storage is left behind.
pub(crate) fn end(process: &mut Child) {
    let _ = process.kill();
    let deadline = Instant::now() + Duration::from_secs(10);
    while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
        thread::sleep(POLL_INTERVAL);
    }
}

/// Asks `probe` until it has an answer, and panics naming `what` if it has none within `limit`.
pub(crate) fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        thread::sleep(POLL_INTERVAL);
    }
}
