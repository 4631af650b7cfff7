//! Running a program to its end, within a time limit.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

pub(super) const NOT_INSTALLED: &str =
    "sanlock is not installed: apt-get install sanlock python3-sanlock";

/// What a program printed, as text.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) success: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Starts `command`; panics, saying what to install, if its program does not exist.
pub(super) fn spawn(command: &mut Command) -> Child {
    match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => panic!("{NOT_INSTALLED}"),
        Err(error) => panic!("starting {command:?}: {error}"),
    }
}

/// Runs `command` to its end. Past `limit` it is killed and the test fails.
pub(super) fn run(command: &mut Command, limit: Duration) -> Ended {
    let child = start(command);
    finish(child, &format!("{command:?}"), limit)
}

/// Starts `command` for [`finish`].
pub(super) fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    spawn(command)
}

/// Waits for the end of what [`start`] started. Past `limit` it is killed and the test fails.
pub(super) fn finish(child: Child, what: &str, limit: Duration) -> Ended {
    let pid = pid_of(&child);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more once the limit has passed.
        let _ = tell.send(child.wait_with_output());
    });
    let Ok(output) = told.recv_timeout(limit) else {
        // It may have ended just now: then there is nothing to kill.
        let _ = kill_process(pid, Signal::KILL);
        panic!("{what}: not done within {limit:?}");
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("the output of a child");
    Ended {
        success: status.success(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// A `sanlock` command line that talks to the daemon in `run_dir`, or to none.
pub(super) fn sanlock(run_dir: impl Into<OsString>) -> Command {
    let mut command = Command::new("sanlock");
    command
        .env("SANLOCK_RUN_DIR", run_dir.into())
        .env("SANLOCK_PRIVILEGED", "0");
    command
}

/// The result that sanlock's command line tool reports in its line `<action> done <number>`.
pub(super) fn done(ended: &Ended) -> Option<i32> {
    ended.stdout.lines().rev().find_map(|line| {
        let (_, number) = line.split_once(" done ")?;
        number.trim().parse().ok()
    })
}

/// [`done`] as a result. Panics if the tool reported no number at all.
pub(super) fn done_result(ended: &Ended) -> Result<(), i32> {
    match done(ended) {
        Some(0) => Ok(()),
        Some(number) => Err(number),
        None => panic!("sanlock reported no result: {ended:?}"),
    }
}

/// The process id of a child that was not waited for yet.
pub(super) fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}
