//! A client of a sanlock daemon that contends by itself.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::control::{Control, State, Wish};
use disklease_fixtures::sanlock::{SanlockDaemon, end};

/// Debian's module is of the system's Python.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = include_str!("guest.py");

pub(crate) struct PeerGuest {
    process: Child,
    control: Control,
    /// To be started again with.
    orders: Value,
}

impl PeerGuest {
    /// Starts it; it registers with the daemon by itself.
    pub(crate) fn start(daemon: &SanlockDaemon, orders: Value, words: &Path) -> Self {
        let host_id = orders["host"].as_u64().expect("a host id");
        Self {
            control: Control::create(words, host_id),
            process: spawn(daemon, &orders),
            orders,
        }
    }

    /// Starts it again after its end.
    pub(crate) fn restart(&mut self, daemon: &SanlockDaemon) {
        self.end();
        self.process = spawn(daemon, &self.orders);
    }

    pub(crate) fn disk(&self) -> u64 {
        self.orders["disk"].as_u64().expect("a disk")
    }

    pub(crate) fn state(&self) -> State {
        self.control.state().0
    }

    pub(crate) fn want(&self, wish: Wish) {
        self.control.want(wish);
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            kill_process(Pid::from_child(&self.process), signal).expect("a child of ours");
        }
    }

    /// True if it has ended, and that by a signal.
    pub(crate) fn was_killed(&mut self) -> bool {
        let ended = self.process.try_wait().expect("a child's state");
        ended.is_some_and(|status| status.signal().is_some())
    }

    /// True if it has ended by itself, or was killed by its daemon for instance.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("a child's state").is_some()
    }

    pub(crate) fn end(&mut self) {
        end(&mut self.process);
    }
}

fn spawn(daemon: &SanlockDaemon, orders: &Value) -> Child {
    let mut command = Command::new(PYTHON);
    command
        .args(["-c", SCRIPT, &orders.to_string()])
        .env("SANLOCK_RUN_DIR", daemon.run_dir())
        .env("SANLOCK_PRIVILEGED", "0")
        .stdin(Stdio::null());
    command.spawn().expect("the system's Python")
}

impl Drop for PeerGuest {
    fn drop(&mut self) {
        self.end();
    }
}
