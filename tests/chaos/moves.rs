//! Doing to a machine what its plan says.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::control::{State, Wish};
use super::history::{nothing, now};
use super::machine::{Body, Kind, Machine, Next, send};
use super::peer::PeerGuest;
use super::place::{LOST_AFTER, Stage};
use super::plan::{
    Chance, HELD_ANSWERS, HELD_LOCKSPACE, HELD_WRITES, Long, Move, Part, Plan, When,
};
use disklease_fixtures::fuse_storage::gate::{Fault, Mode};
use disklease_fixtures::host_process::turns::random;

const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long a moment is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is waited for a guest that parks: its next turn with a lease, when all was calm for a while.
const PARK_PATIENCE: Duration = Duration::from_secs(20);
/// How long sanlock takes, at most, to have ended its clients when it goes on after its expiry.
const KILLED_WITHIN: Duration = Duration::from_secs(15);
/// How long processes get to end by themselves.
const END_LIMIT: Duration = Duration::from_secs(8);
/// Beyond its time: what should have ended by then is not waited for.
const SLACK: Duration = Duration::from_secs(4);
/// The watchdog may be kept from its work for so long.
const LATE: Duration = Duration::from_secs(30);

/// A thread's work: starts the machine, moves it, and ends it when the run ends. Counts itself in `at_rest` when it
/// makes no move any more.
pub(crate) fn play(machine: &Machine, plan: &Plan, seed: u64, number: u64, at_rest: &AtomicUsize) {
    let mut chance = Chance::new(seed, number);
    let all: Vec<usize> = (0..machine.place.disks.len()).collect();
    machine.start(Next::SAME, &plan.first_disks);
    for &one in &plan.moves {
        machine.make(one, &plan.later_disks);
    }
    while machine.place.stage() == Stage::Chaos {
        machine.make((plan.then)(&mut chance), &all);
    }
    // Something has not happened yet that has to.
    while machine.place.stage() == Stage::Overtime {
        for &one in &plan.moves {
            machine.make(one, &all);
        }
    }
    at_rest.fetch_add(1, Ordering::AcqRel);
    while !machine.place.is_ending() {
        thread::sleep(LOOK_INTERVAL);
    }
    machine.finish();
}

impl Machine {
    /// Makes one move; afterwards the machine has joined, or the run ends. Incarnations that start use `disks`.
    fn make(&self, one: Move, disks: &[usize]) {
        if self.place.stage() > Stage::Overtime {
            return;
        }
        if !matches!(one, Move::Calm(_)) {
            self.note("move", json!({"move": format!("{one:?}")}));
        }
        let mut next = Next::NEW;
        match one {
            Move::Calm(millis) => {
                self.wait_while(Duration::from_millis(millis), || !self.is_broken());
            }
            Move::Kill {
                when,
                next: as_whom,
            } => {
                next = as_whom;
                self.await_moment(when);
                self.kill("kill");
            }
            Move::KillInWrite {
                lands_after,
                next: as_whom,
            } => {
                next = as_whom;
                self.kill_in_write(Duration::from_millis(lands_after));
            }
            Move::KillClient => self.kill_client(),
            Move::Stop { when, part, long } => self.stop(when, part, long),
            Move::Park { millis } => self.park(Duration::from_millis(millis)),
            Move::LateAnswer { millis } => self.late_answer(Duration::from_millis(millis)),
            Move::Storage { fault, long, lands } => self.storage(fault, long, lands),
        }
        self.revive(next, disks);
    }

