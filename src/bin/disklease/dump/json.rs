//! A look at a file as JSON. The fields are documented in `docs/command.md`.

use disklease::format::{FormatError, Generation, HostId, NoteState};
use disklease::inspect::{Area, Damage, FileLook, HostBlock, HostSector, LeaseLook, LockspaceLook};
use serde_json::{Map, Value, json};

use crate::json::{geometry, holder_note, host_note, name, path};

pub(crate) fn document(look: &FileLook) -> Value {
    json!({
        "document": "disklease dump 1",
        "path": path(&look.path),
        "length": look.len,
        "block_device": look.is_block_device,
        "direct_io": look.is_direct,
        "areas": look.areas.iter().map(area).collect::<Vec<_>>(),
    })
}

fn area(area: &Area) -> Value {
    match area {
        Area::Lockspace(look) => lockspace(look),
        Area::Lease(look) => lease(look),
        Area::Zeros { offset, len } => json!({
            "kind": "zeros",
            "offset": offset,
            "length": len,
        }),
        Area::Foreign {
            offset,
            len,
            first_word,
        } => json!({
            "kind": "foreign",
            "offset": offset,
            "length": len,
            "first_word": first_word,
        }),
        _ => json!({ "kind": "unknown", "offset": area.offset() }),
    }
}

fn lockspace(look: &LockspaceLook) -> Value {
    let (id, id_error) = note(&look.id, |id| id.to_string().into());
    json!({
        "kind": "lockspace",
        "offset": look.offset,
        "geometry": geometry(look.geometry),
        "name": name(&look.name),
        "id": id,
        "id_error": id_error,
        "damaged": look.is_damaged(),
        "cut_at": look.cut_at,
        "hosts": look.hosts.iter().map(host).collect::<Vec<_>>(),
    })
}

fn host(host: &HostSector) -> Value {
    let mut fields = Map::new();
    fields.insert("host_id".into(), host.host_id.get().into());
    fields.insert("offset".into(), host.offset.into());
    match &host.leader {
        Ok(leader) => {
            fields.insert("free".into(), leader.is_free().into());
            fields.insert("host_name".into(), name(&leader.host_name()));
            fields.insert("generation".into(), leader.generation().get().into());
            fields.insert("timestamp".into(), leader.timestamp_secs().into());
            fields.insert("io_timeout_secs".into(), leader.io_timeout_secs().into());
            fields.insert("error".into(), Value::Null);
        }
        Err(damage) => {
            fields.insert("error".into(), error(damage));
        }
    }
    let (note, note_error) = note(&host.note, host_note);
    fields.insert("note".into(), note);
    fields.insert("note_error".into(), note_error);
    let calls: Vec<u16> = host.bitmap.iter().map(HostId::get).collect();
    fields.insert("calls".into(), calls.into());
    fields.into()
}

fn lease(look: &LeaseLook) -> Value {
    let mut fields = Map::new();
    fields.insert("kind".into(), "lease".into());
    fields.insert("offset".into(), look.offset.into());
    fields.insert("geometry".into(), geometry(look.geometry));
    fields.insert("geometry_guessed".into(), look.geometry_is_guessed.into());
    fields.insert("damaged".into(), look.is_damaged().into());
    fields.insert("cut_at".into(), look.cut_at.into());
    let leader = match &look.leader {
        Ok(leader) => json!({
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
            "error": null,
        }),
        Err(damage) => json!({ "error": error(damage) }),
    };
    fields.insert("leader".into(), leader);
    let request = match &look.request {
        Ok(request) => json!({
            "version": request.version.get(),
            "force_mode": request.force_mode,
            "error": null,
        }),
        Err(damage) => json!({ "error": error(damage) }),
    };
    fields.insert("request".into(), request);
    let blocks: Vec<Value> = look.blocks.iter().map(block).collect();
    fields.insert("blocks".into(), blocks.into());
    fields.into()
}

fn block(block: &HostBlock) -> Value {
    let mut fields = Map::new();
    fields.insert("host_id".into(), block.host_id.get().into());
    fields.insert("offset".into(), block.offset.into());
    let sector = match &block.sector {
        Ok(sector) => sector,
        Err(damage) => {
            fields.insert("error".into(), error(damage));
            return fields.into();
        }
    };
    let (ballot, problem) = match &sector.block {
        Ok(Some(ballot)) => {
            let input = ballot.input.map(|input| {
                json!({
                    "owner_id": input.owner,
                    "generation": input.generation,
                    "timestamp": input.timestamp,
                })
            });
            let ballot = json!({
                "mbal": ballot.mbal,
                "bal": ballot.bal,
                "version": ballot.version.get(),
                "input": input,
            });
            (ballot, Value::Null)
        }
        Ok(None) => (Value::Null, Value::Null),
        Err(problem) => (Value::Null, format_error(problem)),
    };
    fields.insert("ballot".into(), ballot);
    fields.insert("error".into(), problem);
    fields.insert("released".into(), sector.released.into());
    let shared = sector.shared.map(Generation::get);
    fields.insert("shared_generation".into(), shared.into());
    let (note, note_error) = note(&sector.note, holder_note);
    fields.insert("note".into(), note);
    fields.insert("note_error".into(), note_error);
    fields.into()
}

/// A note and what is wrong with it: one of them, or neither.
fn note<T>(note: &NoteState<T>, show: impl Fn(&T) -> Value) -> (Value, Value) {
    match note {
        NoteState::Absent => (Value::Null, Value::Null),
        NoteState::Present(note) => (show(note), Value::Null),
        NoteState::Damaged(error) => (Value::Null, format_error(error)),
    }
}

fn error(damage: &Damage) -> Value {
    damage.to_string().into()
}

fn format_error(error: &FormatError) -> Value {
    error.to_string().into()
}
