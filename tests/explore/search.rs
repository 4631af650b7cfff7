//! Visits every state of a world, nearest first.

use std::time::Duration;

use super::hosts::Op;
use super::spec::{History, Limits, Report, Stuck, Violation, WorldSpec};
use super::state::State;
use super::world::{Event, World};

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

/// Explores the world, up to the first violation.
pub fn explore(spec: &WorldSpec, limits: Limits) -> Report {
    let begun = processor_time();
    let (mut world, start) = World::new(spec.clone());
    let mut report = Report {
        world: spec.to_string(),
        ..Report::default()
    };
    let found = visit_all(&mut world, start, limits, &mut report);
    report.complete = found.is_none() && report.complete;
    report.violation = found.map(|(what, events)| History {
        what,
        lines: world.tell(start, &events),
    });
    report.local_states = world.hosts.len();
    report.polls = world.hosts.polls;
    report.compared = world.hosts.compared;
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
    report.complete = true;
    report.states = 1;
    while !level.is_empty() {
        let mut next = Vec::new();
        for (state, number) in level.iter().zip(first_of_level..) {
            world.steps(state, &mut steps);
            report.steps += steps.len();
            report.parked += usize::from(is_any_parked(world, state));
            if is_over(world, state) {
                report.ends += 1;
                let violation = match world.who_is_stuck(state) {
                    Ok(stuck) => {
                        report.stuck[stuck as usize] += 1;
                        Some(Violation::Stuck(stuck)).filter(|_| stuck > world.spec.stuck)
                    }
                    Err(violation) => Some(violation),
                };
                if let Some(violation) = violation {
                    if !world.passes_over(&violation) {
                        return Some((violation, ways.to(number)));
                    }
                    report.passed_over += 1;
                }
            }
            for step in &steps {
                if let Some(violation) = &step.violation {
                    if !world.passes_over(violation) {
                        let mut events = ways.to(number);
                        events.push(step.event);
                        return Some((violation.clone(), events));
                    }
                    report.passed_over += 1;
                }
                if visited.insert(step.to.key()) {
                    ways.from.push(u32::try_from(number).unwrap());
                    ways.by.push(step.event.code());
                    next.push(step.to);
                    report.states += 1;
                }
            }
        }
        if report.states > limits.states {
            report.complete = false;
            return None;
        }
        first_of_level += level.len();
        level = next;
        report.depth += usize::from(!level.is_empty());
    }
    None
}

fn is_any_parked(world: &World, state: &State) -> bool {
    state.hosts[..world.layout.hosts]
        .iter()
        .any(|&node| world.is_parked(node))
}

/// Whether all hosts are at rest, dead or parked, and nothing is in flight.
fn is_over(world: &mut World, state: &State) -> bool {
    state.late.iter().all(Option::is_none)
        && (0..world.layout.hosts).all(|host| match world.hosts.node(state.hosts[host]).op {
            Op::Rest | Op::Dead => true,
            Op::Sleep => !world.wakes(state, host),
            _ => world.is_parked(state.hosts[host]),
        })
}

impl Stuck {
    pub const ALL: [Self; 4] = [Self::Nobody, Self::Some, Self::All, Self::ForGood];
}
