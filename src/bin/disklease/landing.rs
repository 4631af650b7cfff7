//! Writes of a process that has ended: waited for before its disks are given back.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::thread::{Builder, sleep};
use std::time::Duration;

use disklease::__cli::{NotLanded, await_writes, writes_end_with_process};

use crate::logging::complain;
use crate::output::shown_path;

/// How often the operator is notified that the storage does not answer.
const STILL: Duration = Duration::from_secs(5);

/// How soon a storage that has failed is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The disks of a process.
pub(crate) struct Landing {
    disks: Vec<PathBuf>,
    once: Once,
}

impl Landing {
    pub(crate) fn of(disks: &[PathBuf]) -> Self {
        Self {
            disks: disks.to_vec(),
            once: Once::new(),
        }
    }

    /// Whether no write to the disks outlives the process that asked for the write.
    pub(crate) fn ends_with_process(&self) -> bool {
        let disks = self.disks.clone();
        let find_out = move || disks.iter().all(|disk| writes_end_with_process(disk));
        patiently("finding out what storage the disks are on", find_out)
    }

    /// Returns when `end` has ended all that writes to them, and what was written is on them. Done once: a
    /// second caller waits for the first.
    pub(crate) fn wait(&self, end: impl FnOnce()) {
        self.once.call_once(|| {
            end();
            for disk in self.disks.clone() {
                let what = format!(
                    "waiting until all that was written to {} is there, and keeping its lock",
                    shown_path(&disk)
                );
                patiently(&what, move || wait_for(&disk));
            }
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "real storage in real time")]
fn wait_for(disk: &Path) {
    let shown = shown_path(disk);
    let mut last = None;
    loop {
        match await_writes(disk) {
            Ok(()) => return,
            Err(NotLanded::CannotOpen(error)) => {
                complain!(
                    "{shown} cannot be opened ({error}), to find out whether all that was written to it is there: its lock is given back all the same"
                );
                return;
            }
            Err(NotLanded::Failed(error)) => {
                if last != Some(error) {
                    complain!(
                        "what was written to {shown} may be on its way there ({error}): its lock is kept until its storage answers"
                    );
                }
                last = Some(error);
                sleep(AGAIN);
            }
        }
    }
}

/// Does `work`, and notifies the operator where that takes long. A thread of its own does the work: a signal may come
/// to the thread that waits, which could not take the signal while it hangs in the storage.
fn patiently<T: Send + 'static>(what: &str, work: impl Fn() -> T + Send + Sync + 'static) -> T {
    let work = Arc::new(work);
    let (sender, results) = channel();
    let theirs = Arc::clone(&work);
    let worker = Builder::new().name("dl-landing".to_owned());
    let started = worker.spawn(move || drop(sender.send(theirs())));
    let done = started.ok().and_then(|_| wait_aloud(what, &results));
    // Without such a thread this thread does the work.
    done.unwrap_or_else(|| work())
}

/// The next value from `results`, or `None` if none can come any more. Notifies the operator every few seconds of what
/// is still waited for.
pub(crate) fn wait_aloud<T>(what: impl Display, results: &Receiver<T>) -> Option<T> {
    let mut waited = 0_u64;
    loop {
        match results.recv_timeout(STILL) {
            Err(RecvTimeoutError::Timeout) => {
                waited = waited.saturating_add(STILL.as_secs());
                complain!("still {what} after {waited} s");
            }
            next => return next.ok(),
        }
    }
}
