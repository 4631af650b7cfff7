//! Hosts die, stand still, and come back.
//!
//! That a host is dead makes no difference to anybody before it is seen: until then it may as well
//! only be slow. So death and its being seen are one step, in which the time that this takes passes
//! for all. What it was writing has not landed; had it, the host may as well have died later.

use super::contents::Rows;
use super::events::{Act, Step};
use super::hosts::{Input, Lost, Op};
use super::state::State;
use super::work::{Root, Work};
use super::world::World;

impl World {
    pub fn live_and_die(&mut self, state: &State, host: usize, steps: &mut Vec<Step>) {
        let node = *self.hosts.node(state.hosts[host]);
        let is_dead = state.is_dead(host);
        // A host at rest that dies shows nothing new, unless it comes back.
        let matters = node.op != Op::Rest || state.rejoins > 0;
        if state.deaths > 0 && !is_dead && matters {
            let mut to = self.without_life(state, host);
            to.deaths -= 1;
            to.dead |= 1 << host;
            let to = self.with_time_passed(to);
            steps.push(Step::quiet(Act::Die.of(host), to));
        }
        let waits = matches!(node.op, Op::Read { .. } | Op::Write { .. } | Op::Sleep);
        if self.layout.twin {
            // Its renewal finds the sector to be its twin's.
            if state.stalls > 0 && host == 0 && waits && node.lost == Lost::Not {
                let mut to = *state;
                to.stalls -= 1;
                to.hosts[host] = self.hosts.edge(to.hosts[host], Input::Stalled, 0).to;
                steps.push(Step::quiet(Act::Stall.of(host), to));
            }
            return;
        }
        if state.stalls > 0 && !is_dead && waits && state.answered[host] == 0 {
            let mut to = *state;
            to.drop_late_of(host);
            to.stalls -= 1;
            to.dead |= 1 << host;
            let mut to = self.with_time_passed(to);
            to.hosts[host] = self.hosts.edge(to.hosts[host], Input::Stalled, 0).to;
            steps.push(Step::quiet(Act::Stall.of(host), to));
        }
        let may_rejoin = if is_dead {
            node.op == Op::Dead
        } else {
            state.deaths > 0
        };
        if state.rejoins > 0 && may_rejoin {
            let mut to = self.without_life(state, host);
            to.rejoins -= 1;
            if !is_dead {
                to.deaths -= 1;
            }
            to.dead &= !(1 << host);
            self.begin_new_life(&mut to, host, is_dead);
            steps.push(Step::quiet(Act::Rejoin.of(host), to));
        }
    }

    /// The same, with nothing left of a host's life: what it waits for will not happen, and its
    /// writes in flight do not land.
    fn without_life(&mut self, state: &State, host: usize) -> State {
        let mut to = *state;
        let member = self.hosts.node(state.hosts[host]).member;
        let root = self.hosts.root_of(state.hosts[host]);
        let left = match root.work {
            Work::Rest | Work::Dead => root.left,
            _ => root.left - 1,
        };
        let dead = Root::dead(host, member, left);
        to.hosts[host] = self.hosts.begin(&dead);
        to.seen[host] = Rows::EMPTY;
        to.answered[host] = 0;
        to.drop_late_of(host);
        to
    }

    /// A dead host joins anew, at once, and makes the acquires that were left to it, but one at least.
    fn begin_new_life(&mut self, state: &mut State, host: usize, was_seen_dead: bool) {
        let dead = self.hosts.root_of(state.hosts[host]).clone();
        let deltas = self.layout.deltas();
        let contents = &mut self.hosts.contents;
        let before = &state.sectors[deltas];
        let (member, sector) =
            (self.hosts.members).rejoin(contents, dead.member, was_seen_dead, before);
        state.sectors[self.layout.delta(host)] = sector;
        let now = self.hosts.members.get(member).now;
        let first = Root::first(host, member, now, dead.left.max(1));
        state.hosts[host] = self.hosts.begin(&first);
    }

    /// So much time has passed that all hosts that live see the dead as dead.
    pub fn with_time_passed(&mut self, mut state: State) -> State {
        let hosts = self.layout.hosts;
        let members: Vec<_> = (0..hosts)
            .map(|host| self.hosts.node(state.hosts[host]).member)
            .collect();
        let deltas = self.layout.deltas();
        let contents = &mut self.hosts.contents;
        let before = &state.sectors[deltas.clone()];
        let alive = ((1_u32 << hosts) - 1) & !u32::from(state.dead);
        let epoch = (self.hosts.members).pass_time(contents, alive, &members, before);
        state.sectors[deltas].copy_from_slice(&epoch.deltas);
        for host in (0..hosts).filter(|&host| alive >> host & 1 == 1) {
            let input = Input::Epoch(epoch.members[host]);
            state.hosts[host] = self.hosts.edge(state.hosts[host], input, 0).to;
        }
        state
    }

    /// Whether a write of `host` must not be started any more: it was asked for too long ago.
    pub fn is_too_late(&self, state: &State, host: usize) -> bool {
        self.hosts.node(state.hosts[host]).lost == Lost::SinceAsked
    }
}
