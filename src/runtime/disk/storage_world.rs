//! Real disks, clocks and chance as the [`World`] of the algorithms.

use std::future::Future;
use std::time::Duration;

use super::handle::Disk;
use super::raw::Kind;
use crate::runtime::clock;
use crate::runtime::timer::Sleep;
use crate::world::{ReadError, SectorBuf, Timestamp, World, WriteError};

/// The real world: disks on worker threads, the kernel's clocks and chance.
///
/// Its futures are made for [`block_on`](crate::runtime::executor::block_on). An I/O is asked for
/// when its future is first polled. An I/O that completed well is reported so even if its caller polls
/// only after the limit.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StorageWorld;

impl World for StorageWorld {
    type Disk = Disk;

    fn read(
        &self,
        disk: &Disk,
        offset: u64,
        into: SectorBuf,
        timeout: Duration,
    ) -> impl Future<Output = Result<SectorBuf, ReadError>> {
        disk.read(Kind::Read, offset, into, timeout)
    }

    fn write(
        &self,
        disk: &Disk,
        offset: u64,
        bytes: SectorBuf,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), WriteError>> {
        disk.write(offset, bytes, timeout)
    }

    fn is_write_in_flight(&self, disk: &Disk, offset: u64, len: usize) -> bool {
        disk.is_write_in_flight(offset, len)
    }

    fn is_busy(&self, disk: &Disk) -> bool {
        disk.is_busy()
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn clock_secs(&self) -> u64 {
        clock::monotonic_secs()
    }

    fn sleep_until(&self, at: Timestamp) -> impl Future<Output = ()> {
        Sleep::until(at)
    }

    fn random(&self, below: u64) -> u64 {
        clock::random(below)
    }
}
