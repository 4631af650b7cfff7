//! Values that several commands print as JSON.

use std::path::Path;

use disklease::format::{Geometry, HolderNote, HostNote, NameBytes, Tenure};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::output;

/// Prints one document.
pub(crate) fn print(document: &Value) -> Result<(), Failure> {
    output::print(&format!("{document:#}\n"))
}

/// What `show` gives for each of them.
pub(crate) fn list<T>(all: &[T], show: impl Fn(&T) -> Value) -> Value {
    all.iter().map(show).collect()
}

/// As a JSON text, whatever is shown.
pub(crate) fn text(shown: &impl ToString) -> Value {
    shown.to_string().into()
}

/// Bytes that are no text become the replacement character.
pub(crate) fn path(path: &Path) -> Value {
    path.to_string_lossy().into()
}

/// As [`path`].
pub(crate) fn name(name: &NameBytes) -> Value {
    String::from_utf8_lossy(name.text()).into()
}

pub(crate) fn geometry(geometry: Geometry) -> Value {
    json!({
        "sector_size": geometry.sector_size(),
        "area_size": geometry.area_size(),
        "max_hosts": geometry.max_hosts(),
    })
}

pub(crate) fn host_note(note: &HostNote) -> Value {
    json!({
        "host_id": note.host_id.get(),
        "generation": note.generation.get(),
        "io_timeout_secs": note.io_timeout_secs,
        "pid": note.pid,
        "boot": output::hex(&note.boot),
        "incarnation": note.incarnation.as_ref().map(text),
        "protocol": note.protocol,
        "fire_timeout_secs": note.fire_timeout_secs,
        "life_mark": note.life_mark,
    })
}

pub(crate) fn holder_note(note: &HolderNote) -> Value {
    json!({
        "host_id": note.host_id.get(),
        "generation": note.generation.get(),
        "incarnation": note.incarnation.as_ref().map(text),
        "version": note.version.get(),
        "tenure": match note.tenure {
            Tenure::HandedOver(_) => "handed over",
            Tenure::Unused { .. } => "unused",
            _ => "held",
        },
        "guest_name": note.guest_name,
        "guest_uuid": note.guest_uuid.as_ref().map(output::uuid),
        "pid": note.pid,
        "boot_id": output::uuid(&note.boot_id),
        "acquired": output::utc(note.acquired_unix_secs),
        "acquired_unix_secs": note.acquired_unix_secs,
    })
}
