//! What came of an exploration.

use std::fmt;
use std::time::Duration;

use crate::marks::MarkCounts;

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    pub world: String,
    /// Distinct states.
    pub states: usize,
    /// Steps from one to another.
    pub steps: usize,
    /// Steps to the state that is the farthest from the start.
    pub depth: usize,
    /// States in which a host is parked.
    pub parked: usize,
    /// States in which all has ended.
    pub ends: usize,
    /// Those of them in which somebody is stuck, by [`Stuck`].
    pub stuck: [usize; 4],
    /// Violations that were skipped.
    pub passed_over: usize,
    /// Local states of hosts.
    pub local_states: usize,
    /// Answers that the library's code was given to find them.
    pub polls: u64,
    /// Steps of hosts that were run in two ways, because a waypoint says that they are the same.
    pub compared: u64,
    /// What the library's code came by. It is run anew for many steps: the numbers say no more than
    /// whether it ever did.
    pub marks: MarkCounts,
    /// Every state was visited: no limit cut it short, and no violation.
    pub complete: bool,
    pub violation: Option<History>,
    /// Of the processor's time.
    pub took: Duration,
}

/// A way to a violation, in as few steps as there are to any.
#[derive(Clone, Debug)]
pub struct History {
    pub what: Violation,
    /// Up to the violation.
    pub steps: usize,
    /// One line for each step, and what the hosts try when all has ended.
    pub lines: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two hosts hold the lease.
    TwoHolders,
    /// A version is held that was the newest that was held before.
    VersionHeldTwice,
    /// A version is held that is older than one that was held before.
    VersionFell,
    /// A host holds the lease although the leader does not name this incarnation of it.
    NotNamed,
    /// A host whose own leases are lost writes.
    WrittenThoughLost,
    /// An error that nothing explains, or success where there must be an error.
    Trouble(String),
    /// All has ended, and the lease cannot be taken.
    Stuck(Stuck),
}

/// What a [`Violation`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    TwoHolders,
    VersionHeldTwice,
    VersionFell,
    NotNamed,
    WrittenThoughLost,
    Trouble,
    Stuck,
}

/// What may be found when all has ended: nobody holds the lease, nothing is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stuck {
    /// Each host can acquire the lease alone.
    Nobody,
    /// Some host cannot, as long as no other host tries.
    Some,
    /// No host can alone.
    All,
    /// Nor when they try in turn.
    ForGood,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::TwoHolders,
        Self::VersionHeldTwice,
        Self::VersionFell,
        Self::NotNamed,
        Self::WrittenThoughLost,
        Self::Trouble,
        Self::Stuck,
    ];
}

impl Violation {
    pub fn kind(&self) -> Kind {
        match self {
            Self::TwoHolders => Kind::TwoHolders,
            Self::VersionHeldTwice => Kind::VersionHeldTwice,
            Self::VersionFell => Kind::VersionFell,
            Self::NotNamed => Kind::NotNamed,
            Self::WrittenThoughLost => Kind::WrittenThoughLost,
            Self::Trouble(_) => Kind::Trouble,
            Self::Stuck(_) => Kind::Stuck,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.world)?;
        match &self.violation {
            Some(history) => write!(f, "{:?} in {} steps", history.what, history.steps)?,
            None if self.complete => write!(f, "complete")?,
            None => write!(f, "CUT")?,
        }
        write!(
            f,
            "; {} states, {} steps, depth {}, {} states with parked hosts, {} ends",
            self.states, self.steps, self.depth, self.parked, self.ends
        )?;
        let [_, some, all, for_good] = self.stuck;
        if some + all + for_good > 0 {
            write!(
                f,
                ", stuck in {some} for some, in {all} for all, in {for_good} for good"
            )?;
        }
        if self.passed_over > 0 {
            write!(f, ", {} violations passed over", self.passed_over)?;
        }
        write!(
            f,
            "; {} local states by {} polls, {} compared; {:.1} s",
            self.local_states,
            self.polls,
            self.compared,
            self.took.as_secs_f64()
        )
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.what)?;
        for (number, line) in (1..).zip(&self.lines) {
            if number == self.steps + 1 {
                writeln!(f, "     and then, one after the other:")?;
            }
            writeln!(f, "{number:>3}  {line}")?;
        }
        Ok(())
    }
}
