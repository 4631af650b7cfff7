//! Writing to stdout, and text from disks made fit for a terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use disklease::__cli::{escaped, hex};

use crate::exit::{Failure, NO_OUTPUT};

/// Writes to stdout. A reader that has gone away is no failure: the reader has seen enough.
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

/// A path for people; bytes that are no text become the replacement character.
pub(crate) fn shown_path(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// What is shown, or `-` for nothing.
pub(crate) fn dash(shown: Option<impl ToString>) -> String {
    shown.map_or_else(|| "-".to_owned(), |shown| shown.to_string())
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

/// A column of a table: the column's name, and what the column shows of a row.
pub(crate) type Column<T> = (&'static str, fn(&T) -> String);

/// The columns of a table of `row`s: the name of each, and what the column shows of a row.
macro_rules! columns {
    ($row:pat => { $($name:literal: $cell:expr,)* }) => {
        &[$(($name, |row| {
            #[allow(unused_variables, reason = "a column shows some of the row")]
            let $row = row;
            ($cell).to_string()
        })),*]
    };
}
pub(crate) use columns;

/// A line with the names of the columns and a line for each row, if there is any; with aligned columns, two spaces
/// between them, each line behind `indent`.
pub(crate) fn table<T>(indent: &str, rows: &[T], columns: &[Column<T>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let cells = |row| columns.iter().map(|(_, cell)| cell(row)).collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = indent.to_owned();
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(row, "{cell:width$}  ");
        }
        text += row.trim_end();
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
    fn columns_are_aligned() {
        let rows = [(1, "äb"), (100, "")];
        let columns: &[Column<(i32, &str)>] = columns!((id, name) => {
            "ID": id,
            "NAME": name,
        });
        let shown = "  ID   NAME\n  1    äb\n  100\n";
        assert_eq!(table("  ", &rows, columns), shown);
        assert_eq!(table("  ", &[], columns), "");
    }

    #[test]
    fn uuids() {
        assert_eq!(uuid(&[0xab; 16]), "abababab-abab-abab-abab-abababababab");
    }
}
