//! Inspecting that the paths still name the files that are in use: see `path_watch.rs`.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::shared::{Death, Shared};
use super::spawn::builder;
use super::watched_file::WatchedFile;
use crate::host::LossReason;
use crate::runtime::clock;
use crate::runtime::disk::{Disk, FileSystem, Refreshed};
use crate::runtime::executor::block_on;

/// Starts a thread for each file system that has none, as far as there may be more.
pub(super) fn start_threads(shared: &Arc<Shared>) -> io::Result<()> {
    shared.watch.add_threads(file_systems(shared), || {
        let shared = Arc::clone(shared);
        builder("dl-watch").spawn(move || {
            let death = Death::of(&shared);
            block_on(run(&shared));
            death.ended_well();
        })
    })
}

/// The body of an inspecting thread: until the stop.
async fn run(shared: &Shared) {
    let watch = &shared.watch;
    loop {
        let now = clock::now();
        // In this order: the proof is to be taken away also where the stop comes right after that was asked for.
        let is_stopped = watch.is_stopped();
        if watch.takes_proof_away() {
            shared.revoke_proof();
        } else if is_stopped {
            return;
        } else if !shared.membership.expiry().is_held(now) {
            // Nothing is left to inspect; but the end of a thread takes system calls that nothing
            // else does.
            watch.changed().await;
        } else if let Some(on) = watch.begin(&file_systems(shared), now) {
            inspect(shared, on);
            watch.end(on);
        } else {
            watch.next_round(now).await;
        }
    }
}

/// Where there is anything to inspect. Does not block.
fn file_systems(shared: &Shared) -> BTreeSet<FileSystem> {
    let lockspace = shared.named.iter().map(WatchedFile::file_system);
    let held = shared.held_files();
    let held = held.iter().flat_map(|(_, files)| files.iter());
    let pending = shared.leases.pending_on(Disk::file_system);
    let directories = shared.directories.lock();
    let directories = directories.values();
    lockspace
        .chain(held.map(WatchedFile::file_system))
        .chain(pending)
        .chain(directories.map(|(_, lockspace)| lockspace.file_system()))
        .collect()
}

/// Inspects all paths on one file system, once.
fn inspect(shared: &Shared, on: FileSystem) {
    let mut round = Refreshed::default();
    let lockspace = shared.named.iter().filter(|file| file.file_system() == on);
    let lockspace = lockspace.map(|file| ((), file)).collect();
    if !WatchedFile::lost_of(lockspace, &mut round).is_empty() {
        shared.lose(&LossReason::LockspaceReplaced);
        return;
    }
    inspect_leases(shared, on, &mut round);
    // Those that were mended by now need not be waited for any longer than that.
    shared.complete_second_links(on, &mut round);
    let is_gone_here = |disk: &Disk| disk.file_system() == on && disk.is_gone();
    shared.leases.forget_gone(is_gone_here);
}

/// Inspects the lease files of the holders, mends their names, and notifies those holders for whom
/// one is lost. May block as the file system does; no lock is held then.
fn inspect_leases(shared: &Shared, on: FileSystem, round: &mut Refreshed) {
    let held = shared.held_files();
    let held = held
        .iter()
        .flat_map(|(id, files)| files.iter().map(move |file| (*id, file)));
    let here = held.filter(|(_, file)| file.file_system() == on).collect();
    for (id, lost) in WatchedFile::lost_of(here, round) {
        let reason = LossReason::LeaseReplaced;
        if shared.holders.announce_one(id, &reason, clock::now()) {
            tracing::error!(path = ?lost.file().path(), "a lease file was removed, replaced or cut short: its lock is lost");
        }
    }
}
