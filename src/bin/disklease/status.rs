//! `disklease status`: hosts and held disks of a lease directory.

mod json;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use disklease::format::LockspaceId;
use disklease::inspect::{LeaseDirectoryStatus, StatusOptions, Watch};
use disklease::libvirt::LeaseDirectory;
use disklease::timing::FireTimeout;

use crate::exit::Failure;
use crate::{output, parse};

/// Show the hosts of a lease directory, and which disks they hold
///
/// Nothing is written and nothing is locked. One look cannot tell whether a host lives, so the
/// hosts are watched: until each was seen to renew, at most for twice the longest io timeout and
/// two seconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lease directory
    #[arg(long, value_name = "DIR")]
    lease_dir: PathBuf,
    /// Do not watch the hosts: whether they live stays unknown
    #[arg(long)]
    no_wait: bool,
    /// Watch the hosts for this long
    #[arg(long, value_name = "SECS", conflicts_with = "no_wait")]
    #[arg(value_parser = parse::secs)]
    watch: Option<Duration>,
    /// The watchdog's time, which all hosts of the lockspace have in common
    #[arg(long, value_name = "SECS", default_value = "60")]
    #[arg(value_parser = parse::fire_timeout)]
    fire_timeout: FireTimeout,
    /// The id that the lockspace must have
    #[arg(long, value_name = "ID")]
    lockspace_id: Option<LockspaceId>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let watch = match args.watch {
        _ if args.no_wait => Watch::Once,
        Some(time) => Watch::For(time),
        None => Watch::UntilSeen,
    };
    let mut options = StatusOptions::new()
        .watch(watch)
        .fire_timeout(args.fire_timeout);
    if let Some(id) = args.lockspace_id {
        options = options.lockspace_id(id);
    }
    let directory = LeaseDirectory::new(&args.lease_dir);
    let status = LeaseDirectoryStatus::observe(&directory, options)?;
    if args.json {
        crate::json::print(&json::document(&status))
    } else {
        output::print(&text::of(&status))
    }
}
