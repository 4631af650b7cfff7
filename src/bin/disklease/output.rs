//! Writing to stdout, and text from disks made fit for a terminal.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::path::Path;

use crate::exit::{Failure, NO_OUTPUT};

/// Writes to stdout. A reader that has gone away is no failure: it has seen what it wanted.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = format_args!("cannot write: {error}");
            Err(Failure::new(NO_OUTPUT, message))
        }
        _ => Ok(()),
    }
}

/// Said where the storage could not be read past the page cache.
pub(crate) const NOT_DIRECT: &str =
    "read through the page cache: what other hosts wrote may not be seen\n";

/// A text from a disk or a path, with what would move a terminal's cursor or text escaped.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || reorders {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// As [`Shown`]; bytes that are no text become the replacement character.
pub(crate) fn shown_path(path: &Path) -> String {
    Shown(&path.to_string_lossy()).to_string()
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A UUID as people write it.
pub(crate) fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = hex(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

/// Seconds since 1970 as a date and time in UTC, `2026-11-23T19:01:00Z`.
pub(crate) fn utc(unix_secs: u64) -> String {
    let (days, secs) = (unix_secs / 86_400, unix_secs % 86_400);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    let Some((year, month, day)) = date(days) else {
        return format!("{unix_secs} s after 1970");
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date that many days after 1970-01-01; `None` from the year 10000 on.
fn date(days: u64) -> Option<(u64, u64, u64)> {
    let mut left = days;
    for year in 1970..10_000_u64 {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let february = if leap { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (month, len) in (1..).zip(months) {
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => return Some((year, month, left.saturating_add(1))),
            }
        }
    }
    None
}

/// Rows with aligned columns, two spaces between them, each behind `indent`. `head` has the columns' names, with `|`
/// between them.
pub(crate) fn table<const N: usize>(indent: &str, head: &str, rows: &[[String; N]]) -> String {
    let head: Vec<String> = head.split('|').map(str::to_owned).collect();
    let lines = || std::iter::once(&head[..]).chain(rows.iter().map(|row| &row[..]));
    let mut widths = [0; N];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines() {
        let mut row = String::from(indent);
        for (width, cell) in widths.into_iter().zip(line) {
            let _ = write!(row, "{cell:width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(secs), text);
        }
        assert_eq!(utc(u64::MAX), format!("{} s after 1970", u64::MAX));
    }

    #[test]
    fn text_of_others_does_not_reach_the_terminal_raw() {
        assert_eq!(
            Shown("a\u{1b}[2Jb\nc\u{202e}d").to_string(),
            "a\\u{1b}[2Jb\\nc\\u{202e}d"
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            ["1".to_owned(), "äb".to_owned()],
            ["100".to_owned(), String::new()],
        ];
        assert_eq!(
            table("  ", "ID|NAME", &rows),
            "  ID   NAME\n  1    äb\n  100\n"
        );
    }

    #[test]
    fn uuids() {
        assert_eq!(uuid(&[0xab; 16]), "abababab-abab-abab-abab-abababababab");
    }
}
