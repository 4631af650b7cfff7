//! What must never be, whatever was done to whom.
//!
//! Each check is one that no right behaviour can fail: instants are taken on the side where they make the doer look
//! better, and who was killed before it could tell is believed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::counter::Record;
use super::history::Event;
use super::holds::{Hold, Raise, Renewal, Story};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) at: u64,
    pub(crate) what: String,
}

/// What the checker goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// 8N.
    pub(crate) lost_after: Duration,
    /// 8N + F.
    pub(crate) stopped_by: Duration,
}

/// `counters` holds what stands in each disk in the end; `peers` the machines with sanlock.
pub(crate) fn violations(
    events: &[Event],
    story: &Story,
    counters: &[Record],
    peers: &HashSet<String>,
    rules: Rules,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for (disk, counter) in (0..).zip(counters) {
        let none = Vec::new();
        let raises = story.raises.get(&disk).unwrap_or(&none);
        lost_updates(disk, raises, *counter, &mut found);
    }
    for holds in story.holds.values() {
        overlaps(holds, &mut found);
    }
    for raise in story.raises.values().flatten() {
        if !peers.contains(&raise.who) {
            believed_too_long(raise, story, rules, &mut found);
        }
    }
    for (before, after, silent) in takeovers(events, story, peers) {
        if silent.is_some_and(|silent| silent <= rules.stopped_by) {
            found.push(Violation {
                at: after.got,
                what: format!("taken over too early, after {silent:?}: {before:?} by {after:?}"),
            });
        }
    }
    for event in events {
        if event.what == "lost" && event.is_true("again") {
            let what = format!("lost, and held again: {}", event.fields);
            found.push(Violation { at: event.at, what });
        }
    }
    found.sort_by_key(|violation| violation.at);
    found
}

/// The raises that reached the disk follow each other without a gap, each on what the one before it wrote.
fn lost_updates(disk: u64, raises: &[Raise], counter: Record, found: &mut Vec<Violation>) {
    let mut seen: HashSet<Record> = raises.iter().map(|raise| raise.found).collect();
    seen.insert(counter);
    // Who read a record proves that it was written.
    let mut landed: Vec<&Raise> = raises
        .iter()
        .filter(|raise| raise.written.is_some() || seen.contains(&raise.made))
        .collect();
    landed.sort_by_key(|raise| (raise.made.value, raise.written, raise.about));
    let mut last = Record { value: 0, mark: 0 };
    let mut last_raise: Option<&Raise> = None;
    for raise in landed {
        if raise.found != last {
            found.push(Violation {
                at: raise.written.unwrap_or(raise.about),
                what: format!(
                    "an update of disk {disk} was lost: {raise:?} does not follow {last_raise:?}"
                ),
            });
        }
        last = raise.made;
        last_raise = Some(raise);
    }
    if counter != last {
        found.push(Violation {
            at: last_raise.map_or(0, |raise| raise.about),
            what: format!(
                "disk {disk} holds {counter:?}, but the last that was written is {last_raise:?}"
            ),
        });
    }
}

/// No version twice, and nobody holds before the one before has done its last write.
fn overlaps(holds: &[Hold], found: &mut Vec<Violation>) {
    for pair in holds.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if before.version == after.version {
            found.push(Violation {
                at: after.got,
                what: format!("one version twice: {before:?}, {after:?}"),
            });
        } else if after.got < before.until() {
            found.push(Violation {
                at: before.until(),
                what: format!("two holders at once: {before:?}, {after:?}"),
            });
        }
    }
}

/// Nobody is notified that it holds when its last renewal that can have reached the disk by then is older than 8N.
fn believed_too_long(raise: &Raise, story: &Story, rules: Rules, found: &mut Vec<Violation>) {
    let Some(asked) = raise.asked else { return };
    let lost_after = rules.lost_after.as_nanos() as u64;
    let none = Vec::new();
    let renewals = story.renewals.get(&raise.host).unwrap_or(&none);
    let is_good = |renewal: &&Renewal| renewal.from <= asked && asked <= renewal.to + lost_after;
    if renewals.iter().rev().find(is_good).is_none() {
        let last = renewals.iter().rev().find(|renewal| renewal.from <= asked);
        found.push(Violation {
            at: asked,
            what: format!("told that it holds, after its time: {raise:?}, last renewal {last:?}"),
        });
    }
}

