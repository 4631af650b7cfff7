//! A host of ours in a process of its own, moved by lines of JSON; the test's side.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Set for the process, so that the test in which it lives knows that it is one.
pub(super) const MARK: &str = "DISKLEASE_TEST_HOST_PROCESS";
/// Before each answer, since the test runner prints to the same pipe.
pub(super) const ANSWER: &str = "@answer ";

/// For what waits for nobody else.
const SHORT: Duration = Duration::from_secs(40);

/// How long one that was killed may take to end.
const KILLED: Duration = Duration::from_secs(10);

/// A child process of ours. Killed (SIGKILL) on drop.
#[derive(Debug)]
pub(crate) struct HostProcess {
    process: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
    name: String,
    /// What it was told last.
    told: String,
}

impl HostProcess {
    /// Starts the process: this test program again, running only its ignored test `host_process`, which has to
    /// call [`super::child::serve`].
    pub(crate) fn start(name: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["host_process", "--exact", "--ignored", "--nocapture"])
            .env(MARK, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let stdout = process.stdout.take().unwrap();
        let (tell, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if let Some((_, answer)) = line.split_once(ANSWER)
                    && tell.send(answer.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self {
            process,
            commands,
            answers,
            name: name.to_owned(),
            told: String::new(),
        }
    }

    /// Joins the lockspace of the lease directory; gives the generation.
    pub(crate) fn join(&mut self, directory: &Path, host_id: u64) -> u64 {
        let name = self.name.clone();
        let joined = self
            .ask(
                &json!({"do": "join", "directory": directory, "host_id": host_id, "name": name}),
                SHORT,
            )
            .unwrap_or_else(|error| panic!("{name} joins: {error}"));
        println!(
            "time: {name} of ours joined as host {host_id} in {} s",
            joined["secs"]
        );
        joined["generation"].as_u64().unwrap()
    }

    /// Acquires the disk without waiting, and keeps it; gives the lease's version.
    pub(crate) fn acquire(&mut self, disk: &str) -> Result<u64, String> {
        self.ask(&json!({"do": "acquire", "disk": disk}), SHORT)
            .map(|version| version.as_u64().unwrap())
    }

    /// Whether the guard says that it holds.
    pub(crate) fn is_held(&mut self) -> bool {
        self.ask(&json!({"do": "is_held"}), SHORT).unwrap() == true
    }

    /// Sends a command, to be followed by [`Self::answer`].
    pub(crate) fn tell(&mut self, command: &Value) {
        let line = format!("{command}\n");
        self.commands
            .write_all(line.as_bytes())
            .unwrap_or_else(|error| panic!("{}: {command}: {error}", self.name));
        self.told = line;
    }

    /// The answer to the command that was sent.
    pub(crate) fn answer(&self, limit: Duration) -> Result<Value, String> {
        let line = self.answers.recv_timeout(limit).unwrap_or_else(|error| {
            let Self { name, told, .. } = self;
            panic!("{name}: no answer within {limit:?}: {error}, to {told}")
        });
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer.get("error") {
            None => Ok(answer["ok"].take()),
            Some(error) => Err(error.as_str().unwrap().to_owned()),
        }
    }

    pub(crate) fn ask(&mut self, command: &Value, limit: Duration) -> Result<Value, String> {
        self.tell(command);
        self.answer(limit)
    }

    /// Stops all of it as it stands (SIGSTOP).
    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.process), Signal::STOP).unwrap();
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).unwrap();
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// True if the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Kills it (SIGKILL), as a crash of its host would.
    pub(crate) fn kill9(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.process.kill();
        let until = Instant::now() + KILLED;
        while !self.has_ended() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        let hangs = !self.has_ended();
        assert!(!hangs || thread::panicking(), "it was killed, and hangs");
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        self.kill9();
    }
}
