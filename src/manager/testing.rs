//! What the tests of this layer have in common.

use std::time::Duration;

use crate::format::HostId;
use crate::libvirt::LeaseDirectory;
use crate::lockspace::{Lockspace, Watchdog};
use crate::paxos_lease::{Holding, Patience};
use crate::world::CancelToken;

/// A lease directory on a real file system, whose lockspace host 1 has joined with the shortest N.
pub(super) fn joined() -> (tempfile::TempDir, LeaseDirectory, Lockspace) {
    // Not below /tmp, which may know no direct I/O.
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let directory = LeaseDirectory::new(dir.path());
    let n = Duration::from_secs(1);
    let path = directory.create_lockspace(n).unwrap();
    let options = Lockspace::options(Watchdog::None).io_timeout(n);
    let options = options.runtime_dir(dir.path().join("run"));
    let lockspace = options.join(path, HostId::FIRST).unwrap();
    (dir, directory, lockspace)
}

/// How an acquire is asked for that does not wait.
pub(super) fn at_once() -> Holding {
    Holding {
        patience: Patience::Refuse,
        note: None,
        expected: None,
        cancel: CancelToken::new(),
    }
}
