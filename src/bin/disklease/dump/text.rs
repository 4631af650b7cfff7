//! A look at a file for people.

use std::fmt::Write as _;
use std::mem::discriminant;

use disklease::format::{
    FormatErrorKind, Geometry, HolderNote, HostNote, NoteState, PaxosLeader, RequestRecord, Tenure,
};
use disklease::inspect::{Area, Damage, FileLook, HostBlock, HostSector, LeaseLook, LockspaceLook};

use crate::output::{Shown, hex, shown_path, table, utc, uuid};

pub(crate) fn of(look: &FileLook) -> String {
    let kind = if look.is_block_device {
        "block device"
    } else {
        "file"
    };
    let mut text = format!("{}: {kind} of {} bytes\n", shown_path(&look.path), look.len);
    if !look.is_direct {
        text.push_str("read through the page cache: what other hosts wrote may not be seen\n");
    }
    if look.areas.is_empty() {
        text.push_str("it is empty\n");
    }
    for area in &look.areas {
        text.push('\n');
        let _ = match area {
            Area::Lockspace(look) => lockspace(&mut text, look),
            Area::Lease(look) => lease(&mut text, look),
            Area::Zeros { offset, len } => {
                writeln!(
                    text,
                    "byte {offset}: {len} bytes in which nothing begins, zeros"
                )
            }
            Area::Foreign {
                offset,
                len,
                first_word,
            } => writeln!(
                text,
                "byte {offset}: {len} bytes in which nothing of the format begins; the first word is {first_word:#010x}"
            ),
            other => writeln!(text, "byte {}: something else", other.offset()),
        };
    }
    text
}

fn lockspace(text: &mut String, look: &LockspaceLook) -> std::fmt::Result {
    let LockspaceLook {
        offset,
        geometry,
        name,
        ..
    } = look;
    writeln!(text, "byte {offset}: lockspace \"{name}\", {geometry}")?;
    match &look.id {
        NoteState::Present(id) => writeln!(text, "  id {id}")?,
        NoteState::Damaged(error) => writeln!(text, "  DAMAGED: {error}")?,
        NoteState::Absent => {}
    }
    cut(text, look.cut_at, *offset, *geometry)?;
    let good: Vec<[String; 7]> = look.hosts.iter().filter_map(host_row).collect();
    if good.is_empty() {
        text.push_str("  no host id was ever used\n");
    } else {
        let head = [
            "HOST",
            "STATE",
            "NAME",
            "GENERATION",
            "TIMESTAMP",
            "IO TIMEOUT",
            "NOTE",
        ];
        text.push_str(&table("  ", head, &good));
    }
    let mut damages = Vec::new();
    for host in &look.hosts {
        if let Err(damage) = host.leader {
            damages.push((host.offset, damage));
        }
        if let NoteState::Damaged(error) = host.note {
            damages.push((host.offset, Damage::Format(error)));
        }
    }
    damage_lines(text, &damages, geometry.sector_size())
}

fn host_row(host: &HostSector) -> Option<[String; 7]> {
    let leader = host.leader.ok()?;
    let state = if leader.is_free() { "free" } else { "used" };
    let mut note = match (&host.note, host.current_note()) {
        (NoteState::Present(_), Some(note)) => host_note(note),
        (NoteState::Present(note), None) => {
            format!("of generation {}: {}", note.generation, host_note(note))
        }
        (NoteState::Damaged(_), _) => "damaged".to_owned(),
        (NoteState::Absent, _) => String::new(),
    };
    if !host.bitmap.is_empty() {
        let calls: Vec<String> = host.bitmap.iter().map(|host| host.to_string()).collect();
        let _ = write!(note, " calls hosts {}", calls.join(", "));
    }
    Some([
        host.host_id.to_string(),
        state.to_owned(),
        leader.host_name().to_string(),
        leader.generation().to_string(),
        leader.timestamp_secs().to_string(),
        format!("{} s", leader.io_timeout_secs()),
        note.trim_start().to_owned(),
    ])
}

fn host_note(note: &HostNote) -> String {
    format!("pid {}, boot {}", note.pid, hex(&note.boot))
}

fn lease(text: &mut String, look: &LeaseLook) -> std::fmt::Result {
    let LeaseLook {
        offset, geometry, ..
    } = look;
    let guessed = if look.geometry_is_guessed {
        " (a guess)"
    } else {
        ""
    };
    let mut damages = Vec::new();
    match &look.leader {
        Ok(leader) => {
            let (resource, space) = (leader.resource_name(), leader.space_name());
            writeln!(
                text,
                "byte {offset}: lease \"{resource}\" of lockspace \"{space}\", {geometry}{guessed}"
            )?;
            leader_lines(text, leader)?;
        }
        Err(damage) => {
            writeln!(text, "byte {offset}: lease, {geometry}{guessed}")?;
            damages.push((*offset, *damage));
        }
    }
    cut(text, look.cut_at, *offset, *geometry)?;
    match &look.request {
        Ok(request) if *request == RequestRecord::empty() => {}
        Ok(request) => writeln!(
            text,
            "  request     by the asker of version {}, mode {}",
            request.version, request.force_mode
        )?,
        Err(damage) => {
            damages.push((offset.saturating_add(geometry.request_offset()), *damage));
        }
    }
    let good: Vec<[String; 8]> = look.blocks.iter().filter_map(block_row).collect();
    if !good.is_empty() {
        let head = [
            "HOST", "MBAL", "BAL", "VERSION", "PROPOSES", "RELEASED", "SHARED", "NOTE",
        ];
        text.push_str(&table("  ", head, &good));
    }
    for block in &look.blocks {
        damages.extend(block_damages(block).map(|damage| (block.offset, damage)));
    }
    damage_lines(text, &damages, geometry.sector_size())
}

