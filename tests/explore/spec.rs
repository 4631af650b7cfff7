//! Which world is explored, how far, and what came of it.

use std::fmt;
use std::time::Duration;

/// A small world.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    /// How many acquires each host makes, each with its release.
    pub acquires: Vec<u32>,
    /// Ballots that an acquire may begin; a host that would begin one more is parked.
    pub ballots: u8,
    /// Hosts that may die. Their death is seen by all others.
    pub deaths: u8,
    /// Hosts that may enter a new life, after their death was seen or before.
    pub rejoins: u8,
    /// Writes that may time out, to land at any later time, or never.
    pub late: u8,
    /// Reads and writes that may fail; a write that fails has landed or not.
    pub failures: u8,
    /// A read of several sectors looks at them one after another, not at once.
    pub torn_reads: bool,
    /// Hosts do not settle their debts before their next acquire, only after the last one.
    pub owing: bool,
    /// Hosts wait for an owner that may be dead; and have not seen any other host renew.
    pub patient: bool,
    /// Who may be unable to get the lease by itself, in the end.
    pub stuck: Stuck,
    /// Violations that are counted, and do not end the exploration.
    pub passed_over: Vec<Kind>,
}

/// What a [`Violation`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    TwoHolders,
    VersionHeldTwice,
    VersionFell,
    NotNamed,
    Trouble,
    Stuck,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::TwoHolders,
        Self::VersionHeldTwice,
        Self::VersionFell,
        Self::NotNamed,
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
            Self::Trouble(_) => Kind::Trouble,
            Self::Stuck(_) => Kind::Stuck,
        }
    }
}

/// What may be found when all is over: nobody holds the lease, nothing is in flight.
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

impl WorldSpec {
    /// One lease, as many acquires for each host as are given, two ballots each, no faults.
    pub fn new(acquires: &[u32]) -> Self {
        Self {
            acquires: acquires.to_vec(),
            ballots: 2,
            deaths: 0,
            rejoins: 0,
            late: 0,
            failures: 0,
            torn_reads: false,
            owing: false,
            patient: false,
            stuck: Stuck::Nobody,
            passed_over: Vec::new(),
        }
    }

    /// Ends at nothing but this.
    pub fn only(self, kind: Kind) -> Self {
        Self {
            passed_over: Kind::ALL
                .into_iter()
                .filter(|&other| other != kind)
                .collect(),
            ..self
        }
    }

    pub fn ballots(self, ballots: u8) -> Self {
        Self { ballots, ..self }
    }

    pub fn deaths(self, deaths: u8) -> Self {
        Self { deaths, ..self }
    }

    pub fn rejoins(self, rejoins: u8) -> Self {
        Self { rejoins, ..self }
    }

    pub fn late(self, late: u8) -> Self {
        Self { late, ..self }
    }

    pub fn failures(self, failures: u8) -> Self {
        Self { failures, ..self }
    }

    pub fn torn_reads(self) -> Self {
        Self {
            torn_reads: true,
            ..self
        }
    }

    pub fn owing(self) -> Self {
        Self {
            owing: true,
            ..self
        }
    }

    pub fn patient(self) -> Self {
        Self {
            patient: true,
            ..self
        }
    }

    pub fn may_be_stuck(self, stuck: Stuck) -> Self {
        Self { stuck, ..self }
    }
}

impl fmt::Display for WorldSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acquires: String = self.acquires.iter().map(u32::to_string).collect();
        write!(
            f,
            "{} hosts {acquires}/{}",
            self.acquires.len(),
            self.ballots
        )?;
        for (count, what) in [
            (self.deaths, "deaths"),
            (self.rejoins, "rejoins"),
            (self.late, "late writes"),
            (self.failures, "failures"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        for (is, what) in [
            (self.torn_reads, "torn reads"),
            (self.owing, "owing"),
            (self.patient, "patient"),
        ] {
            if is {
                write!(f, ", {what}")?;
            }
        }
        Ok(())
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub states: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            states: 400_000_000,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub world: String,
    /// Distinct states.
    pub states: usize,
    /// Steps from one to another.
    pub steps: usize,
    /// Steps of the longest way that was gone.
    pub depth: usize,
    /// States in which a host is parked.
    pub parked: usize,
    /// States in which all is over.
    pub ends: usize,
    /// Those of them in which somebody is stuck, by [`Stuck`].
    pub stuck: [usize; 4],
    /// Steps to violations that were passed over.
    pub passed_over: usize,
    /// Local states of hosts, and answers that the library's code was given to find them.
    pub local_states: usize,
    pub polls: u64,
    /// Of the local states that were come to in several ways, so many were compared.
    pub compared: u64,
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
    /// One line for each step.
    pub lines: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Two hosts hold the lease.
    TwoHolders,
    /// A version is held that was held before.
    VersionHeldTwice,
    /// A version is held that is older than one that was held before.
    VersionFell,
    /// A host holds the lease although the leader does not name this life of it.
    NotNamed,
    /// An error that nothing explains.
    Trouble(String),
    /// All is over, and the lease cannot be taken.
    Stuck(Stuck),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match &self.violation {
            Some(history) => format!("{:?} in {} steps", history.what, history.lines.len()),
            None if self.complete => "complete".to_owned(),
            None => "CUT".to_owned(),
        };
        let millis = self.took.as_millis().max(1);
        write!(
            f,
            "{}: {end}; {} states, {} steps, depth {}, {} with parked hosts, {} ends, {:?} stuck, {} violations passed over; \
             {} local states by {} polls, {} compared; {:.1} s, {} states/s",
            self.world,
            self.states,
            self.steps,
            self.depth,
            self.parked,
            self.ends,
            &self.stuck[1..],
            self.passed_over,
            self.local_states,
            self.polls,
            self.compared,
            self.took.as_secs_f64(),
            self.states as u128 * 1000 / millis,
        )
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.what)?;
        for (number, line) in (1..).zip(&self.lines) {
            writeln!(f, "{number:>3}  {line}")?;
        }
        Ok(())
    }
}
