//! What can happen next in a world, and what the judge says to it.

use disklease::format::PaxosLeader;

use super::contents::Rows;
use super::hosts::{Edge, Hosts, Input, NodeId, Op};
use super::layout::{HOSTS_MAX, Layout, SLOTS_MAX, host_id};
use super::spec::{Violation, WorldSpec};
use super::state::{LATE_MAX, Late, State};
use super::work::{Manner, Root, Work};

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// What a host waits for happens, and it goes on.
    Go,
    /// A write is refused, because an earlier one of its host to the same sector has not ended.
    NotBegun,
    /// A write fails, and has not landed.
    FailUndone,
    /// A write fails, but has landed.
    FailDone,
    FailRead,
    /// A write times out, and is in flight from then on.
    TimeOut,
    /// The write in flight of this number lands.
    Land,
    /// It ends without having landed.
    Vanish,
    /// A host has died, and all others see it.
    Die,
    /// A host has died, and is there again in a new life.
    Rejoin,
}

const ACTS: [Act; 10] = [
    Act::Go,
    Act::NotBegun,
    Act::FailUndone,
    Act::FailDone,
    Act::FailRead,
    Act::TimeOut,
    Act::Land,
    Act::Vanish,
    Act::Die,
    Act::Rejoin,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub act: Act,
    /// The host, or the number of the write in flight.
    pub of: u8,
    /// The host is answered, but goes on only when a write of its own that is in flight has ended.
    pub later: bool,
}

impl Event {
    pub fn code(self) -> u8 {
        (self.act as u8) << 3 | self.of << 1 | u8::from(self.later)
    }

    pub fn of_code(code: u8) -> Self {
        Self {
            act: ACTS[usize::from(code >> 3)],
            of: code >> 1 & 3,
            later: code & 1 == 1,
        }
    }
}

/// One thing that can happen, and where that leads.
pub struct Step {
    pub event: Event,
    pub to: State,
    pub violation: Option<Violation>,
    /// What the host that went on says, by number.
    pub text: u32,
}

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
}

impl World {
    pub fn new(spec: WorldSpec) -> (Self, State) {
        let layout = Layout {
            hosts: spec.acquires.len(),
        };
        assert!(layout.hosts <= HOSTS_MAX && usize::from(spec.late) <= LATE_MAX);
        // Both use the same place in a state.
        assert!(!spec.patient || !spec.torn_reads && spec.late == 0);
        let manner = Manner {
            owing: spec.owing,
            patient: spec.patient,
        };
        let (mut hosts, joined, members) = Hosts::new(layout, manner);
        let mut sectors = [0; SLOTS_MAX];
        sectors[..joined.len()].copy_from_slice(&joined);
        let mut nodes = [0; HOSTS_MAX];
        for (host, &member) in members.iter().enumerate() {
            nodes[host] = hosts.begin(Root {
                host,
                member,
                now: hosts.members.get(member).now,
                stamp: 0,
                left: spec.acquires[host],
                work: Work::Acquire,
                debt: None,
                waits: false,
            });
        }
        let state = State {
            sectors,
            hosts: nodes,
            seen: [Rows::EMPTY; HOSTS_MAX],
            answered: [0; HOSTS_MAX],
            late: [None; LATE_MAX],
            deaths: spec.deaths,
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
        };
        (world, state)
    }

    pub fn passes_over(&self, violation: &Violation) -> bool {
        self.spec.passed_over.contains(&violation.kind())
    }

    /// Whether a host would have to begin one ballot too many to go on.
    pub fn is_parked(&self, node: NodeId) -> bool {
        let node = self.hosts.node(node);
        node.ballots > self.spec.ballots && matches!(node.op, Op::Write { .. })
    }

    /// Whether a host that sleeps while it watches an owner would see anything new. Otherwise it
    /// would only sleep again.
    pub fn wakes(&mut self, state: &State, host: usize) -> bool {
        self.all_sectors(state) != state.seen[host]
    }

