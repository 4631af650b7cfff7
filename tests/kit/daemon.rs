//! One sanlock daemon of our own: its life, its lockspaces, the hosts it sees.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::command::{Ended, done_result, finish, pid_of, run, sanlock, spawn, start};
use super::{Lockspace, SanlockResult, end, wait_until};

/// For all that does not wait for other hosts.
const SHORT: Duration = Duration::from_secs(40);

/// The state of a host as a daemon sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostState {
    /// Seen once only since the daemon joined.
    Unknown,
    Free,
    Live,
    /// Late, but its watchdog may not have fired yet.
    Fail,
    Dead,
}

impl HostState {
    /// As in sanlock's programming interface.
    pub(super) fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Unknown,
            2 => Self::Free,
            3 => Self::Live,
            4 => Self::Fail,
            5 => Self::Dead,
            _ => panic!("not a host state: {number}"),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "UNKNOWN" => Some(Self::Unknown),
            "FREE" => Some(Self::Free),
            "LIVE" => Some(Self::Live),
            "FAIL" => Some(Self::Fail),
            "DEAD" => Some(Self::Dead),
            _ => None,
        }
    }
}

/// A host of a lockspace as a daemon sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "sanlock's term is host id")]
pub(crate) struct Host {
    pub(crate) host_id: u64,
    pub(crate) generation: u64,
    pub(crate) timestamp: u64,
    /// In seconds. The command line does not tell it, a client does.
    pub(crate) io_timeout: Option<u64>,
    pub(crate) state: HostState,
}

/// A running daemon; killed (SIGKILL) on drop. On disk its host then looks crashed, not gone.
#[derive(Debug)]
pub(crate) struct SanlockDaemon {
    process: Child,
    reaper: Child,
    home: TempDir,
}

