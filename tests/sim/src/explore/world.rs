//! What can happen next in a world.

use super::contents::Rows;
use super::events::{Act, Event, Step};
use super::hosts::{Hosts, Input, Lost, NodeId, Op};
use super::layout::{HOSTS_MAX, Layout, SLOTS_MAX};
use super::report::Violation;
use super::spec::WorldSpec;
use super::state::{LATE_MAX, Late, State};
use super::work::{Manner, Root, Work};

/// Answers that wait for their host, as [`State::answered`] has them. The row of a read is in
/// [`State::seen`].
const ANSWERS: [Input; 6] = [
    Input::Read(Rows::EMPTY),
    Input::ReadFailed,
    Input::Written,
    Input::WriteFailed,
    Input::WriteTimedOut,
    Input::WriteNotBegun,
];

pub struct World {
    pub spec: WorldSpec,
    pub layout: Layout,
    pub hosts: Hosts,
    /// What hosts that run alone do is written here, if anybody listens.
    pub told: Option<Vec<String>>,
}

impl World {
    pub fn new(spec: WorldSpec) -> (Self, State) {
        let layout = Layout {
            hosts: spec.acquires.len(),
            twin: spec.twin,
        };
        assert!(layout.hosts <= HOSTS_MAX && usize::from(spec.late) <= LATE_MAX);
        // These use the same place in a state.
        assert!(!spec.patient || !spec.torn && spec.late == 0);
        // Only one of twins renews: nobody can be seen to be dead.
        let faults = [spec.deaths, spec.rejoins, spec.late, spec.failures];
        assert!(!spec.twin || !spec.patient && faults == [0; 4]);
        let manner = Manner {
            pending: spec.pending,
            patient: spec.patient,
            twin: spec.twin,
        };
        let (mut hosts, joined, members) = Hosts::new(layout, manner);
        let mut sectors = [0; SLOTS_MAX];
        sectors[..joined.len()].copy_from_slice(&joined);
        let mut nodes = [0; HOSTS_MAX];
        for (host, &member) in members.iter().enumerate() {
            let now = hosts.members.get(member).now;
            nodes[host] = hosts.begin(&Root::first(host, member, now, spec.acquires[host]));
        }
        let state = State {
            sectors,
            hosts: nodes,
            seen: [Rows::EMPTY; HOSTS_MAX],
            answered: [0; HOSTS_MAX],
            late: [None; LATE_MAX],
            deaths: spec.deaths,
            stalls: spec.stalls,
            rejoins: spec.rejoins,
            late_left: spec.late,
            failures: spec.failures,
            dead: 0,
            newest_held: 0,
        };
        let world = Self {
            spec,
            layout,
            hosts,
            told: None,
        };
        (world, state)
    }

    /// Whether a host would have to begin one ballot too many to go on.
    pub fn is_parked(&self, node: NodeId) -> bool {
        let node = self.hosts.node(node);
        let is_next = matches!(node.op, Op::Write { .. }) && node.lost == Lost::Not;
        node.ballots > self.spec.ballots && is_next
    }

    /// Whether a host that sleeps while it watches an owner would see anything new. If not, it
    /// would only go to sleep again.
    pub fn wakes(&mut self, state: &State, host: usize) -> bool {
        self.all_sectors(state) != state.seen[host]
    }

    fn all_sectors(&mut self, state: &State) -> u32 {
        self.hosts.rows.id_of(&state.sectors[..self.layout.slots()])
    }

    /// Whether all hosts are at rest, dead, asleep for good or parked, and nothing is in flight.
    pub fn is_over(&mut self, state: &State) -> bool {
        state.late.iter().all(Option::is_none)
            && (0..self.layout.hosts).all(|host| match self.hosts.node(state.hosts[host]).op {
                Op::Rest | Op::Dead => true,
                Op::Sleep => !self.wakes(state, host),
                _ => self.is_parked(state.hosts[host]) || self.waits_for_twin(state, host),
            })
    }

