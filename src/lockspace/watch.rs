//! Watching that the paths still name the files that are in use.
//!
//! A lockspace or lease file that is removed or replaced under its path goes on to work for whoever
//! has it open, and does not exist for everybody else: both sides would hold the same disk. No read
//! of the open file shows it, so files and paths are inspected once a second, on a thread of its own:
//! such a look can hang, and must not hold up a renewal.

use parking_lot::{Condvar, Mutex};

use super::Shared;
use super::loss::LossReason;
use crate::disk::{Disk, NamedFile};
use crate::timing::Timing;
use crate::world::clock;

/// Ends the watch.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(super) fn set(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }
}

/// The body of the watching thread: until the stop. `lockspace` is
/// `None` for one that was not opened by a path.
pub(super) fn watch_paths(shared: &Shared, lockspace: Option<&NamedFile>, stop: &Stop) {
    let interval = Timing::NAMES_INSPECTED_EVERY;
    let mut stopped = stop.stopped.lock();
    while !*stopped {
        let waited = stop.changed.wait_for(&mut stopped, interval);
        if !waited.timed_out() {
            continue;
        }
        let lost = parking_lot::MutexGuard::unlocked(&mut stopped, || look(shared, lockspace));
        if lost {
            // Nothing is left to look at; but the end of a thread takes system calls that nothing
            // else does.
            while !*stopped {
                stop.changed.wait(&mut stopped);
            }
        }
    }
}

/// One look at all paths. Returns whether there is nothing left to watch.
fn look(shared: &Shared, lockspace: Option<&NamedFile>) -> bool {
    if lockspace.is_some_and(NamedFile::was_replaced) {
        // First the reason, which marks all guards: the renewal thread would have another one to tell.
        shared
            .board
            .announce(&LossReason::LockspaceReplaced, clock::now());
        shared.membership.expiry().lose();
        tracing::error!(
            path = ?shared.membership.area().disk.info().path(),
            "the lockspace was removed or replaced: all its leases are lost"
        );
        return true;
    }
    let quarantine = shared.removal_quarantine();
    shared.board.check_files(clock::now, quarantine);
    shared.leases.forget_gone(Disk::is_gone);
    !shared.membership.expiry().is_held(clock::now())
}
