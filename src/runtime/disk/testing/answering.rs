//! An open file of which a script says what becomes of it.

use std::collections::VecDeque;

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::runtime::disk::raw::{FileNow, RawIo};
use crate::runtime::disk::{Disk, IoPool, OpenedDisk};

struct Answers(Mutex<VecDeque<Result<FileNow, Errno>>>);

/// What was opened, of which each inspection shows the next of `answers`.
pub(crate) fn answering(
    opened: OpenedDisk,
    answers: &[Result<FileNow, Errno>],
    pool: &IoPool,
) -> Disk {
    let answers = answers.iter().copied().collect();
    Disk::over(Box::new(Answers(Mutex::new(answers))), opened.info, pool)
}

impl RawIo for Answers {
    fn read_at(&self, _: &mut [u8], _: u64) -> Result<usize, Errno> {
        Err(Errno::IO)
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<usize, Errno> {
        Err(Errno::IO)
    }

    fn now(&self) -> Result<FileNow, Errno> {
        self.0.lock().pop_front().expect("one inspection too many")
    }
}
