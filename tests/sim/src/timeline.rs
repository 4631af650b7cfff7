//! The history of a run, host by host on one time line, for a person to read.

use std::fmt::Write as _;
use std::time::Duration;

use disklease::format::{Dblock, DblockSector, DeltaLeader, HostId, PaxosLeader};

use super::clock::TrueTime;
use super::io::{IoKind, IoRecord, Outcome};
use super::sched::{HostIx, Sim};

const COLUMN: usize = 58;
const SECTOR: usize = 512;

struct Line {
    at: TrueTime,
    order: u64,
    host: Option<HostIx>,
    text: String,
}

/// The whole history: who did what to the disks, and what is worth telling besides. Reads of the
/// lockspace by hosts that only look around are left out.
pub fn text(sim: &Sim) -> String {
    let core = sim.core.borrow();
    let guests = core.disks.len() - 1;
    let mut lines: Vec<_> = core
        .notes
        .iter()
        .map(|(at, order, host, text)| Line {
            at: *at,
            order: *order,
            host: *host,
            text: text.clone(),
        })
        .collect();
    for io in core.log.iter().flatten() {
        let Some(text) = describe(io, guests) else {
            continue;
        };
        let at = io
            .effect
            .or_else(|| io.told.map(|(at, _)| at))
            .unwrap_or(io.begun);
        lines.push(Line {
            at,
            order: io.order,
            host: Some(io.host),
            text: format!("{text}{}", fate(io)),
        });
    }
    // At one instant in the order in which it happened: storage may take no time.
    lines.sort_by_key(|line| (line.at, line.order));
    let hosts = lines
        .iter()
        .filter_map(|line| line.host)
        .map(|host| host.0 + 1);
    render(&lines, hosts.max().unwrap_or(0))
}

fn render(lines: &[Line], hosts: usize) -> String {
    let mut out = String::new();
    let _ = write!(out, "{:>14}  ", "seconds");
    for host in 0..hosts {
        let _ = write!(out, "{:COLUMN$}", format!("machine {}", HostIx(host)));
    }
    out.push('\n');
    for line in lines {
        let seconds = seconds_of(line.at);
        let Some(host) = line.host else {
            for part in line.text.lines() {
                let _ = writeln!(out, "{seconds:>14.6}  == {part}");
            }
            continue;
        };
        let mut words = String::new();
        for (n, part) in wrap(&line.text, COLUMN - 2).into_iter().enumerate() {
            let time = if n == 0 {
                format!("{seconds:>14.6}")
            } else {
                " ".repeat(14)
            };
            let indent = " ".repeat(COLUMN * host.0 + 2);
            let _ = writeln!(words, "{time}{indent}{part}");
        }
        out.push_str(&words);
    }
    out
}

fn seconds_of(at: TrueTime) -> f64 {
    Duration::from_nanos(at.0).as_secs_f64()
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(format!("  {word}"));
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn describe(io: &IoRecord, guests: usize) -> Option<String> {
    let is_read = io.kind == IoKind::Read;
    if io.disk.0 == guests {
        return Some("the guest writes to its disk".to_owned());
    }
    if io.disk.0 == 0 {
        return lockspace(io, is_read);
    }
    let lease = io.disk.0;
    let sector = io.offset / SECTOR as u64;
    Some(match (is_read, sector) {
        (false, 0) => format!("WRITES leader of lease {lease}: {}", leader(&io.bytes)),
        (false, n) => format!(
            "WRITES block {} of lease {lease}: {}",
            n - 1,
            block(&io.bytes)
        ),
        (true, _) if io.seen.is_empty() => format!("reads lease {lease}"),
        (true, 0) if io.len == SECTOR => {
            format!("reads leader of lease {lease}: {}", leader(&io.seen))
        }
        (true, 0) => {
            let mut text = format!("reads lease {lease}: {}", leader(&io.seen));
            for (n, sector) in io.seen.chunks(SECTOR).enumerate().skip(2) {
                if sector.iter().any(|&byte| byte != 0) {
                    let _ = write!(text, "; block {}: {}", n - 1, block(sector));
                }
            }
            text
        }
        (true, n) => format!(
            "reads block {} of lease {lease}: {}",
            n - 1,
            block(&io.seen)
        ),
    })
}

fn lockspace(io: &IoRecord, is_read: bool) -> Option<String> {
    let id = io.offset / SECTOR as u64 + 1;
    let bytes = if is_read { &io.seen } else { &io.bytes };
    if is_read && io.len > SECTOR {
        return None;
    }
    let what = match DeltaLeader::decode(bytes, HostId::new(id).ok()?) {
        Ok(leader) => {
            let name = leader.host_name();
            let generation = leader.generation();
            if leader.is_free() {
                format!("free, generation {generation}")
            } else {
                let secs = leader.timestamp_secs();
                format!("\"{name}\", generation {generation}, time {secs}")
            }
        }
        Err(_) if bytes.is_empty() => String::new(),
        Err(error) => error.to_string(),
    };
    let verb = if is_read { "reads" } else { "WRITES" };
    Some(format!("{verb} host id {id}: {what}"))
}

fn leader(bytes: &[u8]) -> String {
    match PaxosLeader::decode(bytes.get(..SECTOR).unwrap_or(bytes)) {
        Ok(leader) => {
            let version = leader.version();
            let owner = leader.last_owner().map_or(0, u64::from);
            let generation = leader.generation();
            let writer = leader.write_id();
            if leader.is_free() {
                format!("v{version} free (of {owner}/{generation}, by {writer})")
            } else {
                let timestamp = leader.input().timestamp;
                format!("v{version} of {owner}/{generation}, timestamp {timestamp}, by {writer}")
            }
        }
        Err(error) => error.to_string(),
    }
}

fn block(bytes: &[u8]) -> String {
    let sector = DblockSector::decode(bytes, HostId::FIRST);
    let released = if sector.released { ", RELEASED" } else { "" };
    match sector.block {
        Ok(Some(Dblock {
            mbal,
            bal,
            input,
            version,
            ..
        })) => {
            let input = input.map_or_else(String::new, |input| {
                let (owner, generation, timestamp) =
                    (input.owner, input.generation, input.timestamp);
                format!(" for {owner}/{generation}, timestamp {timestamp}")
            });
            format!("v{version} mbal {mbal} bal {bal}{input}{released}")
        }
        Ok(None) => format!("empty{released}"),
        Err(error) => error.to_string(),
    }
}

/// What became of it, where that is not the plain thing.
fn fate(io: &IoRecord) -> String {
    let seconds = seconds_of;
    let mut text = String::new();
    let told_at = io.told.map(|(at, _)| at);
    match io.told {
        Some((_, Outcome::Done)) => {}
        Some((at, outcome)) => {
            let _ = write!(text, " -- told at {:.6}: {outcome:?}", seconds(at));
        }
        None => text.push_str(" -- never told"),
    }
    if io.effect.is_none() && io.kind == IoKind::Write {
        text.push_str(", never landed");
    }
    let slow = io.effect.unwrap_or(io.begun).since(io.begun).as_millis() > 100;
    if slow
        || io
            .effect
            .zip(told_at)
            .is_some_and(|(effect, told)| effect > told)
    {
        let _ = write!(text, " (begun at {:.6})", seconds(io.begun));
    }
    text
}