    /// Waits for `limit`, or as long as `goes_on`, or until the run ends.
    fn wait_while(&self, limit: Duration, goes_on: impl Fn() -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < limit && goes_on() && !self.place.is_ending() {
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn await_moment(&self, when: When) {
        let state = match when {
            When::Now => None,
            When::At(state) => Some(state),
            When::Keeping => {
                self.want(Wish::Keep);
                let is_kept = || self.states().contains(&State::Holding);
                return self.wait_while(2 * PATIENCE, || !is_kept() && !self.is_down());
            }
        };
        if let Some(state) = state {
            self.wait_while(PATIENCE, || !self.states().contains(&state));
        }
        // Not always its very beginning.
        if random(2) == 0 {
            thread::sleep(Duration::from_micros(random(8000)));
        }
    }

    /// Waits as long as that life runs and `long` says. Gives whether its host has expired meanwhile.
    fn last(&self, life: u64, long: Long) -> bool {
        let lost_after = LOST_AFTER;
        let (past, limit) = match long {
            Long::Millis(millis) => (Duration::MAX, Duration::from_millis(millis)),
            Long::PastExpiry(millis) => {
                let past = lost_after + Duration::from_millis(millis);
                (past, past + SLACK)
            }
            Long::UntilReset => (Duration::MAX, self.place.stopped_by() + SLACK),
        };
        // A process that has noticed may be about to join as another host, which is silent for no time yet.
        let longest = Cell::new(Duration::ZERO);
        self.wait_while(limit, || {
            longest.set(longest.get().max(self.silent_for()));
            self.life() == Some(life) && longest.get() < past
        });
        longest.get() >= lost_after
    }

    fn stop(&self, when: When, part: Part, long: Long) {
        self.keep_if_peer(long);
        self.await_moment(when);
        let Some(life) = self.life() else { return };
        let states = self.states();
        if !self.in_time(life, |body| body.signal(part, Signal::STOP)) {
            return;
        }
        if when == When::Keeping && self.kind != Kind::Peer {
            self.want(Wish::None);
        }
        let begun = self.note(
            "stop",
            json!({"part": format!("{part:?}"), "states": format!("{states:?}")}),
        );
        self.last(life, long);
        let mut silent = Duration::ZERO;
        let goes_on = self.in_time(life, |body| {
            silent = self.silent_for();
            body.signal(part, Signal::CONT);
        });
        let stopped = Duration::from_nanos(now() - begun);
        let fields = json!({
            "part": format!("{part:?}"),
            "stopped_ms": stopped.as_millis() as u64,
            "silent_ms": silent.as_millis() as u64,
        });
        if goes_on {
            self.note("goes on", fields);
        } else {
            self.await_reset(life);
            self.note("stopped to death", fields);
        }
        self.await_end_of_peer(silent >= LOST_AFTER);
    }

    /// A client of sanlock's that holds when its host expires is to be ended by its daemon: it keeps what it gets.
    fn keep_if_peer(&self, long: Long) {
        if self.kind == Kind::Peer && matches!(long, Long::PastExpiry(_)) {
            self.await_moment(When::Keeping);
        }
    }

    fn await_end_of_peer(&self, has_expired: bool) {
        if self.kind == Kind::Peer {
            if has_expired {
                self.await_clients_end();
            }
            self.want(Wish::None);
        }
    }

    /// Too late to go on: the watchdog ends it now.
    fn await_reset(&self, life: u64) {
        self.wait_while(LATE, || {
            let is_joined = self.states().iter().all(|state| state.is_joined());
            self.life() == Some(life) && is_joined
        });
        if self.place.is_ending() {
            self.kill_life(life, "end");
        }
        if self.life() == Some(life) {
            let is_joined = self.states().iter().all(|state| state.is_joined());
            assert!(!is_joined, "{}: the watchdog sleeps", self.name);
            // It has nothing, and the watchdog does not care.
            self.kill_life(life, "not joined");
        }
    }

    fn await_clients_end(&self) {
        self.wait_while(KILLED_WITHIN, || match &mut *self.lock_body() {
            Body::Peer { guests, .. } => !guests.iter_mut().all(PeerGuest::has_ended),
            _ => false,
        });
        let (mut killed, mut left) = (0, 0);
        if let Body::Peer { guests, .. } = &mut *self.lock_body() {
            for guest in guests.iter_mut() {
                killed += usize::from(guest.was_killed());
                left += usize::from(!guest.has_ended());
            }
        }
        self.note("clients ended", json!({"killed": killed, "left": left}));
        // What sanlock left is for the watchdog; and a daemon without its lockspace is of no use.
        if left == 0 {
            self.kill("clients ended");
        }
    }

    fn park(&self, how_long: Duration) {
        let Some(life) = self.life() else { return };
        self.want(Wish::Park);
        let is_parked = || self.states().contains(&State::Parked);
        self.wait_while(PARK_PATIENCE, || !is_parked() && self.life() == Some(life));
        if !is_parked() {
            self.want(Wish::None);
            return;
        }
        self.excuse(true);
        self.wait_while(SLACK, || !self.is_stopped());
        self.wait_while(how_long, || true);
        let went_on = now();
        self.want(Wish::GoOn);
        self.in_time(life, |body| body.signal(Part::All, Signal::CONT));
        self.note(
            "goes on",
            json!({"part": "Parked", "stopped_ms": how_long.as_millis() as u64, "silent_ms": 0}),
        );
        // It finds out that it has lost, or renews.
        self.wait_while(Duration::from_secs(10), || {
            self.states().iter().all(|state| state.is_joined()) && self.renewed_at() < went_on
        });
        self.excuse(false);
    }

    /// Whether the process of ours stands still.
    fn is_stopped(&self) -> bool {
        match &*self.lock_body() {
            Body::Ours { process, .. } => {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid()));
                stat.is_ok_and(|stat| {
                    stat.rsplit(") ")
                        .next()
                        .is_some_and(|it| it.starts_with('T'))
                })
            }
            _ => true,
        }
    }

