//! The guest's disk: a counter, in a file that nothing but a lease protects.
//!
//! It lies in memory, so that its write cannot hang in the kernel: a write that does is for fences that are not
//! built. Each record tells who wrote it, so that a lost update is seen even if the numbers would fit.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// What stands in the file. `guest.py` knows the layout too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) value: u64,
    /// No two writes have the same.
    pub(crate) mark: u64,
}

pub(crate) struct Counter(File);

impl Counter {
    pub(crate) fn create(path: &Path) -> Self {
        std::fs::write(path, [0; 16]).expect("a counter");
        Self::open(path)
    }

    pub(crate) fn open(path: &Path) -> Self {
        let mut options = OpenOptions::new();
        Self(
            options
                .read(true)
                .write(true)
                .open(path)
                .expect("a counter"),
        )
    }

    pub(crate) fn read(&self) -> Record {
        let mut bytes = [0; 16];
        self.0.read_exact_at(&mut bytes, 0).expect("the counter");
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Record {
            value: word(0),
            mark: word(8),
        }
    }

    /// One system call.
    pub(crate) fn write(&self, bytes: &[u8; 16]) {
        let written = self.0.write_at(bytes, 0).expect("the counter");
        assert_eq!(written, bytes.len());
    }
}

impl Record {
    /// The next one.
    pub(crate) const fn next(self, mark: u64) -> Self {
        Self {
            value: self.value + 1,
            mark,
        }
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.value.to_le_bytes());
        bytes[8..].copy_from_slice(&self.mark.to_le_bytes());
        bytes
    }
}
