//! Hosts of ours for tests beside real sanlock daemons: joins in the test's own process, and processes of
//! their own that a test can stop and kill.

#![allow(
    dead_code,
    reason = "every test program includes this and uses a part of it"
)]
#![allow(clippy::disallowed_methods, reason = "real processes in real time")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]
#![allow(
    clippy::print_stdout,
    reason = "times that were measured, and the answers of a process of its own"
)]

pub(crate) mod child;
pub(crate) mod process;
pub(crate) mod turns;

use std::path::Path;
use std::time::{Duration, Instant};

use disklease::format::HostName;
use disklease::lockspace::LockspaceOptions;
use disklease::{
    Access, FailureAction, HostId, LeaseDirectory, LockRequest, Lockspace, Owner, PaxosManager,
    Watchdog,
};

/// N of all hosts in these tests, in seconds.
pub(crate) const IO_TIMEOUT_SECS: u32 = 1;
/// N of all hosts in these tests.
pub(crate) const IO_TIMEOUT: Duration = Duration::from_secs(1);

/// How a host called `name` joins. Life locks lie in the directory `runtime`, not in the machine's own.
pub(crate) fn options(runtime: &Path, name: &str) -> LockspaceOptions {
    Lockspace::options(Watchdog::None)
        .io_timeout(IO_TIMEOUT)
        .host_name(HostName::new(name).unwrap())
        .runtime_dir(runtime.join("life"))
}

/// Joins the lockspace of a lease directory, in this process.
pub(crate) fn join(leases: &LeaseDirectory, host_id: u64, name: &str) -> PaxosManager {
    let begun = Instant::now();
    let joined = options(leases.path(), name)
        .join(leases.lockspace_path(), HostId::new(host_id).unwrap())
        .unwrap_or_else(|error| panic!("{name} joins as host {host_id}: {error}"));
    println!(
        "time: {name} of ours joined as host {host_id} in {:?}",
        begun.elapsed()
    );
    PaxosManager::new(joined, leases.clone()).unwrap()
}

/// A request for a disk, which would not wait. Nobody is killed for a loss: what these tests are about is that
/// a guard says by itself that it is lost, also in a process that was stopped and goes on.
pub(crate) fn disk(path: impl AsRef<Path>) -> LockRequest {
    LockRequest::new(Owner::this_process("guest"))
        .disk(path.as_ref(), Access::Exclusive)
        .on_lock_failure(FailureAction::Ignore)
}

/// What `work` gives, and how long it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

/// Seconds of the clock that the format's records are stamped by.
pub(crate) fn monotonic_secs() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap()
}

/// The clock that all processes of this machine have in common, and that goes on while they are stopped.
pub(crate) fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap()
}