/// Each lease that went to another host without having been released, and how long its owner had been silent at
/// most; `None` if the owner had started a new incarnation or left, which voids what it held.
pub(crate) fn takeovers<'a>(
    events: &[Event],
    story: &'a Story,
    peers: &HashSet<String>,
) -> Vec<(&'a Hold, &'a Hold, Option<Duration>)> {
    let ends = Ends::of(events);
    let mut all = Vec::new();
    for holds in story.holds.values() {
        for pair in holds.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            if before.releasing || before.host == after.host && before.life == after.life {
                continue;
            }
            // A daemon gives back what a client had that ended before it.
            if peers.contains(&before.who) && !ends.died_holding(before, after.got) {
                continue;
            }
            all.push((before, after, silence(before, after.got, story, &ends)));
        }
    }
    all
}

fn silence(hold: &Hold, at: u64, story: &Story, ends: &Ends) -> Option<Duration> {
    let none = Vec::new();
    let renewals = story.renewals.get(&hold.host).unwrap_or(&none);
    let until = renewals.partition_point(|renewal| renewal.from < at);
    let renewals = &renewals[..until];
    let is_other_life = |renewal: &Renewal| {
        renewal.from >= hold.got
            && (renewal.free || renewal.generation.is_some_and(|it| it != hold.generation))
    };
    if renewals.iter().any(is_other_life) || ends.began_anew(hold, at) {
        return None;
    }
    let last = renewals.last()?;
    Some(Duration::from_nanos(at - last.from))
}

/// How machines and clients ended, and when machines began under a host id.
struct Ends {
    deaths: HashMap<(String, u64), u64>,
    /// By machine, life and disk.
    clients: HashMap<(String, u64, u64), Vec<u64>>,
    /// Instants by host id.
    starts: HashMap<u64, Vec<u64>>,
}

impl Ends {
    fn of(events: &[Event]) -> Self {
        let mut ends = Self {
            deaths: HashMap::new(),
            clients: HashMap::new(),
            starts: HashMap::new(),
        };
        let mut lives: HashMap<&str, u64> = HashMap::new();
        for event in events {
            let who = event.who.as_str();
            let life = lives.get(who).copied().unwrap_or(0);
            match event.what.as_str() {
                "starts" => {
                    lives.insert(who, event.number("life"));
                    let starts = ends.starts.entry(event.number("host")).or_default();
                    starts.push(event.at);
                }
                // Where its clients had ended first, the daemon may have released.
                "dead" if event.says("how") != "clients ended" => {
                    ends.deaths.insert((who.to_owned(), life), event.at);
                }
                "client killed" | "client ended" => {
                    let key = (who.to_owned(), life, event.number("disk"));
                    ends.clients.entry(key).or_default().push(event.at);
                }
                _ => {}
            }
        }
        ends
    }

    /// The machine died, with daemon and all, while the hold lasted, and before `at`.
    fn died_holding(&self, hold: &Hold, at: u64) -> bool {
        let Some(&death) = self.deaths.get(&(hold.who.clone(), hold.life)) else {
            return false;
        };
        let key = (hold.who.clone(), hold.life, hold.disk);
        let client_ended = self.clients.get(&key).is_some_and(|instants| {
            instants
                .iter()
                .any(|&instant| instant >= hold.got && instant <= death)
        });
        death <= at && !client_ended
    }

    /// A new incarnation under the host id of `hold` was started between its time and `at`.
    fn began_anew(&self, hold: &Hold, at: u64) -> bool {
        let starts = self.starts.get(&hold.host);
        starts.is_some_and(|starts| starts.iter().any(|&start| start > hold.got && start < at))
    }
}
