//! One side of a hand-over, in a process of its own; and the test's handle to it.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use disklease::{
    Accepted, HandedOver, HandoverAnswer, HandoverError, HandoverOutcome, HandoverToken, LockGuard,
    LockManager as _, Offer, SuspendedLocks, WaitLimit,
};
use serde_json::{Value, json};

use disklease_fixtures::host_process::child::{self, Host, text};
use disklease_fixtures::host_process::process::HostProcess;
use disklease_fixtures::host_process::{IO_TIMEOUT, disk};
use disklease_fixtures::sanlock::ScratchLease;

/// The guest's disk.
pub(crate) const DISK: &str = "/srv/guest.img";
/// For what waits for nobody that is dead.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);
/// How long the target waits for the source.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a process has of its guest.
#[derive(Default)]
struct Guest {
    guard: Option<LockGuard>,
    offer: Option<Offer>,
    handed_over: Option<HandedOver>,
    accepted: Option<Accepted>,
}

impl Guest {
    fn holder(&self) -> Option<&LockGuard> {
        self.guard
            .as_ref()
            .or_else(|| self.offer.as_ref().map(Offer::guard))
    }
}

pub(crate) fn serve() {
    let guest = RefCell::new(Guest::default());
    child::serve(|host, command| guest.borrow_mut().run(host, command));
}

fn bytes_of(command: &Value, key: &str) -> Vec<u8> {
    let numbers = command[key].as_array().unwrap();
    let byte = |number: &Value| u8::try_from(number.as_u64().unwrap()).unwrap();
    numbers.iter().map(byte).collect()
}

impl Guest {
    fn run(&mut self, host: &mut Host, command: &Value) -> Result<Value, String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        match text(command, "do") {
            "start" => {
                let guard = host.manager().acquire(disk(DISK));
                let guard = guard.map_err(|error| told(&error))?;
                let version = version_of(&guard);
                self.guard = Some(guard);
                Ok(version)
            }
            "start other" => {
                let guard = host.manager().acquire(disk("/srv/other.img"));
                let guard = guard.map_err(|error| told(&error))?;
                let version = version_of(&guard);
                self.guard = Some(guard);
                Ok(version)
            }
            "is member" => Ok(host.manager().lockspace().is_held().into()),
            "runs" => Ok(self.holder().is_some_and(LockGuard::is_held).into()),
            "offer" => {
                let offer = self.guard.take().unwrap().offer();
                let offer = offer.map_err(|error| told(&error))?;
                let token = offer.token().to_bytes();
                assert!(token.len() < 256);
                self.offer = Some(offer);
                Ok(token.into())
            }
            "cancel" => {
                self.guard = Some(self.offer.take().unwrap().cancel());
                Ok(Value::Null)
            }
            "hand over" => self.hand_over(command["flush"].as_str()),
            "reclaim" => {
                let handed_over = self.handed_over.as_ref().unwrap();
                let guard = handed_over.reclaim(host.manager(), disk(DISK));
                let guard = guard.map_err(|error| told(&error))?;
                let version = version_of(&guard);
                self.guard = Some(guard);
                Ok(version)
            }
            "confirm" => {
                let answer = HandoverAnswer::from_bytes(&bytes_of(command, "answer"));
                let answer = answer.map_err(|error| told(&error))?;
                let verdict = self.handed_over.as_ref().unwrap().confirm(&answer);
                match verdict.map_err(|error| told(&error))? {
                    HandoverOutcome::Started => Ok("started".into()),
                    HandoverOutcome::Declined => Ok("declined".into()),
                }
            }
            "accept" => {
                let token = HandoverToken::from_bytes(&bytes_of(command, "token"));
                let token = token.map_err(|error| told(&error))?;
                let patience = command["millis"].as_u64().map(Duration::from_millis);
                let wait = WaitLimit::For(patience.unwrap_or(PATIENCE));
                let accepted = host.manager().accept(&token, disk(DISK).wait(wait));
                self.accepted = Some(accepted.map_err(|error| told(&error))?);
                Ok(Value::Null)
            }
            "start accepted" => {
                let started = self.accepted.take().unwrap().start();
                let (guard, answer) = started.ok_or("lost")?;
                self.guard = Some(guard);
                Ok(answer.to_bytes().into())
            }
            "decline" => {
                let answer = self.accepted.take().unwrap().decline();
                Ok(answer.map_err(|error| told(&error))?.to_bytes().into())
            }
            "drop accepted" => {
                drop(self.accepted.take());
                Ok(Value::Null)
            }
            "release" => {
                let released = self.guard.take().unwrap().release();
                released.map_err(|error| told(&error))?;
                Ok(Value::Null)
            }
            "suspend" => {
                let state = self.guard.take().unwrap().suspend();
                Ok(state.map_err(|error| told(&error))?.to_string().into())
            }
            "resume" => {
                let state: SuspendedLocks = text(command, "state").parse().unwrap();
                let guard = host.manager().resume(&state, disk(DISK));
                let guard = guard.map_err(|error| told(&error))?;
                let version = version_of(&guard);
                self.guard = Some(guard);
                Ok(version)
            }
            "leave" => {
                let left = host.manager.take().unwrap().lockspace().clone().leave();
                left.map_err(|error| told(&error))?;
                Ok(Value::Null)
            }
            other => Err(format!("not a command: {other}")),
        }
    }

    fn hand_over(&mut self, flush: Option<&str>) -> Result<Value, String> {
        let offer = self.offer.take().unwrap();
        let ended = offer.hand_over(|| match flush {
            None => Ok(()),
            Some("dies") => std::process::abort(),
            Some(error) => Err(error.to_owned()),
        });
        match ended {
            Ok(handed_over) => {
                assert_eq!(handed_over.not_written(), None);
                self.handed_over = Some(handed_over);
                Ok(Value::Null)
            }
            Err(error) => {
                let text = error.to_string();
                if let HandoverError::Flush { offer, .. } = error {
                    self.offer = Some(offer);
                }
                Err(text)
            }
        }
    }
}

