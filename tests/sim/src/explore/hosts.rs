//! What hosts do, tabulated: each host as an automaton whose transitions are found by running the
//! library's code.
//!
//! A node is all that a host has been answered since it began its present piece of work, or since
//! the last waypoint in it; from that its state follows, and what it waits for. A transition is run
//! once, by replaying the piece up to there, and looked up from then on.

use std::collections::HashMap;

use disklease::format::DblockSector;

use super::contents::{ContentId, Contents, Rows};
use super::hash::Quick;
use super::layout::{Layout, Slot, StepDisk, host_id};
use super::members::{MemberId, Members};
use super::port::Asked;
use super::work::{Manner, Root, Runner, Told};

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
    /// Time has passed, in which it renewed. What it waits for has not come.
    Epoch(MemberId),
    /// The same time has passed, and it has not renewed.
    Stalled,
}

/// Whether a host's own leases are lost to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Not,
    /// They were lost after it had asked for what it waits for.
    SinceAsked,
    /// And before.
    BeforeAsked,
}

#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub(super) root: u32,
    /// Where it came from, by which answer, with which of its writes in flight.
    pub(super) from: Option<(NodeId, Input)>,
    pub(super) in_flight: u32,
    /// Answers since the beginning of the piece of work, on the shortest known way.
    pub(super) length: u32,
    pub op: Op,
    pub member: MemberId,
    /// It holds the lease.
    pub holds: bool,
    pub lost: Lost,
    /// Ballots that this acquire has started, the one that it is about to begin included.
    pub ballots: u8,
    pub(super) last_mbal: u64,
}

/// What makes two nodes the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum NodeKey {
    /// At the beginning of a piece of work, with what was found of writes in flight.
    Root(u32, u64),
    /// Right after a waypoint of the library's code: all that it and the host keep.
    Waypoint(String),
    /// The same way to it: from where, by which answer, and what was found of writes in flight.
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
    /// The host was refused because a write of its own is in flight.
    pub saw_in_flight: bool,
    /// What it says about it, by number; 0 is nothing.
    pub text: u32,
}

/// One in so many ways to a node that is known already is kept, to see whether it is the same.
const MERGED_TO_COMPARED: u64 = 8;

pub struct Hosts {
    pub layout: Layout,
    pub(super) manner: Manner,
    pub contents: Contents,
    pub rows: Rows,
    pub members: Members,
    pub(super) request_record: Vec<u8>,
    pub(super) roots: Vec<Root>,
    root_ids: HashMap<String, u32>,
    nodes: Vec<Node>,
    node_ids: HashMap<NodeKey, NodeId, Quick>,
    /// Other ways to some of the nodes.
    pub(super) other_ways: HashMap<NodeId, (NodeId, Input, u32), Quick>,
    merged: u64,
    edges: HashMap<(NodeId, Input, u32), Edge, Quick>,
    texts: Vec<String>,
    text_ids: HashMap<String, u32>,
    /// Some that are kept where they stand, lest they be replayed.
    pub(super) runners: HashMap<NodeId, Runner, Quick>,
    /// Answers that were given to the library's code.
    pub polls: u64,
    /// Transitions that were run in two ways, and came to the same.
    pub compared: u64,
}

impl Hosts {
    /// And the sectors as they are when all hosts have joined, and the hosts' memberships.
    pub fn new(layout: Layout, manner: Manner) -> (Self, Vec<ContentId>, Vec<MemberId>) {
        let mut contents = Contents::default();
        let (sectors, request_record) = layout.formatted();
        let mut sectors: Vec<_> = sectors.iter().map(|bytes| contents.id_of(bytes)).collect();
        let mut members = Members::new(layout);
        let deltas = &mut sectors[layout.deltas()];
        let joined = members.join_all(&mut contents, deltas, !manner.patient);
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
            edges: HashMap::default(),
            texts: vec![String::new()],
            text_ids: HashMap::from([(String::new(), 0)]),
            runners: HashMap::default(),
            polls: 0,
            compared: 0,
        };
        (hosts, sectors, joined)
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The root of the piece of work that a host is at, if it came by the shortest known way.
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
    pub fn begin(&mut self, root: &Root) -> NodeId {
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

    pub(super) fn edge_to(&mut self, to: NodeId, told: &Told, saw_in_flight: bool) -> Edge {
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

    pub(super) fn add_root(&mut self, root: &Root) -> u32 {
        let name = format!("{root:?}");
        if let Some(&id) = self.root_ids.get(&name) {
            return id;
        }
        let id = u32::try_from(self.roots.len()).unwrap();
        self.roots.push(root.clone());
        self.root_ids.insert(name, id);
        id
    }

    pub(super) fn add_node(&mut self, key: NodeKey, node: Node) -> NodeId {
        let Some(&id) = self.node_ids.get(&key) else {
            let id = u32::try_from(self.nodes.len()).unwrap();
            self.nodes.push(node);
            self.node_ids.insert(key, id);
            return id;
        };
        let known = &mut self.nodes[id as usize];
        assert_eq!(known.op, node.op, "the same host waits for the same");
        let Some((before, input)) = node.from.filter(|_| known.from != node.from) else {
            return id;
        };
        if node.length < known.length {
            known.root = node.root;
            known.from = node.from;
            known.in_flight = node.in_flight;
            known.length = node.length;
        }
        self.merged += 1;
        if self.merged.is_multiple_of(MERGED_TO_COMPARED) {
            self.other_ways.insert(id, (before, input, node.in_flight));
        }
        id
    }

    pub(super) fn op_of(&mut self, asked: &Asked) -> Op {
        match *asked {
            Asked::Read {
                disk,
                offset,
                ref into,
            } => {
                let slots = self.layout.slots_of(disk, offset, into.len());
                Op::Read {
                    first: slots.start,
                    end: slots.end,
                }
            }
            Asked::Write {
                disk,
                offset,
                ref bytes,
            } => {
                assert_eq!(disk, StepDisk::Lease, "only leases are written here");
                Op::Write {
                    slot: self.layout.slots_of(disk, offset, bytes.len()).start,
                    content: self.contents.id_of(bytes),
                }
            }
            Asked::Sleep { .. } => Op::Sleep,
        }
    }

    /// The ballot number in what a host writes to its own block.
    pub(super) fn mbal_in(&self, content: ContentId, id: usize) -> u64 {
        let sector = DblockSector::decode(self.contents.bytes(content), host_id(id));
        let block = sector.block.expect("what the library wrote can be read");
        block.map_or(0, |block| block.mbal)
    }
}
