//! What a file holds, as JSON. The fields are documented in `docs/command.md`.

use std::fmt::Display;

use disklease::format::{DblockSector, DeltaLeader, Generation, HostId, NoteState, PaxosLeader};
use disklease::inspect::{Area, FileLook, HostBlock, HostSector, LeaseLook, LockspaceLook};
use serde_json::{Value, json};

use crate::json::{geometry, holder_note, host_note, list, name, path, text};

pub(crate) fn document(look: &FileLook) -> Value {
    json!({
        "document": "disklease dump 1",
        "path": path(&look.path),
        "length": look.len,
        "block_device": look.is_block_device,
        "direct_io": look.is_direct,
        "areas": list(&look.areas, area),
    })
}

fn area(area: &Area) -> Value {
    let offset = area.offset();
    match area {
        Area::Lockspace(look) => lockspace(look),
        Area::Lease(look) => lease(look),
        Area::Zeros { len, .. } => json!({ "kind": "zeros", "offset": offset, "length": len }),
        Area::Foreign {
            len, first_word, ..
        } => json!({
            "kind": "foreign",
            "offset": offset,
            "length": len,
            "first_word": first_word,
        }),
        _ => json!({ "kind": "unknown", "offset": offset }),
    }
}

fn lockspace(look: &LockspaceLook) -> Value {
    json!({
        "kind": "lockspace",
        "offset": look.offset,
        "geometry": geometry(look.geometry),
        "name": name(&look.name),
        "id": shown(&look.id, text),
        "id_error": error(&look.id),
        "damaged": look.is_damaged(),
        "cut_at": look.cut_at,
        "hosts": list(&look.hosts, host),
    })
}

fn host(host: &HostSector) -> Value {
    let place = json!({
        "host_id": host.host_id.get(),
        "offset": host.offset,
        "calls": host.bitmap.iter().map(HostId::get).collect::<Vec<_>>(),
        "note": shown(&host.note, host_note),
        "note_error": error(&host.note),
    });
    with(place, record(&host.leader, delta_leader))
}

fn delta_leader(leader: &DeltaLeader) -> Value {
    json!({
        "free": leader.is_free(),
        "host_name": name(&leader.host_name()),
        "generation": leader.generation().get(),
        "timestamp": leader.timestamp_secs(),
        "io_timeout_secs": leader.io_timeout_secs(),
    })
}

fn lease(look: &LeaseLook) -> Value {
    json!({
        "kind": "lease",
        "offset": look.offset,
        "geometry": geometry(look.geometry),
        "geometry_guessed": look.geometry_is_guessed,
        "damaged": look.is_damaged(),
        "cut_at": look.cut_at,
        "leader": record(&look.leader, paxos_leader),
        "request": record(&look.request, |request| json!({
            "version": request.version.get(),
            "force_mode": request.force_mode,
        })),
        "blocks": list(&look.blocks, block),
    })
}

fn paxos_leader(leader: &PaxosLeader) -> Value {
    json!({
        "lockspace": name(&leader.space_name()),
        "resource": name(&leader.resource_name()),
        "num_hosts": leader.num_hosts(),
        "free": leader.is_free(),
        "short_hold": leader.is_short_hold(),
        "owner_id": leader.owner_id().map(HostId::get),
        "generation": leader.generation().get(),
        "version": leader.version().get(),
        "timestamp": leader.timestamp_secs(),
        "write_id": leader.write_id(),
        "write_generation": leader.write_generation().get(),
        "write_timestamp": leader.write_timestamp(),
    })
}

fn block(block: &HostBlock) -> Value {
    let place = json!({ "host_id": block.host_id.get(), "offset": block.offset });
    with(place, record(&block.sector, dblock_sector))
}

fn dblock_sector(sector: &DblockSector) -> Value {
    let ballot = sector.block.as_ref().ok().and_then(Option::as_ref);
    json!({
        "ballot": ballot.map(|ballot| json!({
            "mbal": ballot.mbal,
            "bal": ballot.bal,
            "version": ballot.version.get(),
            "input": ballot.input.map(|input| json!({
                "owner_id": input.owner,
                "generation": input.generation,
                "timestamp": input.timestamp,
            })),
        })),
        "error": sector.block.as_ref().err().map(text),
        "released": sector.released,
        "shared_generation": sector.shared.map(Generation::get),
        "note": shown(&sector.note, holder_note),
        "note_error": error(&sector.note),
    })
}

/// The fields of a record, or only its `error`.
fn record<T, E: Display>(record: &Result<T, E>, show: impl Fn(&T) -> Value) -> Value {
    match record {
        Ok(record) => with(json!({ "error": null }), show(record)),
        Err(error) => json!({ "error": text(error) }),
    }
}

/// All fields of both; of those that both have, `more`'s.
fn with(mut fields: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

fn shown<T>(note: &NoteState<T>, show: impl Fn(&T) -> Value) -> Option<Value> {
    match note {
        NoteState::Present(note) => Some(show(note)),
        NoteState::Absent | NoteState::Damaged(_) => None,
    }
}

fn error<T>(note: &NoteState<T>) -> Option<Value> {
    match note {
        NoteState::Damaged(error) => Some(text(error)),
        NoteState::Absent | NoteState::Present(_) => None,
    }
}