impl SanlockDaemon {
    /// Starts a daemon that calls itself `host_name` on disk, and waits until it answers.
    ///
    /// Panics if sanlock is not installed or the daemon does not come up.
    pub(crate) fn start(host_name: &str) -> Self {
        let prefix = format!("sanlock-{host_name}-");
        let home = tempfile::Builder::new().prefix(&prefix).tempdir();
        let home = home.expect("a directory for the daemon");
        let run_dir = run_dir(&home);
        fs::create_dir(&run_dir).expect("the daemon's run directory");
        let log = File::create(log_file(&home)).expect("the daemon's log");
        let mut command = sanlock(&run_dir);
        command
            .args(["daemon", "-D", "-w", "0", "-e", host_name])
            .args(["-U", &own_name("-un"), "-G", &own_name("-gn")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = spawn(&mut command);
        let mut daemon = Self {
            reaper: reaper(&process),
            process,
            home,
        };
        let socket = run_dir.join("sanlock.sock");
        wait_until("the daemon answers", SHORT, || {
            assert!(!daemon.has_ended(), "the daemon ended: {}", daemon.log());
            UnixStream::connect(&socket).ok()
        });
        let status = daemon.client(&["status"], SHORT);
        assert!(status.success, "the daemon does not answer: {status:?}");
        daemon
    }

    /// Joins as `host_id`; `io_timeout` in seconds. Takes 3 s in a fresh lockspace formatted for an io timeout of
    /// 1 s, and more than 8 × io timeout + 60 s if the host id was left behind by a host of another name.
    pub(crate) fn add_lockspace(
        &self,
        lockspace: &Lockspace,
        host_id: u64,
        io_timeout: u32,
        limit: Duration,
    ) -> SanlockResult<()> {
        let place = lockspace.argument(host_id);
        let io_timeout = io_timeout.to_string();
        done_result(&self.client(&["add_lockspace", "-s", &place, "-o", &io_timeout], limit))
    }

    /// Begins to join and returns at once: for joins that are to fail, or to be watched meanwhile.
    pub(crate) fn start_add_lockspace(
        &self,
        lockspace: &Lockspace,
        host_id: u64,
        io_timeout: u32,
    ) -> StartedJoin {
        let place = lockspace.argument(host_id);
        let mut command = sanlock(self.run_dir());
        command.args(["client", "add_lockspace", "-s", &place]);
        command.args(["-o", &io_timeout.to_string()]);
        StartedJoin {
            asking: Some(start(&mut command)),
        }
    }

    /// Leaves. The daemon first kills all clients that hold resources of the lockspace.
    pub(crate) fn rem_lockspace(&self, lockspace: &Lockspace, host_id: u64) -> SanlockResult<()> {
        done_result(&self.client(
            &["rem_lockspace", "-s", &lockspace.argument(host_id)],
            SHORT,
        ))
    }

    /// Ok while joined; -115 while joining or leaving, -2 if not joined.
    pub(crate) fn inq_lockspace(&self, lockspace: &Lockspace, host_id: u64) -> SanlockResult<()> {
        done_result(&self.client(
            &["inq_lockspace", "-s", &lockspace.argument(host_id)],
            SHORT,
        ))
    }

    /// The hosts of the lockspace as `gets -h 1` tells them; none before the first scan after joining.
    pub(crate) fn hosts(&self, lockspace: &Lockspace) -> Vec<Host> {
        let gets = self.client(&["gets", "-h", "1"], SHORT);
        assert!(gets.success, "{gets:?}");
        let ours = format!("s {}:", lockspace.name);
        let mut lines = gets.stdout.lines();
        lines.find(|line| line.starts_with(&ours));
        lines
            .take_while(|line| line.starts_with("h "))
            .map(|line| host_line(line).unwrap_or_else(|| panic!("not a host: {line:?}")))
            .collect()
    }

    /// The state of one host; `None` before the first scan, or if it never joined.
    pub(crate) fn host_state(&self, lockspace: &Lockspace, host_id: u64) -> Option<HostState> {
        let hosts = self.hosts(lockspace);
        let host = hosts.iter().find(|host| host.host_id == host_id)?;
        Some(host.state)
    }

    /// Waits until this daemon sees the host in `state`.
    pub(crate) fn wait_for_host(
        &self,
        lockspace: &Lockspace,
        host_id: u64,
        state: HostState,
        limit: Duration,
    ) {
        let what = format!("host {host_id} of {} is {state:?}", lockspace.name);
        wait_until(&what, limit, || {
            (self.host_state(lockspace, host_id) == Some(state)).then_some(())
        });
    }

    /// All that the daemon has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_file(&self.home)).expect("the daemon's log")
    }

    /// Where its socket is.
    pub(crate) fn run_dir(&self) -> PathBuf {
        run_dir(&self.home)
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// True if the daemon's process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("a child's state").is_some()
    }

    /// Stops the daemon as it stands (SIGSTOP): no renewal, no answer. Ask it nothing until [`resume`](Self::resume).
    pub(crate) fn stop(&self) {
        kill_process(pid_of(&self.process), Signal::STOP).expect("stopping the daemon");
    }

    /// Lets a stopped daemon go on (SIGCONT).
    pub(crate) fn resume(&self) {
        kill_process(pid_of(&self.process), Signal::CONT).expect("resuming the daemon");
    }

    /// Kills the daemon (SIGKILL), as a crash of its host would. Its clients live on, unwatched.
    pub(crate) fn kill9(&mut self) {
        // The reaper goes first: later the process id may be another's.
        for process in [&mut self.reaper, &mut self.process] {
            end(process);
        }
    }

    /// Runs `sanlock client` with these arguments against this daemon.
    pub(super) fn client(&self, arguments: &[&str], limit: Duration) -> Ended {
        let mut command = sanlock(self.run_dir());
        command.arg("client").args(arguments);
        run(&mut command, limit)
    }
}

impl Drop for SanlockDaemon {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A join under way in a daemon, begun by [`SanlockDaemon::start_add_lockspace`]. Dropped, nobody waits for the
/// answer any more; the daemon goes on all the same.
#[derive(Debug)]
pub(crate) struct StartedJoin {
    asking: Option<Child>,
}

impl StartedJoin {
    /// Waits for the result.
    pub(crate) fn finish(mut self, limit: Duration) -> SanlockResult<()> {
        let asking = self.asking.take().expect("finished once");
        done_result(&finish(asking, "add_lockspace", limit))
    }
}

impl Drop for StartedJoin {
    fn drop(&mut self) {
        if let Some(asking) = &mut self.asking {
            end(asking);
        }
    }
}

/// Kills the daemon when this test program ends in a way that runs no destructor.
fn reaper(daemon: &Child) -> Child {
    let script = format!("read _; kill -9 {}", daemon.id());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).stdin(Stdio::piped());
    spawn(&mut command)
}

/// The user's (`-un`) or group's (`-gn`) name. By default the daemon gives its files to the user sanlock, which
/// only root may do; it knows users by name only.
fn own_name(option: &str) -> String {
    let id = run(Command::new("id").arg(option), SHORT);
    assert!(id.success, "{id:?}");
    id.stdout.trim().to_owned()
}

/// A directory within `home`: the log lies beside it.
fn run_dir(home: &TempDir) -> PathBuf {
    home.path().join("run")
}

fn log_file(home: &TempDir) -> PathBuf {
    Path::join(home.path(), "log")
}

/// `h 1 gen 1 timestamp 1022 LIVE`
fn host_line(line: &str) -> Option<Host> {
    let mut words = line.split_whitespace();
    let mut after = |key: &str| (words.next()? == key).then(|| words.next())?;
    let host_id = after("h")?.parse().ok()?;
    let generation = after("gen")?.parse().ok()?;
    let timestamp = after("timestamp")?.parse().ok()?;
    Some(Host {
        host_id,
        generation,
        timestamp,
        io_timeout: None,
        state: HostState::from_text(words.next()?)?,
    })
}
