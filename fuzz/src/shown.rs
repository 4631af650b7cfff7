//! What people get to see of values from a disk: one line, and nothing that moves a terminal.

use std::fmt::{Debug, Display};

use disklease::format::{FormatError, FormatErrorKind, NameBytes};

/// The text of a value.
///
/// # Panics
///
/// If it, or the value's `Debug`, has control characters in it.
pub fn one_line(value: &(impl Display + Debug + ?Sized)) -> String {
    let (text, debug) = (value.to_string(), format!("{value:?}"));
    for shown in [&text, &debug] {
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
    text
}

/// # Panics
///
/// If the text of an error does not tell the numbers that it has.
pub fn error(error: &FormatError) {
    let text = one_line(error);
    let numbers = match error.kind() {
        FormatErrorKind::Short { needed, found, .. } => [*needed, *found],
        FormatErrorKind::NoteText { at, .. } => [*at; 2],
        _ => return,
    };
    assert!(
        numbers
            .iter()
            .all(|number| text.contains(&number.to_string())),
        "{text}"
    );
}

/// # Panics
///
/// If a name is not shown as it should be.
pub fn name(field: NameBytes) {
    let text = one_line(&field);
    assert_eq!(text.is_empty(), field.is_empty());
    let plain = std::str::from_utf8(field.text())
        .is_ok_and(|plain| plain.bytes().all(|c| (b' '..0x7f).contains(&c)));
    if plain {
        assert_eq!(text.as_bytes(), field.text());
    }
}
