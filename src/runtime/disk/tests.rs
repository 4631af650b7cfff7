//! The pool and the world over storage that hangs on command, and over real files and devices.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

mod hangs;
mod real;

use std::time::Duration;

use super::*;
use crate::runtime::clock;
use crate::world::{OsError, ReadError, SectorBuf, World, WriteError};

/// Long enough for a worker to begin what it was asked for, also on a busy machine; short enough to be
/// waited for.
const SHORT: Duration = Duration::from_secs(1);

/// Never reached in a test that passes.
const LONG: Duration = Duration::from_secs(20);

fn filled(byte: u8, len: usize) -> SectorBuf {
    let mut buf = SectorBuf::zeroed(len);
    buf.fill(byte);
    buf
}

async fn read(
    disk: &Disk,
    offset: u64,
    len: usize,
    limit: Duration,
) -> Result<SectorBuf, ReadError> {
    StorageWorld
        .read(disk, offset, SectorBuf::zeroed(len), limit)
        .await
}

/// One sector full of `byte`.
async fn write(disk: &Disk, offset: u64, byte: u8, limit: Duration) -> Result<(), WriteError> {
    StorageWorld
        .write(disk, offset, filled(byte, 512), limit)
        .await
}

/// The threads of this process whose names begin with `prefix`.
fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}
