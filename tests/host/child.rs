//! A host of ours in a process of its own; the process' side.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use disklease::{LeaseDirectory, LockGuard, LockManager as _, PaxosManager};
use serde_json::{Value, json};

use super::process::{ANSWER, MARK};
use super::{boottime, disk, join};

/// How often a guard that is watched is asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Who did not run for longer than this was stopped. A busy machine lets a process wait for less.
const STOP_SECS: f64 = 5.0;

/// What a process holds.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) manager: Option<PaxosManager>,
    guard: Option<LockGuard>,
}

/// Does what the lines on stdin say until they end. `more` does what this does not know. Returns at once in a
/// test program that was not started by [`super::process::HostProcess`].
pub(crate) fn serve(more: impl Fn(&mut Host, &Value) -> Result<Value, String>) {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let mut host = Host::default();
    for line in std::io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = match host.run(&command, &more) {
            Ok(result) => json!({ "ok": result }),
            Err(error) => json!({ "error": error }),
        };
        let mut stdout = std::io::stdout().lock();
        // The test runner may have begun a line.
        writeln!(stdout, "\n{ANSWER}{answer}").unwrap();
        stdout.flush().unwrap();
    }
}

impl Host {
    fn run(
        &mut self,
        command: &Value,
        more: &impl Fn(&mut Self, &Value) -> Result<Value, String>,
    ) -> Result<Value, String> {
        match command["do"].as_str().unwrap() {
            "join" => {
                let begun = Instant::now();
                let leases = LeaseDirectory::new(Path::new(text(command, "directory")));
                let host_id = command["host_id"].as_u64().unwrap();
                let manager = join(&leases, host_id, text(command, "name"));
                let generation = manager.lockspace().generation().get();
                self.manager = Some(manager);
                Ok(json!({"generation": generation, "secs": begun.elapsed().as_secs_f64()}))
            }
            "acquire" => {
                let acquired = self.manager().acquire(disk(text(command, "disk")));
                let guard = acquired.map_err(|error| error.to_string())?;
                let version = guard.locks().next().unwrap().version.unwrap().get();
                self.guard = Some(guard);
                Ok(version.into())
            }
            "is_held" => Ok(self.guard().is_held().into()),
            "notice_stop" => Ok(notice_stop(self.guard())),
            "verify" => Ok(match self.guard().verify() {
                Ok(()) => Value::Null,
                Err(error) => error.to_string().into(),
            }),
            _ => more(self, command),
        }
    }

    pub(crate) fn manager(&self) -> &PaxosManager {
        self.manager.as_ref().expect("joined")
    }

    fn guard(&self) -> &LockGuard {
        self.guard.as_ref().expect("acquired")
    }
}

pub(crate) fn text<'a>(command: &'a Value, key: &str) -> &'a str {
    command[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {command}"))
}

/// Asks the guard all the time until this process was stopped for a while, or the guard says
/// that it is lost. Reports how long it was not running, what the guard said the very first time after that, and
/// what it says a little later.
fn notice_stop(guard: &LockGuard) -> Value {
    let mut before = boottime();
    loop {
        let now = boottime();
        // The first thing after the clock shows the gap; if the stop came in between the two, it is
        // the first thing after the stop, and the gap shows in the next turn.
        let held = guard.is_held();
        let after = boottime();
        let gap = after.saturating_sub(before).as_secs_f64();
        if gap > STOP_SECS {
            // Stopped before the answer: `now` shows it already. Stopped after it: ask now.
            let stopped_before_the_answer = now.saturating_sub(before).as_secs_f64() > STOP_SECS;
            let first = if stopped_before_the_answer {
                held
            } else {
                guard.is_held()
            };
            std::thread::sleep(Duration::from_secs(3));
            let later = guard.is_held();
            let reason = guard.loss().map(|reason| reason.to_string());
            return json!({"stopped_secs": gap, "first": first, "later": later, "reason": reason});
        }
        assert!(held, "lost without having been stopped: {:?}", guard.loss());
        before = after;
        std::thread::sleep(LOOK_INTERVAL);
    }
}
