//! A way through a world as text: who read and wrote what, one line for each step.

use std::fmt::Write as _;

use disklease::format::{
    Dblock, DblockSector, DeltaLeader, Input as Proposal, NoteState, PaxosLeader,
};

use super::contents::ContentId;
use super::events::{Act, Event};
use super::hosts::Op;
use super::layout::{Layout, Slot, host_id};
use super::state::State;
use super::world::World;

/// The column of each host.
const WIDTH: usize = 4;

impl World {
    /// The way that `events` go from `start`, and where it ends.
    pub fn tell(&mut self, start: State, events: &[Event]) -> (Vec<String>, State) {
        let mut state = start;
        let mut lines = Vec::new();
        let mut steps = Vec::new();
        for &event in events {
            self.steps(&state, &mut steps);
            let step = steps.iter().find(|step| step.event == event);
            let step = step.expect("what happened can happen again");
            lines.push(self.line(&state, event, step.text));
            state = step.to;
        }
        (lines, state)
    }

    /// What happens in `state`, and what the host says to it.
    pub fn line(&self, state: &State, event: Event, text: u32) -> String {
        let who = usize::from(event.who);
        let host = match event.act {
            Act::Land | Act::Vanish => usize::from(state.late[who].unwrap().host),
            _ => who,
        };
        let deed = self.deed(state, event, host);
        let indent = host * WIDTH;
        let mut line = format!("{:indent$}{} {deed}", "", letter(host));
        if event.later {
            line.push_str("; goes on later");
        }
        if text != 0 {
            line.push_str("  => ");
            line.push_str(self.hosts.text(text));
        }
        line
    }

    fn deed(&self, state: &State, event: Event, host: usize) -> String {
        match event.act {
            Act::Go => match self.hosts.node(state.hosts[host]).op {
                Op::Read { first, end } => {
                    let (mut from, mut to) = (first, end);
                    if self.spec.torn {
                        from += self.hosts.rows.get(state.seen[host]).len();
                        to = from + 1;
                    }
                    let seen = (from..to).map(|slot| self.sector(slot, state.sectors[slot]));
                    format!("reads {}", seen.collect::<Vec<_>>().join("; "))
                }
                Op::Write { slot, content } => format!("writes {}", self.sector(slot, content)),
                Op::Sleep => "looks again".to_owned(),
                _ => "begins, as nothing of its own is in flight any more".to_owned(),
            },
            Act::NotStarted => format!("cannot begin to write {}", self.written(state, host)),
            Act::FailUndone => format!("fails to write {}", self.written(state, host)),
            Act::FailDone => format!(
                "seems to fail to write {}, but it lands",
                self.written(state, host)
            ),
            Act::FailRead => "fails to read".to_owned(),
            Act::TimeOut => format!(
                "gives up waiting for its write of {}",
                self.written(state, host)
            ),
            Act::Land | Act::Vanish => {
                let late = state.late[usize::from(event.who)].unwrap();
                let sector = self.sector(usize::from(late.slot), late.content);
                let deed = if event.act == Act::Land {
                    "lands"
                } else {
                    "ends without landing"
                };
                format!("its late write {deed}: {sector}")
            }
            Act::Die => "is dead, and seen to be".to_owned(),
            Act::Stall => "stands still until all others see it as dead".to_owned(),
            Act::Rejoin => "died, and joins anew".to_owned(),
        }
    }

    fn written(&self, state: &State, host: usize) -> String {
        match self.hosts.node(state.hosts[host]).op {
            Op::Write { slot, content } => self.sector(slot, content),
            op => format!("{op:?}"),
        }
    }

    fn sector(&self, slot: Slot, content: ContentId) -> String {
        let bytes = self.hosts.contents.bytes(content);
        let deltas = self.layout.deltas().start;
        match slot {
            Layout::LEADER => leader(bytes),
            _ if slot < deltas => {
                let host = slot - 1;
                format!("block {}: {}", letter(host), block(bytes, host))
            }
            _ => {
                let host = slot - deltas;
                let leader = DeltaLeader::decode(bytes, host_id(host)).unwrap();
                format!(
                    "delta {}: life {} at {}",
                    letter(host),
                    leader.generation().get(),
                    leader.timestamp_secs()
                )
            }
        }
    }
}

pub fn letter(host: usize) -> char {
    ['A', 'B', 'C'][host]
}

/// Host, life and timestamp.
fn proposal(input: Proposal) -> String {
    let host = usize::try_from(input.owner).unwrap() - 1;
    format!("{}{}#{}", letter(host), input.generation, input.timestamp)
}

fn leader(bytes: &[u8]) -> String {
    let leader = PaxosLeader::decode(bytes).unwrap();
    let version = leader.version().get();
    let writer = usize::try_from(leader.write_id()).unwrap().checked_sub(1);
    let by = writer.map_or(String::new(), |host| format!(" by {}", letter(host)));
    if leader.last_owner().is_none() {
        "leader: never owned".to_owned()
    } else if leader.is_free() {
        format!("leader: v{version} free{by}")
    } else {
        format!("leader: v{version} {}{by}", proposal(leader.input()))
    }
}

fn block(bytes: &[u8], host: usize) -> String {
    let sector = DblockSector::decode(bytes, host_id(host));
    let Some(block) = sector.block.unwrap() else {
        return "-".to_owned();
    };
    let Dblock {
        mbal,
        bal,
        input,
        version,
        released,
        ..
    } = block;
    let mut text = format!("v{} mbal {mbal}", version.get());
    if let Some(input) = input {
        let _ = write!(text, " bal {bal} {}", proposal(input));
    }
    if released {
        text.push_str(" RELEASED");
    }
    if matches!(sector.note, NoteState::Present(_)) {
        text.push_str(" noted");
    }
    text
}
