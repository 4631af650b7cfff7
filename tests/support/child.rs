//! Other processes: this test program again, in a role.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

const ROLE: &str = "DISKLEASE_TEST_ROLE";
const DIR: &str = "DISKLEASE_TEST_DIR";
/// Tells what the child says from what the test harness prints.
const MARK: &str = "child says: ";

/// In a child: its role and its directory. `None` in the test run itself.
pub(crate) fn child_role() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(DIR)?.into()))
}

/// In a child: tells its parent.
pub(crate) fn say(what: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{MARK}{what}").unwrap();
    out.flush().unwrap();
}

/// A process that runs the test function `entry` of this program in a role. Killed when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    said: Receiver<String>,
    stdin: Option<ChildStdin>,
}

impl Child {
    pub(crate) fn start(entry: &str, role: &str, dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", entry, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (tell, said) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(what) = line.strip_prefix(MARK) {
                    let _ = tell.send(what.to_owned());
                }
            }
        });
        let stdin = process.stdin.take();
        Self {
            process,
            said,
            stdin,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next thing that it says.
    pub(crate) fn hear(&self, limit: Duration) -> String {
        match self.said.recv_timeout(limit) {
            Ok(what) => what,
            Err(RecvTimeoutError::Timeout) => panic!("the child said nothing within {limit:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the child has ended"),
        }
    }

    /// The next thing that it says within `limit`, if it says any.
    pub(crate) fn try_hear(&self, limit: Duration) -> Option<String> {
        match self.said.recv_timeout(limit) {
            Ok(what) => Some(what),
            // An end that was seen at once is no reason to ask again at once.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(limit);
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
        }
    }

    /// Ends its wait for [`wait_for_parent`].
    pub(crate) fn let_go(&mut self) {
        drop(self.stdin.take());
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    /// Lets it go, and gives how it has ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.let_go();
        self.process.wait().unwrap()
    }

    pub(crate) fn ended_well(&mut self) -> bool {
        self.end().success()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// In a child: waits until the parent lets it go, or is gone.
pub(crate) fn wait_for_parent() {
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}
