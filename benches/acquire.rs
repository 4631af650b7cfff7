//! What a lock costs, beside the bare I/O that it consists of.
//!
//! `cargo bench --bench acquire`. The figures of one run are to be compared with each other: `acquire and release`
//! with `its I/O, inline`, which makes the same reads and writes on the calling thread.
#![allow(missing_docs, reason = "made by criterion")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a bench: a panic is how it fails"
)]

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::IoSlice;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use disklease::{
    Access, HostId, LeaseDirectory, LockManager, LockRequest, Lockspace, NopManager, Owner,
    PaxosManager, Watchdog,
};
use rustix::fs::OFlags;
use rustix::io::ReadWriteFlags;

const IO_TIMEOUT: Duration = Duration::from_secs(1);
const AREA: usize = 2002 * 512;

/// A directory on a file system with direct I/O.
fn scratch(name: &str) -> PathBuf {
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a scratch directory");
    path
}

fn request() -> LockRequest {
    LockRequest::new(Owner::this_process("bench")).disk("/dev/disk/by-id/bench", Access::Exclusive)
}

fn locks(c: &mut Criterion) {
    let directory = scratch("bench-locks");
    let leases = LeaseDirectory::new(&directory);
    let path = leases.create_lockspace(IO_TIMEOUT).expect("a lockspace");
    let lockspace = Lockspace::options(Watchdog::None)
        .io_timeout(IO_TIMEOUT)
        .join(path, HostId::new(1).expect("a host id"))
        .expect("a joined lockspace");
    let manager = PaxosManager::new(lockspace, leases).expect("a manager");

    let mut group = c.benchmark_group("paxos");
    group.sample_size(50);
    group.bench_function("acquire and release", |b| {
        b.iter(|| {
            manager
                .acquire(request())
                .expect("a lock")
                .release()
                .expect("a release");
        });
    });
    group.bench_function("its I/O, inline", |b| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(OFlags::DIRECT.bits()).expect("a flag"))
            .open(directory.join("inline"))
            .or_else(|_| {
                std::fs::write(directory.join("inline"), vec![0; 1 << 20])?;
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(i32::try_from(OFlags::DIRECT.bits()).expect("a flag"))
                    .open(directory.join("inline"))
            })
            .expect("a file");
        let mut memory = vec![0_u8; AREA + 4096];
        let start = memory.as_ptr().align_offset(4096);
        let area = &mut memory[start..start + AREA];
        let write = |bytes: &[u8], offset| {
            rustix::io::pwritev2(&file, &[IoSlice::new(bytes)], offset, ReadWriteFlags::DSYNC)
                .expect("a write")
        };
        b.iter(|| {
            // The acquire: three reads of everything, two writes of the own block, one of the leader.
            for offset in [1024, 1024, 0] {
                rustix::io::pread(&file, &mut *area, 0).expect("a read");
                write(&area[..512], offset);
            }
            // The release: a read of the leader, own block, another read, the leader.
            rustix::io::pread(&file, &mut area[..512], 0).expect("a read");
            write(&area[..512], 1024);
            rustix::io::pread(&file, &mut area[..512], 0).expect("a read");
            write(&area[..512], 0);
        });
    });
    let guard = manager.acquire(request()).expect("a lock");
    group.bench_function("is_held", |b| b.iter(|| black_box(&guard).is_held()));
    group.finish();
    drop(guard);

    c.bench_function("nop: acquire and release", |b| {
        let nop = NopManager::new();
        b.iter(|| {
            nop.acquire(request())
                .expect("a lock")
                .release()
                .expect("a release");
        });
    });

    drop(manager);
    std::fs::remove_dir_all(&directory).expect("to clean up");
}

criterion_group!(benches, locks);
criterion_main!(benches);
