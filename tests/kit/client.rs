//! A process that holds leases through a daemon.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::command::{NOT_INSTALLED, pid_of, spawn};
use super::daemon::{Host, HostState, SanlockDaemon};
use super::lease::{Resource, plain};
use super::{Lockspace, SanlockResult, end};

/// Debian's module is of the system's Python.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = include_str!("client.py");

/// For all that does not wait for other hosts.
const SHORT: Duration = Duration::from_secs(40);

/// A host named by the lease of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) host_id: u64,
    pub(crate) generation: u64,
    /// When it acquired, by its own clock; 0 for a sharer.
    pub(crate) timestamp: u64,
}

/// A child process registered with one daemon. Killed on drop; the daemon then releases what it held.
#[derive(Debug)]
pub(crate) struct SanlockClient {
    process: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl SanlockClient {
    /// Starts the process and registers it with `daemon`.
    pub(crate) fn register(daemon: &SanlockDaemon) -> Self {
        let mut command = Command::new(PYTHON);
        command
            .args(["-c", SCRIPT])
            .env("SANLOCK_RUN_DIR", daemon.run_dir())
            .env("SANLOCK_PRIVILEGED", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = spawn(&mut command);
        let commands = process.stdin.take().expect("stdin is piped");
        let stdout = process.stdout.take().expect("stdout is piped");
        let (tell, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let client = Self {
            process,
            commands,
            answers,
        };
        let hello = client.answer("register", SHORT);
        assert!(hello.get("missing").is_none(), "{NOT_INSTALLED}: {hello}");
        client
    }

    /// Acquires exclusively. Sanlock may take up to 8 × io timeout + 60 s: `limit` must allow for what is tested.
    pub(crate) fn acquire(&mut self, resource: &Resource, limit: Duration) -> SanlockResult<()> {
        self.start_acquire(resource, false);
        self.finish_acquire(limit)
    }

    /// Acquires along with other sharers.
    pub(crate) fn acquire_shared(
        &mut self,
        resource: &Resource,
        limit: Duration,
    ) -> SanlockResult<()> {
        self.start_acquire(resource, true);
        self.finish_acquire(limit)
    }

    /// Begins to acquire and returns at once; [`finish_acquire`](Self::finish_acquire) has to follow.
    pub(crate) fn start_acquire(&mut self, resource: &Resource, shared: bool) {
        let mut command = about("acquire", resource);
        command["shared"] = shared.into();
        self.send(&command);
    }

    /// Waits for the result of [`start_acquire`](Self::start_acquire).
    pub(crate) fn finish_acquire(&self, limit: Duration) -> SanlockResult<()> {
        self.result("acquire", limit).map(drop)
    }

    /// Releases what this process holds.
    pub(crate) fn release(&mut self, resource: &Resource) -> SanlockResult<()> {
        self.send(&about("release", resource));
        self.result("release", SHORT).map(drop)
    }

    /// Whom the lease on disk names, alive or not: the exclusive owner, or all sharers, or nobody.
    pub(crate) fn owners(&mut self, resource: &Resource) -> SanlockResult<Vec<Owner>> {
        let mut command = about("owners", resource);
        command["sector"] = resource.geometry.sector.into();
        command["align"] = resource.geometry.align.into();
        self.send(&command);
        let owner = |host: &Value| Owner {
            host_id: number(host, "host_id"),
            generation: number(host, "generation"),
            timestamp: number(host, "timestamp"),
        };
        self.result("owners", SHORT)
            .map(|owners| list(&owners).iter().map(owner).collect())
    }

    /// Names of the resources that this process holds, by the daemon's account.
    pub(crate) fn held(&mut self) -> SanlockResult<Vec<String>> {
        self.send(&json!({ "action": "inquire" }));
        let name = |name: &Value| name.as_str().expect("a name").to_owned();
        self.result("inquire", SHORT)
            .map(|names| list(&names).iter().map(name).collect())
    }

    /// The hosts that the daemon has seen in the lockspace; -11 until its first scan after joining.
    pub(crate) fn hosts(&mut self, lockspace: &Lockspace) -> SanlockResult<Vec<Host>> {
        self.send(&json!({ "action": "hosts", "lockspace": lockspace.name }));
        let host = |host: &Value| Host {
            host_id: number(host, "host_id"),
            generation: number(host, "generation"),
            timestamp: number(host, "timestamp"),
            io_timeout: Some(number(host, "io_timeout")),
            state: HostState::from_number(number(host, "flags")),
        };
        self.result("hosts", SHORT)
            .map(|hosts| list(&hosts).iter().map(host).collect())
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// True if the process has ended by itself or was killed, by its daemon for instance.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("a child's state").is_some()
    }

    /// Kills the process (SIGKILL) and waits for its end. Its daemon notices and releases what it held.
    pub(crate) fn kill9(mut self) {
        self.end();
    }

    fn end(&mut self) {
        end(&mut self.process);
    }

    fn send(&mut self, command: &Value) {
        // One write: a line is never seen half.
        let line = format!("{command}\n");
        let sent = self.commands.write_all(line.as_bytes());
        sent.unwrap_or_else(|error| panic!("client {}: {command}: {error}", self.pid()));
    }

    fn result(&self, action: &str, limit: Duration) -> SanlockResult<Value> {
        let mut answer = self.answer(action, limit);
        match answer.get("error").map(Value::as_i64) {
            None => Ok(answer["ok"].take()),
            Some(number) => {
                let number = number.and_then(|number| i32::try_from(number).ok());
                Err(number.unwrap_or_else(|| panic!("not an error number: {answer}")))
            }
        }
    }

    fn answer(&self, action: &str, limit: Duration) -> Value {
        let pid = pid_of(&self.process);
        let line = match self.answers.recv_timeout(limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("client {pid}: {action}: no answer within {limit:?}")
            }
            Err(RecvTimeoutError::Disconnected) => panic!("client {pid}: {action}: it has ended"),
        };
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("client {pid}: {action}: {line:?}: {error}"))
    }
}

impl Drop for SanlockClient {
    fn drop(&mut self) {
        self.end();
    }
}

fn about(action: &str, resource: &Resource) -> Value {
    json!({
        "action": action,
        "lockspace": resource.lockspace,
        "resource": resource.name,
        "path": plain(&resource.path),
        "offset": resource.offset,
    })
}

fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("not a list: {value}"))
}

fn number(object: &Value, name: &str) -> u64 {
    object[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {object}"))
}
