//! What is wrong, when a host has gone on.

use disklease::format::PaxosLeader;

use super::hosts::Edge;
use super::layout::{Layout, host_id};
use super::report::Violation;
use super::state::State;
use super::world::World;

impl World {
    pub fn passes_over(&self, violation: &Violation) -> bool {
        self.spec.passed_over.contains(&violation.kind())
    }

    /// `host` went on by `edge`, and the world is in the state `to`.
    ///
    /// A holder counts as one until its release has written something: that is when others can know
    /// of it, and until then it may as well hold still.
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
        if others.any(|other| self.hosts.node(to.hosts[other]).holds) {
            Some(Violation::TwoHolders)
        } else if edge.holds == newest {
            Some(Violation::VersionHeldTwice)
        } else if edge.holds < newest {
            Some(Violation::VersionFell)
        } else if !self.is_named(to, host, edge) {
            Some(Violation::NotNamed)
        } else {
            None
        }
    }

    /// Whether the leader names this incarnation of the host, and the version that it holds.
    fn is_named(&self, state: &State, host: usize, edge: Edge) -> bool {
        let sector = self.hosts.contents.bytes(state.sectors[Layout::LEADER]);
        let leader = PaxosLeader::decode(sector).expect("hosts write leaders that can be read");
        let member = self.hosts.node(edge.to).member;
        leader.last_owner() == Some(host_id(self.layout.id_of(host)))
            && leader.generation().get() == self.hosts.members.get(member).generation
            && leader.version().get() == u64::from(edge.holds)
    }
}
