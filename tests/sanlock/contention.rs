//! Many hosts want one lease all the time, and each raises a counter while it has it: no update is lost, no two
//! turns overlap, and everybody gets some.
//!
//! `DISKLEASE_CONTENTION_SECS` says for how long, 60 s if it does not.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use disklease::libvirt::{LOCKSPACE_NAME, lease_name};
use disklease::{
    AcquireError, AcquireErrorKind, DeltaSectorErrorKind, LeaseDirectory, LockManager as _,
    ReleaseErrorKind, WaitLimit,
};
use serde_json::{Value, json};

use disklease_fixtures::host_process::child::{Host, text};
use disklease_fixtures::host_process::process::HostProcess;
use disklease_fixtures::host_process::turns::{Counter, Party, Turn, judge, lease_version, random};
use disklease_fixtures::host_process::{IO_TIMEOUT, IO_TIMEOUT_SECS, disk};
use disklease_fixtures::sanlock::{
    HostState, Lockspace, Resource, SanlockClient, SanlockDaemon, ScratchLease,
};

/// For what waits for no dead host.
const LIMIT: Duration = Duration::from_secs(40);
const DISK: &str = "/var/lib/libvirt/images/demo.img";
/// How many turns everybody gets at least. Neither side promises more than that it is not shut out.
const FEW: usize = 3;
/// Pauses after a turn, and after a refusal: up to that many ms.
const REST: u64 = 30;
const RETRY: u64 = 20;

fn duration() -> Duration {
    let secs = std::env::var("DISKLEASE_CONTENTION_SECS").ok();
    let secs = secs.map_or(60, |secs| secs.parse().expect("a number of seconds"));
    Duration::from_secs(secs)
}

#[test]
fn two_daemons_of_sanlock_and_three_of_us() {
    contend(2, 3);
}

#[test]
fn five_of_us() {
    contend(0, 5);
}

struct Place {
    scratch: ScratchLease,
    leases: LeaseDirectory,
    lockspace: Lockspace,
    resource: Resource,
}

impl Place {
    fn new() -> Self {
        let scratch = ScratchLease::new();
        let leases = LeaseDirectory::new(scratch.path());
        let path = leases.create_lockspace(IO_TIMEOUT).unwrap();
        let lockspace = Lockspace::new(LOCKSPACE_NAME, path);
        let name = lease_name(DISK.as_ref()).to_string();
        let resource = lockspace.resource(&name, leases.lease_path(DISK.as_ref()), 0);
        Self {
            scratch,
            leases,
            lockspace,
            resource,
        }
    }

    fn counter(&self) -> PathBuf {
        self.scratch.path().join("counter")
    }

    fn sanlock(&self, host_id: u64) -> SanlockDaemon {
        let daemon = SanlockDaemon::start(&format!("sanlock{host_id}"));
        let joined = daemon.add_lockspace(&self.lockspace, host_id, IO_TIMEOUT_SECS, LIMIT);
        assert_eq!(joined, Ok(()), "{}", daemon.log());
        daemon
    }

    fn ours(&self, host_id: u64) -> HostProcess {
        let mut host = HostProcess::start(&format!("ours{host_id}"));
        host.join(self.leases.path(), host_id);
        host
    }
}

fn contend(sanlocks: u64, ours: u64) {
    let place = Place::new();
    let counter = Counter::create(&place.counter());
    let (daemons, mut hosts) = thread::scope(|scope| {
        let place = &place;
        let daemons: Vec<_> = (1..=sanlocks)
            .map(|id| scope.spawn(move || place.sanlock(id)))
            .collect();
        let hosts: Vec<_> = (1..=ours)
            .map(|id| scope.spawn(move || place.ours(sanlocks + id)))
            .collect();
        let daemons: Vec<_> = daemons.into_iter().map(|it| it.join().unwrap()).collect();
        let hosts: Vec<_> = hosts.into_iter().map(|it| it.join().unwrap()).collect();
        (daemons, hosts)
    });
    for daemon in &daemons {
        for host_id in 1..=sanlocks + ours {
            daemon.wait_for_host(&place.lockspace, host_id, HostState::Live, LIMIT);
        }
    }
    // The lease file is there before sanlock looks for it.
    let made = hosts[0].ask(&json!({"do": "make", "disk": DISK}), LIMIT);
    assert_eq!(made, Ok(Value::Null));

    let length = duration();
    let parties = thread::scope(|scope| {
        let clients: Vec<_> = daemons
            .iter()
            .zip(1..)
            .map(|(daemon, id)| {
                let (resource, counter) = (&place.resource, &counter);
                scope.spawn(move || sanlock_turns(daemon, id, resource, counter, length))
            })
            .collect();
        let command = json!({"do": "contend", "disk": DISK, "counter": place.counter(), "secs": length.as_secs()});
        for host in &mut hosts {
            host.tell(&command);
        }
        let mut parties: Vec<Party> = Vec::new();
        for (host, id) in hosts.iter().zip(sanlocks + 1..) {
            let answer = host.answer(length + LIMIT);
            let answer = answer.unwrap_or_else(|error| panic!("host {id} of ours: {error}"));
            parties.push(party_of(&format!("ours{id}"), &answer));
        }
        parties.extend(clients.into_iter().map(|client| client.join().unwrap()));
        parties
    });

    for party in &parties {
        let (name, turns) = (&party.name, party.turns.len());
        println!(
            "{name}: {turns} turns in {length:?}, refusals {:?}",
            party.refusals
        );
    }
    judge(&parties, counter.read());
    for party in &parties {
        assert!(party.turns.len() >= FEW, "{} was shut out", party.name);
    }
}

