//! One machine: its own view of the storage, and what runs on it: a process of ours, or a sanlock daemon with its
//! clients.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use disklease::format::{DeltaLeader, HostId};
use disklease::libvirt::LOCKSPACE_NAME;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::control::{Control, State, Wish};
use super::history::now;
use super::host::process::HostProcess;
use super::host::{IO_TIMEOUT, IO_TIMEOUT_SECS};
use super::kit::{Lockspace, SanlockDaemon};
use super::peer::PeerGuest;
use super::place::Place;
use super::storage::Mount;
use super::storage::gate::Ended;
use super::watchdog::Pulse;

/// A machine that does not come up within so long beyond the longest wait of a join is broken.
const SLACK: Duration = Duration::from_secs(50);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A process of ours.
    Ours,
    /// A process of ours on the storage itself. Nothing can be wrong with that, but a join after a kill can be
    /// quick there: no I/O outlives a process.
    OursBare,
    /// A sanlock daemon and a client for each disk.
    Peer,
}

/// As whom a machine comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) new_name: bool,
    pub(crate) new_id: bool,
}

impl Next {
    pub(crate) const SAME: Self = Self::of(false, false);
    pub(crate) const NEW: Self = Self::of(true, true);
    /// Waits for the death of what was there before.
    pub(crate) const RENAMED: Self = Self::of(true, false);

    const fn of(new_name: bool, new_id: bool) -> Self {
        Self { new_name, new_id }
    }
}

/// What lives on a machine now.
pub(super) enum Body {
    Down,
    Ours {
        process: HostProcess,
        control: Control,
        life: u64,
    },
    Peer {
        daemon: SanlockDaemon,
        guests: Vec<PeerGuest>,
        life: u64,
    },
}

impl Body {
    pub(super) const fn life(&self) -> Option<u64> {
        match self {
            Self::Down => None,
            Self::Ours { life, .. } | Self::Peer { life, .. } => Some(*life),
        }
    }
}

/// Who a machine is on the disk, by its own account.
#[derive(Clone, Debug)]
struct Identity {
    name: String,
    host_id: u64,
    life: u64,
    /// When that life began, in ns since the boot.
    born: u64,
}

pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(super) place: Arc<Place>,
    pub(super) body: Mutex<Body>,
    identity: Mutex<Identity>,
    pub(super) pulse: Mutex<Pulse>,
    // After the body: who uses a mount goes first.
    mount: Option<Mount>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(crate) fn new(place: &Arc<Place>, number: u64, kind: Kind) -> Self {
        let name = format!("m{number}");
        let mount = (kind != Kind::OursBare).then(|| {
            let (place, name) = (Arc::clone(place), name.clone());
            Mount::new(
                &Arc::clone(&place).shared,
                &place.mount_point(&name),
                move |ended| tell_of(&place, &name, ended),
            )
        });
        Self {
            identity: Mutex::new(Identity {
                name: name.clone(),
                host_id: 100 * number,
                life: 0,
                born: 0,
            }),
            name,
            kind,
            place: Arc::clone(place),
            body: Mutex::new(Body::Down),
            pulse: Mutex::default(),
            mount,
        }
    }

    pub(crate) fn note(&self, what: &str, fields: Value) -> u64 {
        self.place.history.note(&self.name, what, fields)
    }

    pub(crate) fn mount(&self) -> &Mount {
        self.mount.as_ref().expect("a machine with a mount")
    }

    pub(super) fn lock_body(&self) -> MutexGuard<'_, Body> {
        lock(&self.body)
    }

    pub(super) fn lock_pulse(&self) -> MutexGuard<'_, Pulse> {
        lock(&self.pulse)
    }

    /// Starts the machine, and waits until it has joined or the run ends. Its guests use `disks`.
    pub(crate) fn start(&self, next: Next, disks: &[usize]) {
        let identity = {
            let mut identity = lock(&self.identity);
            identity.life += 1;
            identity.born = now();
            if next.new_id {
                identity.host_id += 1;
            }
            if next.new_name {
                identity.name = format!("{}.{}", self.name, identity.life);
            }
            identity.clone()
        };
        self.note(
            "starts",
            json!({"name": identity.name, "host": identity.host_id, "life": identity.life}),
        );
        match self.kind {
            Kind::Ours | Kind::OursBare => self.start_ours(&identity, disks),
            Kind::Peer => self.start_peer(&identity, disks),
        }
        self.await_joined();
    }

    fn directory(&self) -> PathBuf {
        match &self.mount {
            Some(mount) => mount.path().to_owned(),
            None => self.place.shared.clone(),
        }
    }

    fn words(&self, life: u64, what: &str) -> PathBuf {
        self.place.local(&format!("{}.{life}.{what}", self.name))
    }

    fn start_ours(&self, identity: &Identity, disks: &[usize]) {
        let path = self.words(identity.life, "words");
        let control = Control::create(&path, identity.host_id);
        let disks = disks.iter().map(|&number| {
            let disk = &self.place.disks[number];
            json!({"number": number, "path": disk.path, "counter": disk.counter})
        });
        // To wait for the own death takes a minute and more beside sanlock.
        let renamed_of_4 = match self.place.fire_timeout {
            long if long > Duration::from_secs(10) => 3,
            _ => 1,
        };
        let command = json!({
            "do": "chaos",
            "machine": self.name,
            "life": identity.life,
            "directory": self.directory(),
            "runtime": self.place.local(&self.name),
            "host_name": identity.name,
            "host_id": identity.host_id,
            "fire_timeout": self.place.fire_timeout.as_secs(),
            "renamed_of_4": renamed_of_4,
            "disks": disks.collect::<Vec<_>>(),
            "control": path,
            "history": self.place.history.path(),
        });
        let mut process = HostProcess::start(&identity.name);
        process.tell(&command);
        *self.lock_body() = Body::Ours {
            process,
            control,
            life: identity.life,
        };
    }

    fn start_peer(&self, identity: &Identity, disks: &[usize]) {
        let daemon = SanlockDaemon::start(&identity.name);
        let lockspace = Lockspace::new(LOCKSPACE_NAME, self.directory().join(LOCKSPACE_NAME));
        let host_id = identity.host_id;
        let joining = daemon.start_add_lockspace(&lockspace, host_id, IO_TIMEOUT_SECS);
        let begun = Instant::now();
        loop {
            if self.place.is_ending() {
                return;
            }
            match daemon.inq_lockspace(&lockspace, host_id) {
                Ok(()) => break,
                Err(-115) => {}
                // It may not have begun yet.
                Err(_) if begun.elapsed() < Duration::from_secs(2) => {}
                Err(number) => panic!("{} does not join: {number}: {}", self.name, daemon.log()),
            }
            assert!(
                begun.elapsed() < self.join_limit(),
                "{}: {}",
                self.name,
                daemon.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        drop(joining);
        let leader = self.read_sector(host_id).expect("its own sector");
        let generation = leader.generation().get();
        self.note(
            "joined",
            json!({"host": host_id, "generation": generation, "name": identity.name, "life": identity.life}),
        );
        let guests = disks.iter().map(|&number| {
            let words = self.words(identity.life, &format!("{number}.words"));
            let orders = json!({
                "machine": self.name,
                "life": identity.life,
                "host": host_id,
                "generation": generation,
                "disk": number,
                "lockspace": LOCKSPACE_NAME,
                "resource": self.place.disks[number].lease.to_string(),
                "path": self.directory().join(self.place.disks[number].lease.to_string()),
                "lease": self.place.shared.join(self.place.disks[number].lease.to_string()),
                "counter": self.place.disks[number].counter,
                "control": words,
                "history": self.place.history.path(),
            });
            PeerGuest::start(&daemon, orders, &words)
        });
        let guests = guests.collect();
        *self.lock_body() = Body::Peer {
            daemon,
            guests,
            life: identity.life,
        };
    }

    /// The record of a host, from behind all mounts.
    fn read_sector(&self, host_id: u64) -> Option<DeltaLeader> {
        let id = HostId::new(host_id).ok()?;
        let sector = super::watchdog::Sectors::open(&self.place).read(host_id);
        DeltaLeader::decode(&sector, id).ok()
    }

    /// 8N + F and a margin until an id is free, and two times 2N to be confirmed.
    fn join_limit(&self) -> Duration {
        self.place.stopped_by() + 6 * IO_TIMEOUT + SLACK
    }

    /// Waits until the machine holds a host id, or is down, or the run ends.
    pub(crate) fn await_joined(&self) {
        let begun = Instant::now();
        while !self.place.is_ending() {
            match &mut *self.lock_body() {
                Body::Down | Body::Peer { .. } => return,
                Body::Ours {
                    process, control, ..
                } => {
                    assert!(!process.has_ended(), "{} has ended by itself", self.name);
                    if control.state().0.is_joined() {
                        return;
                    }
                }
            }
            let waited = begun.elapsed();
            assert!(
                waited < self.join_limit(),
                "{} did not join within {waited:?}",
                self.name
            );
            thread::sleep(LOOK_INTERVAL);
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(*self.lock_body(), Body::Down)
    }

    /// The life that runs now.
    pub(crate) fn life(&self) -> Option<u64> {
        self.lock_body().life()
    }

    /// When the life that runs, or ran last, began.
    pub(super) fn born(&self) -> u64 {
        lock(&self.identity).born
    }

    /// What its guests are at.
    pub(crate) fn states(&self) -> Vec<State> {
        match &*self.lock_body() {
            Body::Down => Vec::new(),
            Body::Ours { control, .. } => vec![control.state().0],
            Body::Peer { guests, .. } => guests.iter().map(PeerGuest::state).collect(),
        }
    }

    /// The life that runs, its host id, and where it is.
    pub(super) fn membership(&self) -> Option<(u64, u64, State)> {
        match &*self.lock_body() {
            Body::Down => None,
            Body::Ours { control, life, .. } => {
                let (state, host_id) = control.state();
                Some((*life, host_id, state))
            }
            Body::Peer { life, .. } => Some((*life, lock(&self.identity).host_id, State::Idle)),
        }
    }

    /// Wishes something of the process of ours.
    pub(crate) fn want(&self, wish: Wish) {
        match &*self.lock_body() {
            Body::Down => {}
            Body::Ours { control, .. } => control.want(wish),
            Body::Peer { guests, .. } => guests.iter().for_each(|guest| guest.want(wish)),
        }
    }

    /// Kills all that runs on it, as a crash or a watchdog would; `how` says which. What the storage holds of it
    /// is never done. Gives what its guests were at.
    pub(crate) fn kill(&self, how: &str) -> Vec<State> {
        let mut body = self.lock_body();
        self.kill_body(&mut body, how)
    }

    /// The same, if that life runs still.
    pub(super) fn kill_life(&self, life: u64, how: &str) {
        let mut body = self.lock_body();
        if body.life() == Some(life) {
            self.kill_body(&mut body, how);
        }
    }

    fn kill_body(&self, body: &mut Body, how: &str) -> Vec<State> {
        match body {
            Body::Down => return Vec::new(),
            Body::Ours { process, .. } => send(process.pid(), Signal::KILL),
            // The daemon first: it must not release what the clients have.
            Body::Peer { daemon, guests, .. } => {
                if !daemon.has_ended() {
                    send(daemon.pid(), Signal::KILL);
                }
                for guest in guests {
                    if guest.has_ended() {
                        self.note("client ended", json!({"disk": guest.disk()}));
                    }
                    guest.signal(Signal::KILL);
                }
            }
        }
        self.bury(body, how, false)
    }

    /// Kills the process of ours and leaves to the storage what it holds of it: [`Self::bury`] has to follow.
    pub(crate) fn strike(&self) {
        if let Body::Ours { process, .. } = &*self.lock_body() {
            send(process.pid(), Signal::KILL);
        }
    }

    /// Waits for the end of what was struck. What the storage still holds of it is done first if `lands`, else
    /// never.
    pub(super) fn bury(&self, body: &mut Body, how: &str, lands: bool) -> Vec<State> {
        if let Some(mount) = &self.mount {
            if lands {
                mount.gate().go_on();
            } else {
                mount.gate().drop_held();
            }
        }
        let (states, host_id) = match body {
            Body::Down => return Vec::new(),
            Body::Ours {
                process, control, ..
            } => {
                process.kill9();
                let (state, host_id) = control.state();
                // It may have changed its host id by itself.
                let mut identity = lock(&self.identity);
                if identity.host_id != host_id {
                    identity.host_id = host_id;
                    identity.name = format!("{}.{host_id}", self.name);
                }
                (vec![state], host_id)
            }
            Body::Peer { daemon, guests, .. } => {
                daemon.kill9();
                guests.iter_mut().for_each(PeerGuest::end);
                let states = guests.iter().map(PeerGuest::state).collect();
                (states, lock(&self.identity).host_id)
            }
        };
        let held = states.contains(&State::Holding);
        let silent = Duration::from_nanos(now().saturating_sub(self.lock_pulse().from));
        self.note(
            "dead",
            json!({
                "how": how,
                "host": host_id,
                "holding": held,
                "states": states.iter().map(|state| format!("{state:?}")).collect::<Vec<_>>(),
                "silent_ms": silent.as_millis() as u64,
            }),
        );
        *body = Body::Down;
        states
    }
}

/// To a child that was not waited for.
pub(super) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a child"), signal).expect("a child of ours");
}

/// An I/O of the machine has met a fault.
fn tell_of(place: &Place, machine: &str, ended: &Ended) {
    let what = match (ended.done, ended.io.write) {
        (true, true) => "landed",
        (true, false) => "read late",
        (false, _) => "refused I/O",
    };
    let fields = json!({
        "file": ended.io.file,
        "offset": ended.io.offset,
        "write": ended.io.write,
        "after_ms": ended.after.as_millis() as u64,
    });
    place.history.note(machine, what, fields);
}
