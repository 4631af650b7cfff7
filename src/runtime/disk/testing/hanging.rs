//! A disk of memory whose I/O hangs, or panics, where a test says so.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use crate::runtime::disk::identity::Identity;
use crate::runtime::disk::info::DiskInfo;
use crate::runtime::disk::raw::{FileNow, RawIo};
use crate::runtime::disk::{Disk, IoPool};

/// The storage under the disks that are opened on it. Clones are the same storage.
#[derive(Clone)]
pub(crate) struct HangingDisk {
    identity: Identity,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    bytes: Vec<u8>,
    /// I/O that begins at such an offset does not go on.
    hangs: BTreeSet<u64>,
    /// I/O that hangs now.
    hanging: usize,
    /// I/O that began, ever.
    begun: usize,
    panics: bool,
    /// Reads of these bytes fail.
    unreadable: Option<Range<u64>>,
}

impl HangingDisk {
    pub(crate) fn new(len: usize) -> Self {
        let state = State {
            bytes: vec![0; len],
            hangs: BTreeSet::new(),
            hanging: 0,
            begun: 0,
            panics: false,
            unreadable: None,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self {
            identity: Identity::unique(),
            shared: Arc::new(shared),
        }
    }

    pub(crate) fn open(&self, pool: &IoPool) -> Disk {
        let len = u64::try_from(self.shared.state.lock().bytes.len()).unwrap();
        let info = DiskInfo {
            path: PathBuf::from("hanging"),
            identity: self.identity,
            has_links: true,
            direct: true,
            len,
            io_alignment: 512,
            io_dies_with_process: true,
            of_one_host: None,
        };
        Disk::over(Box::new(self.clone()), info, pool)
    }

    /// From now on I/O at `offset` hangs.
    pub(crate) fn hang(&self, offset: u64) {
        self.shared.state.lock().hangs.insert(offset);
    }

    /// Lets go on what hangs at `offset`, and all to come there.
    pub(crate) fn release(&self, offset: u64) {
        self.shared.state.lock().hangs.remove(&offset);
        self.shared.changed.notify_all();
    }

    /// Waits until `count` I/Os hang; fails after ten seconds.
    pub(crate) fn wait_until_hanging(&self, count: usize) {
        let mut state = self.shared.state.lock();
        while state.hanging != count {
            let waited = self
                .shared
                .changed
                .wait_for(&mut state, Duration::from_secs(10));
            assert!(
                !waited.timed_out(),
                "{} I/Os hang, not {count}",
                state.hanging
            );
        }
    }

    /// The next I/O panics.
    pub(crate) fn panic_once(&self) {
        self.shared.state.lock().panics = true;
    }

    /// From now on reads of any of these bytes fail.
    pub(crate) fn fail_reads(&self, of: Range<u64>) {
        self.shared.state.lock().unreadable = Some(of);
    }

    /// Fills the storage from byte `offset` on.
    pub(crate) fn fill(&self, offset: usize, bytes: &[u8]) {
        let mut state = self.shared.state.lock();
        state.bytes[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn begun(&self) -> usize {
        self.shared.state.lock().begun
    }

    pub(crate) fn byte(&self, offset: usize) -> u8 {
        self.shared.state.lock().bytes[offset]
    }

    fn io<T>(&self, offset: u64, then: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut state = self.shared.state.lock();
        state.begun += 1;
        assert!(!std::mem::take(&mut state.panics), "on purpose");
        if state.hangs.contains(&offset) {
            state.hanging += 1;
            self.shared.changed.notify_all();
            while state.hangs.contains(&offset) {
                self.shared.changed.wait(&mut state);
            }
            state.hanging -= 1;
            self.shared.changed.notify_all();
        }
        let start = usize::try_from(offset).unwrap().min(state.bytes.len());
        then(&mut state.bytes[start..])
    }
}

impl RawIo for HangingDisk {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let end = offset + u64::try_from(into.len()).unwrap();
        let failing = self.shared.state.lock().unreadable.clone();
        if failing.is_some_and(|of| of.start < end && offset < of.end) {
            return Err(Errno::IO);
        }
        Ok(self.io(offset, |bytes| {
            let len = into.len().min(bytes.len());
            into[..len].copy_from_slice(&bytes[..len]);
            len
        }))
    }

    fn write_at(&self, from: &[u8], offset: u64) -> Result<usize, Errno> {
        self.io(offset, |bytes| {
            let room = bytes.get_mut(..from.len()).ok_or(Errno::NOSPC)?;
            room.copy_from_slice(from);
            Ok(from.len())
        })
    }

    fn now(&self) -> Result<FileNow, Errno> {
        Ok(FileNow { links: 1, end: 0 })
    }
}
