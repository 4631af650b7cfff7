//! A lease directory, and runs in it that no test waits for longer than a minute.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use disklease::LeaseDirectory;
use disklease::libvirt::LOCKSPACE_NAME;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use disklease_fixtures::command::{Ended, command, end, run, scratch};

pub(crate) const DISK: &str = "/dev/disk/by-id/guest-1";

/// For `env`.
pub(crate) const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,QUIT,USR1";

/// How long anything is waited for, on a machine that is busy with something else.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// On such a machine too, and long before a lock of these runs can expire or a command is killed for that.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(30);

/// A lease directory, and a directory for the process locks of its one machine.
pub(crate) struct Place {
    dir: TempDir,
    /// Where its hosts see the lease directory.
    seen: PathBuf,
    /// N of its hosts.
    io_timeout: &'static str,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = scratch();
        let seen = dir.path().join("leases");
        let leases = LeaseDirectory::new(&seen);
        leases.create_lockspace(Duration::from_secs(1)).unwrap();
        let io_timeout = "1";
        Self {
            dir,
            seen,
            io_timeout,
        }
    }

    /// From now on hosts see the lease directory there.
    pub(crate) fn see_through(&mut self, path: &std::path::Path) {
        path.clone_into(&mut self.seen);
    }

    /// From now on its hosts have this N, in seconds.
    pub(crate) const fn set_io_timeout(&mut self, secs: &'static str) {
        self.io_timeout = secs;
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.dir.path().join("leases")
    }

    /// The options of host `id`, for `disklease run` and `disklease hold`.
    pub(crate) fn of_host(&self, what: &str, id: u64) -> Command {
        self.of_host_with(what, id, "none")
    }

    /// The same with this watchdog.
    pub(crate) fn of_host_with(&self, what: &str, id: u64, watchdog: &str) -> Command {
        let run = command(&[
            what,
            "--io-timeout",
            self.io_timeout,
            "--watchdog",
            watchdog,
        ]);
        // Whoever runs the tests in the background has some of them ignored.
        let mut command = Command::new("env");
        command
            .args(["-u", "RUST_LOG", "-u", "DISKLEASE_LOG", DEFAULT_SIGNALS])
            .arg(run.get_program())
            .args(run.get_args())
            .arg("--single-host")
            .args(["--host-id", &id.to_string(), "--host-name"])
            .arg(format!("host{id}"))
            .arg("--lease-dir")
            .arg(&self.seen)
            .arg("--runtime-dir")
            .arg(self.dir.path().join("run"))
            .args(["--disk", DISK])
            .current_dir(self.dir.path());
        command
    }

    /// Runs `job` as host `id`, with more options before it.
    pub(crate) fn command(&self, id: u64, options: &[&str], job: &[&str]) -> Command {
        let mut command = self.of_host("run", id);
        command.args(options).arg("--").args(job);
        command
    }

    pub(crate) fn run(&self, id: u64, options: &[&str], job: &[&str]) -> Ended {
        Running::spawn(&mut self.command(id, options, job)).ended()
    }

    /// Runs a shell script that prints a line as soon as it is ready, and waits for that line.
    pub(crate) fn start(&self, id: u64, script: &str) -> Running {
        self.start_with(id, &[], script)
    }

    /// The same with more options.
    pub(crate) fn start_with(&self, id: u64, options: &[&str], script: &str) -> Running {
        let options = [&["--guest", "web"], options].concat();
        let running = Running::spawn(&mut self.command(id, &options, &["sh", "-c", script]));
        assert_eq!(running.line(), "ready");
        running
    }

    pub(crate) fn status(&self) -> Value {
        let dir = self.leases();
        let args = ["status", "--json", "--no-wait", "--lease-dir"];
        run(&[&args[..], &[dir.to_str().unwrap()]].concat()).json()
    }

    /// Waits until host 1 has renewed: before that, nothing on the disk can prove that its incarnation has ended, and
    /// the next one waits for it.
    pub(crate) fn wait_for_renewal(&self) {
        let lockspace = self.leases().join(LOCKSPACE_NAME);
        let sector = || fs::read(&lockspace).unwrap()[..512].to_vec();
        let before = sector();
        wait_until("a renewal", || sector() != before);
    }

    /// Everything was given back, and the host id too.
    pub(crate) fn assert_free(&self) {
        let status = self.status();
        assert_eq!(status["held"], serde_json::json!([]));
        for host in status["hosts"].as_array().unwrap() {
            assert_eq!(host["state"], "free");
        }
    }

    pub(crate) fn assert_held_by(&self, id: u64) {
        let status = self.status();
        assert_eq!(status["held"][0]["host_id"], id, "{status}");
    }

    /// Has the locks of host 1 lost until `running` has ended, as by a fault that writes over its
    /// sector, and sees it to its end.
    pub(crate) fn lose(&self, running: Running) -> (Ended, Duration) {
        let lockspace = fs::OpenOptions::new()
            .write(true)
            .open(self.leases().join(LOCKSPACE_NAME))
            .unwrap();
        let began = Instant::now();
        let ended = thread::spawn(move || (running.ended(), began.elapsed()));
        // A renewal that was under way may have overwritten it in its turn.
        while !ended.is_finished() {
            lockspace.write_all_at(&[0; 512], 0).unwrap();
            thread::sleep(Duration::from_millis(100));
        }
        ended.join().unwrap()
    }
}

