//! What a file holds, for people.

use std::fmt::{Result, Write as _};
use std::mem::discriminant;

use disklease::__cli::escaped;
use disklease::format::FormatErrorKind;
use disklease::inspect::Damage;

use super::document::{
    Area, Ballot, DeltaLeader, Dump, Host, Input, Lease, Lockspace, PaxosLeader, Sector,
};
use crate::output::{NOT_DIRECT, columns, dash, table};
use crate::view::{Geometry, HolderNote, HostNote};

pub(crate) fn of(dump: &Dump) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = file(&mut text, dump);
    text
}

fn file(text: &mut String, dump: &Dump) -> Result {
    let kind = if dump.block_device {
        "block device"
    } else {
        "file"
    };
    let path = escaped(&dump.path);
    writeln!(text, "{path}: {kind} of {} bytes", dump.length)?;
    if !dump.direct_io {
        text.push_str(NOT_DIRECT);
    }
    if dump.areas.is_empty() {
        text.push_str("it is empty\n");
    }
    for area in &dump.areas {
        match area {
            Area::Lockspace(area) => lockspace(text, area)?,
            Area::Lease(area) => lease(text, area)?,
            Area::Zeros { offset, length } => writeln!(
                text,
                "\nbyte {offset}: {length} bytes in which nothing starts, zeros"
            )?,
            Area::Foreign {
                offset,
                length,
                first_word,
            } => writeln!(
                text,
                "\nbyte {offset}: {length} bytes in which nothing of the format starts; the first word is {first_word:#010x}"
            )?,
            Area::Unknown { offset } => writeln!(text, "\nbyte {offset}: something else")?,
        }
    }
    Ok(())
}

fn lockspace(text: &mut String, area: &Lockspace) -> Result {
    let (offset, name) = (area.offset, escaped(&area.name));
    let geometry = &area.geometry;
    writeln!(
        text,
        "\nbyte {offset}: lockspace \"{name}\", {}",
        geometry.shown
    )?;
    if let Some(id) = &area.id {
        writeln!(text, "  id {id}")?;
    }
    let good: Vec<_> = area
        .hosts
        .iter()
        .filter_map(|host| Some((host, host.leader.good.as_ref()?)))
        .collect();
    if good.is_empty() {
        text.push_str("  no host id was ever used\n");
    }
    *text += &table(
        "  ",
        &good,
        columns!((host, leader) => {
            "HOST": host.host_id,
            "STATE": if leader.free { "free" } else { "used" },
            "NAME": escaped(&leader.host_name),
            "GENERATION": leader.generation,
            "TIMESTAMP": leader.timestamp,
            "IO TIMEOUT": format!("{} s", leader.io_timeout_secs),
            "NOTE": remarks(host, leader),
        }),
    );
    damage_lines(text, &area.damages, geometry, offset, area.cut_at)
}

/// The note of a host, and the hosts that it calls.
fn remarks(host: &Host, leader: &DeltaLeader) -> String {
    let note = host.note.as_ref().map(|note| {
        let HostNote {
            generation,
            pid,
            boot,
            ..
        } = note;
        if (note.host_id, *generation) == (host.host_id, leader.generation) {
            format!("pid {pid}, boot {boot}")
        } else {
            format!("of generation {generation}: pid {pid}, boot {boot}")
        }
    });
    let damaged = host.note_error.as_ref().map(|_| "damaged".to_owned());
    let calls: Vec<String> = host.calls.iter().map(u16::to_string).collect();
    let calls = (!calls.is_empty()).then(|| format!("calls hosts {}", calls.join(", ")));
    let remarks = note.into_iter().chain(damaged).chain(calls);
    remarks.collect::<Vec<_>>().join(" ")
}

