//! Running the library's code for one transition of one host.

use disklease::__sim::probe::{take_waypoint, watch_waypoints};
use disklease::__sim::world::{OsError, ReadError, Timestamp, World as _, WriteError};

use super::hosts::{Edge, Hosts, Input, Lost, Node, NodeId, NodeKey, Op};
use super::layout::{Layout, SECTOR, Slot, timing};
use super::members::{MemberId, time_of_epoch};
use super::port::{Answer, Asked};
use super::work::{Root, Runner, Told, Work};

/// Runners that are kept at the nodes where they stand.
const RUNNERS_MAX: usize = 4000;

/// EIO.
const IO_ERROR: OsError = OsError::new(5);

impl Hosts {
    pub(super) fn run(&mut self, id: NodeId, input: Input, in_flight: u32) -> Edge {
        let node = *self.node(id);
        let root = self.root_of(id);
        match (node.op, input) {
            (Op::Begin, Input::Begin) => {
                let root = Root {
                    waits: false,
                    ..root.clone()
                };
                return self.enter(&root, in_flight, Told::default());
            }
            (Op::Begin | Op::Rest, Input::Epoch(member)) => {
                let root = Root {
                    member,
                    now: self.members.get(member).now,
                    ..root.clone()
                };
                return self.enter(&root, in_flight, Told::default());
            }
            _ => {}
        }
        let from = Some((id, input));
        let mut runner = self.runner_at(id);
        runner.port.set_in_flight(in_flight);
        self.feed(&mut runner, node, input);
        if let Input::Epoch(_) | Input::Stalled = input {
            // What it waits for has not come: there is nothing to poll.
            let changed = match input {
                Input::Epoch(member) => Node { member, ..node },
                _ => Node {
                    holds: false,
                    lost: Lost::SinceAsked,
                    ..node
                },
            };
            let node = Node {
                from,
                length: node.length + 1,
                ..changed
            };
            let to = self.add_node(NodeKey::Way(id, input, 1), node);
            self.keep(to, runner);
            return self.edge_to(to, &Told::default(), false);
        }
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
                "a waypoint tells too little: {node:?}, or by another way {other:?}, then {input:?}"
            );
            self.compared += 1;
        }
        edge
    }

    /// Gives an answer, without the poll that takes it in.
    fn feed(&mut self, runner: &mut Runner, node: Node, input: Input) {
        let io = timing().io();
        let answer = match input {
            Input::Epoch(member) => return self.let_time_pass(runner, node.member, member),
            Input::Stalled => {
                let now = runner.port.now() + time_of_epoch();
                runner.port.advance_to(now.as_nanos());
                return;
            }
            Input::Read(row) => {
                let (Op::Read { first, end }, Some(Asked::Read { mut into, .. })) =
                    (node.op, runner.asked.take())
                else {
                    panic!("a read was answered that was not asked for")
                };
                self.fill(&mut into, first..end, row);
                Answer::Read(Ok(into))
            }
            Input::ReadFailed => Answer::Read(Err(ReadError::Failed(IO_ERROR))),
            Input::Written => Answer::Wrote(Ok(())),
            Input::WriteFailed => Answer::Wrote(Err(WriteError::Failed(IO_ERROR))),
            Input::WriteTimedOut => Answer::Wrote(Err(WriteError::TimedOut(io))),
            Input::WriteNotBegun => Answer::Wrote(Err(WriteError::NotStarted(io))),
            Input::Woken => Answer::Woken,
            Input::Begin => panic!("it has begun"),
        };
        self.polls += 1;
        runner.port.answer(answer);
    }

    /// The host has renewed meanwhile, and scanned the lockspace.
    fn let_time_pass(&self, runner: &Runner, before: MemberId, after: MemberId) {
        let (before, after) = (self.members.get(before), self.members.get(after));
        let now = runner.port.nanos() + (after.now - before.now);
        runner.port.advance_to(now);
        let membership = &runner.membership;
        membership.hosts(|table| table.clone_from(&after.table));
        // The deadline was moved all the while, but nobody asked for it.
        let until = after.lease.expires_at();
        assert!(membership.expiry().extend(Timestamp::default(), until));
        assert!(membership.expiry().is_held(runner.port.now()));
    }

    /// Puts a row of contents into what was read from `slots`.
    fn fill(&self, buf: &mut [u8], slots: std::ops::Range<Slot>, row: u32) {
        let with_request = slots.start == Layout::LEADER && slots.end > 1;
        let mut sectors = buf.chunks_exact_mut(SECTOR);
        for (slot, &content) in slots.zip(self.rows.get(row)) {
            if with_request && slot == Layout::LEADER + 1 {
                let request = sectors.next().expect("it lies behind the leader");
                request.copy_from_slice(&self.request_record);
            }
            let sector = sectors.next().expect("as many as were asked for");
            sector.copy_from_slice(self.contents.bytes(content));
        }
    }

    fn keep(&mut self, at: NodeId, runner: Runner) {
        if self.runners.len() >= RUNNERS_MAX {
            self.runners.clear();
        }
        self.runners.insert(at, runner);
    }

    /// The runner that stands at a node, taken from there or made anew.
    fn runner_at(&mut self, id: NodeId) -> Runner {
        match self.runners.remove(&id) {
            Some(runner) => runner,
            None => self.replayed(*self.node(id)),
        }
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
        let member = self.members.get(root.member);
        let mut runner = Runner::start(self.layout, self.manner, root, member);
        let poll = |runner: &mut Runner| {
            let ended = runner.poll().is_some();
            assert!(!ended, "it went on when it was run before");
        };
        runner.port.set_in_flight(first.in_flight);
        poll(&mut runner);
        for (before, input, in_flight) in path.into_iter().rev() {
            runner.port.set_in_flight(in_flight);
            let node = *self.node(before);
            self.feed(&mut runner, node, input);
            if !matches!(input, Input::Epoch(_) | Input::Stalled) {
                poll(&mut runner);
            }
        }
        runner.port.take_told_in_flight();
        runner
    }

    /// Begins a piece of work.
    pub(super) fn enter(&mut self, root: &Root, in_flight: u32, told: Told) -> Edge {
        let id = self.add_root(root);
        let rests = match root.work {
            Work::Rest => Some(Op::Rest),
            Work::Dead => Some(Op::Dead),
            _ if root.waits => Some(Op::Begin),
            _ => None,
        };
        let Some(op) = rests else {
            let member = self.members.get(root.member);
            let runner = Runner::start(self.layout, self.manner, root, member);
            runner.port.set_in_flight(in_flight);
            return self.proceed(runner, id, None, in_flight, told);
        };
        let node = Node {
            root: id,
            from: None,
            in_flight,
            length: 0,
            op,
            member: root.member,
            holds: false,
            lost: Lost::Not,
            ballots: 0,
            last_mbal: 0,
        };
        let to = self.add_node(NodeKey::Root(id, 1), node);
        self.edge_to(to, &told, false)
    }

    /// Polls, and sees where the host comes to stand.
    fn proceed(
        &mut self,
        mut runner: Runner,
        root_id: u32,
        from: Option<(NodeId, Input)>,
        in_flight: u32,
        told: Told,
    ) -> Edge {
        watch_waypoints(true);
        let ended = runner.poll();
        let waypoint = take_waypoint();
        watch_waypoints(false);
        let told_in_flight = runner.port.take_told_in_flight();
        let saw_in_flight = told_in_flight.count_ones() > 1;
        let before = from.map(|(before, _)| *self.node(before));
        let root = &self.roots[root_id as usize];
        let root = Root {
            member: before.map_or(root.member, |node| node.member),
            now: runner.port.nanos(),
            timestamp: runner.membership.last_timestamp_secs(),
            ..root.clone()
        };
        let is_lost = before.is_some_and(|node| node.lost != Lost::Not);
        if let Some(end) = ended {
            let (next, more) = if is_lost {
                root.after_loss(end)
            } else {
                root.after(self.manner, end)
            };
            let mut edge = self.enter(&next, in_flight, told.and(&more));
            edge.saw_in_flight |= saw_in_flight;
            return edge;
        }
        let asked = runner.asked.as_ref().expect("it waits for something");
        let op = self.op_of(asked);
        let (mut ballots, mut last_mbal) =
            before.map_or((0, 0), |node| (node.ballots, node.last_mbal));
        if let (Work::Acquire, Op::Write { slot, content }) = (&root.work, op)
            && slot == self.layout.block(root.host)
        {
            let mbal = self.mbal_in(content, self.layout.id_of(root.host));
            ballots += u8::from(mbal != last_mbal);
            last_mbal = mbal;
        }
        let lost = if is_lost {
            Lost::BeforeAsked
        } else {
            Lost::Not
        };
        let key = match (waypoint, from) {
            (Some(kept), Some(_)) => {
                let around = (lost, ballots, last_mbal);
                NodeKey::Waypoint(format!("{root:?} {op:?} {around:?} {kept}"))
            }
            (None, Some((before, input))) => NodeKey::Way(before, input, told_in_flight),
            (_, None) => NodeKey::Root(root_id, told_in_flight),
        };
        let node = Node {
            root: root_id,
            from,
            in_flight,
            length: before.map_or(0, |node| node.length + 1),
            op,
            member: root.member,
            holds: from.is_none() && matches!(root.work, Work::Release(_)),
            lost,
            ballots,
            last_mbal,
        };
        let to = self.add_node(key, node);
        self.keep(to, runner);
        self.edge_to(to, &told, saw_in_flight)
    }
}
