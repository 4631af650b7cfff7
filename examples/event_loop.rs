//! A guard in a monitor's event loop: ask before each write, stop when the descriptor becomes readable.
//!
//! `cargo run --example event_loop [nop|paxos]` takes a few seconds. The "guest" writes one line after the other
//! to its disk, which is a file in a directory of the example's own.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use disklease::{
    Access, HostId, LeaseDirectory, LockGuard, LockManager, LockRequest, Lockspace, ManagerKind,
    Owner, PaxosManager, Watchdog,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// So short that the example is; real storage wants 10 s or more.
const IO_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    // As a configuration file would have it.
    let kind: ManagerKind = std::env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("paxos")
        .parse()?;
    let directory = std::env::current_dir()?.join(format!(".event_loop.{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let outcome = manager(kind, &directory)
        .and_then(|manager| run_guest(&*manager, &directory.join("disk.img")));
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn manager(kind: ManagerKind, directory: &Path) -> Result<Box<dyn LockManager>, Box<dyn Error>> {
    kind.build(|| {
        let leases = LeaseDirectory::new(directory.join("leases"));
        // Once for a directory, by whoever sets it up: not by each host that joins.
        leases.create_lockspace(IO_TIMEOUT)?;
        let lockspace = Lockspace::options(Watchdog::None)
            .io_timeout(IO_TIMEOUT)
            .on_progress(|wait| println!("joining: {wait:?}"))
            .join(leases.lockspace_path(), HostId::new(1)?)?;
        Ok(PaxosManager::new(lockspace, leases)?)
    })
}

fn run_guest(manager: &dyn LockManager, disk: &Path) -> Result<(), Box<dyn Error>> {
    let request = LockRequest::new(Owner::this_process("guest-1")).disk(disk, Access::Exclusive);
    let guard = manager.acquire(request)?;
    println!("locked by the {} manager: {guard:?}", manager.name());

    // Only now: whoever opens the disk before it is locked reads what another guest may still change.
    let mut file = File::create(disk)?;
    for line in 0..20 {
        if is_in_danger(&guard)? {
            return Err(format!("lost the disk: {:?}", guard.loss()).into());
        }
        if guard.is_held() {
            writeln!(file, "line {line}")?;
        }
    }

    // The guest has stopped; its writes must have ended before the lock goes.
    file.sync_all()?;
    guard.release()?;
    println!("released");
    Ok(())
}

/// Waits a moment for something to do, as a monitor's loop would.
fn is_in_danger(guard: &LockGuard) -> Result<bool, Box<dyn Error>> {
    let event = guard.event_fd();
    let mut events = [PollFd::new(&event, PollFlags::IN)];
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    Ok(poll(&mut events, Some(&moment))? > 0)
}