    /// All that can happen in `state`.
    pub fn steps(&mut self, state: &State, steps: &mut Vec<Step>) {
        steps.clear();
        if let Some(host) = self.reads_what_nobody_writes(state) {
            self.go(state, host, steps);
            return;
        }
        for host in 0..self.layout.hosts {
            self.go(state, host, steps);
            self.fail(state, host, steps);
            self.live_and_die(state, host, steps);
        }
        for number in 0..LATE_MAX {
            self.end_late(state, number, steps);
        }
    }

    /// A host whose next step makes no difference to any other step, now or later, and no other step
    /// to it: it reads a delta sector, and those change no more. Then all else can as well happen
    /// afterwards, and is not followed up here.
    fn reads_what_nobody_writes(&self, state: &State) -> Option<usize> {
        if state.deaths + state.stalls + state.rejoins + state.failures != 0 {
            return None;
        }
        (0..self.layout.hosts).find(|&host| {
            let op = self.hosts.node(state.hosts[host]).op;
            let deltas = self.layout.deltas().start;
            state.answered[host] == 0 && matches!(op, Op::Read { first, .. } if first >= deltas)
        })
    }

    /// Whether a host would begin an acquire in the middle of one of its twin.
    fn waits_for_twin(&self, state: &State, host: usize) -> bool {
        let acquires = |host: usize, begun: bool| {
            let node = self.hosts.node(state.hosts[host]);
            let works = matches!(self.hosts.root_of(state.hosts[host]).work, Work::Acquire);
            works && begun == (node.length > 0) && node.lost == Lost::Not
        };
        let twin = self.layout.twin_of(host);
        twin.is_some_and(|twin| acquires(twin, true) && acquires(host, false))
    }

    /// What a host waits for happens, if it can.
    fn go(&mut self, state: &State, host: usize, steps: &mut Vec<Step>) {
        let waits = self.is_parked(state.hosts[host]) || self.waits_for_twin(state, host);
        if state.answered[host] != 0 || waits {
            return;
        }
        let mut to = *state;
        let node = *self.hosts.node(state.hosts[host]);
        let input = match node.op {
            Op::Read { first, end } => match self.read(&mut to, host, first..end) {
                Some(row) => Input::Read(row),
                None => {
                    steps.push(Step::quiet(Act::Go.of(host), to));
                    return;
                }
            },
            Op::Write { slot, .. }
                if state.is_in_flight(host, slot) || self.is_too_late(state, host) =>
            {
                self.answer(
                    to,
                    Act::NotStarted.of(host),
                    host,
                    Input::WriteNotBegun,
                    steps,
                );
                return;
            }
            Op::Write { slot, content } => {
                to.sectors[slot] = content;
                Input::Written
            }
            Op::Sleep if self.wakes(state, host) => Input::Woken,
            Op::Begin if state.in_flight(host) == 0 => Input::Begin,
            Op::Sleep | Op::Begin | Op::Rest | Op::Dead => return,
        };
        let from = steps.len();
        self.answer(to, Act::Go.of(host), host, input, steps);
        if node.lost == Lost::BeforeAsked && matches!(node.op, Op::Write { .. }) {
            for step in &mut steps[from..] {
                step.violation = Some(Violation::WrittenThoughLost);
            }
        }
    }

    /// A read of `slots`, as a row. Where sectors are inspected one after another: `None` as long as
    /// it is not at its end.
    fn read(&mut self, to: &mut State, host: usize, slots: std::ops::Range<usize>) -> Option<u32> {
        if !self.spec.torn || slots.len() == 1 {
            return Some(self.hosts.rows.id_of(&to.sectors[slots]));
        }
        let mut row = self.hosts.rows.get(to.seen[host]).to_vec();
        row.push(to.sectors[slots.start + row.len()]);
        let id = self.hosts.rows.id_of(&row);
        let is_over = row.len() == slots.len();
        to.seen[host] = if is_over { Rows::EMPTY } else { id };
        is_over.then_some(id)
    }

