//! The file in which a daemon leaves its process id.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use disklease::__cli::OwnerProcess;
use rustix::fs::OFlags;

use super::offspring::living;

/// A daemon may write it after the command that started it has ended.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The process below this one that the file names; or else what it names last, 0 for nothing.
#[expect(clippy::disallowed_methods, reason = "it waits for a process")]
pub(super) fn read(file: &Path) -> Result<OwnerProcess, i32> {
    let mut waited = Duration::ZERO;
    loop {
        let named = number_in(file).unwrap_or(0);
        // First the descriptor: what is seen below after that is that very process.
        if let Ok(process) = OwnerProcess::open(named.unsigned_abs())
            && is_below(named)
            && !process.has_ended()
        {
            return Ok(process);
        }
        if waited >= PATIENCE || living().is_empty() {
            return Err(named);
        }
        sleep(LOOK_INTERVAL);
        waited = waited.saturating_add(LOOK_INTERVAL);
    }
}

fn is_below(number: i32) -> bool {
    let mut below = living().into_iter();
    below.any(|below| below.process.as_raw_nonzero().get() == number)
}

/// What is no ordinary file is not waited for.
fn number_in(file: &Path) -> Option<i32> {
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
    let line = text.lines().next()?;
    line.trim().parse().ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_in_an_ordinary_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        assert_eq!(number_in(&file), None);
        for (text, number) in [
            ("12\n", Some(12)),
            (" 7 \nmore", Some(7)),
            ("", None),
            ("-5\n", None),
            ("0", None),
            ("x", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(number_in(&file), number, "{text:?}");
        }
        assert_eq!(number_in(dir.path()), None);
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        assert_eq!(number_in(&fifo), None);
    }
}
