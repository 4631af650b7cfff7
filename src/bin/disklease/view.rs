//! What `dump` and `status` show: one document, printed as JSON by serde or written as text for people.
//!
//! The fields of the JSON documents are documented in `docs/command.md`.

use disklease::__cli::hex;
use disklease::format::{self, NameBytes, NoteState, Tenure};
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{self, utc, uuid};

/// Declares an object of a document, with a serde field for each line, and how the object is made from a value
/// of the library.
macro_rules! view {
    (
        $(#[$about:meta])*
        $name:ident of $value:ident: $source:ty {
            $($(#[$attribute:meta])* $field:ident: $type:ty = $from:expr,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, serde::Serialize)]
        #[allow(clippy::struct_field_names, reason = "the names are those of the document")]
        pub(crate) struct $name {
            $($(#[$attribute])* pub(crate) $field: $type,)*
        }

        impl From<&$source> for $name {
            fn from($value: &$source) -> Self {
                Self { $($field: $from,)* }
            }
        }
    };
}
pub(crate) use view;

/// Prints a document: as JSON, or the text that `text` makes of it.
pub(crate) fn print<T: Serialize>(
    document: &T,
    as_json: bool,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    if as_json {
        let json = serde_json::to_string_pretty(document)?;
        output::print(&format!("{json}\n"))
    } else {
        output::print(&text(document))
    }
}

/// A view of each of them.
pub(crate) fn all<'a, S: 'a, T: From<&'a S>>(sources: &'a [S]) -> Vec<T> {
    sources.iter().map(T::from).collect()
}

/// Bytes that are no text become the replacement character.
pub(crate) fn lossy(name: NameBytes) -> String {
    String::from_utf8_lossy(name.text()).into_owned()
}

/// A view of a note, if there is a good one.
pub(crate) fn noted<'a, S, T: From<&'a S>>(note: &'a NoteState<S>) -> Option<T> {
    note.get().map(T::from)
}

/// What is wrong with a note.
pub(crate) fn note_error<S>(note: &NoteState<S>) -> Option<String> {
    note.error().map(|error| error.to_string())
}

view! {
    Geometry of geometry: format::Geometry {
        sector_size: usize = geometry.sector_size(),
        area_size: usize = geometry.area_size(),
        max_hosts: u16 = geometry.max_hosts(),
        #[serde(skip)]
        shown: String = geometry.to_string(),
    }
}

view! {
    HostNote of note: format::HostNote {
        host_id: u16 = note.host_id.get(),
        generation: u64 = note.generation.get(),
        io_timeout_secs: u16 = note.io_timeout_secs,
        pid: u32 = note.pid,
        boot: String = hex(&note.boot),
        incarnation: Option<String> = note.incarnation.map(|incarnation| incarnation.to_string()),
        protocol: u16 = note.protocol,
        fire_timeout_secs: u16 = note.fire_timeout_secs,
        process_token: u32 = note.process_token,
    }
}

view! {
    HolderNote of note: format::HolderNote {
        host_id: u16 = note.host_id.get(),
        generation: u64 = note.generation.get(),
        incarnation: Option<String> = note.incarnation.map(|incarnation| incarnation.to_string()),
        version: u64 = note.version.get(),
        tenure: &'static str = match note.tenure {
            Tenure::HandedOver(_) => "handed over",
            Tenure::Unused { .. } => "unused",
            _ => "held",
        },
        /// What people read of the tenure, unless the lease is held.
        #[serde(skip)]
        remark: Option<String> = match note.tenure {
            Tenure::HandedOver(offer) => Some(format!("handed over by offer {offer}")),
            Tenure::Unused { since } => {
                Some(format!("not used: the disk is as of version {since}"))
            }
            _ => None,
        },
        guest_name: String = note.guest_name.clone(),
        guest_uuid: Option<String> = note.guest_uuid.as_ref().map(uuid),
        pid: u32 = note.pid,
        boot_id: String = uuid(&note.boot_id),
        acquired: String = utc(note.acquired_unix_secs),
        acquired_unix_secs: u64 = note.acquired_unix_secs,
    }
}
