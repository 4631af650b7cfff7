//! What hosts do, tabulated: each host as an automaton whose transitions are found by running the
//! library's code.
//!
//! A node is all that a host has been answered since it began its present piece of work; from that
//! its state follows, and what it waits for. A transition is run once, by replaying the piece up to
//! there, and looked up from then on.

use std::collections::HashMap;

use disklease::__sim::probe::{take_waypoint, watch_waypoints};
use disklease::__sim::world::{OsError, ReadError, SectorBuf, WriteError};
use disklease::format::DblockSector;

use super::contents::{ContentId, Contents, Rows};
use super::hash::Quick;
use super::layout::{Layout, SECTOR, Slot, StepDisk, host_id, timing};
use super::members::{MemberId, Members};
use super::port::{Answer, Asked};
use super::work::{Manner, Root, Runner, Told, Work};

pub type NodeId = u32;

/// What a host does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Read {
        first: Slot,
        end: Slot,
    },
    Write {
        slot: Slot,
        content: ContentId,
    },
    /// It looks again when something has changed.
    Sleep,
    /// It begins anew when none of its writes is in flight.
    Begin,
    /// Nothing.
    Rest,
    Dead,
}

/// What a host is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// What it read, as a row of contents.
    Read(u32),
    ReadFailed,
    Written,
    WriteFailed,
    WriteTimedOut,
    WriteNotBegun,
    Woken,
    Begin,
    /// Time has passed, in which it renewed.
    Epoch(MemberId),
}

#[derive(Clone, Copy, Debug)]
pub struct Node {
    root: u32,
    /// Where it came from, by which answer, with which of its writes in flight.
    from: Option<(NodeId, Input)>,
    in_flight: u32,
    /// Answers since the beginning of the piece of work, on the shortest known way.
    length: u32,
    pub op: Op,
    pub member: MemberId,
    /// It holds the lease.
    pub holds: bool,
    /// Ballots that this acquire has begun, the one that it is about to begin included.
    pub ballots: u8,
    last_mbal: u64,
}

/// What makes two nodes the same.
#[derive(Clone, PartialEq, Eq, Hash)]
enum NodeKey {
    /// At the beginning of a piece of work, with what was told of writes in flight.
    Root(u32, u64),
    /// Right after a waypoint of the library's code: all that it and the host keep.
    Waypoint(String),
    /// The same way to it: from where, by which answer, and what was told of writes in flight.
    Way(NodeId, Input, u64),
}

/// Where an answer leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub to: NodeId,
    /// The version that is held from now on, 0 for none.
    pub holds: u8,
    pub refused: bool,
    pub trouble: bool,
    /// The host was told that a write of its own is in flight.
    pub saw_in_flight: bool,
    /// What it says about it, by number.
    pub text: u32,
}

/// Runners that are kept at the nodes where they stand, lest they be replayed.
const RUNNERS_MAX: usize = 4000;

/// One in so many ways to a node that is known already is kept, to see whether it is the same.
const MERGED_TO_COMPARED: u64 = 50;

pub struct Hosts {
    pub layout: Layout,
    manner: Manner,
    pub contents: Contents,
    pub rows: Rows,
    pub members: Members,
    request_record: Vec<u8>,
    roots: Vec<Root>,
    root_ids: HashMap<String, u32>,
    nodes: Vec<Node>,
    node_ids: HashMap<NodeKey, NodeId, Quick>,
    /// Other ways to some of the nodes, by which it is seen that they are the same.
    other_ways: HashMap<NodeId, (NodeId, Input, u32), Quick>,
    merged: u64,
    /// Transitions that were run in two ways, and came to the same.
    pub compared: u64,
    edges: HashMap<(NodeId, Input, u32), Edge, Quick>,
    texts: Vec<String>,
    text_ids: HashMap<String, u32>,
    runners: HashMap<NodeId, Runner>,
    /// Answers that were given to the library's code, for the report.
    pub polls: u64,
}

/// EIO.
const IO_ERROR: OsError = OsError(5);

