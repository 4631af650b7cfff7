//! Other processes: this test program again, in a role.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

const ROLE: &str = "DISKLEASE_TEST_ROLE";
const DIR: &str = "DISKLEASE_TEST_DIR";
/// Tells what the child says from what the test harness prints.
const MARK: &str = "child says: ";

/// In a child: its role and its directory. `None` in the test run itself.
pub(crate) fn child_role() -> Option<(String, PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(DIR)?.into()))
}

/// In a child: tells its parent.
pub(crate) fn say(what: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n{MARK}{what}").unwrap();
    out.flush().unwrap();
}

/// How long a process may take to end that was killed, or was let go.
const KILLED: Duration = Duration::from_secs(10);
const LET_GO: Duration = Duration::from_secs(60);

/// A process that runs the test function `entry` of this program in a role. Killed when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    dir: PathBuf,
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
            dir: dir.to_owned(),
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
            Err(RecvTimeoutError::Disconnected) => panic!("the child has ended: {}", self.how()),
        }
    }

    /// How it has ended, as far as can be told without waiting for it.
    fn how(&self) -> String {
        let pid = Pid::from_child(&self.process);
        // It has closed its pipe, and may be about to end.
        std::thread::sleep(Duration::from_millis(500));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(pid), options);
        ended.map_or_else(
            |error| error.to_string(),
            |ended| {
                let code = ended.as_ref().and_then(WaitIdStatus::exit_status);
                let signal = ended.as_ref().and_then(WaitIdStatus::terminating_signal);
                format!("code {code:?}, signal {signal:?}")
            },
        )
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
        if let Err(hangs) = self.try_kill() {
            panic!("{hangs}");
        }
    }

    /// Kills it. What of it hangs in the storage of a test ends when that is cut off.
    fn try_kill(&mut self) -> Result<ExitStatus, String> {
        let _ = self.process.kill();
        if let Some(ended) = self.wait(KILLED) {
            return Ok(ended);
        }
        let hangs = report(self.pid());
        cut_off_storage(&self.dir);
        let ended = self.wait(KILLED);
        Err(format!("was killed and did not end ({ended:?}): {hangs}"))
    }

    /// Lets it go, and gives how it has ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.let_go();
        if let Some(ended) = self.wait(LET_GO) {
            return ended;
        }
        let hangs = report(self.pid());
        let killed = self.try_kill();
        panic!("was let go and did not end within {LET_GO:?}: {hangs}\nthen: {killed:?}");
    }

    pub(crate) fn ended_well(&mut self) -> bool {
        self.end().success()
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || Instant::now() >= until {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A test that fails already is not to hang here in what it left hanging.
        match self.try_kill() {
            Err(hangs) if std::thread::panicking() => eprintln!("{hangs}"),
            Err(hangs) => panic!("{hangs}"),
            Ok(_) => {}
        }
    }
}

/// What the threads of a process are doing, as the kernel says.
fn report(pid: u32) -> String {
    let mut report = format!("process {pid}");
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (name, stat, wchan) = (read("comm"), read("stat"), read("wchan"));
        let state = stat.rsplit(") ").next().and_then(|rest| rest.get(..1));
        let stack = read("stack");
        let _ = write!(report, "\n{} {state:?} {wchan}\n{stack}", name.trim_end());
    }
    report
}

/// Fails all that hangs in the FUSE file systems that this program serves below `dir`.
fn cut_off_storage(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().filter(|line| line.contains(" fuse")) {
        let path = line.split(' ').nth(1).map(Path::new);
        if let Some(path) = path.filter(|path| path.starts_with(dir)) {
            let _ = Command::new("umount").args(["-f", "-l"]).arg(path).status();
        }
    }
}

/// In a child: waits until the parent lets it go, or is gone.
pub(crate) fn wait_for_parent() {
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}
