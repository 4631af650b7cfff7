//! Real files and block devices.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use futures_util::future::try_join_all;

use super::*;
use crate::runtime::disk::testing::LoopDevice;
use crate::runtime::executor::block_on;

fn scratch_file(len: u64) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(len).unwrap();
    (dir, path)
}

fn open(path: &Path, pool: &IoPool) -> Disk {
    Disk::new(
        OpenOptions::new(Access::ReadWrite).open(path).unwrap(),
        pool,
    )
}

/// Writes and reads sectors of `sector_size`, side by side.
fn exercise(disk: &Disk, sector_size: usize) {
    let offset = |sector: u8| u64::from(sector) * u64::try_from(sector_size).unwrap();
    block_on(async {
        let sectors = (0..32).map(|sector| async move {
            StorageWorld
                .write(disk, offset(sector), filled(sector + 1, sector_size), LONG)
                .await
        });
        try_join_all(sectors).await.unwrap();
        let all = read(disk, 0, 32 * sector_size, LONG).await.unwrap();
        for (sector, bytes) in all.chunks_exact(sector_size).enumerate() {
            assert!(
                bytes.iter().all(|&byte| usize::from(byte) == sector + 1),
                "sector {sector}"
            );
        }
    });
    assert_eq!(disk.writes_in_flight(), 0);
}

#[test]
fn a_file_is_written_and_read() {
    let pool = IoPool::new("file", 2..=4).unwrap();
    let (_dir, path) = scratch_file(1 << 20);
    let disk = open(&path, &pool);
    exercise(&disk, usize::try_from(disk.info().io_alignment()).unwrap());
    let mut seen = [0; 1];
    File::open(&path)
        .unwrap()
        .read_exact_at(&mut seen, 0)
        .unwrap();
    assert_eq!(seen, [1]);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root and a loop device")]
fn loop_devices_are_written_and_read_by_their_sectors() {
    let pool = IoPool::new("loop", 2..=4).unwrap();
    for sector_size in [512, 4096] {
        let (_dir, path) = scratch_file(1 << 20);
        let device = LoopDevice::new(&path, sector_size);
        let disk = open(device.path(), &pool);
        exercise(&disk, usize::try_from(sector_size).unwrap());
        if sector_size == 4096 {
            let unaligned = block_on(write(&disk, 512, 1, LONG));
            assert_eq!(unaligned, Err(WriteError::Failed(OsError::new(22))));
        }
        let behind_the_end = block_on(read(&disk, 1 << 20, 4096, LONG)).unwrap_err();
        assert_eq!(
            behind_the_end,
            ReadError::EndOfFile {
                wanted: 4096,
                got: 0
            }
        );
        drop(disk);
    }
}

#[test]
fn the_end_of_a_file_is_told() {
    let pool = IoPool::new("eof", 1..=1).unwrap();
    for (len, got) in [(0, 0), (4096, 4096), (8192, 8192), (5000, 5000)] {
        let (_dir, path) = scratch_file(len);
        let disk = open(&path, &pool);
        assert_eq!(disk.info().len(), len);
        let error = block_on(read(&disk, 0, 16_384, LONG)).unwrap_err();
        assert_eq!(
            error,
            ReadError::EndOfFile {
                wanted: 16_384,
                got
            }
        );
        let error = block_on(read(&disk, 1 << 30, 4096, LONG)).unwrap_err();
        assert_eq!(
            error,
            ReadError::EndOfFile {
                wanted: 4096,
                got: 0
            }
        );
    }
}

#[test]
fn an_adopted_descriptor_and_a_look_work() {
    let pool = IoPool::new("adopted", 1..=1).unwrap();
    let (_dir, path) = scratch_file(1 << 20);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let adopted = OpenOptions::new(Access::ReadWrite)
        .adopt(file.into())
        .unwrap();
    let disk = Disk::new(adopted, &pool);
    let inspected = OpenOptions::new(Access::ReadOnly).open(&path).unwrap();
    let inspected = Disk::new(inspected, &pool);
    block_on(async {
        let sector = SectorBuf::zeroed(4096);
        StorageWorld
            .write(&disk, 4096, filled(9, 4096), LONG)
            .await
            .unwrap();
        let seen = StorageWorld
            .read(&inspected, 4096, sector.clone(), LONG)
            .await
            .unwrap();
        assert!(seen.iter().all(|&byte| byte == 9));
        let refused = StorageWorld.write(&inspected, 4096, sector, LONG).await;
        assert_eq!(refused, Err(WriteError::Failed(OsError::new(9))));
    });
}

#[test]
fn a_thousand_reads_leave_no_thread_and_no_descriptor() {
    let (_dir, path) = scratch_file(1 << 20);
    let descriptors = || {
        let all = fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|fd| fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == path))
            .count()
    };
    let pool = IoPool::new("thousand", 1..=8).unwrap();
    let disk = open(&path, &pool);
    block_on(async {
        for turn in 0..1_000 {
            read(&disk, turn * 512 % (1 << 19) / 4096 * 4096, 4096, LONG)
                .await
                .unwrap();
        }
        // One after the other needs one thread.
        assert_eq!(threads_named("thousand-"), 1);
        try_join_all((0..64).map(|_| read(&disk, 0, 4096, LONG)))
            .await
            .unwrap();
    });
    assert!((1..=8).contains(&threads_named("thousand-")));
    assert_eq!(descriptors(), 1);
    drop(disk);
    assert_eq!(descriptors(), 0);
    drop(pool);
    // A thread is listed for a moment after it was joined, and one that is late was not waited for.
    let until = clock::now() + LONG;
    while threads_named("thousand-") > 0 {
        assert!(clock::now() < until, "threads are left");
        std::thread::yield_now();
    }
}
