//! `disklease init`: makes the lockspace of a lease directory.

use std::path::PathBuf;

use disklease::format::NoteState;
use disklease::inspect::{Area, FileOptions, inspect_file};
use disklease::libvirt::LeaseDirectory;
use disklease::timing::IoTimeout;

use crate::exit::Failure;
use crate::output::{self, shown_path};
use crate::parse;

/// Make the lockspace of a lease directory, once, on the storage that the hosts share
///
/// No other command makes a lockspace. Nothing that exists is changed: a lockspace is shown, anything else is
/// refused.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lease directory. This directory is made too, but no directory above it
    #[arg(long, value_name = "DIR")]
    lease_dir: PathBuf,
    /// How long one read or write may take: the first join of each host id waits by this io timeout
    #[arg(long, value_name = "SECS", default_value = "10")]
    #[arg(value_parser = parse::io_timeout)]
    io_timeout: IoTimeout,
    /// This host alone uses the directory: no warning where no other host sees its file system
    #[arg(long)]
    single_host: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut directory = LeaseDirectory::new(&args.lease_dir);
    if args.single_host {
        directory = directory.single_host();
    }
    let path = directory.lockspace_path();
    let done = if path.symlink_metadata().is_ok() {
        "has a lockspace already, nothing was changed"
    } else {
        "made a lockspace"
    };
    directory.create_lockspace(args.io_timeout.as_duration())?;
    // What is there now: also where another host has made it at the same time.
    let report = inspect_file(&path, FileOptions::new())?;
    let refused = |what| {
        let path = shown_path(&path);
        Failure::unavailable(format_args!(
            "{path} {what}, nothing was changed: `disklease dump {path}` shows it"
        ))
    };
    let lockspace = match report.areas.into_iter().next() {
        Some(Area::Lockspace(lockspace)) if !lockspace.is_damaged() => lockspace,
        Some(Area::Lockspace(_)) => return Err(refused("is damaged")),
        _ => return Err(refused("exists and holds no lockspace")),
    };
    let id = match lockspace.id {
        NoteState::Present(id) => format!("lockspace id {id}"),
        _ => "the lockspace has no id".to_owned(),
    };
    let (path, geometry) = (shown_path(&args.lease_dir), lockspace.geometry);
    output::print(&format!("{path}: {done}: {geometry}\n{id}\n"))
}
