//! The time that a command or a held process has, as keeper, guardian and warden are told of it.

use std::os::fd::AsFd;
use std::time::Duration;

use disklease::__cli::{Deadman, Timestamp, clock};

use super::control::{Message, say};

/// Until when, and the timer of the kernel that sees to it.
pub(crate) struct Term {
    deadman: Deadman,
    ends_at: Option<Timestamp>,
    is_last: bool,
}

impl Term {
    /// Without an end, until it is told of one.
    pub(crate) const fn new(deadman: Deadman) -> Self {
        Self {
            deadman,
            ends_at: None,
            is_last: false,
        }
    }

    /// What is left of it, if it has an end.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.ends_at.map(|at| at.since(clock::now()))
    }

    /// It has no end any more, and is told none.
    pub(crate) const fn is_over(&mut self) {
        (self.ends_at, self.is_last) = (None, true);
    }

    /// Takes in what is said of it, and says so. `false` if there is no timer for it.
    pub(crate) fn heed(&mut self, said: &Message, control: impl AsFd) -> bool {
        let (Message::Deadline { kill_at, die_at } | Message::LastDeadline { kill_at, die_at }) =
            *said
        else {
            return true;
        };
        let ends_at = Timestamp::from_nanos(kill_at.min(die_at));
        let is_last = matches!(said, Message::LastDeadline { .. });
        // Of the last one nothing that is told later takes anything back; nor does that give more time.
        let is_void = self.is_last || is_last && self.ends_at.is_some_and(|at| at <= ends_at);
        self.is_last |= is_last;
        if !is_void {
            self.ends_at = Some(ends_at);
            if self.deadman.arm(Timestamp::from_nanos(die_at)).is_err() {
                // What there is no timer for is not kept alive.
                self.ends_at = Some(clock::now());
                return false;
            }
        }
        let _ = say(control, &Message::Armed);
        true
    }
}