/// A command that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    messages: Receiver<String>,
}

impl Running {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        Self::of(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// A process that is run already, with a pipe for what it prints.
    pub(crate) fn of(mut child: Child) -> Self {
        let (tell, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut lines = stdout.lines().map_while(Result::ok);
            lines.all(|line| tell.send(line).is_ok())
        });
        let (tell, messages) = channel();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || {
                let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
                lines.all(|line| tell.send(line).is_ok())
            });
        }
        Self {
            child,
            lines,
            messages,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The next line that its command prints.
    pub(crate) fn line(&self) -> String {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => line,
            Err(error) => {
                let said: Vec<_> = self.messages.try_iter().collect();
                panic!("it has printed nothing: {error}: {said:?}")
            }
        }
    }

    /// Waits for a message that contains `what`.
    pub(crate) fn message(&self, what: &str) -> String {
        let end = Instant::now() + LIMIT;
        let mut before = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) if message.contains(what) => return message,
                Ok(message) => before.push(message),
                Err(error) => panic!("{what:?} was not said: {error}: {before:?}"),
            }
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                let said: Vec<_> = self.messages.try_iter().collect();
                panic!("it has not ended: {said:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How it has ended, with the rest of what it has said.
    pub(crate) fn ended(mut self) -> Ended {
        let status = self.wait();
        let rest = |lines: &Receiver<String>| {
            let mut text = String::new();
            // Until nobody has the pipe any more; what is below a run that was killed ends soon.
            while let Ok(line) = lines.recv_timeout(LIMIT) {
                text.push_str(&line);
                text.push('\n');
            }
            text
        };
        Ended {
            code: status.code(),
            stdout: rest(&self.lines),
            stderr: rest(&self.messages),
        }
    }

    /// The processes that have these numbers where the command runs.
    pub(crate) fn processes(&self, line: &str) -> Vec<Pid> {
        let words = line.split_whitespace();
        words.map(|number| self.process(number)).collect()
    }

    fn process(&self, number: &str) -> Pid {
        let is_it = |pid: &Pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find(|line| line.starts_with("NSpid:"));
            ids.is_some_and(|ids| ids.split_whitespace().last() == Some(number))
        };
        // One that gets another parent meanwhile may be overlooked.
        let mut found = None;
        wait_until(&format!("{number} is below the run"), || {
            found = below(self.pid()).into_iter().rfind(is_it);
            found.is_some()
        });
        found.unwrap()
    }

    /// The chain down to the command: keeper, guardian.
    pub(crate) fn chain(&self) -> [Pid; 2] {
        let keeper = children(self.pid())[0];
        [keeper, children(keeper)[0]]
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that hangs in its storage ends when that is healed, by what is dropped after this.
        end(&mut self.child);
    }
}

pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let of_parent = |(pid, of)| (of == parent).then_some(pid);
    with_parents().into_iter().filter_map(of_parent).collect()
}

/// All below `top`, parents first.
pub(crate) fn below(top: Pid) -> Vec<Pid> {
    // Looked at once only: one that gets another parent meanwhile would be seen below neither.
    let processes = with_parents();
    let mut all = vec![top];
    let mut at = 0;
    while at < all.len() {
        let of_this = |(pid, of): &(Pid, Pid)| (*of == all[at]).then_some(*pid);
        let more: Vec<_> = processes.iter().filter_map(of_this).collect();
        all.extend(more);
        at += 1;
    }
    all.split_off(1)
}

/// All processes, each with its parent.
fn with_parents() -> Vec<(Pid, Pid)> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name();
        Pid::from_raw(name.to_str()?.parse().ok()?)
    });
    let with_parent = |pid| Some((pid, parent_of(pid)?));
    numbers.filter_map(with_parent).collect()
}

fn parent_of(child: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
    Pid::from_raw(parent.parse().ok()?)
}

pub(crate) fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits for the ends of these, and gives how long that took.
pub(crate) fn ended_within(limit: Duration, pids: &[Pid]) -> Duration {
    let began = Instant::now();
    while pids.iter().any(|pid| lives(*pid)) {
        assert!(began.elapsed() < limit, "{pids:?} still run");
        thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

/// Waits until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what}: not so in {LIMIT:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A shell, a child of it, and one that is nobody's child any more and in a session of its own. It
/// prints their numbers.
pub(crate) const FAMILY: &str = "setsid sh -c 'sleep 300 & echo $! > family' & sleep 300 & \
    while ! [ -s family ]; do sleep 0.01; done; \
    echo ready; echo $$ $! $(cat family); wait";
