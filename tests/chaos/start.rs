//! Starting a machine, as whoever it is to be, and waiting until it has joined.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use disklease::format::{DeltaLeader, HostId};
use disklease::libvirt::LOCKSPACE_NAME;
use serde_json::json;

use super::control::Control;
use super::history::now;
use super::machine::{Body, Identity, Kind, Machine, Next};
use super::peer::PeerGuest;
use super::watchdog::Sectors;
use disklease_fixtures::host_process::process::HostProcess;
use disklease_fixtures::host_process::{IO_TIMEOUT, IO_TIMEOUT_SECS};
use disklease_fixtures::sanlock::{Lockspace, SanlockDaemon};

/// A machine that does not come up within so long beyond the longest wait of a join is broken.
const SLACK: Duration = Duration::from_secs(50);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

impl Machine {
    /// Starts the machine, and waits until it has joined or the run ends. Its guests use `disks`.
    pub(crate) fn start(&self, next: Next, disks: &[usize]) {
        let identity = {
            let mut identity = self.lock_identity();
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
        let renamed_of_8 = match self.place.fire_timeout {
            long if long > Duration::from_secs(10) => 7,
            _ => 2,
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
            "renamed_of_8": renamed_of_8,
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
                // It may not have started yet.
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
        let sector = Sectors::open(&self.place).read(host_id);
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
}
