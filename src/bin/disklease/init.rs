//! `disklease init`: makes the lockspace of a lease directory.

use std::path::PathBuf;
use std::time::Duration;

use disklease::format::NoteState;
use disklease::inspect::{self, Area, LockspaceLook, LookOptions};
use disklease::libvirt::LeaseDirectory;
use disklease::timing::IoTimeout;

use crate::exit::Failure;
use crate::output::{self, shown_path};

/// Make the lockspace of a lease directory, once, on the storage that the hosts share
///
/// Nothing else makes one. What exists is left as it is: a lockspace is shown, anything else is
/// refused.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lease directory. It is made too, but none above it
    #[arg(long, value_name = "DIR")]
    lease_dir: PathBuf,
    /// How long one read or write may take: what the first join of each host id goes by
    #[arg(long, value_name = "SECS", default_value_t = 10)]
    io_timeout: u64,
    /// Only this host is to use it: no warning where no other host sees its file system
    #[arg(long)]
    single_host: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let io_timeout = Duration::from_secs(args.io_timeout);
    IoTimeout::new(io_timeout).map_err(Failure::usage)?;
    let mut directory = LeaseDirectory::new(&args.lease_dir);
    if args.single_host {
        directory = directory.single_host();
    }
    let existed = directory.lockspace_path().symlink_metadata().is_ok();
    directory
        .create_lockspace(io_timeout)
        .map_err(Failure::unavailable)?;
    // What is there now: also where another host has made it at the same time.
    let lockspace = look(&directory)?;
    let path = shown_path(&args.lease_dir);
    let done = if existed {
        "has a lockspace already, nothing was changed"
    } else {
        "made a lockspace"
    };
    let id = match lockspace.id {
        NoteState::Present(id) => format!("lockspace id {id}"),
        _ => "the lockspace has no id".to_owned(),
    };
    output::print(&format!("{path}: {done}: {}\n{id}\n", lockspace.geometry))
}

fn look(directory: &LeaseDirectory) -> Result<LockspaceLook, Failure> {
    let path = directory.lockspace_path();
    let refused = |what| {
        let path = shown_path(&path);
        Failure::unavailable(format_args!(
            "{path} {what}, nothing was changed: `disklease dump {path}` shows it"
        ))
    };
    let look = inspect::look(&path, LookOptions::new()).map_err(Failure::unavailable)?;
    match look.areas.into_iter().next() {
        Some(Area::Lockspace(lockspace)) if lockspace.is_damaged() => Err(refused("is damaged")),
        Some(Area::Lockspace(lockspace)) => Ok(lockspace),
        _ => Err(refused("exists and holds no lockspace")),
    }
}
