//! Nothing is left behind: no thread, no descriptor, no memory. One test, since it counts what its
//! whole process has.

#![allow(clippy::disallowed_methods, reason = "real threads end in real time")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]

use std::time::Duration;

use disklease::{LockManager as _, Lockspace, PaxosManager, WaitLimit};

use disklease_fixtures::host::{SOON, disks, manager, scratch, try_join};

/// What this process has at the moment.
#[derive(Clone, Copy, Debug)]
struct Usage {
    threads: usize,
    descriptors: usize,
    resident_kib: u64,
}

impl Usage {
    fn now() -> Self {
        let count = |dir| std::fs::read_dir(dir).unwrap().count();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.unwrap().trim().trim_end_matches("kB").trim();
        Self {
            threads: count("/proc/self/task"),
            descriptors: count("/proc/self/fd"),
            resident_kib: resident.parse().unwrap(),
        }
    }

    /// Waits until no more threads and descriptors are in use than now: a thread that has been notified
    /// to end is gone a moment later, and workers above the least number when they were idle for
    /// ten seconds.
    fn assert_comes_back(self, after: &str) {
        let end = std::time::Instant::now() + SOON;
        loop {
            let now = Self::now();
            if now.threads <= self.threads && now.descriptors <= self.descriptors {
                return;
            }
            assert!(
                std::time::Instant::now() < end,
                "{after}: {self:?}, then {now:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// More than this is a leak, and no matter of an allocator's habits: one read of a lease takes 1 MiB.
const GROWTH_KIB: u64 = 16 * 1024;

/// Many at a time, in lockspaces of their own, as hosts of different ids.
fn join_many(end: impl Fn(Lockspace) + Sync) {
    std::thread::scope(|scope| {
        for n in 1..=10 {
            let end = &end;
            scope.spawn(move || {
                let dir = scratch();
                end(try_join(dir.path(), n * 100, "alpha").unwrap());
            });
        }
    });
}

/// `rounds` of acquire and release, by release and by drop, with refusals among them.
fn use_disks(host: &PaxosManager, rounds: usize) {
    for round in 0..rounds {
        let guard = host.acquire(disks(&["/a"])).unwrap();
        match round % 10 {
            0 => {
                let wait = WaitLimit::For(Duration::from_millis(1));
                let both = disks(&["/b", "/a"]).wait(wait);
                host.acquire(both).unwrap_err();
                drop(guard);
            }
            1 => {
                guard.on_lost(|_| ());
                guard.verify().unwrap();
                guard.release().unwrap();
            }
            n if n % 2 == 0 => drop(guard),
            _ => guard.release().unwrap(),
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    // What is only made once, such as thread-local and static state, is made before the count.
    join_many(|lockspace| lockspace.leave().unwrap());
    let at_first = Usage::now();

    join_many(|lockspace| lockspace.leave().unwrap());
    at_first.assert_comes_back("left");
    join_many(drop);
    at_first.assert_comes_back("dropped");
    join_many(|lockspace| {
        let dir = lockspace.path().parent().unwrap().to_owned();
        let host = PaxosManager::new(lockspace, disklease::LeaseDirectory::new(dir)).unwrap();
        let guard = host.acquire(disks(&["/a"])).unwrap();
        // The guard is the last to go, and leaves.
        drop(host);
        assert!(guard.is_held());
    });
    at_first.assert_comes_back("guards dropped");

    let dir = scratch();
    let host = manager(dir.path(), 1, "alpha");
    // As many as the allocator needs to have kept all the large buffers that it ever will.
    use_disks(&host, 200);
    let joined = Usage::now();
    use_disks(&host, 1000);
    joined.assert_comes_back("1,000 rounds");
    let grown = Usage::now()
        .resident_kib
        .saturating_sub(joined.resident_kib);
    assert!(grown < GROWTH_KIB, "{grown} KiB more after 1,000 rounds");

    // Refused joins, at which all threads were up already.
    for _ in 0..50 {
        try_join(dir.path(), 2, "beta").unwrap_err();
    }
    joined.assert_comes_back("refused joins");
    host.lockspace().clone().leave().unwrap();
    drop(host);
    at_first.assert_comes_back("the end");
}