fn lease(text: &mut String, area: &Lease) -> Result {
    let (offset, geometry) = (area.offset, &area.geometry);
    let guess = if area.geometry_guessed {
        " (a guess)"
    } else {
        ""
    };
    write!(text, "\nbyte {offset}: lease")?;
    if let Some(leader) = &area.leader.good {
        let [resource, space] = [&leader.resource, &leader.lockspace].map(|name| escaped(name));
        write!(text, " \"{resource}\" of lockspace \"{space}\"")?;
    }
    writeln!(text, ", {}{guess}", geometry.shown)?;
    if let Some(leader) = &area.leader.good {
        leader_lines(text, leader)?;
    }
    if let Some(request) = &area.request.good
        && (request.version, request.force_mode) != (0, 0)
    {
        writeln!(
            text,
            "  request     by the asker of version {}, mode {}",
            request.version, request.force_mode
        )?;
    }
    // A damaged dblock may still be marked shared or have a note.
    let blocks: Vec<_> = area
        .blocks
        .iter()
        .filter_map(|block| Some((block.host_id, block.sector.good.as_ref()?)))
        .filter(|(_, sector)| {
            let has_ballot = sector.ballot.is_some() || sector.released;
            has_ballot || sector.shared_generation.is_some() || sector.note.is_some()
        })
        .collect();
    *text += &table(
        "  ",
        &blocks,
        columns!((host_id, sector) => {
            "HOST": host_id,
            "MBAL": of_ballot(sector, |ballot| Some(ballot.mbal)),
            "BAL": of_ballot(sector, |ballot| Some(ballot.bal)),
            "VERSION": of_ballot(sector, |ballot| Some(ballot.version)),
            "PROPOSES": of_ballot(sector, |ballot| ballot.input.as_ref().map(proposal)),
            "RELEASED": if sector.released { "yes" } else { "no" },
            "SHARED": match sector.shared_generation {
                Some(generation) => format!("generation {generation}"),
                None => "no".to_owned(),
            },
            "NOTE": sector.note.as_ref().map(holder_note).unwrap_or_default(),
        }),
    );
    damage_lines(text, &area.damages, geometry, offset, area.cut_at)
}

fn leader_lines(text: &mut String, leader: &PaxosLeader) -> Result {
    let (state, by) = if leader.free {
        ("free", "last by")
    } else if leader.short_hold {
        ("held for short", "by")
    } else {
        ("held", "by")
    };
    let owner = match leader.owner_id {
        Some(owner) => format!(
            "{by} host {owner}, generation {}, timestamp {}",
            leader.generation, leader.timestamp
        ),
        None => "never held".to_owned(),
    };
    let version = leader.version;
    writeln!(text, "  leader      {state}, {owner}, version {version}")?;
    writeln!(
        text,
        "  written by  host {}, generation {}, timestamp {}",
        leader.write_id, leader.write_generation, leader.write_timestamp
    )?;
    writeln!(text, "  hosts       1 to {}", leader.num_hosts)
}

fn of_ballot<T: ToString>(sector: &Sector, show: impl Fn(&Ballot) -> Option<T>) -> String {
    dash(sector.ballot.as_ref().and_then(show))
}

fn proposal(input: &Input) -> String {
    let Input {
        owner_id,
        generation,
        timestamp,
    } = input;
    format!("host {owner_id} generation {generation} at {timestamp}")
}

fn holder_note(note: &HolderNote) -> String {
    let mut text = format!(
        "guest \"{}\", pid {}, acquired {} in version {}",
        escaped(&note.guest_name),
        note.pid,
        note.acquired,
        note.version
    );
    if let Some(uuid) = &note.guest_uuid {
        let _ = write!(text, ", uuid {uuid}");
    }
    if let Some(remark) = &note.remark {
        let _ = write!(text, ", {remark}");
    }
    text
}

/// A line for the end of the file, and for each damage or run of sectors that are damaged in the same way.
fn damage_lines(
    text: &mut String,
    damages: &[(u64, Damage)],
    geometry: &Geometry,
    offset: u64,
    cut_at: Option<u64>,
) -> Result {
    if let Some(end) = cut_at {
        let area = geometry.area_size;
        writeln!(
            text,
            "  DAMAGED: the file ends at byte {end}, before the {area} bytes that start at byte {offset} do"
        )?;
    }
    let sector_size = u64::try_from(geometry.sector_size).unwrap_or(u64::MAX);
    for run in damages.chunk_by(|(at, one), (next_at, other)| {
        same_kind(one, other) && at.saturating_add(sector_size) == *next_at
    }) {
        if let [(at, damage)] = run {
            writeln!(text, "  DAMAGED at byte {at}: {damage}")?;
        } else if let [(at, damage), .., (last, _)] = run {
            let count = run.len();
            writeln!(
                text,
                "  DAMAGED at bytes {at} to {last}: {count} sectors alike, the first: {damage}"
            )?;
        }
    }
    Ok(())
}

fn same_kind(one: &Damage, other: &Damage) -> bool {
    use Damage::Format;
    match (one, other) {
        (Format(one), Format(other)) => match (one.kind(), other.kind()) {
            (FormatErrorKind::Magic { found: one, .. }, FormatErrorKind::Magic { found, .. }) => {
                one == found
            }
            (one, other) => discriminant(one) == discriminant(other),
        },
        (one, other) => one == other,
    }
}
