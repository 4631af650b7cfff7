//! Many runs, on all cores; and what to print when one breaks.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::checker::Tally;
use super::marks::{MarkCounts, count_marks, take_marks};
use super::mutations::Mutations;
use super::scenario::Profile;
use super::shrink::shrink;
use super::trial::{record_seed, run_drawn, run_seed};

/// Seeds that a thread takes at a time.
const BATCH: u64 = 256;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    Runs(u64),
    Time(Duration),
}

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    pub first: u64,
    /// Of this profile alone, or each of its own.
    pub profile: Option<Profile>,
}

impl Seeds {
    pub fn profile_of(self, seed: u64) -> Profile {
        self.profile.unwrap_or_else(|| Profile::of(seed))
    }
}

/// A run that broke something.
#[derive(Clone, Debug)]
pub struct Broken {
    pub profile: Profile,
    pub seed: u64,
    pub what: String,
}

/// What many runs came to.
pub struct Report {
    pub runs: u64,
    pub steps: u64,
    pub took: Duration,
    pub tally: Tally,
    pub marks: MarkCounts,
    pub broken: Option<Broken>,
}

/// Runs these seeds, on all cores, with these rules got wrong, until one breaks something or the
/// budget is used up.
pub fn run(seeds: Seeds, budget: Budget, wrong: Mutations) -> Report {
    run_on(cores(), seeds, budget, wrong)
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The same on so many threads.
#[allow(
    clippy::disallowed_methods,
    reason = "how long the simulator itself takes"
)]
pub fn run_on(threads: usize, seeds: Seeds, budget: Budget, wrong: Mutations) -> Report {
    count_marks();
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let report = Mutex::new(Report {
        runs: 0,
        steps: 0,
        took: Duration::ZERO,
        tally: Tally::default(),
        marks: MarkCounts::default(),
        broken: None,
    });
    let work = || {
        let _switched = wrong.switch();
        take_marks();
        let (mut runs, mut steps, mut tally) = (0, 0, Tally::default());
        let mut broken: Option<Broken> = None;
        while broken.is_none() && !over.load(Ordering::Relaxed) {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            let most = match budget {
                Budget::Runs(most) => most,
                Budget::Time(time) if begun.elapsed() >= time => 0,
                Budget::Time(_) => u64::MAX,
            };
            if from >= most {
                break;
            }
            for seed in from..(from + BATCH).min(most) {
                let seed = seeds.first + seed;
                let profile = seeds.profile_of(seed);
                let verdict = run_seed(profile, seed);
                runs += 1;
                steps += verdict.steps;
                tally.add(&verdict.tally);
                if let Some(what) = verdict.broken {
                    broken = Some(Broken {
                        profile,
                        seed,
                        what,
                    });
                    over.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        let mut report = report.lock().unwrap();
        report.runs += runs;
        report.steps += steps;
        report.tally.add(&tally);
        report.marks.add(&take_marks());
        report.broken = match (report.broken.take(), broken) {
            (Some(one), Some(other)) if other.seed < one.seed => Some(other),
            (None, found) => found,
            (one, _) => one,
        };
    };
    if threads == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    let mut report = report.into_inner().unwrap();
    report.took = begun.elapsed();
    report
}

impl Report {
    pub fn summary(&self) -> String {
        let millis = self.took.as_millis().max(1);
        let rate = u128::from(self.runs) * 1000 / millis;
        let mut text = format!(
            "{} schedules, {} steps in {:.1?}: {rate} schedules a second\n",
            self.runs, self.steps, self.took
        );
        for (name, count) in self.tally.fields() {
            let _ = write!(text, "{name}: {count}; ");
        }
        text.push('\n');
        for (mark, count) in self.marks.iter() {
            let _ = write!(text, "{mark}: {count}; ");
        }
        text
    }
}

/// All that there is to tell of a run that broke something: its seed, and the shortest history that
/// could be found in which the same breaks.
pub fn explain(broken: &Broken, wrong: Mutations) -> String {
    let _switched = wrong.switch();
    let profile = broken.profile;
    let (verdict, drawn) = record_seed(profile, broken.seed);
    let Some(what) = verdict.broken else {
        return format!("seed {} broke something, but not again", broken.seed);
    };
    let whole = std::env::var_os("DISKLEASE_WHOLE").is_some();
    let shortest = if whole {
        drawn
    } else {
        shrink(profile, drawn, &what)
    };
    let verdict = run_drawn(profile, &shortest, true);
    format!(
        "seed {} of {profile:?}: {what}\nDISKLEASE_SEED={} DISKLEASE_PROFILE={profile:?} shows it again, with the same rules. The shortest history found in which such a thing happens:\n\n{}\n{}",
        broken.seed,
        broken.seed,
        verdict.history.unwrap_or_default(),
        verdict.broken.unwrap_or_default(),
    )
}