    pub fn all_sectors(&mut self, state: &State) -> u32 {
        self.hosts.rows.id_of(&state.sectors[..self.layout.slots()])
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
            self.die(state, host, steps);
        }
        for number in 0..LATE_MAX {
            self.end_late(state, number, steps);
        }
    }

    /// A host whose next step no other step can make a difference to, nor be made one to by it: it
    /// reads delta sectors, and those change no more. Then all else can as well happen afterwards.
    fn reads_what_nobody_writes(&self, state: &State) -> Option<usize> {
        if state.deaths != 0 || state.rejoins != 0 || state.failures != 0 {
            return None;
        }
        (0..self.layout.hosts).find(|&host| {
            let op = self.hosts.node(state.hosts[host]).op;
            state.answered[host] == 0
                && matches!(op, Op::Read { first, .. } if first >= self.layout.deltas().start)
        })
    }

    /// What a host waits for happens, if it can.
    fn go(&mut self, state: &State, host: usize, steps: &mut Vec<Step>) {
        if state.answered[host] != 0 || self.is_parked(state.hosts[host]) {
            return;
        }
        let mut to = *state;
        let op = self.hosts.node(state.hosts[host]).op;
        let input = match op {
            Op::Read { first, end } => {
                let row = if self.spec.torn_reads && end - first > 1 {
                    let mut row = self.hosts.rows.get(state.seen[host]).to_vec();
                    row.push(state.sectors[first + row.len()]);
                    let id = self.hosts.rows.id_of(&row);
                    if row.len() < end - first {
                        to.seen[host] = id;
                        steps.push(Step {
                            event: event(Act::Go, host),
                            to,
                            violation: None,
                            text: 0,
                        });
                        return;
                    }
                    id
                } else {
                    self.hosts.rows.id_of(&state.sectors[first..end])
                };
                if !self.spec.patient {
                    to.seen[host] = Rows::EMPTY;
                }
                Input::Read(row)
            }
            Op::Write { slot, content } => {
                if state.is_in_flight(host, slot) {
                    self.answer(to, Act::NotBegun, host, Input::WriteNotBegun, steps);
                    return;
                }
                to.sectors[slot] = content;
                Input::Written
            }
            Op::Sleep if self.wakes(state, host) => Input::Woken,
            Op::Begin if state.in_flight(host) == 0 => Input::Begin,
            Op::Sleep | Op::Begin | Op::Rest | Op::Dead => return,
        };
        self.answer(to, Act::Go, host, input, steps);
    }

    /// What it waits for goes wrong, as long as faults are left.
    fn fail(&mut self, state: &State, host: usize, steps: &mut Vec<Step>) {
        if state.answered[host] != 0 || self.is_parked(state.hosts[host]) {
            return;
        }
        let op = self.hosts.node(state.hosts[host]).op;
        let mut fewer = *state;
        fewer.failures = state.failures.saturating_sub(1);
        match op {
            Op::Read { .. } if state.failures > 0 => {
                fewer.seen[host] = Rows::EMPTY;
                self.answer(fewer, Act::FailRead, host, Input::ReadFailed, steps);
            }
            Op::Write { slot, content } if !state.is_in_flight(host, slot) => {
                if state.failures > 0 {
                    self.answer(fewer, Act::FailUndone, host, Input::WriteFailed, steps);
                    fewer.sectors[slot] = content;
                    self.answer(fewer, Act::FailDone, host, Input::WriteFailed, steps);
                }
                if state.late_left > 0 {
                    let mut to = *state;
                    to.late_left -= 1;
                    to.add_late(Late {
                        host: host as u8,
                        slot: slot as u8,
                        content,
                    });
                    self.answer(to, Act::TimeOut, host, Input::WriteTimedOut, steps);
                }
            }
            _ => {}
        }
    }

    /// A host dies, or comes back. That it is dead makes no difference to anybody before it is
    /// seen: until then it may as well only be slow.
    fn die(&mut self, state: &State, host: usize, steps: &mut Vec<Step>) {
        let node = state.hosts[host];
        let root = self.hosts.root_of(node);
        let rests = root.work.is_rest();
        // A host at rest that dies shows nothing new, unless it comes back.
        if state.deaths > 0 && !state.is_dead(host) && (!rests || state.rejoins > 0) {
            let mut to = self.without_life(state, host);
            to.deaths -= 1;
            to.dead |= 1 << host;
            to = self.with_time_passed(to);
            steps.push(Step {
                event: event(Act::Die, host),
                to,
                violation: None,
                text: 0,
            });
        }
        if state.rejoins > 0 && (state.is_dead(host) || state.deaths > 0) {
            let mut to = self.without_life(state, host);
            to.rejoins -= 1;
            if state.is_dead(host) {
                to.dead &= !(1 << host);
            } else {
                to.deaths -= 1;
            }
            let root = self.hosts.root_of(to.hosts[host]).clone();
            let (deltas, contents) = (self.layout.deltas(), &mut self.hosts.contents);
            let before = &state.sectors[deltas.clone()];
            let (member, sector) = self.hosts.members.rejoin(contents, root.member, before);
            to.sectors[self.layout.delta(host)] = sector;
            to.hosts[host] = self.hosts.begin(Root {
                member,
                now: self.hosts.members.get(member).now,
                stamp: 0,
                left: root.left.max(1),
                work: Work::Acquire,
                ..root
            });
            steps.push(Step {
                event: event(Act::Rejoin, host),
                to,
                violation: None,
                text: 0,
            });
        }
    }

    /// The same, with nothing left of a host's life: what it waits for will not happen, nor its
    /// writes in flight. (Had they landed, it may as well have died later.)
    fn without_life(&mut self, state: &State, host: usize) -> State {
        let mut to = *state;
        let node = *self.hosts.node(state.hosts[host]);
        let root = self.hosts.root_of(state.hosts[host]).clone();
        let left = match root.work {
            Work::Rest | Work::Dead => root.left,
            _ => root.left - 1,
        };
        to.hosts[host] = self.hosts.begin(Root {
            member: node.member,
            now: 0,
            stamp: 0,
            left,
            work: Work::Dead,
            debt: None,
            waits: false,
            host,
        });
        to.seen[host] = Rows::EMPTY;
        to.answered[host] = 0;
        for late in &mut to.late {
            *late = late.filter(|late| usize::from(late.host) != host);
        }
        to.late.sort_unstable();
        to
    }

    /// So much time has passed that all hosts that live see the dead as dead.
    pub fn with_time_passed(&mut self, mut state: State) -> State {
        let hosts = self.layout.hosts;
        let members: Vec<_> = (0..hosts)
            .map(|host| self.hosts.node(state.hosts[host]).member)
            .collect();
        let alive = (1_u32 << hosts) - 1 & !u32::from(state.dead);
        let deltas = self.layout.deltas();
        let contents = &mut self.hosts.contents;
        let before = &state.sectors[deltas.clone()];
        let epoch = self
            .hosts
            .members
            .pass_time(contents, alive, &members, before);
        state.sectors[deltas].copy_from_slice(&epoch.deltas);
        for host in (0..hosts).filter(|&host| alive >> host & 1 == 1) {
            let input = Input::Epoch(epoch.members[host]);
            state.hosts[host] = self.hosts.edge(state.hosts[host], input, 0).to;
        }
        state
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
            match state.answered[host] {
                0 => steps.push(Step {
                    event: event(act, number),
                    to,
                    violation: None,
                    text: 0,
                }),
                answer => {
                    let input = match ANSWERS[usize::from(answer) - 1] {
                        Input::Read(_) => Input::Read(to.seen[host]),
                        input => input,
                    };
                    to.answered[host] = 0;
                    to.seen[host] = Rows::EMPTY;
                    let from = steps.len();
                    self.answer(to, act, host, input, steps);
                    for step in &mut steps[from..] {
                        step.event.of = number as u8;
                    }
                }
            }
        }
    }

    /// A host is told what came of its step, and goes on. Where it makes a difference to it that
    /// writes of its own are in flight, it may also go on later, when they are not.
    fn answer(
        &mut self,
        mut to: State,
        act: Act,
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
            let same =
                |answer: &Input| std::mem::discriminant(answer) == std::mem::discriminant(&input);
            let answer = ANSWERS.iter().position(same).unwrap() as u8 + 1;
            to.answered[host] = answer;
            steps.push(Step {
                event: Event {
                    later: true,
                    ..event(act, host)
                },
                to,
                violation: None,
                text: 0,
            });
        }
        if self.spec.patient {
            to.seen[host] = self.watched(&to, host, edge.to);
        }
        to.hosts[host] = edge.to;
        let violation = self.judge(&mut to, host, edge);
        steps.push(Step {
            event: event(act, host),
            to,
            violation,
            text: edge.text,
        });
    }

    /// All sectors as they were when a host read the leader last, if it watches the owner from
    /// then on, until it does something else.
    fn watched(&mut self, state: &State, host: usize, goes_to: NodeId) -> u32 {
        let deltas = self.layout.deltas().start;
        let op = self.hosts.node(state.hosts[host]).op;
        let has_read_leader = matches!(
            op,
            Op::Read {
                first: Layout::LEADER,
                ..
            }
        );
        match self.hosts.node(goes_to).op {
            Op::Read { first, .. } if first >= deltas && has_read_leader => self.all_sectors(state),
            Op::Read { first, end } if first != Layout::LEADER && end - first == 1 => {
                state.seen[host]
            }
            Op::Sleep => state.seen[host],
            _ => Rows::EMPTY,
        }
    }

    /// What is wrong, when a host has gone on.
    pub fn judge(&self, to: &mut State, host: usize, edge: Edge) -> Option<Violation> {
        if edge.trouble {
            return Some(Violation::Trouble(self.hosts.text(edge.text).to_owned()));
        }
        if edge.holds == 0 {
            return None;
        }
        let newest = to.newest_held;
        to.newest_held = newest.max(edge.holds);
        let mut others = (0..self.layout.hosts).filter(|&other| other != host);
        let leader = PaxosLeader::decode(self.hosts.contents.bytes(to.sectors[Layout::LEADER]));
        let leader = leader.expect("hosts write leaders that can be read");
        let generation = self
            .hosts
            .members
            .get(self.hosts.node(edge.to).member)
            .generation;
        let named = leader.owner_id() == Some(host_id(host))
            && leader.generation().get() == generation
            && leader.version().get() == u64::from(edge.holds);
        if others.any(|other| self.hosts.node(to.hosts[other]).holds) {
            Some(Violation::TwoHolders)
        } else if edge.holds == newest {
            Some(Violation::VersionHeldTwice)
        } else if edge.holds < newest {
            Some(Violation::VersionFell)
        } else if !named {
            Some(Violation::NotNamed)
        } else {
            None
        }
    }
}

pub fn event(act: Act, of: usize) -> Event {
    Event {
        act,
        of: of as u8,
        later: false,
    }
}
