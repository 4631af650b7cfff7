//! A guest process of ours: joins, and raises counters under leases until it is asked to end, or killed.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use disklease::lockspace::{JoinErrorKind, Lockspace};
use disklease::{HostId, LeaseDirectory, LockGuard, LockManager as _, PaxosManager, WaitLimit};
use rustix::process::{Signal, getpid, kill_process, set_parent_process_death_signal};
use serde_json::{Value, json};

use super::control::{Control, State, Wish};
use super::counter::Counter;
use super::history::{History, now};
use disklease_fixtures::host_process::child::text;
use disklease_fixtures::host_process::turns::random;
use disklease_fixtures::host_process::{disk, options};

/// Pauses after a turn, after a refusal, after an error: up to that many ms.
const REST: u64 = 50;
const RETRY: u64 = 50;
const RECOVER: u64 = 300;
/// Between the read of the counter and its write, most times and at times.
const THINK: u64 = 4;
const THINK_LONG: u64 = 500;
/// A guest stops itself only if nothing went wrong for so long: an acquire that failed may be reconciled in the
/// background, and that is the one thing besides the renewal that could be caught with a write in its hand.
const CALM: Duration = Duration::from_secs(4);

struct Guest {
    machine: String,
    life: u64,
    leases: LeaseDirectory,
    /// Of the machine alone.
    runtime: PathBuf,
    host_name: String,
    host_id: u64,
    fire_timeout: Duration,
    /// Of 8 joins after a loss, so many are under a new name and host id.
    renamed_of_8: u64,
    disks: Vec<(usize, PathBuf, Counter)>,
    control: Control,
    history: History,
    last_trouble: Instant,
}

/// The process' command `chaos`.
pub(crate) fn run(command: &Value) -> Value {
    // Also where it stands still. The player's thread, which started it, lives until it has ended it.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let mut guest = Guest::new(command);
    while guest.control.wish() != Wish::End {
        if let Some(manager) = guest.join() {
            guest.work(&manager);
            if random(8) < guest.renamed_of_8 {
                guest.host_id += 1;
                guest.host_name = format!("{}.{}", guest.machine, guest.host_id);
            }
        }
    }
    guest.say(State::Ended, 0);
    Value::Null
}

impl Guest {
    fn new(command: &Value) -> Self {
        let number = |key: &str| command[key].as_u64().unwrap();
        let disks = command["disks"].as_array().unwrap().iter().map(|disk| {
            let counter = Counter::open(Path::new(text(disk, "counter")));
            let number = disk["number"].as_u64().unwrap();
            (number as usize, PathBuf::from(text(disk, "path")), counter)
        });
        Self {
            machine: text(command, "machine").to_owned(),
            life: number("life"),
            leases: LeaseDirectory::new(text(command, "directory")),
            runtime: PathBuf::from(text(command, "runtime")),
            host_name: text(command, "host_name").to_owned(),
            host_id: number("host_id"),
            fire_timeout: Duration::from_secs(number("fire_timeout")),
            renamed_of_8: number("renamed_of_8"),
            disks: disks.collect(),
            control: Control::open(Path::new(text(command, "control"))),
            history: History::open(Path::new(text(command, "history"))),
            last_trouble: Instant::now(),
        }
    }

    fn say(&self, state: State, disk: usize) {
        self.control.say(state, self.host_id, disk);
    }

    fn note(&self, what: &str, mut fields: Value) {
        fields["life"] = self.life.into();
        self.history.note(&self.machine, what, fields);
    }

    fn join(&self) -> Option<PaxosManager> {
        self.say(State::Joining, 0);
        let id = HostId::new(self.host_id).unwrap();
        // The machine's watchdog is all that stops it, with locks and without.
        let joined = options(&self.runtime, &self.host_name)
            .without_deadman()
            .fire_timeout(self.fire_timeout)
            .join(self.leases.lockspace_path(), id);
        match joined {
            Ok(lockspace) => {
                let generation = lockspace.generation().get();
                self.note(
                    "joined",
                    json!({"host": self.host_id, "generation": generation, "name": self.host_name}),
                );
                self.say(State::Idle, 0);
                Some(PaxosManager::new(lockspace, self.leases.clone()).unwrap())
            }
            Err(error) => {
                let is_joined = matches!(error.kind(), JoinErrorKind::AlreadyJoined { .. });
                assert!(!is_joined, "{error}");
                self.note(
                    "not joined",
                    json!({"host": self.host_id, "error": error.to_string()}),
                );
                pause(2 * RECOVER);
                None
            }
        }
    }