/// The turns of a process that acquires through a daemon of sanlock's.
fn sanlock_turns(
    daemon: &SanlockDaemon,
    id: u64,
    resource: &Resource,
    counter: &Counter,
    length: Duration,
) -> Party {
    let mut client = SanlockClient::register(daemon);
    let mut party = Party::new(&format!("sanlock{id}"));
    let begun = Instant::now();
    while begun.elapsed() < length {
        match client.acquire(resource, LIMIT) {
            Ok(()) => {
                let turn = Turn::take(counter, || lease_version(&resource.path), || true);
                party.turns.extend(turn);
                let released = client.release(resource);
                assert_eq!(released, Ok(()), "{}", daemon.log());
                pause(REST);
            }
            // Its own numbers: somebody else holds it, or was quicker.
            Err(number @ -299..=-200) => {
                party.refused(&number.to_string());
                pause(RETRY);
            }
            Err(number) => panic!("sanlock {id}: acquire gives {number}: {}", daemon.log()),
        }
    }
    party
}

fn pause(up_to_millis: u64) {
    thread::sleep(Duration::from_micros(random(up_to_millis * 1000)));
}

/// The turns of a host of ours, in its process: by chance it waits, or asks again and again.
fn our_turns(host: &Host, command: &Value) -> Result<Party, String> {
    let counter = Counter::open(Path::new(text(command, "counter")));
    let length = Duration::from_secs(command["secs"].as_u64().unwrap());
    let mut party = Party::new("");
    let begun = Instant::now();
    while begun.elapsed() < length {
        let wait = match random(2) {
            0 => WaitLimit::Try,
            _ => WaitLimit::For(Duration::from_secs(2)),
        };
        match host
            .manager()
            .acquire(disk(text(command, "disk")).wait(wait))
        {
            Ok(guard) => {
                let version = guard.locks().next().unwrap().version.unwrap();
                let turn = Turn::take(&counter, || version.get(), || guard.is_held());
                let turn =
                    turn.ok_or_else(|| format!("lost before a write: {:?}", guard.loss()))?;
                party.turns.push(turn);
                match guard.release() {
                    Ok(()) => {}
                    // The same machine: it is tried again, and nobody gets the lease before.
                    Err(error) if matches!(error.kind(), ReleaseErrorKind::Lease(_)) => {
                        party.refused("release not written");
                    }
                    Err(error) => return Err(format!("release: {error}")),
                }
                pause(REST);
            }
            Err(error) => {
                party.refused(kind(&error)?);
                pause(RETRY);
            }
        }
    }
    Ok(party)
}

/// What sort of refusal it is, if it is one.
fn kind(error: &AcquireError) -> Result<&'static str, String> {
    match error.kind() {
        AcquireErrorKind::Held(_) => Ok("held"),
        AcquireErrorKind::Contended { .. } => Ok("contended"),
        AcquireErrorKind::CleanupPending => Ok("cleanup pending"),
        // A machine that stands still for a second: nothing was locked.
        AcquireErrorKind::Lease(_) => Ok("lease not read or written"),
        AcquireErrorKind::OwnerUnreadable { error, .. }
            if matches!(error.kind(), DeltaSectorErrorKind::Read(_)) =>
        {
            Ok("owner not read")
        }
        _ => Err(format!("acquire: {error}")),
    }
}

fn party_of(name: &str, answer: &Value) -> Party {
    let mut party = Party::new(name);
    party.turns = answer["turns"]
        .as_array()
        .unwrap()
        .iter()
        .map(Turn::from_json)
        .collect();
    for refusal in answer["refusals"].as_array().unwrap() {
        let kind = refusal[0].as_str().unwrap().to_owned();
        party.refusals.push((kind, refusal[1].as_u64().unwrap()));
    }
    party
}

/// One turn of each of two parties. The first holds the lease from 10 to 20.
fn two_turns(version: u64, found: u64, from: u64) -> [Party; 2] {
    let mut parties = ["one", "two"].map(Party::new);
    let turn = |version, found, from| Turn {
        version,
        found,
        from,
        to: from + 10,
    };
    parties[0].turns.push(turn(1, 0, 10));
    parties[1].turns.push(turn(version, found, from));
    parties
}

#[test]
fn the_judge_passes_turns_one_after_the_other() {
    judge(&two_turns(2, 1, 30), 2);
}

#[test]
#[should_panic(expected = "two turns are not one after the other")]
fn the_judge_sees_an_update_that_was_lost() {
    judge(&two_turns(2, 0, 30), 1);
}

#[test]
#[should_panic(expected = "two turns are not one after the other")]
fn the_judge_sees_two_owners_at_a_time() {
    judge(&two_turns(2, 1, 19), 2);
}

#[test]
#[should_panic(expected = "two turns are not one after the other")]
fn the_judge_sees_one_version_with_two_owners() {
    judge(&two_turns(1, 1, 30), 2);
}

#[test]
#[should_panic(expected = "updates were lost")]
fn the_judge_sees_a_counter_that_misses_the_last_turn() {
    judge(&two_turns(2, 1, 30), 1);
}

/// In the process of a host: makes the lease of the disk.
pub(crate) fn make_lease(host: &Host, command: &Value) -> Result<Value, String> {
    let guard = host.manager().acquire(disk(text(command, "disk")));
    let released = guard.map_err(|error| error.to_string())?.release();
    released.map_err(|error| error.to_string())?;
    Ok(Value::Null)
}

/// In the process of a host: takes turns for as long as `command` says, and tells them.
pub(crate) fn contend_as_told(host: &Host, command: &Value) -> Result<Value, String> {
    let party = our_turns(host, command)?;
    let turns: Vec<_> = party.turns.iter().map(Turn::to_json).collect();
    Ok(json!({"turns": turns, "refusals": party.refusals}))
}
