//! Storage that hangs.

use std::pin::pin;

use futures_util::future::{Either, join_all, join3, select};

use super::*;
use crate::runtime::disk::testing::HangingDisk;
use crate::runtime::executor::block_on;

/// A disk of 64 sectors, its storage, and a pool of its own.
fn hanging(threads: usize) -> (IoPool, HangingDisk, Disk) {
    let pool = IoPool::new("hanging", 1..=threads).unwrap();
    let storage = HangingDisk::new(64 * 512);
    let disk = storage.open(&pool);
    (pool, storage, disk)
}

/// Waits until no I/O is in flight, as the leaving of a lockspace does.
fn wait_until_idle(pool: &IoPool) {
    let until = clock::now() + LONG;
    block_on(async {
        while pool.in_flight() != 0 {
            assert!(clock::now() < until, "{:?}", pool.in_flight());
            StorageWorld.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_hung_read_costs_its_limit_and_no_more() {
    let (pool, storage, disk) = hanging(4);
    storage.hang(512);
    let begin = clock::now();
    assert_eq!(
        block_on(read(&disk, 512, 512, SHORT)).unwrap_err(),
        ReadError::TimedOut(SHORT)
    );
    let took = clock::now().since(begin);
    assert!((SHORT..LONG).contains(&took), "{took:?}");
    assert_eq!(pool.in_flight(), 1);

    block_on(read(&disk, 0, 512, LONG)).unwrap();
    storage.release(512);
    wait_until_idle(&pool);
    block_on(read(&disk, 512, 512, LONG)).unwrap();
}

#[test]
fn a_hung_write_keeps_its_sector_and_only_that() {
    let (pool, storage, disk) = hanging(4);
    storage.hang(512);
    block_on(async {
        assert_eq!(
            write(&disk, 512, 1, SHORT).await,
            Err(WriteError::TimedOut(SHORT))
        );
        assert_eq!((pool.in_flight(), disk.writes_in_flight()), (1, 1));
        let in_flight = |offset, len| StorageWorld.is_write_in_flight(&disk, offset, len);
        assert!(in_flight(512, 512) && in_flight(0, 1024) && in_flight(1023, 1));
        assert!(!in_flight(0, 512) && !in_flight(1024, 512));
        assert_eq!(
            write(&disk, 512, 2, SHORT).await,
            Err(WriteError::NotStarted(SHORT))
        );
        assert_eq!(storage.begun(), 1);

        assert_eq!(write(&disk, 0, 3, LONG).await, Ok(()));
        assert_eq!(write(&disk, 1024, 4, LONG).await, Ok(()));
        assert_eq!(disk.writes_in_flight(), 1);

        storage.release(512);
        assert_eq!(write(&disk, 512, 5, LONG).await, Ok(()));
    });
    assert_eq!(disk.writes_in_flight(), 0);
    // The first was not awaited to its end.
    wait_until_idle(&pool);
    assert_eq!([0, 512, 1024].map(|offset| storage.byte(offset)), [3, 5, 4]);
}

#[test]
fn a_late_write_stands_in_the_way_of_another_open_and_another_pool() {
    let (pool, storage, disk) = hanging(4);
    storage.hang(512);
    assert_eq!(
        block_on(write(&disk, 512, 1, SHORT)),
        Err(WriteError::TimedOut(SHORT))
    );
    drop(disk);
    drop(pool);

    let later_pool = IoPool::new("later", 1..=1).unwrap();
    let later = storage.open(&later_pool);
    assert_eq!(later.writes_in_flight(), 1);
    assert_eq!(later_pool.in_flight(), 0);
    assert_eq!(
        block_on(write(&later, 512, 2, SHORT)),
        Err(WriteError::NotStarted(SHORT))
    );

    let other = HangingDisk::new(2048).open(&later_pool);
    assert_eq!(block_on(write(&other, 512, 2, LONG)), Ok(()));

    let mut waiting = pin!(write(&later, 512, 3, LONG));
    block_on(async {
        let pause = pin!(StorageWorld.sleep(SHORT));
        let still = select(&mut waiting, pause).await;
        assert!(matches!(still, Either::Right(_)));
        storage.release(512);
        assert_eq!(waiting.await, Ok(()));
    });
    assert_eq!(storage.byte(512), 3);
}

#[test]
fn an_area_that_is_written_covers_all_its_sectors() {
    let (_pool, storage, disk) = hanging(4);
    storage.hang(1024);
    block_on(async {
        let area = StorageWorld
            .write(&disk, 1024, filled(1, 4 * 512), SHORT)
            .await;
        assert_eq!(area, Err(WriteError::TimedOut(SHORT)));
        let inside = write(&disk, 2048, 2, SHORT);
        let over = StorageWorld.write(&disk, 0, filled(3, 3 * 512), SHORT);
        let behind = write(&disk, 1024 + 4 * 512, 4, SHORT);
        let (inside, over, behind) = join3(inside, over, behind).await;
        assert_eq!(inside, Err(WriteError::NotStarted(SHORT)));
        assert_eq!(over, Err(WriteError::NotStarted(SHORT)));
        assert_eq!(behind, Ok(()));
    });
    storage.release(1024);
}

#[test]
fn writes_of_one_sector_are_done_in_the_order_in_which_they_were_asked_for() {
    let (_pool, storage, disk) = hanging(4);
    storage.hang(0);
    block_on(async {
        let writes = join_all((1..=20).map(|byte| write(&disk, 0, byte, LONG)));
        let release = async {
            storage.wait_until_hanging(1);
            StorageWorld.sleep(SHORT).await;
            assert_eq!(storage.begun(), 1);
            storage.release(0);
        };
        let (results, ()) = futures_util::future::join(writes, release).await;
        assert_eq!(results, [Ok(()); 20]);
    });
    assert_eq!(storage.byte(0), 20);
    assert_eq!(disk.writes_in_flight(), 0);
}

#[test]
fn what_is_not_begun_in_time_is_never_begun() {
    let (pool, storage, disk) = hanging(2);
    storage.hang(0);
    storage.hang(512);
    block_on(async {
        let hung = join_all([read(&disk, 0, 512, SHORT), read(&disk, 512, 512, SHORT)]).await;
        assert!(
            hung.iter()
                .all(|result| matches!(result, Err(ReadError::TimedOut(SHORT))))
        );
        // Both workers hang.
        let late_read = read(&disk, 1024, 512, SHORT).await.unwrap_err();
        assert_eq!(late_read, ReadError::TimedOut(SHORT));
        assert_eq!(
            write(&disk, 1024, 1, SHORT).await,
            Err(WriteError::NotStarted(SHORT))
        );
        assert_eq!(
            write(&disk, 1536, 1, Duration::ZERO).await,
            Err(WriteError::NotStarted(Duration::ZERO))
        );
        assert_eq!(pool.in_flight(), 2);
        // Nor is it kept: storage that hangs for hours must not fill the memory.
        assert_eq!(pool.queued(), 0);
    });
    storage.release(0);
    storage.release(512);
    wait_until_idle(&pool);
    block_on(read(&disk, 0, 512, LONG)).unwrap();
    assert_eq!(storage.begun(), 3);
    assert_eq!(storage.byte(1024), 0);
}

#[test]
fn a_limit_counts_even_if_nobody_looks_at_the_time() {
    let (_pool, storage, disk) = hanging(1);
    storage.hang(0);
    let mut first = pin!(read(&disk, 0, 512, LONG));
    let mut second = pin!(write(&disk, 512, 1, SHORT));
    block_on(async {
        let now = std::future::ready(());
        let asked = select(select(&mut first, &mut second), now).await;
        assert!(matches!(asked, Either::Right(_)));
        storage.wait_until_hanging(1);
        StorageWorld.sleep(SHORT * 2).await;
        // The worker comes to the write before its caller does.
        storage.release(0);
        first.await.unwrap();
        assert_eq!(second.await, Err(WriteError::NotStarted(SHORT)));
    });
    assert_eq!((storage.begun(), storage.byte(512)), (1, 0));
}

#[test]
fn a_dropped_future_takes_back_what_was_not_begun_and_leaves_what_was() {
    let (pool, storage, disk) = hanging(1);
    storage.hang(0);
    block_on(async {
        let begun = pin!(write(&disk, 0, 1, LONG));
        let soon = async {
            storage.wait_until_hanging(1);
            // Behind it: one for want of a worker, one for the sector.
            let queued = pin!(write(&disk, 512, 2, LONG));
            let waiting = pin!(write(&disk, 0, 3, LONG));
            let pause = pin!(StorageWorld.sleep(SHORT));
            let still = select(select(queued, waiting), pause).await;
            assert!(matches!(still, Either::Right(_)));
        };
        assert!(matches!(select(begun, pin!(soon)).await, Either::Right(_)));
    });
    assert_eq!(disk.writes_in_flight(), 1);
    storage.release(0);
    wait_until_idle(&pool);
    assert_eq!([0, 512].map(|offset| storage.byte(offset)), [1, 0]);
    assert_eq!(storage.begun(), 1);
}

#[test]
fn twenty_hung_ios_starve_neither_another_pool_nor_a_larger_one() {
    let (pool, storage, disk) = hanging(21);
    for sector in 0..20 {
        storage.hang(sector * 512);
    }
    let (_other_pool, _, other) = hanging(1);
    block_on(async {
        // For as long as it takes to start twenty threads.
        let limit = SHORT * 5;
        let hung = join_all((0..20).map(|sector| read(&disk, sector * 512, 512, limit))).await;
        for result in hung {
            assert_eq!(result.unwrap_err(), ReadError::TimedOut(limit));
        }
        assert_eq!(pool.in_flight(), 20);
        assert_eq!(write(&other, 0, 1, LONG).await, Ok(()));
        assert_eq!(write(&disk, 20 * 512, 1, LONG).await, Ok(()));
    });
    for sector in 0..20 {
        storage.release(sector * 512);
    }
    wait_until_idle(&pool);
}

#[test]
fn a_worker_that_panics_ends_its_request_and_lives_on() {
    let (pool, storage, disk) = hanging(1);
    for _ in 0..3 {
        storage.panic_once();
        let result = block_on(write(&disk, 0, 1, LONG));
        assert_eq!(result, Err(WriteError::Failed(OsError::new(5))));
        assert_eq!((pool.in_flight(), disk.writes_in_flight()), (0, 0));
        block_on(write(&disk, 0, 2, LONG)).unwrap();
    }
}

#[test]
fn a_dropped_pool_ends_its_queue_at_once_and_does_not_wait_for_what_hangs() {
    let pool = IoPool::new("dropped", 2..=2).unwrap();
    let storage = HangingDisk::new(4096);
    let disk = storage.open(&pool);
    storage.hang(0);
    storage.hang(512);
    block_on(async {
        let ios = futures_util::future::join4(
            write(&disk, 0, 1, SHORT * 5),
            write(&disk, 512, 1, SHORT * 5),
            write(&disk, 1024, 1, LONG),
            read(&disk, 1024, 512, LONG),
        );
        let end = async {
            StorageWorld.sleep(SHORT).await;
            let begin = clock::now();
            drop(pool);
            assert!(clock::now().since(begin) < LONG);
        };
        let ((first, second, third, fourth), ()) = futures_util::future::join(ios, end).await;
        assert_eq!([first, second], [Err(WriteError::TimedOut(SHORT * 5)); 2]);
        assert_eq!(third, Err(WriteError::NotStarted(LONG)));
        assert_eq!(fourth.unwrap_err(), ReadError::Failed(OsError::new(125)));
    });
    assert_eq!(disk.writes_in_flight(), 2);
    assert_eq!(
        block_on(write(&disk, 1024, 1, LONG)),
        Err(WriteError::NotStarted(LONG))
    );
    storage.release(0);
    storage.release(512);
    let until = clock::now() + LONG;
    while threads_named("dropped-") > 0 {
        assert!(clock::now() < until, "threads are left");
        std::thread::yield_now();
    }
    assert_eq!(disk.writes_in_flight(), 0);
}

#[test]
fn threads_above_the_least_number_end_when_they_are_idle() {
    let pool = IoPool::with_idle_limit("idle", 2..=8, SHORT).unwrap();
    let storage = HangingDisk::new(64 * 512);
    let disk = storage.open(&pool);
    for sector in 0..8 {
        storage.hang(sector * 512);
    }
    block_on(async {
        let reads = join_all((0..8).map(|sector| read(&disk, sector * 512, 512, LONG)));
        let release = async {
            while pool.in_flight() < 8 {
                StorageWorld.sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(threads_named("idle-"), 8);
            (0..8).for_each(|sector| storage.release(sector * 512));
        };
        let (results, ()) = futures_util::future::join(reads, release).await;
        assert!(results.iter().all(Result::is_ok));
        let until = clock::now() + LONG;
        while threads_named("idle-") > 2 {
            assert!(clock::now() < until, "{} threads", threads_named("idle-"));
            StorageWorld.sleep(Duration::from_millis(5)).await;
        }
        StorageWorld.sleep(SHORT * 2).await;
        assert_eq!(threads_named("idle-"), 2);
        read(&disk, 0, 512, LONG).await.unwrap();
    });
}