    /// Turns, until the lockspace is lost or the end is wanted.
    fn work(&mut self, manager: &PaxosManager) {
        let lockspace: Lockspace = manager.lockspace().clone();
        while self.control.wish() != Wish::End && lockspace.is_held() {
            let pick = random(self.disks.len() as u64) as usize;
            self.turn(manager, pick);
        }
        let lost = !lockspace.is_held();
        let reason = lockspace.loss().map(|reason| reason.to_string());
        if lost {
            self.say(State::Out, 0);
            self.note("out", json!({"host": self.host_id, "reason": reason}));
        }
        match lockspace.leave() {
            Ok(()) => self.note("left", json!({"host": self.host_id})),
            Err(error) => self.note(
                "not left",
                json!({"host": self.host_id, "error": error.to_string()}),
            ),
        }
    }

    fn turn(&mut self, manager: &PaxosManager, pick: usize) {
        let (number, path, _) = &self.disks[pick];
        let number = *number;
        self.say(State::Acquiring, number);
        let wait = match random(16) {
            0 => WaitLimit::For(Duration::from_secs(2)),
            _ => WaitLimit::Try,
        };
        match manager.acquire(disk(path).wait(wait)) {
            Ok(guard) => {
                let version = guard.locks().next().unwrap().version.unwrap().get();
                let lock = json!({
                    "disk": number,
                    "version": version,
                    "host": self.host_id,
                    "generation": manager.lockspace().generation().get(),
                });
                self.note("got", lock.clone());
                self.say(State::Holding, number);
                if self.hold(&guard, pick, &lock) {
                    self.say(State::Releasing, number);
                    self.note("releasing", lock.clone());
                    match guard.release() {
                        Ok(()) => self.note("released", lock),
                        Err(error) => self.trouble("not released", lock, &error.to_string()),
                    }
                } else {
                    // Lost. That is for good, and there is nothing to release any more.
                    let mut lost = lock;
                    lost["again"] = guard.is_held().into();
                    lost["reason"] = json!(guard.loss().map(|reason| reason.to_string()));
                    self.note("lost", lost);
                }
                if manager.lockspace().is_held() {
                    self.say(State::Idle, number);
                }
                pause(REST);
            }
            Err(error) if error.holder().is_some() => pause(RETRY),
            Err(error) => {
                let lock = json!({"disk": number, "host": self.host_id});
                self.trouble("refused", lock, &error.to_string());
                pause(RECOVER);
            }
        }
    }

    /// Raises the counter a few times; false if the lock was found lost.
    fn hold(&self, guard: &LockGuard, pick: usize, lock: &Value) -> bool {
        let (number, _, counter) = &self.disks[pick];
        let mut rounds = 1 + random(3);
        while rounds > 0 || self.control.wish() == Wish::Keep {
            rounds = rounds.saturating_sub(1);
            let found = counter.read();
            let next = found.next(random(u64::MAX));
            let mut about = lock.clone();
            about["found"] = json!([found.value, found.mark]);
            about["made"] = json!([next.value, next.mark]);
            self.note("about", about.clone());
            let bytes = next.bytes();
            match random(16) {
                0 => pause(THINK_LONG),
                _ => pause(THINK),
            }
            self.park_if_asked(*number);

            let asked = now();
            if !guard.is_held() {
                return false;
            }
            counter.write(&bytes);
            let written = now();

            about["asked"] = asked.into();
            about["written"] = written.into();
            self.note("wrote", about);
        }
        true
    }

    /// Stops this process, if that is wished, until the test lets it go on: right before it asks, with nothing
    /// of its own under way but, perhaps, the renewal.
    fn park_if_asked(&self, disk: usize) {
        if self.control.wish() != Wish::Park || self.last_trouble.elapsed() < CALM {
            return;
        }
        let begun = now();
        self.note("parks", json!({"disk": disk, "host": self.host_id}));
        self.say(State::Parked, disk);
        kill_process(getpid(), Signal::STOP).unwrap();
        // Another thread may be the one that takes the signal, and this one run on for a little.
        while self.control.wish() == Wish::Park {
            std::hint::spin_loop();
        }
        let gap = Duration::from_nanos(now() - begun);
        self.control.want(Wish::None);
        self.note(
            "unparked",
            json!({"disk": disk, "host": self.host_id, "gap_ms": gap.as_millis() as u64}),
        );
    }

    fn trouble(&mut self, what: &str, mut lock: Value, error: &str) {
        self.last_trouble = Instant::now();
        lock["error"] = error.into();
        self.note(what, lock);
    }
}

fn pause(up_to_millis: u64) {
    thread::sleep(Duration::from_micros(random(up_to_millis * 1000)));
}