    /// What it waits for goes wrong, as long as faults are left.
    fn fail(&mut self, state: &State, host: usize, steps: &mut Vec<Step>) {
        let node = *self.hosts.node(state.hosts[host]);
        let cannot = self.is_parked(state.hosts[host]) || node.lost != Lost::Not;
        if state.answered[host] != 0 || cannot {
            return;
        }
        let mut fewer = *state;
        fewer.failures = state.failures.saturating_sub(1);
        match node.op {
            Op::Read { .. } if state.failures > 0 => {
                fewer.seen[host] = Rows::EMPTY;
                self.answer(
                    fewer,
                    Act::FailRead.of(host),
                    host,
                    Input::ReadFailed,
                    steps,
                );
            }
            Op::Write { slot, content } if !state.is_in_flight(host, slot) => {
                if state.failures > 0 {
                    let failed = Input::WriteFailed;
                    self.answer(fewer, Act::FailUndone.of(host), host, failed, steps);
                    fewer.sectors[slot] = content;
                    self.answer(fewer, Act::FailDone.of(host), host, failed, steps);
                }
                if state.late_left > 0 {
                    let mut to = *state;
                    to.late_left -= 1;
                    to.add_late(Late {
                        host: host as u8,
                        slot: slot as u8,
                        content,
                    });
                    self.answer(to, Act::TimeOut.of(host), host, Input::WriteTimedOut, steps);
                }
            }
            _ => {}
        }
    }

    /// A write in flight ends. Who waited for that goes on.
    fn end_late(&mut self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let Some(late) = state.late[number] else {
            return;
        };
        let host = usize::from(late.host);
        for act in [Act::Land, Act::Vanish] {
            let mut to = *state;
            if act == Act::Land {
                to.sectors[usize::from(late.slot)] = late.content;
            }
            to.late[number] = None;
            to.late.sort_unstable();
            let event = act.of(number);
            let Some(answer) = usize::from(state.answered[host]).checked_sub(1) else {
                steps.push(Step::quiet(event, to));
                continue;
            };
            let input = match ANSWERS[answer] {
                Input::Read(_) => Input::Read(to.seen[host]),
                input => input,
            };
            to.answered[host] = 0;
            to.seen[host] = Rows::EMPTY;
            self.answer(to, event, host, input, steps);
        }
    }

    /// A host learns what came of its step, and goes on. Where it makes a difference to it that
    /// writes of its own are in flight, it may also go on later, when they are not.
    fn answer(
        &mut self,
        mut to: State,
        event: Event,
        host: usize,
        input: Input,
        steps: &mut Vec<Step>,
    ) {
        let in_flight = to.in_flight(host);
        let edge = self.hosts.edge(to.hosts[host], input, in_flight);
        if edge.saw_in_flight && in_flight != 0 {
            let mut to = to;
            if let Input::Read(row) = input {
                to.seen[host] = row;
            }
            let kind = std::mem::discriminant(&input);
            let mut kinds = ANSWERS.iter().map(std::mem::discriminant);
            to.answered[host] = 1 + kinds.position(|other| other == kind).unwrap() as u8;
            let event = Event {
                later: true,
                ..event
            };
            steps.push(Step::quiet(event, to));
        }
        if self.spec.patient {
            to.seen[host] = self.watched(&to, host, edge.to);
        }
        to.hosts[host] = edge.to;
        let violation = self.judge(&mut to, host, edge);
        steps.push(Step {
            event,
            to,
            violation,
            text: edge.text,
        });
    }

    /// All sectors as they were when a host read the leader last, if it watches the owner from
    /// then on, until it does something else.
    fn watched(&mut self, state: &State, host: usize, goes_to: NodeId) -> u32 {
        let is_leader = |slot| slot == Layout::LEADER;
        let has_read_leader = match self.hosts.node(state.hosts[host]).op {
            Op::Read { first, .. } => is_leader(first),
            _ => false,
        };
        match self.hosts.node(goes_to).op {
            Op::Read { first, .. } if first >= self.layout.deltas().start && has_read_leader => {
                self.all_sectors(state)
            }
            Op::Read { first, .. } if !is_leader(first) => state.seen[host],
            Op::Sleep => state.seen[host],
            _ => Rows::EMPTY,
        }
    }
}