fn leader_lines(text: &mut String, leader: &PaxosLeader) -> std::fmt::Result {
    let state = if leader.is_free() {
        "free"
    } else if leader.is_short_hold() {
        "held for short"
    } else {
        "held"
    };
    let owner = match leader.owner_id() {
        Some(owner) => format!(
            "{}host {owner}, generation {}, timestamp {}",
            if leader.is_free() { "last by " } else { "by " },
            leader.generation(),
            leader.timestamp_secs()
        ),
        None => "never held".to_owned(),
    };
    writeln!(
        text,
        "  leader      {state}, {owner}, version {}",
        leader.version()
    )?;
    writeln!(
        text,
        "  written by  host {}, generation {}, timestamp {}",
        leader.write_id(),
        leader.write_generation(),
        leader.write_timestamp()
    )?;
    writeln!(text, "  hosts       1 to {}", leader.num_hosts())
}

fn block_row(block: &HostBlock) -> Option<[String; 8]> {
    let sector = block.sector.as_ref().ok()?;
    // A damaged block may still be marked shared or have a note.
    let ballot = sector.block.ok().flatten();
    let shown =
        ballot.is_some() || sector.shared.is_some() || block.note().is_some() || sector.released;
    if !shown {
        return None;
    }
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let input = ballot.and_then(|ballot| ballot.input);
    let proposes = input.map_or_else(
        || "-".to_owned(),
        |input| {
            format!(
                "host {} generation {} at {}",
                input.owner, input.generation, input.timestamp
            )
        },
    );
    let shared = sector
        .shared
        .map(|generation| format!("generation {generation}"));
    Some([
        block.host_id.to_string(),
        number(ballot.map(|ballot| ballot.mbal)),
        number(ballot.map(|ballot| ballot.bal)),
        number(ballot.map(|ballot| ballot.version.get())),
        proposes,
        if sector.released { "yes" } else { "no" }.to_owned(),
        shared.unwrap_or_else(|| "no".to_owned()),
        block.note().map_or_else(String::new, holder_note),
    ])
}

fn holder_note(note: &HolderNote) -> String {
    let mut text = format!(
        "guest \"{}\", pid {}, acquired {} in version {}",
        Shown(&note.guest_name),
        note.pid,
        utc(note.acquired_unix_secs),
        note.version
    );
    if let Some(guest) = &note.guest_uuid {
        let _ = write!(text, ", uuid {}", uuid(guest));
    }
    match note.tenure {
        Tenure::HandedOver(offer) => {
            let _ = write!(text, ", handed over by offer {offer}");
        }
        Tenure::Unused { since } => {
            let _ = write!(text, ", not used: the disk is as of version {since}");
        }
        _ => {}
    }
    text
}

fn block_damages(block: &HostBlock) -> impl Iterator<Item = Damage> {
    let (sector, note) = match &block.sector {
        Err(damage) => (Some(*damage), None),
        Ok(sector) => {
            let note = match sector.note {
                NoteState::Damaged(error) => Some(Damage::Format(error)),
                NoteState::Absent | NoteState::Present(_) => None,
            };
            (sector.block.err().map(Damage::Format), note)
        }
    };
    sector.into_iter().chain(note)
}

fn cut(
    text: &mut String,
    cut_at: Option<u64>,
    offset: u64,
    geometry: Geometry,
) -> std::fmt::Result {
    let Some(end) = cut_at else { return Ok(()) };
    let area = geometry.area_size();
    writeln!(
        text,
        "  DAMAGED: the file ends at byte {end}, before the {area} bytes that begin at byte {offset} do"
    )
}

/// One line for each damage, or for a run of sectors that are damaged in the same way.
fn damage_lines(
    text: &mut String,
    damages: &[(u64, Damage)],
    sector_size: usize,
) -> std::fmt::Result {
    let sector_size = u64::try_from(sector_size).unwrap_or(u64::MAX);
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
    match (one, other) {
        (Damage::Format(one), Damage::Format(other)) => match (one.kind(), other.kind()) {
            (
                FormatErrorKind::Magic { found, .. },
                FormatErrorKind::Magic {
                    found: other_found, ..
                },
            ) => found == other_found,
            (one, other) => discriminant(one) == discriminant(other),
        },
        (one, other) => one == other,
    }
}
