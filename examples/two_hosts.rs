//! A disk locked against a second host, and handed over: two processes that share nothing but a
//! directory.
//!
//! `cargo run --example two_hosts` takes a few seconds. It makes a lease directory of its own,
//! becomes host 1 in it, locks a disk, and starts itself again as host 2. Host 2 is refused, and
//! told by whom; host 1 releases the disk; host 2, which waits for it by now, gets it.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use disklease::format::HostName;
use disklease::{
    Access, HostId, LeaseDirectory, LockManager as _, LockRequest, Lockspace, Owner, PaxosManager,
    WaitLimit, Watchdog,
};

/// So short that the example is; real storage wants 10 s or more.
const IO_TIMEOUT: Duration = Duration::from_secs(1);
/// Only a name to the library: the disk itself is never touched.
const DISK: &str = "/dev/disk/by-id/guest-1";

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        None => host_1(),
        Some(directory) => host_2(&PathBuf::from(directory)),
    }
}

/// Joins the lockspace in `directory`.
fn join(directory: &Path, host_id: u64, name: &str) -> Result<PaxosManager, Box<dyn Error>> {
    let leases = LeaseDirectory::new(directory);
    let lockspace = Lockspace::options(Watchdog::None)
        .io_timeout(IO_TIMEOUT)
        .host_name(HostName::new(name)?)
        .join(leases.lockspace_path(), HostId::new(host_id)?)?;
    println!(
        "[{name}] joined the lockspace as host {host_id}, generation {}",
        lockspace.generation()
    );
    Ok(PaxosManager::new(lockspace, leases)?)
}

fn host_1() -> Result<(), Box<dyn Error>> {
    // In the current directory, since the system's temporary one may be in memory, without direct
    // I/O.
    let directory = std::env::current_dir()?.join(format!(".two_hosts.{}", std::process::id()));
    let outcome = hand_over(&directory);
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn hand_over(directory: &Path) -> Result<(), Box<dyn Error>> {
    // Once for a directory: hosts that join make none.
    LeaseDirectory::new(directory).create_lockspace(IO_TIMEOUT)?;
    let manager = join(directory, 1, "alpha")?;
    let guard = manager
        .acquire(LockRequest::new(Owner::this_process("guest-1")).disk(DISK, Access::Exclusive))?;
    for lock in guard.locks() {
        println!("[alpha] locked {}", lock.locked);
    }

    let mut second = Command::new(std::env::current_exe()?)
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = second.stdout.take().ok_or("no pipe")?;
    let mut guard = Some(guard);
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(guard) = guard.take_if(|_| line.contains("refused")) {
            println!(
                "[alpha] still holds it: {}; stops its guest and releases",
                guard.is_held()
            );
            guard.release()?;
        }
    }

    let status = second.wait()?;
    manager.lockspace().clone().leave()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("host 2 failed: {status}").into())
    }
}

fn host_2(directory: &Path) -> Result<(), Box<dyn Error>> {
    let manager = join(directory, 2, "beta")?;
    let request = || LockRequest::new(Owner::this_process("guest-1")).disk(DISK, Access::Exclusive);
    match manager.acquire(request()) {
        Err(error) if error.is_held() => println!("[beta]  refused: {error}"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("host 2 got a disk that host 1 holds".into()),
    }
    let guard = manager.acquire(request().wait(WaitLimit::For(Duration::from_secs(10))))?;
    for lock in guard.locks() {
        let version = lock.version.ok_or("no lease protects it")?;
        println!("[beta]  locked {}, now at version {version}", lock.locked);
    }
    guard.release()?;
    manager.lockspace().clone().leave()?;
    Ok(())
}