impl Hosts {
    /// And the sectors as they are when all hosts have joined, and the hosts' memberships.
    pub fn new(layout: Layout, manner: Manner) -> (Self, Vec<ContentId>, Vec<MemberId>) {
        let mut contents = Contents::default();
        let (sectors, request_record) = layout.formatted();
        let mut sectors: Vec<_> = sectors.iter().map(|bytes| contents.id_of(bytes)).collect();
        let mut members = Members::new(layout);
        let joined = members.join_all(
            &mut contents,
            &mut sectors[layout.deltas()],
            !manner.patient,
        );
        let hosts = Self {
            layout,
            manner,
            contents,
            rows: Rows::new(),
            members,
            request_record,
            roots: Vec::new(),
            root_ids: HashMap::new(),
            nodes: Vec::new(),
            node_ids: HashMap::default(),
            other_ways: HashMap::default(),
            merged: 0,
            compared: 0,
            edges: HashMap::default(),
            texts: vec![String::new()],
            text_ids: HashMap::from([(String::new(), 0)]),
            runners: HashMap::new(),
            polls: 0,
        };
        (hosts, sectors, joined)
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub fn root_of(&self, id: NodeId) -> &Root {
        &self.roots[self.node(id).root as usize]
    }

    pub fn text(&self, id: u32) -> &str {
        &self.texts[id as usize]
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A host at the beginning of some work.
    pub fn begin(&mut self, root: Root) -> NodeId {
        self.enter(root, 0, Told::default()).to
    }

    /// Where `input` leads from `node`.
    pub fn edge(&mut self, node: NodeId, input: Input, in_flight: u32) -> Edge {
        if let Some(&edge) = self.edges.get(&(node, input, in_flight)) {
            return edge;
        }
        let edge = self.run(node, input, in_flight);
        self.edges.insert((node, input, in_flight), edge);
        edge
    }

    fn run(&mut self, id: NodeId, input: Input, in_flight: u32) -> Edge {
        let node = *self.node(id);
        let root = self.root_of(id);
        match (node.op, input) {
            (Op::Begin, Input::Begin) => {
                let root = Root {
                    waits: false,
                    ..root.clone()
                };
                return self.enter(root, in_flight, Told::default());
            }
            (Op::Begin | Op::Rest | Op::Dead, Input::Epoch(member)) => {
                let root = Root {
                    member,
                    now: self.members.get(member).now,
                    ..root.clone()
                };
                return self.enter(root, in_flight, Told::default());
            }
            _ => {}
        }
        let mut runner = self.runner_at(id);
        runner.port.set_in_flight(in_flight);
        self.feed(&mut runner, node, input);
        if let Input::Epoch(member) = input {
            // Nobody is polled: what the host waits for has not come.
            let to = self.add_node(
                NodeKey::Way(id, input, 1),
                Node {
                    from: Some((id, input)),
                    length: node.length + 1,
                    member,
                    ..node
                },
            );
            self.runners.insert(to, runner);
            return Edge {
                to,
                holds: 0,
                refused: false,
                trouble: false,
                saw_in_flight: false,
                text: 0,
            };
        }
        let from = Some((id, input));
        let edge = self.proceed(runner, node.root, from, in_flight, Told::default());
        if let Some(&(before, by, then_in_flight)) = self.other_ways.get(&id) {
            let other = Node {
                from: Some((before, by)),
                in_flight: then_in_flight,
                ..node
            };
            let mut runner = self.replayed(other);
            runner.port.set_in_flight(in_flight);
            self.feed(&mut runner, node, input);
            let again = self.proceed(runner, node.root, from, in_flight, Told::default());
            assert_eq!(
                again, edge,
                "a waypoint tells too little: {node:?} {other:?} {input:?}"
            );
            self.compared += 1;
        }
        edge
    }

    /// Gives an answer, without the poll that takes it in.
    fn feed(&mut self, runner: &mut Runner, node: Node, input: Input) {
        let io = timing().io();
        let answer = match input {
            Input::Epoch(member) => {
                let old = self.members.get(node.member).now;
                let member = self.members.get(member);
                let now = runner.port.nanos() + (member.now - old);
                runner.port.advance_to(now);
                runner
                    .membership
                    .hosts(|table| table.clone_from(&member.table));
                let (now, until) = (
                    disklease::__sim::world::Timestamp::from_nanos(member.now),
                    member.lease.expires_at(),
                );
                assert!(runner.membership.expiry().deadline().is_some() && now < until);
                runner
                    .membership
                    .expiry()
                    .extend(disklease::__sim::world::Timestamp::from_nanos(0), until);
                return;
            }
            Input::Read(row) => {
                let Op::Read { first, end } = node.op else {
                    panic!("a read was answered that was not asked for")
                };
                Answer::Read(Ok(self.bytes_of(first..end, row)))
            }
            Input::ReadFailed => Answer::Read(Err(ReadError::Failed(IO_ERROR))),
            Input::Written => Answer::Wrote(Ok(())),
            Input::WriteFailed => Answer::Wrote(Err(WriteError::Failed(IO_ERROR))),
            Input::WriteTimedOut => Answer::Wrote(Err(WriteError::TimedOut(io))),
            Input::WriteNotBegun => Answer::Wrote(Err(WriteError::NotBegun(io))),
            Input::Woken => Answer::Woken,
            Input::Begin => panic!("it has begun"),
        };
        self.polls += 1;
        runner.port.answer(answer);
    }

    fn bytes_of(&self, slots: std::ops::Range<Slot>, row: u32) -> SectorBuf {
        let in_lease = slots.start < self.layout.deltas().start;
        let with_request = in_lease && slots.start == Layout::LEADER && slots.end > 1;
        let mut buf = SectorBuf::zeroed((slots.len() + usize::from(with_request)) * SECTOR);
        let mut sectors = buf.chunks_exact_mut(SECTOR);
        for (slot, &content) in slots.zip(self.rows.get(row)) {
            if with_request && slot == Layout::LEADER + 1 {
                sectors
                    .next()
                    .unwrap()
                    .copy_from_slice(&self.request_record);
            }
            sectors
                .next()
                .unwrap()
                .copy_from_slice(self.contents.bytes(content));
        }
        buf
    }

    /// The runner that stands at a node, taken from there or made anew.
    fn runner_at(&mut self, id: NodeId) -> Runner {
        if let Some(runner) = self.runners.remove(&id) {
            return runner;
        }
        self.replayed(*self.node(id))
    }

    /// A runner that was given all the answers on the way to a node.
    fn replayed(&mut self, node: Node) -> Runner {
        let mut path = Vec::new();
        let mut first = node;
        while let Some((before, input)) = first.from {
            path.push((before, input, first.in_flight));
            first = *self.node(before);
        }
        let root = &self.roots[first.root as usize];
        let mut runner = Runner::start(
            self.layout,
            self.manner,
            root,
            self.members.get(root.member),
        );
        let polled = |runner: &mut Runner| {
            assert!(runner.poll().is_none(), "it went on when it was run before");
            runner.port.take_asked().expect("it waits for something");
        };
        runner.port.set_in_flight(first.in_flight);
        polled(&mut runner);
        for (before, input, in_flight) in path.into_iter().rev() {
            runner.port.set_in_flight(in_flight);
            let node = *self.node(before);
            self.feed(&mut runner, node, input);
            if !matches!(input, Input::Epoch(_)) {
                polled(&mut runner);
            }
        }
        runner.port.take_told_in_flight();
        runner
    }

    /// Begins a piece of work.
    fn enter(&mut self, root: Root, in_flight: u32, told: Told) -> Edge {
        let name = format!("{root:?}");
        let id = match self.root_ids.get(&name) {
            Some(&id) => id,
            None => {
                let id = u32::try_from(self.roots.len()).unwrap();
                self.roots.push(root.clone());
                self.root_ids.insert(name, id);
                id
            }
        };
        let rests = match root.work {
            Work::Rest => Some(Op::Rest),
            Work::Dead => Some(Op::Dead),
            _ if root.waits => Some(Op::Begin),
            _ => None,
        };
        if let Some(op) = rests {
            let to = self.add_node(
                NodeKey::Root(id, 1),
                Node {
                    root: id,
                    from: None,
                    in_flight,
                    length: 0,
                    op,
                    member: root.member,
                    holds: false,
                    ballots: 0,
                    last_mbal: 0,
                },
            );
            return self.edge_to(to, &told, false);
        }
        let runner = Runner::start(
            self.layout,
            self.manner,
            &root,
            self.members.get(root.member),
        );
        runner.port.set_in_flight(in_flight);
        self.proceed(runner, id, None, in_flight, told)
    }

    /// Polls, and sees where the host comes to stand.
    fn proceed(
        &mut self,
        mut runner: Runner,
        root_id: u32,
        from: Option<(NodeId, Input)>,
        in_flight: u32,
        mut told: Told,
    ) -> Edge {
        watch_waypoints(true);
        let ended = runner.poll();
        let waypoint = take_waypoint();
        watch_waypoints(false);
        let told_in_flight = runner.port.take_told_in_flight();
        let saw_in_flight = told_in_flight.count_ones() > 1;
        let root = self.roots[root_id as usize].clone();
        let member = from.map_or(root.member, |(before, _)| self.node(before).member);
        if let Some(end) = ended {
            let (now, stamp) = (runner.port.nanos(), runner.last_stamp());
            let (next, more) = root.after(self.manner, end, member, now, stamp);
            if !told.text.is_empty() {
                told.text.push_str("; ");
            }
            told.text.push_str(&more.text);
            told.holds = told.holds.or(more.holds);
            told.refused |= more.refused;
            told.trouble |= more.trouble;
            let mut edge = self.enter(next, in_flight, told);
            edge.saw_in_flight |= saw_in_flight;
            return edge;
        }
        let asked = runner.port.take_asked().expect("it waits for something");
        let op = self.op_of(asked);
        let before = from.map(|(before, _)| *self.node(before));
        let mut ballots = before.map_or(0, |node| node.ballots);
        let mut last_mbal = before.map_or(0, |node| node.last_mbal);
        if let (Work::Acquire, Op::Write { slot, content }) = (&root.work, op)
            && slot == self.layout.block(root.host)
        {
            let mbal = self.mbal_in(content, root.host);
            if mbal != last_mbal {
                ballots += 1;
                last_mbal = mbal;
            }
        }
        let key = match (waypoint, from) {
            (Some(kept), Some(_)) => {
                let Root {
                    host, left, debt, ..
                } = root;
                let (now, stamp) = (runner.port.nanos(), runner.last_stamp());
                NodeKey::Waypoint(format!(
                    "{host} {left} {stamp} {member} {now} {op:?} {ballots} {last_mbal} {debt:?} {kept}"
                ))
            }
            (None, Some((before, input))) => NodeKey::Way(before, input, told_in_flight),
            (_, None) => NodeKey::Root(root_id, told_in_flight),
        };
        let to = self.add_node(
            key,
            Node {
                root: root_id,
                from,
                in_flight,
                length: before.map_or(0, |node| node.length + 1),
                op,
                member,
                holds: from.is_none() && matches!(root.work, Work::Release(_)),
                ballots,
                last_mbal,
            },
        );
        if self.runners.len() >= RUNNERS_MAX {
            self.runners.clear();
        }
        self.runners.insert(to, runner);
        self.edge_to(to, &told, saw_in_flight)
    }

    fn edge_to(&mut self, to: NodeId, told: &Told, saw_in_flight: bool) -> Edge {
        let text = match self.text_ids.get(&told.text) {
            Some(&id) => id,
            None => {
                let id = u32::try_from(self.texts.len()).unwrap();
                self.texts.push(told.text.clone());
                self.text_ids.insert(told.text.clone(), id);
                id
            }
        };
        Edge {
            to,
            holds: told
                .holds
                .map_or(0, |version| u8::try_from(version).unwrap()),
            refused: told.refused,
            trouble: told.trouble,
            saw_in_flight,
            text,
        }
    }

    fn add_node(&mut self, key: NodeKey, node: Node) -> NodeId {
        if let Some(&id) = self.node_ids.get(&key) {
            let known = &mut self.nodes[id as usize];
            assert_eq!(known.op, node.op, "the same host waits for the same");
            if node.length < known.length {
                known.from = node.from;
                known.in_flight = node.in_flight;
                known.length = node.length;
                return id;
            }
            if let Some((before, input)) = node.from.filter(|_| known.from != node.from) {
                self.merged += 1;
                if self.merged.is_multiple_of(MERGED_TO_COMPARED) {
                    self.other_ways.insert(id, (before, input, node.in_flight));
                }
            }
            return id;
        }
        let id = u32::try_from(self.nodes.len()).unwrap();
        self.nodes.push(node);
        self.node_ids.insert(key, id);
        id
    }

    fn op_of(&mut self, asked: Asked) -> Op {
        match asked {
            Asked::Read { disk, offset, into } => {
                let slots = self.layout.slots_of(disk, offset, into.len());
                Op::Read {
                    first: slots.start,
                    end: slots.end,
                }
            }
            Asked::Write {
                disk,
                offset,
                bytes,
            } => {
                assert_eq!(disk, StepDisk::Lease, "only leases are written here");
                Op::Write {
                    slot: self.layout.slots_of(disk, offset, bytes.len()).start,
                    content: self.contents.id_of(&bytes),
                }
            }
            Asked::Sleep { .. } => Op::Sleep,
        }
    }

    fn mbal_in(&self, content: ContentId, host: usize) -> u64 {
        let sector = DblockSector::decode(self.contents.bytes(content), host_id(host));
        let block = sector.block.expect("what the library wrote can be read");
        block.map_or(0, |block| block.mbal)
    }
}
