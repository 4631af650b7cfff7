//! What a file holds, for people.

use std::fmt::{Result, Write as _};
use std::mem::discriminant;

use disklease::format::{
    FormatError, Geometry, HolderNote, HostNote, NoteState, PaxosLeader, RequestRecord, Tenure,
};
use disklease::inspect::{Area, Damage, FileLook, HostBlock, HostSector, LeaseLook, LockspaceLook};

use crate::output::{NOT_DIRECT, Shown, hex, shown_path, table, utc, uuid};

pub(crate) fn of(look: &FileLook) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = file(&mut text, look);
    text
}

fn file(text: &mut String, look: &FileLook) -> Result {
    let kind = if look.is_block_device {
        "block device"
    } else {
        "file"
    };
    let path = shown_path(&look.path);
    writeln!(text, "{path}: {kind} of {} bytes", look.len)?;
    if !look.is_direct {
        text.push_str(NOT_DIRECT);
    }
    if look.areas.is_empty() {
        text.push_str("it is empty\n");
    }
    for area in &look.areas {
        write!(text, "\nbyte {}: ", area.offset())?;
        match area {
            Area::Lockspace(look) => lockspace(text, look)?,
            Area::Lease(look) => lease(text, look)?,
            Area::Zeros { len, .. } => {
                writeln!(text, "{len} bytes in which nothing begins, zeros")?;
            }
            Area::Foreign {
                len, first_word, ..
            } => writeln!(
                text,
                "{len} bytes in which nothing of the format begins; the first word is {first_word:#010x}"
            )?,
            _ => text.push_str("something else\n"),
        }
    }
    Ok(())
}

fn lockspace(text: &mut String, look: &LockspaceLook) -> Result {
    writeln!(text, "lockspace \"{}\", {}", look.name, look.geometry)?;
    match &look.id {
        NoteState::Present(id) => writeln!(text, "  id {id}")?,
        NoteState::Damaged(error) => writeln!(text, "  DAMAGED: {error}")?,
        NoteState::Absent => {}
    }
    cut(text, look.cut_at, look.offset, look.geometry)?;
    let good: Vec<_> = look.hosts.iter().filter_map(host_row).collect();
    if good.is_empty() {
        text.push_str("  no host id was ever used\n");
    } else {
        let head = "HOST|STATE|NAME|GENERATION|TIMESTAMP|IO TIMEOUT|NOTE";
        text.push_str(&table("  ", head, &good));
    }
    let mut damages = Vec::new();
    for host in &look.hosts {
        let both = host.leader.err().into_iter().chain(damage(&host.note));
        damages.extend(both.map(|damage| (host.offset, damage)));
    }
    damage_lines(text, &damages, look.geometry)
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

fn lease(text: &mut String, look: &LeaseLook) -> Result {
    let geometry = look.geometry;
    let mut damages = Vec::new();
    text.push_str("lease");
    match &look.leader {
        Ok(leader) => {
            let (resource, space) = (leader.resource_name(), leader.space_name());
            write!(text, " \"{resource}\" of lockspace \"{space}\"")?;
        }
        Err(damage) => damages.push((look.offset, *damage)),
    }
    let guess = if look.geometry_is_guessed {
        " (a guess)"
    } else {
        ""
    };
    writeln!(text, ", {geometry}{guess}")?;
    if let Ok(leader) = &look.leader {
        leader_lines(text, leader)?;
    }
    cut(text, look.cut_at, look.offset, geometry)?;
    match &look.request {
        Ok(request) if *request == RequestRecord::empty() => {}
        Ok(request) => writeln!(
            text,
            "  request     by the asker of version {}, mode {}",
            request.version, request.force_mode
        )?,
        Err(damage) => {
            let at = look.offset.saturating_add(geometry.request_offset());
            damages.push((at, *damage));
        }
    }
    let good: Vec<_> = look.blocks.iter().filter_map(block_row).collect();
    if !good.is_empty() {
        let head = "HOST|MBAL|BAL|VERSION|PROPOSES|RELEASED|SHARED|NOTE";
        text.push_str(&table("  ", head, &good));
    }
    for block in &look.blocks {
        let (sector, note) = match &block.sector {
            Ok(sector) => (sector.block.err().map(Damage::Format), damage(&sector.note)),
            Err(damage) => (Some(*damage), None),
        };
        let both = sector.into_iter().chain(note);
        damages.extend(both.map(|damage| (block.offset, damage)));
    }
    damage_lines(text, &damages, geometry)
}

fn leader_lines(text: &mut String, leader: &PaxosLeader) -> Result {
    let (state, by) = if leader.is_free() {
        ("free", "last by")
    } else if leader.is_short_hold() {
        ("held for short", "by")
    } else {
        ("held", "by")
    };
    let owner = match leader.owner_id() {
        Some(owner) => format!(
            "{by} host {owner}, generation {}, timestamp {}",
            leader.generation(),
            leader.timestamp_secs()
        ),
        None => "never held".to_owned(),
    };
    let version = leader.version();
    writeln!(text, "  leader      {state}, {owner}, version {version}")?;
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
    let note = block.note();
    if ballot.is_none() && sector.shared.is_none() && note.is_none() && !sector.released {
        return None;
    }
    let or = |text: Option<String>, other: &str| text.unwrap_or_else(|| other.to_owned());
    let input = ballot.and_then(|ballot| ballot.input).map(|input| {
        format!(
            "host {} generation {} at {}",
            input.owner, input.generation, input.timestamp
        )
    });
    let shared = sector.shared.map(|number| format!("generation {number}"));
    Some([
        block.host_id.to_string(),
        or(ballot.map(|ballot| ballot.mbal.to_string()), "-"),
        or(ballot.map(|ballot| ballot.bal.to_string()), "-"),
        or(ballot.map(|ballot| ballot.version.to_string()), "-"),
        or(input, "-"),
        if sector.released { "yes" } else { "no" }.to_owned(),
        or(shared, "no"),
        note.map_or_else(String::new, holder_note),
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
    let _ = match note.tenure {
        Tenure::HandedOver(offer) => write!(text, ", handed over by offer {offer}"),
        Tenure::Unused { since } => {
            write!(text, ", not used: the disk is as of version {since}")
        }
        _ => Ok(()),
    };
    text
}

fn damage<T>(note: &NoteState<T>) -> Option<Damage> {
    match note {
        NoteState::Damaged(error) => Some(Damage::Format(*error)),
        NoteState::Absent | NoteState::Present(_) => None,
    }
}

fn cut(text: &mut String, cut_at: Option<u64>, offset: u64, geometry: Geometry) -> Result {
    let Some(end) = cut_at else { return Ok(()) };
    let area = geometry.area_size();
    writeln!(
        text,
        "  DAMAGED: the file ends at byte {end}, before the {area} bytes that begin at byte {offset} do"
    )
}

/// One line for each damage, or for a run of sectors that are damaged in the same way.
fn damage_lines(text: &mut String, damages: &[(u64, Damage)], geometry: Geometry) -> Result {
    let sector_size = u64::try_from(geometry.sector_size()).unwrap_or(u64::MAX);
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
        (
            Format(FormatError::Magic { found: one, .. }),
            Format(FormatError::Magic { found, .. }),
        ) => one == found,
        (Format(one), Format(other)) => discriminant(one) == discriminant(other),
        (one, other) => one == other,
    }
}
