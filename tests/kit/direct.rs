//! `sanlock direct`: making and reading leases without a daemon.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::command::{Ended, done, done_result, run, sanlock};
use super::lease::{Geometry, Lockspace, Resource, plain};
use super::{SanlockResult, ScratchLease};

/// These touch one file and wait for nobody.
const LIMIT: Duration = Duration::from_secs(20);

/// Formats the lockspace; `io_timeout` in seconds is what a first join of a host goes by.
pub(crate) fn init_lockspace(lockspace: &Lockspace, io_timeout: u32) {
    let mut command = direct(&["init", "-s", &lockspace.argument(0)]);
    command.args(["-o", &io_timeout.to_string()]);
    init(&mut command, lockspace.geometry);
}

/// Formats the lease of the resource as free.
pub(crate) fn init_resource(resource: &Resource) {
    let mut command = direct(&["init", "-r", &resource.argument()]);
    init(&mut command, resource.geometry);
}

fn init(command: &mut Command, Geometry { sector, align }: Geometry) {
    command.args(["-Z", &sector.to_string()]);
    command.args(["-A", &format!("{}M", align >> 20)]);
    let ended = run(command, LIMIT);
    assert_eq!(done(&ended), Some(0), "{command:?}: {ended:?}");
}

/// No daemon is asked, but the run directory is set all the same: never the machine's own.
fn direct(arguments: &[&str]) -> Command {
    let mut command = sanlock("/nonexistent");
    command.arg("direct").args(arguments);
    command
}

/// One line of `sanlock direct dump`: a delta lease in use or once used, or the lease of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DumpLine {
    /// In the file, in bytes.
    pub(crate) offset: u64,
    pub(crate) lockspace: String,
    /// Name of the resource; of the host in a delta lease.
    pub(crate) resource: String,
    /// 0 in a lease that is free. The owner then is the last one.
    pub(crate) timestamp: u64,
    pub(crate) owner_id: u64,
    pub(crate) owner_generation: u64,
    /// Only resources have one.
    pub(crate) lver: Option<u64>,
    /// Host ids and generations of those that share the resource.
    pub(crate) sharers: Vec<(u64, u64)>,
}

/// All leases in the file from byte `offset` on. Sanlock prints no delta lease that was never used.
pub(crate) fn dump(path: &Path, offset: u64) -> Vec<DumpLine> {
    let mut command = direct(&["dump", &format!("{}:{offset}", plain(path))]);
    let ended = run(&mut command, LIMIT);
    assert!(ended.success, "{command:?}: {ended:?}");
    let mut found: Vec<DumpLine> = Vec::new();
    // The first line is the heading. Lines with names left out belong to the resource above.
    for line in ended.stdout.lines().skip(1) {
        let taken = match found.last_mut() {
            Some(resource) if line.starts_with(' ') && line.ends_with(" SH") => {
                sharer(line).map(|sharer| resource.sharers.push(sharer))
            }
            _ => dump_line(line).map(|line| found.push(line)),
        };
        taken.unwrap_or_else(|| panic!("not a line of a dump: {line:?}"));
    }
    found
}

/// `0001 0001 SH`
fn sharer(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn dump_line(line: &str) -> Option<DumpLine> {
    let mut words = line.split_whitespace();
    Some(DumpLine {
        offset: words.next()?.parse().ok()?,
        lockspace: words.next()?.to_owned(),
        resource: words.next()?.to_owned(),
        timestamp: words.next()?.parse().ok()?,
        owner_id: words.next()?.parse().ok()?,
        owner_generation: words.next()?.parse().ok()?,
        lver: match words.next() {
            Some(lver) => Some(lver.parse().ok()?),
            None => None,
        },
        sharers: Vec::new(),
    })
}

/// A leader record as `sanlock direct read_leader` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    fields: Vec<(String, String)>,
}

impl Leader {
    /// A number by the name that sanlock prints, decimal or with 0x. Panics if there is none.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let text = self.text(name);
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.unwrap_or_else(|error| panic!("{name} {text:?}: {error}"))
    }

    /// A text by the name that sanlock prints, such as `resource_name`. Panics if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        let field = self.fields.iter().find(|(key, _)| key == name);
        field.map_or_else(
            || panic!("no {name} in {self:?}"),
            |(_, value)| value.as_str(),
        )
    }
}

/// The delta lease of `host_id`, checked by sanlock; else the number it refused it with.
pub(crate) fn read_lockspace_leader(lockspace: &Lockspace, host_id: u64) -> SanlockResult<Leader> {
    read_leader(&["read_leader", "-s", &lockspace.argument(host_id)])
}

/// The leader record of the resource, checked by sanlock; else the number it refused it with.
pub(crate) fn read_resource_leader(resource: &Resource) -> SanlockResult<Leader> {
    read_leader(&["read_leader", "-r", &resource.argument()])
}

fn read_leader(arguments: &[&str]) -> SanlockResult<Leader> {
    let ended = run(&mut direct(arguments), LIMIT);
    done_result(&ended)?;
    Ok(leader(&ended))
}

fn leader(ended: &Ended) -> Leader {
    // The first line is the result; a field without a value is an empty name.
    let lines = ended.stdout.lines().skip(1);
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), value.to_owned())
    };
    Leader {
        fields: lines.map(pair).collect(),
    }
}

impl ScratchLease {
    /// A formatted lockspace of the default geometry in a file of its own.
    pub(crate) fn lockspace(&self, name: &str, io_timeout: u32) -> Lockspace {
        self.lockspace_of(Geometry::DEFAULT, name, io_timeout)
    }

    /// A formatted lockspace in a file of its own.
    pub(crate) fn lockspace_of(
        &self,
        geometry: Geometry,
        name: &str,
        io_timeout: u32,
    ) -> Lockspace {
        let mib = u64::from(geometry.align >> 20);
        let path = self.file(&format!("{name}.lockspace"), mib);
        let mut lockspace = Lockspace::new(name, path);
        lockspace.geometry = geometry;
        init_lockspace(&lockspace, io_timeout);
        lockspace
    }

    /// A formatted, free resource of `lockspace` in a file of its own.
    pub(crate) fn resource(&self, lockspace: &Lockspace, name: &str) -> Resource {
        let mib = u64::from(lockspace.geometry.align >> 20);
        let path = self.file(&format!("{}.{name}", lockspace.name), mib);
        let resource = lockspace.resource(name, path, 0);
        init_resource(&resource);
        resource
    }
}
