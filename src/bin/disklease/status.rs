//! `disklease status`: hosts and held disks of a lease directory.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use disklease::__cli::escaped;
use disklease::LeaseDirectory;
use disklease::format::LockspaceId;
use disklease::inspect::{self, Holding, LeaseDirectoryStatus, StatusOptions, Watch};
use disklease::timing::FireTimeout;

use crate::exit::Failure;
use crate::output::{NOT_DIRECT, columns, dash, table};
use crate::parse;
use crate::view::{self, Geometry, HolderNote, HostNote, all, lossy, view};

/// Show the hosts of a lease directory, and which disks they hold
///
/// Nothing is written and nothing is locked. A single read cannot tell whether a host lives, so the
/// hosts are observed: until each has renewed, at most for twice the longest io timeout and two
/// seconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lease directory
    #[arg(long, value_name = "DIR")]
    lease_dir: PathBuf,
    /// Do not observe the hosts: whether they live stays unknown
    #[arg(long)]
    no_wait: bool,
    /// Observe the hosts for this long
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
    let mut status = Status::from(&LeaseDirectoryStatus::observe(&directory, options)?);
    for disk in &mut status.held {
        let mut hosts = status.hosts.iter();
        let holder = hosts.find(|host| host.host_id == disk.host_id);
        disk.host_state = holder.map(|host| host.state);
    }
    view::print(&status, args.json, text)
}

view! {
    Status of status: LeaseDirectoryStatus {
        document: &'static str = "disklease status 1",
        lease_dir: String = status.path.to_string_lossy().into_owned(),
        lockspace_id: Option<String> = status.lockspace_id.map(|id| id.to_string()),
        geometry: Geometry = (&status.geometry).into(),
        direct_io: bool = status.is_direct,
        watched_ms: u128 = status.watched_for.as_millis(),
        hosts: Vec<Host> = all(&status.hosts),
        lease_files: usize = status.lease_files,
        held: Vec<Held> = all(&status.held),
        problems: Vec<String> = status.problems.iter().map(ToString::to_string).collect(),
    }
}

view! {
    Host of host: inspect::HostStatus {
        host_id: u16 = host.host_id.get(),
        host_name: String = lossy(host.host_name),
        state: &'static str = host.state.name(),
        silent_secs: Option<u64> = host.silent_for.as_ref().map(Duration::as_secs),
        local: Option<Local> = host.local.as_ref().map(Local::from),
        generation: u64 = host.generation.get(),
        timestamp: u64 = host.timestamp_secs,
        io_timeout_secs: u64 = host.io_timeout.as_secs(),
        note: Option<HostNote> = host.note.as_ref().map(HostNote::from),
        error: Option<String> = host.damage.map(|damage| damage.to_string()),
    }
}

view! {
    Local of renewal: inspect::LocalRenewal {
        renewed_secs_ago: u64 = renewal.ago.as_secs(),
        missed_renewals: u64 = renewal.missed,
        lost_in_secs: Option<u64> = renewal.lost_in.as_ref().map(Duration::as_secs),
    }
}

view! {
    Held of disk: inspect::HeldDisk {
        lease_file: String = disk.lease_file.clone(),
        access: &'static str = match disk.holding {
            Holding::Shared => "shared",
            _ => "exclusive",
        },
        host_id: u16 = disk.host_id.get(),
        host_name: String = lossy(disk.host_name),
        /// `None` where the host id was never used.
        host_state: Option<&'static str> = None,
        generation: u64 = disk.generation.get(),
        version: u64 = disk.version.get(),
        note: Option<HolderNote> = disk.note.as_ref().map(HolderNote::from),
    }
}

/// The status for people.
fn text(status: &Status) -> String {
    let path = escaped(&status.lease_dir);
    let mut text = format!("{path}: lease directory, {}\n", status.geometry.shown);
    // Writing to a string does not fail.
    let _ = match &status.lockspace_id {
        Some(id) => writeln!(text, "lockspace id {id}"),
        None => writeln!(text, "the lockspace has no id"),
    };
    if !status.direct_io {
        text.push_str(NOT_DIRECT);
    }
    text.push('\n');
    if status.hosts.is_empty() {
        text.push_str("no host id was ever used\n");
    }
    text += &table(
        "",
        &status.hosts,
        columns!(host => {
            "HOST": host.host_id,
            "NAME": escaped(&host.host_name),
            "STATE": state(host),
            "GENERATION": host.generation,
            "IO TIMEOUT": format!("{} s", host.io_timeout_secs),
            "PID": dash(host.note.as_ref().map(|note| note.pid)),
        }),
    );
    text.push('\n');
    if status.held.is_empty() {
        text.push_str("no disk is held");
    } else {
        text += &table(
            "",
            &status.held,
            columns!(disk => {
                "LEASE FILE": escaped(&disk.lease_file),
                "HOST": format!("{} {}", disk.host_id, escaped(&disk.host_name)),
                "ACCESS": disk.access,
                "GENERATION": disk.generation,
                "VERSION": disk.version,
                "GUEST": dash(disk.note.as_ref().map(guest)),
                "PID": dash(disk.note.as_ref().map(|note| note.pid)),
                "SINCE": dash(disk.note.as_ref().map(|note| &note.acquired)),
            }),
        );
        let _ = write!(text, "holders: {}", status.held.len());
    }
    let _ = writeln!(text, "; lease files: {}", status.lease_files);
    let errors = status.hosts.iter().filter_map(|host| host.error.as_ref());
    let errors = errors.map(|error| format!("the lockspace: {error}"));
    for damage in errors.chain(status.problems.iter().cloned()) {
        let _ = writeln!(text, "DAMAGED: {damage}");
    }
    text
}

/// Whether a host is alive, and what is known of its renewals.
fn state(host: &Host) -> String {
    if host.error.is_some() {
        return "unknown (damaged)".to_owned();
    }
    let silent = host
        .silent_secs
        .map(|secs| format!("not seen to renew for {secs} s"));
    let known = silent.into_iter().chain(host.local.as_ref().map(local));
    let known = known.collect::<Vec<_>>().join("; ");
    let separator = if known.is_empty() { "" } else { ": " };
    format!("{}{separator}{known}", host.state)
}

fn local(renewal: &Local) -> String {
    let missed = match renewal.missed_renewals {
        0 => String::new(),
        missed => format!(", missed since: {missed}"),
    };
    let lost = match renewal.lost_in_secs {
        Some(secs) => format!(", lost in {secs} s"),
        None => ", lost".to_owned(),
    };
    format!("renewed {} s ago{missed}{lost}", renewal.renewed_secs_ago)
}

fn guest(note: &HolderNote) -> String {
    let uuid = note.guest_uuid.iter().map(|uuid| format!(" {uuid}"));
    escaped(&note.guest_name) + &uuid.collect::<String>()
}
