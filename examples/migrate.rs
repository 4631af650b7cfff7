//! A guest moves from one host to another, as a virtual machine monitor would do it.
//!
//! `cargo run --example migrate` takes a few seconds. It makes a lease directory of its own, becomes
//! host 1 in it, locks the guest's disk, and starts itself again as host 2, to which the guest moves.
//! The pipe between them stands for the migration stream.

#![allow(
    clippy::print_stdout,
    reason = "an example: it tells what it does on the terminal"
)]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use disklease::format::HostName;
use disklease::{
    Access, HandoverAnswer, HandoverOutcome, HandoverToken, HostId, LeaseDirectory,
    LockManager as _, LockRequest, Lockspace, Owner, PaxosManager, WaitLimit, Watchdog,
};

/// Short, so that joining takes seconds; in production the default of 10 s or more.
const IO_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        None => {
            let name = format!(".migrate.{}", std::process::id());
            let directory = std::env::current_dir()?.join(name);
            std::fs::create_dir_all(&directory)?;
            let moved = source(&directory);
            std::fs::remove_dir_all(&directory)?;
            moved
        }
        Some(directory) => target(directory.as_ref()),
    }
}

fn manager(directory: &Path, id: u64) -> Result<PaxosManager, Box<dyn Error>> {
    let leases = LeaseDirectory::new(directory);
    let lockspace = Lockspace::options(Watchdog::None)
        .io_timeout(IO_TIMEOUT)
        .host_name(HostName::new(&format!("host-{id}"))?)
        .runtime_dir(directory.join(format!("run-{id}")))
        .join(leases.lockspace_path(), HostId::new(id)?)?;
    Ok(PaxosManager::new(lockspace, leases)?)
}

fn request() -> LockRequest {
    LockRequest::new(Owner::this_process("guest-1")).disk("/srv/guest-1.img", Access::Exclusive)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('?');
    let digits = |&byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(digits).collect()
}

fn bytes(hex: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits: Vec<char> = hex.trim().chars().collect();
    let pairs = digits.chunks(2).map(|pair| {
        let pair: String = pair.iter().collect();
        Ok(u8::from_str_radix(&pair, 16)?)
    });
    pairs.collect()
}

fn source(directory: &Path) -> Result<(), Box<dyn Error>> {
    // Once for a directory: hosts that join make none.
    LeaseDirectory::new(directory).create_lockspace(IO_TIMEOUT)?;
    let manager = manager(directory, 1)?;
    let guard = manager.acquire(request())?;
    println!("source: the guest runs");

    let mut child = Command::new(std::env::current_exe()?)
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(mut to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("no pipes".into());
    };

    // The guest runs on while its memory is copied.
    let offer = guard.offer()?;
    writeln!(to, "{}", hex(&offer.token().to_bytes()))?;
    println!(
        "source: offered; the guest is held: {}",
        offer.guard().is_held()
    );

    // Now it is paused, and the last of its state sent.
    let handed_over = offer.hand_over(|| {
        println!("source: the guest is paused; all of its writes are on the disk");
        Ok::<_, std::io::Error>(())
    })?;
    println!("source: handed over {}", handed_over.state());

    let answer = BufReader::new(from).lines().next();
    let Some(answer) = answer else {
        // Nothing is known: only by winning the locks again may the guest go on here.
        let guard = handed_over.reclaim(&manager, request())?;
        println!("source: the guest goes on here");
        guard.release()?;
        return Ok(());
    };
    let answer = HandoverAnswer::from_bytes(&bytes(&answer?)?)?;
    match handed_over.confirm(&answer)? {
        HandoverOutcome::Started => println!("source: the guest runs on the target"),
        HandoverOutcome::Declined => println!("source: the target has declined"),
    }
    child.wait()?;
    manager.lockspace().clone().leave()?;
    Ok(())
}

fn target(directory: &Path) -> Result<(), Box<dyn Error>> {
    let manager = manager(directory, 2)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let token = HandoverToken::from_bytes(&bytes(&line)?)?;
    let wait = WaitLimit::For(Duration::from_secs(60));
    let accepted = manager.accept(&token, request().wait(wait))?;
    let Some((guard, answer)) = accepted.start() else {
        return Err("the locks were lost at once".into());
    };
    // The guest runs here from now on.
    println!("{}", hex(&answer.to_bytes()));
    guard.release()?;
    manager.lockspace().clone().leave()?;
    Ok(())
}
