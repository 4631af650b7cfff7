//! The history as the checker reads it: who held what, and when; who renewed, and when.

use std::collections::BTreeMap;

use super::counter::Record;
use super::history::Event;

/// One time that a guest held a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) who: String,
    pub(crate) life: u64,
    pub(crate) disk: u64,
    pub(crate) version: u64,
    pub(crate) host: u64,
    pub(crate) generation: u64,
    /// The acquire had returned.
    pub(crate) got: u64,
    /// The last write in the name of this lease had returned, if there was one.
    pub(crate) wrote: Option<u64>,
    /// It was about to be released, whatever came of it.
    pub(crate) releasing: bool,
}

impl Hold {
    /// It was held for certain until then.
    pub(crate) fn until(&self) -> u64 {
        self.wrote.unwrap_or(self.got)
    }
}

/// One raise of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raise {
    pub(crate) who: String,
    pub(crate) disk: u64,
    pub(crate) version: u64,
    pub(crate) host: u64,
    pub(crate) found: Record,
    pub(crate) made: Record,
    /// When it was announced.
    pub(crate) about: u64,
    /// When the guard was asked, and the write had returned. `None`: it was not told that it was written. It may
    /// have been: who is killed tells nothing.
    pub(crate) asked: Option<u64>,
    pub(crate) written: Option<u64>,
}

/// A change of a host's sector, between two reads of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// `None` for a record that cannot be read.
    pub(crate) generation: Option<u64>,
    pub(crate) free: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Story {
    /// Of each disk, by version.
    pub(crate) holds: BTreeMap<u64, Vec<Hold>>,
    /// Of each disk, as they were announced.
    pub(crate) raises: BTreeMap<u64, Vec<Raise>>,
    /// Of each host id, by time.
    pub(crate) renewals: BTreeMap<u64, Vec<Renewal>>,
}

impl Story {
    pub(crate) fn of(events: &[Event]) -> Self {
        let mut story = Self::default();
        for event in events {
            match event.what.as_str() {
                "got" => story.got(event),
                "about" => story.about(event),
                "wrote" => story.wrote(event),
                "releasing" => {
                    if let Some(hold) = story.hold_of(event) {
                        hold.releasing = true;
                    }
                }
                "renewed" => story.renewed(event),
                _ => {}
            }
        }
        for holds in story.holds.values_mut() {
            holds.sort_by_key(|hold| (hold.version, hold.got));
        }
        story
    }

    fn got(&mut self, event: &Event) {
        let disk = event.number("disk");
        self.holds.entry(disk).or_default().push(Hold {
            who: event.who.clone(),
            life: event.number("life"),
            disk,
            version: event.number("version"),
            host: event.number("host"),
            generation: event.number("generation"),
            got: event.at,
            wrote: None,
            releasing: false,
        });
    }

    /// The latest hold of whom an event tells.
    fn hold_of(&mut self, event: &Event) -> Option<&mut Hold> {
        let holds = self.holds.get_mut(&event.number("disk"))?;
        let life = event.number("life");
        holds
            .iter_mut()
            .rev()
            .find(|hold| hold.who == event.who && hold.life == life)
    }

    fn about(&mut self, event: &Event) {
        let disk = event.number("disk");
        self.raises.entry(disk).or_default().push(Raise {
            who: event.who.clone(),
            disk,
            version: event.number("version"),
            host: event.number("host"),
            found: record(event, "found"),
            made: record(event, "made"),
            about: event.at,
            asked: None,
            written: None,
        });
    }

    fn wrote(&mut self, event: &Event) {
        let made = record(event, "made");
        let written = event.number("written");
        let raises = self.raises.entry(event.number("disk")).or_default();
        let raise = raises.iter_mut().rev().find(|raise| raise.made == made);
        let raise = raise.expect("a write is announced");
        raise.asked = Some(event.number("asked"));
        raise.written = Some(written);
        if let Some(hold) = self.hold_of(event) {
            hold.wrote = Some(written);
        }
    }

    fn renewed(&mut self, event: &Event) {
        let renewals = self.renewals.entry(event.number("host")).or_default();
        renewals.push(Renewal {
            from: event.number("from"),
            to: event.number("to"),
            generation: event.fields["generation"].as_u64(),
            free: event.is_true("free"),
        });
    }
}

fn record(event: &Event, key: &str) -> Record {
    let number = |at: usize| event.fields[key][at].as_u64().expect("a record");
    Record {
        value: number(0),
        mark: number(1),
    }
}
