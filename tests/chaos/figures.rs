//! What happened, in numbers, and which of it had to.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::checker::{Rules, takeovers};
use super::history::Event;
use super::holds::Story;
use disklease_fixtures::host_process::IO_TIMEOUT;

/// Names and counts, by name.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    counts: BTreeMap<String, u64>,
    /// The shortest and the longest silence before a takeover by others, of each pair of sides.
    silences: BTreeMap<String, (Duration, Duration)>,
    /// By machine.
    turns: BTreeMap<String, u64>,
    raises: BTreeMap<String, u64>,
    /// How late the watchdog was at worst.
    late: Duration,
}

impl Figures {
    pub(crate) fn of(
        events: &[Event],
        story: &Story,
        peers: &HashSet<String>,
        bare: &HashSet<String>,
        rules: Rules,
    ) -> Self {
        let mut figures = Self::default();
        for event in events {
            figures.count_event(event, peers, rules);
        }
        figures.count_rejoins(events, bare);
        figures.count_takeovers(events, story, peers);
        figures.count_parks(events, story, rules);
        for hold in story.holds.values().flatten() {
            *figures.turns.entry(hold.who.clone()).or_default() += 1;
        }
        for raise in story.raises.values().flatten() {
            if raise.written.is_some() {
                *figures.raises.entry(raise.who.clone()).or_default() += 1;
            }
        }
        figures
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Those of `names` that never occurred.
    pub(crate) fn missing<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        let never = |name: &&&str| self.get(name) == 0;
        names.iter().filter(never).copied().collect()
    }

    fn add(&mut self, name: &str) {
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }

    fn count_event(&mut self, event: &Event, peers: &HashSet<String>, rules: Rules) {
        let side = side(&event.who, peers);
        let millis = |key: &str| Duration::from_millis(event.fields[key].as_u64().unwrap_or(0));
        match event.what.as_str() {
            "dead" => {
                let how = event.says("how");
                self.add(&format!("{side}: dead by {how}"));
                if event.is_true("holding") {
                    self.add(&format!("{side}: dead by {how} while it holds"));
                }
            }
            "reset" => self.late = self.late.max(millis("late_ms")),
            "goes on" if event.says("part") != "Parked" => {
                let past = millis("silent_ms") >= rules.lost_after;
                let length = if past {
                    "past its expiry"
                } else {
                    "shorter than its expiry"
                };
                self.add(&format!("{side}: stopped, {length}"));
            }
            "stopped to death" => self.add(&format!("{side}: stopped until the reset")),
            "stalled to death" => self.add(&format!("{side}: storage hung until the reset")),
            "fault" => {
                let fault = event.says("fault");
                let mode = ["Hold", "Delay", "Fail"]
                    .into_iter()
                    .find(|it| fault.contains(it));
                self.add(&format!("{side}: storage fault {}", mode.unwrap_or("?")));
            }
            "fault ends" if event.is_true("expired") => {
                self.add(&format!("{side}: storage hung past the expiry"));
            }
            "landed" if millis("after_ms") > IO_TIMEOUT => {
                let which = if event.says("file").starts_with("__") {
                    "lockspace"
                } else {
                    "lease"
                };
                self.add(&format!(
                    "{side}: {which} writes landed after the io timeout"
                ));
            }
            "refused I/O" => self.add(&format!("{side}: I/O refused")),
            "lands after death" => {
                self.add(&format!("{side}: writes landed after the process died"));
            }
            "last renewal answered late" => {
                self.add("disklease: expired after a renewal that was answered late");
            }
            "client killed" => self.add("sanlock: client killed"),
            "clients ended" if event.number("killed") > 0 => {
                self.add("sanlock: clients killed by their daemon after its expiry");
            }
            "lost" => self.add("disklease: loss found out before a write"),
            "out" => self.add("disklease: lockspace lost"),
            "refused" => self.add(&format!("{side}: acquires that failed with an error")),
            "not released" => self.add(&format!("{side}: releases that failed")),
            _ => {}
        }
    }

    /// A kill and a new incarnation under the same host id in less time than a death takes.
    fn count_rejoins(&mut self, events: &[Event], bare: &HashSet<String>) {
        let mut died: BTreeMap<&str, u64> = BTreeMap::new();
        for event in events.iter().filter(|event| bare.contains(&event.who)) {
            match event.what.as_str() {
                "dead" => {
                    died.insert(&event.who, event.at);
                }
                "joined" => {
                    let quick = Duration::from_secs(8).as_nanos() as u64;
                    if let Some(at) = died.remove(event.who.as_str())
                        && event.at - at < quick
                        && event.number("generation") > 1
                    {
                        self.add("disklease: joined anew at once after a kill");
                    }
                }
                _ => {}
            }
        }
    }

    fn count_takeovers(&mut self, events: &[Event], story: &Story, peers: &HashSet<String>) {
        for (before, after, silent) in takeovers(events, story, peers) {
            let sides = format!(
                "{} from {}",
                side(&after.who, peers),
                side(&before.who, peers)
            );
            let Some(silent) = silent else {
                self.add(&format!("takeover by a new life of the owner: {sides}"));
                continue;
            };
            self.add(&format!("takeover after death: {sides}"));
            let (least, most) = self.silences.entry(sides).or_insert((silent, silent));
            *least = silent.min(*least);
            *most = silent.max(*most);
        }
    }

    /// A process that stood still before its question until somebody else had what it held.
    fn count_parks(&mut self, events: &[Event], story: &Story, rules: Rules) {
        for event in events.iter().filter(|event| event.what == "unparked") {
            let gap = Duration::from_millis(event.number("gap_ms"));
            if gap < rules.lost_after {
                self.add("disklease: parked, shorter than its expiry");
                continue;
            }
            self.add("disklease: parked past its expiry");
            let holds = &story.holds[&event.number("disk")];
            let mut before_and_after = holds.windows(2).map(|pair| (&pair[0], &pair[1]));
            let was_taken = before_and_after.any(|(before, after)| {
                before.who == event.who
                    && before.life == event.number("life")
                    && !before.releasing
                    && after.got < event.at
                    && Duration::from_nanos(event.at - before.got) >= gap
                    && after.who != event.who
            });
            if was_taken {
                self.add("disklease: parked until another had the lease");
            }
        }
    }
}

fn side(who: &str, peers: &HashSet<String>) -> &'static str {
    if peers.contains(who) {
        "sanlock"
    } else {
        "disklease"
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (who, turns) in &self.turns {
            let raises = self.raises.get(who).unwrap_or(&0);
            writeln!(f, "{who}: {turns} turns, {raises} raises")?;
        }
        for (name, count) in &self.counts {
            writeln!(f, "{count:6} {name}")?;
        }
        for (sides, (least, most)) in &self.silences {
            writeln!(
                f,
                "takeover {sides}: {least:.2?} to {most:.2?} after the last renewal"
            )?;
        }
        write!(f, "the watchdog was {:?} late at worst", self.late)
    }
}
