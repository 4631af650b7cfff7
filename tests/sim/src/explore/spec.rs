//! Which world is explored, and how far.

use std::fmt;
use std::str::FromStr;

use super::report::{Kind, Stuck};

/// A small world.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    /// How many acquires each host makes, each with its release.
    pub acquires: Vec<u32>,
    /// Ballots that an acquire may begin; a host that would begin one more is parked.
    pub ballots: u8,
    /// Hosts that may die. Their death is seen by all others.
    pub deaths: u8,
    /// Hosts that may stand still for so long that others see them as dead, and then go on.
    pub stalls: u8,
    /// Hosts that may enter a new incarnation, after their death was seen or, if deaths are left, before.
    pub rejoins: u8,
    /// Writes that may time out, to land at any later time, or never.
    pub late: u8,
    /// Reads and writes that may fail; a write that fails has landed or not.
    pub failures: u8,
    /// A read of several sectors inspects them one after another, not at once.
    pub torn: bool,
    /// Hosts do not reconcile their pending cleanups before their next acquire, only after the last one.
    pub pending: bool,
    /// Hosts wait for an owner that may be dead; and have not seen any other host renew.
    pub patient: bool,
    /// The last host is a twin of the first: both were confirmed, with one host id, one generation and one
    /// clock. A stall is the first one's renewal that finds the other. Neither acquires in the middle of an
    /// acquire of the other.
    pub twin: bool,
    /// Who may be unable to get the lease by itself, in the end.
    pub stuck: Stuck,
    /// Violations that are counted, and do not end the exploration.
    pub passed_over: Vec<Kind>,
}

impl WorldSpec {
    /// One lease, as many acquires for each host as are given, two ballots each, no faults.
    pub fn new(acquires: &[u32]) -> Self {
        Self {
            acquires: acquires.to_vec(),
            ballots: 2,
            deaths: 0,
            stalls: 0,
            rejoins: 0,
            late: 0,
            failures: 0,
            torn: false,
            pending: false,
            patient: false,
            twin: false,
            stuck: Stuck::Nobody,
            passed_over: Vec::new(),
        }
    }

    pub fn ballots(self, ballots: u8) -> Self {
        Self { ballots, ..self }
    }

    pub fn deaths(self, deaths: u8) -> Self {
        Self { deaths, ..self }
    }

    pub fn stalls(self, stalls: u8) -> Self {
        Self { stalls, ..self }
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

    pub fn torn(self) -> Self {
        Self { torn: true, ..self }
    }

    pub fn pending(self) -> Self {
        Self {
            pending: true,
            ..self
        }
    }

    pub fn patient(self) -> Self {
        Self {
            patient: true,
            ..self
        }
    }

    /// What one of them has left, the other one does not take.
    pub fn twin(self) -> Self {
        Self {
            twin: true,
            ..self.may_be_stuck(Stuck::ForGood)
        }
    }

    pub fn may_be_stuck(self, stuck: Stuck) -> Self {
        Self { stuck, ..self }
    }

    /// Ends at violations of this kind only.
    pub fn only(self, kind: Kind) -> Self {
        let all = Kind::ALL.into_iter();
        Self {
            passed_over: all.filter(|&other| other != kind).collect(),
            ..self
        }
    }
}

impl fmt::Display for WorldSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acquires: String = self.acquires.iter().map(u32::to_string).collect();
        write!(f, "{acquires}/{}", self.ballots)?;
        for (count, what) in [
            (self.deaths, "deaths"),
            (self.stalls, "stalls"),
            (self.rejoins, "rejoins"),
            (self.late, "late"),
            (self.failures, "failures"),
        ] {
            if count > 0 {
                write!(f, " {what} {count}")?;
            }
        }
        for (is, what) in [
            (self.torn, "torn"),
            (self.pending, "pending"),
            (self.patient, "patient"),
            (self.twin, "twin"),
        ] {
            if is {
                write!(f, " {what}")?;
            }
        }
        Ok(())
    }
}

/// Reads what [`Display`](fmt::Display) writes.
impl FromStr for WorldSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("no world: {text:?}");
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).ok_or_else(wrong);
        let mut words = text.split_whitespace();
        let (acquires, ballots) = words
            .next()
            .and_then(|word| word.split_once('/'))
            .ok_or_else(wrong)?;
        let acquires: Option<Vec<u32>> = acquires.chars().map(|digit| digit.to_digit(10)).collect();
        let mut spec = Self::new(&acquires.ok_or_else(wrong)?).ballots(number(Some(ballots))?);
        while let Some(word) = words.next() {
            spec = match word {
                "deaths" => spec.deaths(number(words.next())?),
                "stalls" => spec.stalls(number(words.next())?),
                "rejoins" => spec.rejoins(number(words.next())?),
                "late" => spec.late(number(words.next())?),
                "failures" => spec.failures(number(words.next())?),
                "torn" => spec.torn(),
                "pending" => spec.pending(),
                "patient" => spec.patient(),
                "twin" => spec.twin(),
                _ => return Err(wrong()),
            };
        }
        Ok(spec)
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub states: usize,
}

impl Default for Limits {
    /// Four gigabytes.
    fn default() -> Self {
        Self {
            states: 130_000_000,
        }
    }
}
