//! One machine: its own view of the storage, and what runs on it: a process of ours, or a sanlock daemon with its
//! clients.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::control::{Control, State, Wish};
use super::history::now;
use super::peer::PeerGuest;
use super::place::Place;
use super::watchdog::Pulse;
use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Ended, Fate};
use disklease_fixtures::host_process::process::HostProcess;
use disklease_fixtures::sanlock::SanlockDaemon;

/// So many host ids are each machine's own.
const HOST_IDS: u64 = 300;

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
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) host_id: u64,
    pub(super) life: u64,
    /// When that life began, in ns since the boot.
    pub(super) born: u64,
}

pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(super) place: Arc<Place>,
    body: Mutex<Body>,
    identity: Mutex<Identity>,
    pulse: Mutex<Pulse>,
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
                host_id: HOST_IDS * number,
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

    pub(super) fn lock_identity(&self) -> MutexGuard<'_, Identity> {
        lock(&self.identity)
    }

    /// The shared directory as it sees it.
    pub(super) fn directory(&self) -> PathBuf {
        match &self.mount {
            Some(mount) => mount.path().to_owned(),
            None => self.place.shared.clone(),
        }
    }

    pub(super) fn lock_body(&self) -> MutexGuard<'_, Body> {
        lock(&self.body)
    }

    pub(super) fn lock_pulse(&self) -> MutexGuard<'_, Pulse> {
        lock(&self.pulse)
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
        self.lock_identity().born
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
            Body::Peer { life, .. } => Some((*life, self.lock_identity().host_id, State::Idle)),
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
                let mut identity = self.lock_identity();
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
                (states, self.lock_identity().host_id)
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
    let what = match (ended.fate, ended.io.write) {
        (Fate::Done, true) => "landed",
        (Fate::Done, false) => "read late",
        (Fate::Refused, _) => "refused I/O",
        (Fate::Answered, _) => "answered late",
        (Fate::Denied, _) => "done and denied",
    };
    let fields = json!({
        "file": ended.io.file,
        "offset": ended.io.offset,
        "write": ended.io.write,
        "after_ms": ended.after.as_millis() as u64,
    });
    place.history.note(machine, what, fields);
}
