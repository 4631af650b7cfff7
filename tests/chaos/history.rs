//! What happened, in one file that all processes append to, on the one clock that they have in common.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use disklease_fixtures::host_process::boottime;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// In ns since the boot.
    pub(crate) at: u64,
    /// The machine.
    pub(crate) who: String,
    pub(crate) what: String,
    /// Everything, as it was noted.
    pub(crate) fields: Value,
}

impl Event {
    pub(crate) fn new(at: u64, who: &str, what: &str, mut fields: Value) -> Self {
        fields["at"] = at.into();
        fields["who"] = who.into();
        fields["what"] = what.into();
        Self {
            at,
            who: who.to_owned(),
            what: what.to_owned(),
            fields,
        }
    }

    fn from_line(line: &str) -> Self {
        let fields: Value = serde_json::from_str(line).unwrap_or_else(|error| {
            panic!("a line of the history: {line:?}: {error}");
        });
        let text = |key: &str| fields[key].as_str().expect("a text").to_owned();
        Self {
            at: fields["at"].as_u64().expect("an instant"),
            who: text("who"),
            what: text("what"),
            fields,
        }
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        let number = self.fields[key].as_u64();
        number.unwrap_or_else(|| panic!("no number {key} in {}", self.fields))
    }

    pub(crate) fn is_true(&self, key: &str) -> bool {
        self.fields[key] == true
    }

    pub(crate) fn says(&self, key: &str) -> &str {
        self.fields[key].as_str().unwrap_or_default()
    }

    /// For people: the time counts from `zero`.
    fn line(&self, zero: u64) -> String {
        let secs = Duration::from_nanos(self.at.saturating_sub(zero)).as_secs_f64();
        let mut rest = self.fields.clone();
        if let Some(fields) = rest.as_object_mut() {
            for key in ["at", "who", "what"] {
                fields.remove(key);
            }
        }
        format!("{secs:11.6} {:8} {:12} {rest}", self.who, self.what)
    }
}

/// Now, on that clock.
pub(crate) fn now() -> u64 {
    u64::try_from(boottime().as_nanos()).expect("584 years")
}

/// The file, open for more.
pub(crate) struct History {
    path: PathBuf,
    file: File,
}

impl History {
    pub(crate) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(path);
        Self {
            path: path.to_owned(),
            file: file.expect("the history"),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line; gives its time. `fields` is an object.
    pub(crate) fn note(&self, who: &str, what: &str, fields: Value) -> u64 {
        let event = Event::new(now(), who, what, fields);
        // One write: lines of several processes never mix.
        let line = format!("{}\n", event.fields);
        (&self.file)
            .write_all(line.as_bytes())
            .expect("the history takes a line");
        event.at
    }

    /// All that was noted until now, by time.
    pub(crate) fn read(&self) -> Vec<Event> {
        let text = std::fs::read_to_string(&self.path).expect("the history");
        // A process that is killed may leave half a line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut events: Vec<Event> = whole.lines().map(Event::from_line).collect();
        events.sort_by_key(|event| event.at);
        events
    }
}

/// Prints what happened in the time around `instants`, and all of it to a file that is named.
pub(crate) fn tell(events: &[Event], name: &str, around: &[u64]) {
    let zero = events.first().map_or(0, |event| event.at);
    let all: Vec<String> = events.iter().map(|event| event.line(zero)).collect();
    let path = format!("chaos-{name}.{}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(path);
    std::fs::write(&path, all.join("\n") + "\n").expect("a place for the history");
    println!("the whole history is in {}", path.display());
    for &instant in around {
        let at = events.partition_point(|event| event.at < instant);
        println!(
            "-- around {:.6}:",
            Duration::from_nanos(instant - zero).as_secs_f64()
        );
        for line in &all[at.saturating_sub(40)..(at + 20).min(all.len())] {
            println!("{line}");
        }
    }
}

/// Fields of nothing.
pub(crate) fn nothing() -> Value {
    json!({})
}
