//! From the numbers of a run that breaks something to a shorter run that breaks it the same way.
//!
//! Numbers are taken out, made 0 or made smaller, one stream at a time, for as long as the run still
//! breaks and gets shorter or plainer by it.

use std::time::{Duration, Instant};

use super::choice::Drawn;
use super::scenario::Profile;
use super::trial::{Verdict, run_drawn};

/// How many runs are spent on it, and how long.
const TRIES_MAX: usize = 4000;
const TIME_MAX: Duration = Duration::from_secs(60);

/// What is broken, without the names and numbers of this run.
pub fn kind_of(broken: &str) -> &str {
    broken.split(':').next().unwrap_or(broken)
}

struct Shrink {
    profile: Profile,
    kind: String,
    best: Drawn,
    cost: Cost,
    tries: usize,
    begun: Instant,
}

/// How long and how intricate a run is: its steps, then its numbers that are not 0, then their size.
type Cost = (u64, usize, u64);

fn cost(verdict: &Verdict, drawn: &Drawn) -> Cost {
    let numbers = || drawn.iter().flatten().filter(|&&number| number != 0);
    let size = numbers().map(|number| u64::from(number.ilog2()) + 1).sum();
    (verdict.steps, numbers().count(), size)
}

/// The shortest run that could be found from `drawn`, which breaks something of `kind`.
#[allow(
    clippy::disallowed_methods,
    reason = "how long the simulator itself takes"
)]
pub fn shrink(profile: Profile, drawn: Drawn, broken: &str) -> Drawn {
    let verdict = run_drawn(profile, &drawn, false);
    let mut shrink = Shrink {
        profile,
        kind: kind_of(broken).to_owned(),
        cost: cost(&verdict, &drawn),
        best: drawn,
        tries: 0,
        begun: Instant::now(),
    };
    loop {
        let before = shrink.cost;
        for stream in (0..shrink.best.len()).rev() {
            shrink.cut(stream);
            shrink.take_out(stream);
            shrink.make_smaller(stream);
        }
        if shrink.cost == before || shrink.is_tired() {
            return shrink.best;
        }
    }
}

impl Shrink {
    fn is_tired(&self) -> bool {
        self.tries >= TRIES_MAX || self.begun.elapsed() > TIME_MAX
    }

    fn accepts(&mut self, stream: usize, change: impl FnOnce(&mut Vec<u64>)) -> bool {
        let mut drawn = self.best.clone();
        change(&mut drawn[stream]);
        self.tries += 1;
        let verdict = run_drawn(self.profile, &drawn, false);
        let same = verdict
            .broken
            .as_ref()
            .is_some_and(|broken| kind_of(broken) == self.kind);
        let cost = cost(&verdict, &drawn);
        if same && cost < self.cost {
            self.best = drawn;
            self.cost = cost;
            return true;
        }
        false
    }

    /// Everything after some point is as plain as can be.
    fn cut(&mut self, stream: usize) {
        let mut keep = 0;
        while keep < self.best[stream].len() && !self.is_tired() {
            if self.accepts(stream, |numbers| numbers.truncate(keep)) {
                return;
            }
            keep = (keep * 2).max(1);
        }
    }

    fn take_out(&mut self, stream: usize) {
        for size in [32, 8, 4, 2, 1] {
            let mut at = 0;
            while at < self.best[stream].len() && !self.is_tired() {
                let took = self.accepts(stream, |numbers| {
                    numbers.drain(at..(at + size).min(numbers.len()));
                });
                if !took {
                    at += size;
                }
            }
        }
    }

    fn make_smaller(&mut self, stream: usize) {
        for at in 0..self.best[stream].len() {
            while self.best[stream].get(at).is_some_and(|&number| number != 0) && !self.is_tired() {
                if self.accepts(stream, |numbers| numbers[at] = 0) {
                    break;
                }
                if !self.accepts(stream, |numbers| numbers[at] /= 2) {
                    break;
                }
            }
        }
    }
}
