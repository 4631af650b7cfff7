//! The file in which a daemon leaves its process id.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use disklease::__cli::OwnerProcess;
use rustix::fs::OFlags;

use crate::offspring::{living, number_of};

/// A daemon may write the file after the command that started the daemon has ended.
const PATIENCE: Duration = Duration::from_secs(10);
const READ_INTERVAL: Duration = Duration::from_millis(50);

/// A number without an end of its line that stays as it is for so long is whole.
const STILL: Duration = Duration::from_secs(1);

/// The process below this one that the file names; or else the number that the file names last, 0 for none.
#[expect(clippy::disallowed_methods, reason = "it waits for a process")]
pub(super) fn read(file: &Path) -> Result<OwnerProcess, i32> {
    let mut waited = Duration::ZERO;
    let mut seen = Seen::default();
    loop {
        let number = seen.update(text_in(file), waited);
        let named = number.unwrap_or(0);
        // First the descriptor: what is seen below after that is that very process.
        if let Ok(process) = OwnerProcess::open(named.unsigned_abs())
            && living()
                .iter()
                .any(|below| number_of(below.process) == named)
            && !process.has_ended()
        {
            return Ok(process);
        }
        if waited >= PATIENCE || living().is_empty() {
            return Err(named);
        }
        sleep(READ_INTERVAL);
        waited = waited.saturating_add(READ_INTERVAL);
    }
}

/// What was in the file when it was last read.
#[derive(Debug, Default)]
struct Seen {
    text: Option<String>,
    since: Duration,
}

impl Seen {
    /// The number in `text`, which is there at `now`, if it is whole: its line has an end, or nothing was
    /// added to it for [`STILL`]. Of a number that is just being written the beginning may be there, which can be
    /// that of another process.
    fn update(&mut self, text: Option<String>, now: Duration) -> Option<i32> {
        if self.text != text {
            (self.text, self.since) = (text, now);
        }
        let text = self.text.as_ref()?;
        let is_whole = text.contains('\n') || now.saturating_sub(self.since) >= STILL;
        is_whole.then(|| number_in(text)).flatten()
    }
}

fn number_in(text: &str) -> Option<i32> {
    let line = text.lines().next()?;
    line.trim().parse().ok().filter(|&number| number > 0)
}

/// What is no ordinary file is not waited for.
fn text_in(file: &Path) -> Option<String> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).ok()?)
        .open(file)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_in_an_ordinary_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        assert_eq!(text_in(&file), None);
        for (text, number) in [
            ("12\n", Some(12)),
            (" 7 \nmore", Some(7)),
            ("", None),
            ("-5\n", None),
            ("0", None),
            ("x", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(text_in(&file).as_deref(), Some(text));
            assert_eq!(number_in(text), number, "{text:?}");
        }
        assert_eq!(text_in(dir.path()), None);
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        assert_eq!(text_in(&fifo), None);
    }

    /// The beginning of a number may be the number of another process.
    #[test]
    fn a_number_counts_when_its_line_has_an_end_or_it_stays_as_it_is() {
        let mut seen = Seen::default();
        let mut update =
            |text: &str, millis| seen.update(Some(text.to_owned()), Duration::from_millis(millis));
        assert_eq!(update("12", 0), None);
        assert_eq!(update("12", 950), None);
        assert_eq!(update("1234", 1000), None);
        assert_eq!(update("12345\n", 1050), Some(12345));
        assert_eq!(update("12345", 1100), None);
        assert_eq!(update("12345", 2050), None);
        assert_eq!(update("12345", 2100), Some(12345));
        assert_eq!(seen.update(None, Duration::from_millis(2150)), None);
    }
}