    fn storage(&self, fault: Fault, long: Long, lands: bool) {
        let Some(life) = self.life() else { return };
        let gate = self.mount().gate();
        self.note(
            "fault",
            json!({"fault": format!("{fault:?}"), "lands": lands}),
        );
        self.keep_if_peer(long);
        gate.set(fault);
        let has_expired = self.last(life, long);
        self.end_fault(life, fault, long, lands, has_expired);
    }

    fn late_answer(&self, after: Duration) {
        self.await_moment(When::Keeping);
        let Some(life) = self.life() else { return };
        let gate = self.mount().gate();
        gate.set(HELD_ANSWERS);
        let is_held = || gate.held_since_before(Instant::now()) > 0;
        self.wait_while(PATIENCE, || !is_held());
        self.note("renewal unanswered", nothing());
        self.wait_while(after, || self.life() == Some(life));
        let long = Long::PastExpiry(1000);
        if self.in_time(life, |_| gate.go_on_into(HELD_LOCKSPACE)) {
            self.note("renewal answered", nothing());
            let has_expired = self.last(life, long);
            if has_expired {
                self.note("last renewal answered late", nothing());
            }
        }
        self.want(Wish::None);
        self.end_fault(life, HELD_LOCKSPACE, long, true, false);
    }

    fn end_fault(&self, life: u64, fault: Fault, long: Long, lands: bool, has_expired: bool) {
        let gate = self.mount().gate();
        if fault.mode != Mode::Hold || !lands && long != Long::UntilReset {
            gate.drop_held();
        } else if long == Long::UntilReset || !self.in_time(life, |_| gate.go_on()) {
            self.wait_while(SLACK, || self.life() == Some(life));
            let what = if self.life() == Some(life) {
                // Its guests had let go, and there was nothing that the storage held of it.
                "fault outlived"
            } else {
                "stalled to death"
            };
            gate.drop_held();
            self.note(what, nothing());
            return;
        }
        self.note("fault ends", json!({"expired": has_expired}));
        self.await_end_of_peer(has_expired);
    }

    fn kill_in_write(&self, lands_after: Duration) {
        let Some(life) = self.life() else { return };
        let gate = self.mount().gate();
        gate.set(HELD_WRITES);
        self.wait_while(PATIENCE, || gate.held_since_before(Instant::now()) == 0);
        if gate.held_since_before(Instant::now()) == 0 {
            gate.go_on();
            return;
        }
        self.strike();
        self.note("struck in a write", nothing());
        self.wait_while(lands_after, || self.life() == Some(life));
        let landed = self.in_time(life, |body| {
            self.note("lands after death", nothing());
            self.bury(body, "kill", true);
        });
        if !landed {
            self.await_reset(life);
        }
    }

    fn kill_client(&self) {
        if let Body::Peer { daemon, guests, .. } = &mut *self.lock_body() {
            let pick = random(guests.len() as u64) as usize;
            let guest = &mut guests[pick];
            let state = guest.state();
            guest.restart(daemon);
            self.note(
                "client killed",
                json!({"disk": guest.disk(), "state": format!("{state:?}")}),
            );
        }
    }

    /// Ends what runs on it, by its own will if it has one.
    pub(super) fn finish(&self) {
        self.want(Wish::End);
        let begun = Instant::now();
        let has_ended = || self.states().iter().all(|state| *state == State::Ended);
        while !has_ended() && begun.elapsed() < END_LIMIT {
            thread::sleep(LOOK_INTERVAL);
        }
        self.kill("end");
    }

    /// Sees to it that the machine has joined.
    fn revive(&self, next: Next, disks: &[usize]) {
        let mut next = next;
        while !self.place.is_ending() {
            if self.is_down() {
                return self.start(next, disks);
            }
            self.await_joined();
            if !self.is_broken() {
                return;
            }
            if !self.is_down() {
                // Its lockspace has failed, for whatever reason.
                self.await_clients_end();
                self.kill("clients ended");
                next = Next::SAME;
            }
        }
    }

    /// Whether something that runs on it has ended by itself, or everything.
    fn is_broken(&self) -> bool {
        match &mut *self.lock_body() {
            Body::Down => true,
            Body::Ours { .. } => false,
            Body::Peer { daemon, guests, .. } => {
                daemon.has_ended() || guests.iter_mut().any(PeerGuest::has_ended)
            }
        }
    }
}

impl Body {
    fn signal(&mut self, part: Part, signal: Signal) {
        match self {
            Self::Down => {}
            Self::Ours { process, .. } => send(process.pid(), signal),
            Self::Peer { daemon, guests, .. } => {
                send(daemon.pid(), signal);
                if part == Part::All {
                    for guest in guests {
                        guest.signal(signal);
                    }
                }
            }
        }
    }
}