fn version_of(guard: &LockGuard) -> Value {
    guard.locks().next().unwrap().version.unwrap().get().into()
}

/// Where the hosts of one test meet.
pub(crate) struct Place(pub(crate) ScratchLease);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(ScratchLease::new());
        disklease::LeaseDirectory::new(place.path())
            .create_lockspace(IO_TIMEOUT)
            .unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Hosts 1 to N.
    pub(crate) fn hosts<const N: usize>(&self) -> [Party; N] {
        std::thread::scope(|scope| {
            let joins: Vec<_> = (1..=u64::try_from(N).unwrap())
                .map(|id| scope.spawn(move || self.host(id)))
                .collect();
            let joined: Vec<_> = joins.into_iter().map(|join| join.join().unwrap()).collect();
            joined.try_into().ok().unwrap()
        })
    }

    pub(crate) fn host(&self, id: u64) -> Party {
        let mut process = HostProcess::start(&format!("ours{id}"));
        process.join(self.path(), id);
        Party(process)
    }
}

/// A process with a guest.
pub(crate) struct Party(pub(crate) HostProcess);

impl Party {
    pub(crate) fn ask(&mut self, what: &str, more: Value) -> Result<Value, String> {
        self.tell(what, more);
        self.0.answer(LIMIT)
    }

    pub(crate) fn tell(&mut self, what: &str, mut more: Value) {
        more["do"] = what.into();
        self.0.tell(&more);
    }

    pub(crate) fn ok(&mut self, what: &str) -> Value {
        let answer = self.ask(what, json!({}));
        answer.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.ok("runs") == true
    }

    /// Takes the lease, and offers it.
    pub(crate) fn start_and_offer(&mut self) -> Value {
        assert_eq!(self.ok("start"), 1);
        self.ok("offer")
    }

    pub(crate) fn accept(&mut self, token: &Value) -> Result<Value, String> {
        self.ask("accept", json!({"token": token}))
    }
}
