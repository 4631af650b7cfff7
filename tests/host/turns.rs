//! Turns at a counter that nothing but a lease protects, and the judgement over all of them.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use disklease::format::PaxosLeader;
use serde_json::{Value, json};

use super::boottime;

/// One turn: the lease was acquired, the counter raised, the lease released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The lease's version in this turn.
    pub(crate) version: u64,
    /// The counter as it was read; one more was written.
    pub(crate) found: u64,
    /// When the lease was held for certain, in ns of the clock that all processes have in common.
    pub(crate) from: u64,
    /// When the counter was written: the lease was held still.
    pub(crate) to: u64,
}

impl Turn {
    /// Raises the counter, with a pause between read and write in which another could come in between. `version`
    /// tells the lease's version, `may_write` is asked right before the write; `None` if it says no.
    pub(crate) fn take(
        counter: &Counter,
        version: impl FnOnce() -> u64,
        may_write: impl FnOnce() -> bool,
    ) -> Option<Self> {
        let from = now();
        let found = counter.read();
        let version = version();
        thread::sleep(Duration::from_micros(random(5000)));
        if !may_write() {
            return None;
        }
        counter.write(found + 1);
        Some(Self {
            version,
            found,
            from,
            to: now(),
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        json!([self.version, self.found, self.from, self.to])
    }

    pub(crate) fn from_json(turn: &Value) -> Self {
        let number = |at: usize| turn[at].as_u64().unwrap();
        Self {
            version: number(0),
            found: number(1),
            from: number(2),
            to: number(3),
        }
    }
}

/// A number in a file that all parties can write.
pub(crate) struct Counter(File);

impl Counter {
    pub(crate) fn open(path: &Path) -> Self {
        let mut options = OpenOptions::new();
        Self(options.read(true).write(true).open(path).unwrap())
    }

    pub(crate) fn create(path: &Path) -> Self {
        std::fs::write(path, 0_u64.to_le_bytes()).unwrap();
        Self::open(path)
    }

    pub(crate) fn read(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn write(&self, value: u64) {
        self.0.write_all_at(&value.to_le_bytes(), 0).unwrap();
    }
}

/// What a party did and met.
#[derive(Clone, Debug)]
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) turns: Vec<Turn>,
    /// What it was refused with, and how often.
    pub(crate) refusals: Vec<(String, u64)>,
}

impl Party {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            turns: Vec::new(),
            refusals: Vec::new(),
        }
    }

    pub(crate) fn refused(&mut self, with: &str) {
        match self.refusals.iter_mut().find(|(kind, _)| kind == with) {
            Some((_, count)) => *count += 1,
            None => self.refusals.push((with.to_owned(), 1)),
        }
    }
}

/// Every turn counts, no two overlap, and each has a version of its own, in the order of the counter. Panics with
/// what is wrong, and with the turns around it.
pub(crate) fn judge(parties: &[Party], counter: u64) {
    let mut all: Vec<(&str, &Turn)> = parties
        .iter()
        .flat_map(|party| party.turns.iter().map(|turn| (party.name.as_str(), turn)))
        .collect();
    all.sort_by_key(|(_, turn)| (turn.version, turn.from));
    let wrong = all.windows(2).position(|pair| {
        let (before, after) = (pair[0].1, pair[1].1);
        after.version == before.version || after.found != before.found + 1 || after.from < before.to
    });
    if let Some(at) = wrong {
        let history = format!("turns.{}", std::process::id());
        let history = Path::new(env!("CARGO_TARGET_TMPDIR")).join(history);
        let mut file = File::create(&history).unwrap();
        for (name, turn) in &all {
            writeln!(file, "{name} {turn:?}").unwrap();
        }
        let history = history.display();
        println!("all turns are in {history}; those around the fault:");
        for (name, turn) in &all[at.saturating_sub(5)..(at + 7).min(all.len())] {
            println!("{name}: {turn:?}");
        }
        let pair = &all[at..at + 2];
        panic!("two turns are not one after the other: {pair:?}");
    }
    let turns = u64::try_from(all.len()).unwrap();
    assert_eq!(counter, turns, "updates were lost");
    assert!(all.first().is_none_or(|(_, turn)| turn.found == 0));
}

fn now() -> u64 {
    u64::try_from(boottime().as_nanos()).unwrap()
}

/// The version of the lease in `file`, from the storage itself: nothing that this machine has cached.
pub(crate) fn lease_version(file: &Path) -> u64 {
    let mut options = OpenOptions::new();
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    let file = options.read(true).custom_flags(direct).open(file).unwrap();
    let mut buffer = vec![0; 8192];
    // Direct I/O wants an aligned buffer.
    let start = buffer.as_ptr().align_offset(4096);
    let sector = &mut buffer[start..start + 4096];
    file.read_exact_at(sector, 0).unwrap();
    PaxosLeader::decode(sector).unwrap().version().get()
}

/// A number below `below`, which is not 0.
pub(crate) fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    let flags = rustix::rand::GetRandomFlags::empty();
    assert_eq!(rustix::rand::getrandom(&mut bytes, flags), Ok(8));
    u64::from_le_bytes(bytes) % below
}
