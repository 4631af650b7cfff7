//! Giving a lease to another host that goes on with the guest.
//!
//! The holder has paused its guest. Then, in this order: all of the guest's writes are on the disk,
//! the holder counts as one no more, and only then is the lease given back with a note of the offer.
//! From the first write of that on the other host may run, whatever comes of the rest.

use crate::probe::{mutation, witness};

/// What became of a hand-over at its source.
#[derive(Debug)]
pub enum HandoverEnd<E, R> {
    /// The flush failed: the lease is held as before.
    Kept(E),
    /// It is not held any more. The release failed, or is known to be on the disk.
    Gone(Result<(), R>),
}

/// Hands over: first `flush`, then `stop`, which ends the holder's own right to run, then `release`.
///
/// A release that failed may have reached the disk, or may yet: the lease is gone all the same.
pub async fn hand_over<E, R>(
    flush: impl Future<Output = Result<(), E>>,
    stop: impl FnOnce(),
    release: impl Future<Output = Result<(), R>>,
) -> HandoverEnd<E, R> {
    if mutation!(FlushAfterRelease) {
        stop();
        let released = release.await;
        return match flush.await {
            Ok(()) => HandoverEnd::Gone(released),
            Err(error) => HandoverEnd::Kept(error),
        };
    }
    if let Err(error) = flush.await {
        witness!(HandoverKept);
        return HandoverEnd::Kept(error);
    }
    witness!(HandoverGone);
    if !mutation!(HandoverBothRun) {
        stop();
    }
    HandoverEnd::Gone(release.await)
}
