//! One run: machines, chaos, verdict.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::checker::{Rules, violations};
use super::counter::{Counter, Record};
use super::figures::Figures;
use super::history::{self, Event};
use super::holds::Story;
use super::machine::{Kind, Machine};
use super::moves::play;
use super::place::{LOST_AFTER, Place, Stage};
use super::plan::Plan;
use super::watchdog::watch;
use disklease_fixtures::host_process::turns::random;

/// How much longer a run may go on until all has happened that has to.
const OVERTIME: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a move takes at most that is under way, and the way back from it.
const MOVE_LIMIT: Duration = Duration::from_secs(60);
/// When nothing is done to anybody any more, each disk is to be got within this: a death, 8N + F and a margin, of
/// somebody who was last seen a moment ago by somebody who has just joined, and some time to get through.
const AFTERMATH: Duration = Duration::from_secs(40);

pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) fire_timeout: Duration,
    pub(crate) disks: usize,
    pub(crate) plans: Vec<Plan>,
    pub(crate) secs: u64,
    /// Whether it is seen to, after the chaos, that every disk can be had.
    pub(crate) has_aftermath: bool,
    /// The figures that may not be 0.
    pub(crate) musts: &'static [&'static str],
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: not a number: {text}")),
    )
}

impl Run {
    pub(crate) fn play(self) {
        let length = setting("DISKLEASE_CHAOS_SECS").unwrap_or(self.secs);
        let length = Duration::from_secs(length);
        let seed = setting("DISKLEASE_CHAOS_SEED").unwrap_or_else(|| random(u64::MAX));
        println!("{}: DISKLEASE_CHAOS_SEED={seed}", self.name);

        let place = Arc::new(Place::new(self.fire_timeout, self.disks));
        let machines: Vec<Machine> = (self.plans.iter().zip(1..))
            .map(|(plan, number)| Machine::new(&place, number, plan.kind))
            .collect();
        let (end_watch, at_rest) = (&AtomicBool::new(false), &AtomicUsize::new(0));
        let (played, stuck) = thread::scope(|scope| {
            let (place, machines) = (&place, &machines);
            let watching = scope.spawn(move || watch(place, machines, end_watch));
            let players: Vec<_> = (machines.iter().zip(&self.plans).zip(1..))
                .map(|((machine, plan), number)| {
                    let player = thread::Builder::new().name(machine.name.clone());
                    let work = move || play(machine, plan, seed, number, at_rest);
                    player.spawn_scoped(scope, work).unwrap()
                })
                .collect();
            let is_broken =
                || players.iter().any(ScopedJoinHandle::is_finished) || watching.is_finished();
            self.wait(place, machines, length, is_broken);
            let mut stuck = Vec::new();
            if self.has_aftermath && !is_broken() {
                place.enter(Stage::Calm);
                wait_for(MOVE_LIMIT, || {
                    at_rest.load(Ordering::Acquire) == machines.len()
                });
                stuck = stuck_disks(place);
            }
            place.enter(Stage::End);
            let players: Vec<_> = players.into_iter().map(ScopedJoinHandle::join).collect();
            // Of those whose player has panicked.
            machines.iter().for_each(Machine::finish);
            end_watch.store(true, Ordering::Release);
            let watching = watching.join();
            (watching.is_ok() && players.iter().all(Result::is_ok), stuck)
        });
        self.conclude(&place, &machines, played, &stuck, seed);
    }

    /// Until the time has ended and all has happened that has to, or something is broken.
    fn wait(
        &self,
        place: &Place,
        machines: &[Machine],
        length: Duration,
        is_broken: impl Fn() -> bool,
    ) {
        wait_for(length, &is_broken);
        wait_for(OVERTIME, || {
            let events = place.history.read();
            let figures = self.figures(&events, &Story::of(&events), machines);
            let has_all = figures.missing(self.musts).is_empty();
            if !has_all {
                place.enter(Stage::Overtime);
            }
            has_all || is_broken()
        });
    }

    fn rules(&self) -> Rules {
        Rules {
            lost_after: LOST_AFTER,
            stopped_by: LOST_AFTER + self.fire_timeout,
        }
    }

    fn figures(&self, events: &[Event], story: &Story, machines: &[Machine]) -> Figures {
        let (peers, bare) = (named(machines, Kind::Peer), named(machines, Kind::OursBare));
        Figures::of(events, story, &peers, &bare, self.rules())
    }

    fn conclude(
        &self,
        place: &Place,
        machines: &[Machine],
        played: bool,
        stuck: &[usize],
        seed: u64,
    ) {
        let events = place.history.read();
        let story = Story::of(&events);
        let figures = self.figures(&events, &story, machines);
        println!(
            "{}, seed {seed}, {} events:\n{figures}",
            self.name,
            events.len()
        );
        let peers = named(machines, Kind::Peer);
        let found = violations(&events, &story, &counters(place), &peers, self.rules());
        let missing = figures.missing(self.musts);
        println!("{} violations", found.len());
        if played && found.is_empty() && missing.is_empty() && stuck.is_empty() {
            return;
        }
        let around: Vec<u64> = found.iter().take(5).map(|violation| violation.at).collect();
        history::tell(&events, self.name, &around);
        for violation in &found {
            println!("VIOLATION: {}", violation.what);
        }
        println!("never happened: {missing:?}; disks that nobody got in the end: {stuck:?}");
        assert!(
            found.is_empty(),
            "{} violations, see above; seed {seed}",
            found.len()
        );
        assert!(played, "the chaos could not go on, see above; seed {seed}");
        panic!("something did not happen, see above; seed {seed}");
    }
}

fn counters(place: &Place) -> Vec<Record> {
    let disks = place.disks.iter();
    disks
        .map(|disk| Counter::open(&disk.counter).read())
        .collect()
}

/// The disks that nobody gets any more though nothing is done to anybody.
fn stuck_disks(place: &Place) -> Vec<usize> {
    let before = counters(place);
    let stuck = || -> Vec<usize> {
        let now = counters(place);
        (0..before.len())
            .filter(|&disk| now[disk] == before[disk])
            .collect()
    };
    wait_for(AFTERMATH, || stuck().is_empty());
    stuck()
}

fn wait_for(limit: Duration, is_over: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_over() && begun.elapsed() < limit {
        thread::sleep(LOOK_INTERVAL);
    }
}

fn named(machines: &[Machine], kind: Kind) -> HashSet<String> {
    let machines = machines.iter().filter(|machine| machine.kind == kind);
    machines.map(|machine| machine.name.clone()).collect()
}
