//! Running the `disklease` command, for the tests of its subcommands.

#![allow(
    dead_code,
    reason = "every test program includes this and uses a part of it"
)]
#![allow(clippy::disallowed_methods, reason = "processes in real time")]
#![allow(
    clippy::indexing_slicing,
    reason = "test code: a panic is how it fails"
)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a command that waits for nobody may take, on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(60);

/// What the command did.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("the output is text"),
            stderr: String::from_utf8(output.stderr).expect("the messages are text"),
        }
    }

    /// Its JSON document. Panics unless it succeeded and said nothing else.
    pub(crate) fn json(&self) -> Value {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        serde_json::from_str(&self.stdout).expect("one JSON document")
    }

    /// What it showed. Panics unless it succeeded and said nothing else.
    pub(crate) fn text(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }

    /// Panics unless it failed with this code and a message that contains `what`.
    pub(crate) fn expect_failure(&self, code: i32, what: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with("disklease: "), "{self:?}");
        assert!(self.stderr.contains(what), "{what:?} is not in {self:?}");
        assert_eq!(self.stdout, "");
    }
}

/// The command, with nothing of this process's logging configuration.
pub(crate) fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_disklease"));
    command
        .args(args)
        .env_remove("RUST_LOG")
        .env_remove("DISKLEASE_LOG")
        .stdin(Stdio::null());
    command
}

/// Kills it, and waits until it has ended. One that hangs in its storage is left behind.
pub(crate) fn end(process: &mut Child) {
    let _ = process.kill();
    let until = Instant::now() + Duration::from_secs(10);
    while matches!(process.try_wait(), Ok(None)) && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs it to its end, which must be soon.
pub(crate) fn run<S: AsRef<OsStr>>(args: &[S]) -> Ended {
    let mut command = command(args);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the command runs");
    let pid = Pid::from_child(&child);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(LIMIT) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} has not ended in {LIMIT:?}");
    };
    Ended::of(output.expect("what it has printed"))
}

/// A scratch directory on a file system that takes direct I/O; the system's own may be in memory.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory")
}

/// A sector that sanlock wrote.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Puts `bytes` into `area` at sector `index` of 512 bytes.
pub(crate) fn put(area: &mut [u8], index: usize, bytes: &[u8]) {
    let start = index.checked_mul(512).expect("a sector of an area");
    area[start..][..bytes.len()].copy_from_slice(bytes);
}

/// A new file.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("a new file in the scratch directory");
    path
}
