//! What can happen, and to whom.

use super::report::Violation;
use super::state::State;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// What a host waits for happens, and it goes on.
    Go,
    /// A write is refused: an earlier one of its host to the same sector has not ended, or its host
    /// stood still for too long.
    NotStarted,
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
    /// A host has stood still for so long that all others see it as dead.
    Stall,
    /// A host has died, and is there again in a new incarnation.
    Rejoin,
}

impl Act {
    const ALL: [Self; 11] = [
        Self::Go,
        Self::NotStarted,
        Self::FailUndone,
        Self::FailDone,
        Self::FailRead,
        Self::TimeOut,
        Self::Land,
        Self::Vanish,
        Self::Die,
        Self::Stall,
        Self::Rejoin,
    ];

    /// That this happens to a host, or to the write in flight of this number.
    pub fn of(self, who: usize) -> Event {
        Event {
            act: self,
            who: who as u8,
            later: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub act: Act,
    /// The host, or the number of the write in flight.
    pub who: u8,
    /// The host is answered, but goes on only when a write of its own that is in flight has ended.
    pub later: bool,
}

impl Event {
    pub fn code(self) -> u8 {
        (self.act as u8) << 3 | self.who << 1 | u8::from(self.later)
    }

    pub fn of_code(code: u8) -> Self {
        Self {
            act: Act::ALL[usize::from(code >> 3)],
            who: code >> 1 & 3,
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

impl Step {
    /// One by which nobody goes on.
    pub fn quiet(event: Event, to: State) -> Self {
        Self {
            event,
            to,
            violation: None,
            text: 0,
        }
    }
}
