//! Visits every state of a world, nearest first.

use std::time::Duration;

use super::events::Event;
use super::report::{History, Report, Violation};
use super::spec::{Limits, WorldSpec};
use super::state::State;
use super::world::World;
use crate::marks::{MarkCounts, count_marks, take_marks};

/// The keys of the visited states: open addressing, half full at most. 0 is an empty place.
struct Visited {
    places: Vec<u64>,
    used: usize,
}

impl Visited {
    fn new() -> Self {
        Self {
            places: vec![0; 1 << 16],
            used: 0,
        }
    }

    /// Whether it was not there.
    fn insert(&mut self, key: u64) -> bool {
        if self.used * 2 >= self.places.len() {
            let bigger = vec![0; self.places.len() * 2];
            for key in std::mem::replace(&mut self.places, bigger) {
                if key != 0 {
                    let place = self.place_of(key);
                    self.places[place] = key;
                }
            }
        }
        let place = self.place_of(key);
        if self.places[place] == key {
            return false;
        }
        self.places[place] = key;
        self.used += 1;
        true
    }

    fn place_of(&self, key: u64) -> usize {
        let mask = self.places.len() - 1;
        let mut place = key as usize & mask;
        while self.places[place] != 0 && self.places[place] != key {
            place = (place + 1) & mask;
        }
        place
    }
}

/// How each state was first come to: from which, and by what. The first one has no entry.
#[derive(Default)]
struct Ways {
    from: Vec<u32>,
    by: Vec<u8>,
}

impl Ways {
    fn to(&self, mut state: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while state != 0 {
            events.push(Event::of_code(self.by[state - 1]));
            state = self.from[state - 1] as usize;
        }
        events.reverse();
        events
    }
}

/// Explores the world, up to the first violation. All on this thread, so with the rules that are got
/// wrong on it.
pub fn explore(spec: &WorldSpec, limits: Limits) -> Report {
    let begun = processor_time();
    count_marks();
    take_marks();
    let (mut world, start) = World::new(spec.clone());
    let mut report = Report {
        world: spec.to_string(),
        states: 1,
        steps: 0,
        depth: 0,
        parked: 0,
        ends: 0,
        stuck: [0; 4],
        passed_over: 0,
        local_states: 0,
        polls: 0,
        compared: 0,
        marks: MarkCounts::default(),
        complete: false,
        violation: None,
        took: Duration::ZERO,
    };
    let found = visit_all(&mut world, start, limits, &mut report);
    report.marks = take_marks();
    report.local_states = world.hosts.len();
    report.polls = world.hosts.polls;
    report.compared = world.hosts.compared;
    report.violation = found.map(|(what, events)| world.history(what, start, &events));
    report.took = processor_time().saturating_sub(begun);
    report
}

/// What this thread has used.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(used).unwrap()
}

fn visit_all(
    world: &mut World,
    start: State,
    limits: Limits,
    report: &mut Report,
) -> Option<(Violation, Vec<Event>)> {
    let mut visited = Visited::new();
    let mut ways = Ways::default();
    let mut steps = Vec::new();
    visited.insert(start.key());
    let mut level = vec![start];
    let mut first_of_level = 0;
    while !level.is_empty() && report.states <= limits.states {
        let mut next = Vec::new();
        for (state, number) in level.iter().zip(first_of_level..) {
            let is_parked = |&host: &u32| world.is_parked(host);
            let hosts = &state.hosts[..world.layout.hosts];
            report.parked += usize::from(hosts.iter().any(is_parked));
            if let Some(violation) = end(world, state, report)
                && !passed_over(world, &violation, report)
            {
                return Some((violation, ways.to(number)));
            }
            world.steps(state, &mut steps);
            report.steps += steps.len();
            for step in &steps {
                if let Some(violation) = &step.violation
                    && !passed_over(world, violation, report)
                {
                    let mut events = ways.to(number);
                    events.push(step.event);
                    return Some((violation.clone(), events));
                }
                if visited.insert(step.to.key()) {
                    ways.from.push(u32::try_from(number).unwrap());
                    ways.by.push(step.event.code());
                    next.push(step.to);
                    report.states += 1;
                }
            }
        }
        first_of_level += level.len();
        level = next;
        report.depth += usize::from(!level.is_empty());
    }
    report.complete = level.is_empty();
    None
}

/// What is wrong in a state in which all has ended.
fn end(world: &mut World, state: &State, report: &mut Report) -> Option<Violation> {
    if !world.is_over(state) {
        return None;
    }
    report.ends += 1;
    match world.who_is_stuck(state) {
        Ok(stuck) => {
            report.stuck[stuck as usize] += 1;
            (stuck > world.spec.stuck).then_some(Violation::Stuck(stuck))
        }
        Err(violation) => Some(violation),
    }
}

fn passed_over(world: &World, violation: &Violation, report: &mut Report) -> bool {
    let passes = world.passes_over(violation);
    report.passed_over += usize::from(passes);
    passes
}

impl World {
    fn history(&mut self, what: Violation, start: State, events: &[Event]) -> History {
        let (mut lines, last) = self.tell(start, events);
        if self.is_over(&last) {
            self.told = Some(Vec::new());
            // That it comes to the same is known.
            let _ = self.who_is_stuck(&last);
            lines.extend(self.told.take().into_iter().flatten());
        }
        History {
            what,
            steps: events.len(),
            lines,
        }
    }
}
