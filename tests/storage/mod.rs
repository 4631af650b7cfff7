//! Storage as one host sees it, which hangs, is slow or fails when a test says so, for that host alone.
//!
//! A FUSE file system over a directory, mounted once for each host. Nothing is cached on the way: the files behind
//! are opened for direct I/O, and so may be those in the mount. Needs `/dev/fuse` and root, and panics without.
//!
//! The test that mounts must not touch its own mounts: its threads serve them.

#![allow(
    dead_code,
    reason = "every test program includes this and uses a part of it"
)]
#![allow(clippy::disallowed_methods, reason = "real storage in real time")]
#![allow(clippy::print_stderr, reason = "what goes wrong in a drop")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]

pub(crate) mod gate;
mod passthrough;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session};

use gate::{Ended, Gate};
use passthrough::PassThrough;

/// How mounts of this are called, before the process id of who serves them.
const SOURCE: &str = "disklease-test-";

/// How long unmounting may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A mounted view of a directory. What hangs fails when this is dropped, and it is unmounted: processes that use it
/// have to be gone, or are cut off from it.
pub(crate) struct Mount {
    path: PathBuf,
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
}

impl Mount {
    /// Shows the files that `directory` has now in the new directory `path`. `tell` hears of each I/O that met a
    /// fault.
    pub(crate) fn new(
        directory: &Path,
        path: &Path,
        tell: impl Fn(&Ended) + Send + Sync + 'static,
    ) -> Self {
        take_leftovers_away();
        std::fs::create_dir(path).unwrap();
        let gate = Arc::new(Gate::new(tell));
        let files = PassThrough::new(directory, Arc::clone(&gate)).unwrap();
        let mut config = Config::default();
        let source = format!("{SOURCE}{}", std::process::id());
        config.mount_options.push(MountOption::FSName(source));
        let session = Session::new(files, path, &config).and_then(Session::spawn);
        let session = session.unwrap_or_else(|error| {
            panic!("these tests mount FUSE file systems, which needs /dev/fuse and root: {error}")
        });
        Self {
            path: path.to_owned(),
            gate,
            session: Some(session),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.gate.drop_held();
        let Some(session) = self.session.take() else {
            return;
        };
        let (tell, told) = channel();
        thread::spawn(move || tell.send(session.umount_and_join()));
        match told.recv_timeout(LIMIT) {
            Ok(Ok(())) => {}
            other => {
                eprintln!("{}: not unmounted: {other:?}", self.path.display());
                detach(&self.path);
            }
        }
    }
}

/// Takes away what test programs have left mounted that were killed.
fn take_leftovers_away() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(source), Some(path)) = (words.next(), words.next()) else {
            continue;
        };
        let serving = source.strip_prefix(SOURCE);
        if serving.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            detach(Path::new(path));
        }
    }
}

fn detach(path: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_it = |line: &str| line.split(' ').nth(1) == path.to_str();
    if !mounts.lines().any(is_it) {
        return;
    }
    // By force: what hangs there fails, and ends.
    let detached = Command::new("umount").args(["-f", "-l"]).arg(path).status();
    if !detached.is_ok_and(|status| status.success()) {
        eprintln!("{}: not detached either", path.display());
    }
}
