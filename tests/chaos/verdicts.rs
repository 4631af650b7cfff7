//! The checker sees what it has to see, and nothing else.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::checker::{Rules, takeovers, violations};
use super::counter::Record;
use super::history::Event;
use super::holds::Story;

const SECOND: u64 = 1_000_000_000;
const RULES: Rules = Rules {
    lost_after: Duration::from_secs(8),
    stopped_by: Duration::from_secs(10),
};

/// A history that is written by hand. Times are in s.
#[derive(Default)]
struct Tale(Vec<Event>);

impl Tale {
    /// Two hosts, m1 with id 1 and m2 with id 2, that renew every 2 s from 100 to 200.
    fn of_two() -> Self {
        let mut tale = Self::default();
        for at in (100..200).step_by(2) {
            tale.renewed(1, at);
            tale.renewed(2, at);
        }
        tale
    }

    fn add(&mut self, at: u64, who: u64, what: &str, fields: Value) {
        let event = Event::new(at * SECOND, &format!("m{who}"), what, fields);
        self.0.push(event);
    }

    fn renewed(&mut self, host: u64, at: u64) {
        let at_most = at * SECOND + SECOND / 10;
        let fields = json!({"host": host, "from": at * SECOND, "to": at_most, "generation": 1, "free": false});
        self.add(at, host, "renewed", fields);
    }

    fn got(&mut self, host: u64, at: u64, version: u64) {
        self.add(at, host, "got", lock(host, version));
    }

    fn releasing(&mut self, host: u64, at: u64, version: u64) {
        self.add(at, host, "releasing", lock(host, version));
    }

    /// Found and made are values and marks. It is announced at once.
    fn about(&mut self, host: u64, at: u64, version: u64, found: [u64; 2], made: [u64; 2]) {
        let mut fields = lock(host, version);
        fields["found"] = json!(found);
        fields["made"] = json!(made);
        self.add(at, host, "about", fields);
    }

    fn wrote(&mut self, host: u64, at: u64, version: u64, found: [u64; 2], made: [u64; 2]) {
        self.about(host, at, version, found, made);
        let mut fields = lock(host, version);
        fields["found"] = json!(found);
        fields["made"] = json!(made);
        fields["asked"] = (at * SECOND).into();
        fields["written"] = (at * SECOND + 1).into();
        self.add(at, host, "wrote", fields);
    }

    /// m1 raises the counter once, from 100 to 101, and releases.
    fn first_turn(&mut self) {
        self.got(1, 100, 1);
        self.wrote(1, 100, 1, [0, 0], [1, 11]);
        self.releasing(1, 101, 1);
    }

    /// What is wrong with it, if the disk holds this in the end.
    fn faults(mut self, value: u64, mark: u64) -> Vec<String> {
        self.0.sort_by_key(|event| event.at);
        let story = Story::of(&self.0);
        let counter = Record { value, mark };
        let found = violations(&self.0, &story, &[counter], &HashSet::new(), RULES);
        found.into_iter().map(|violation| violation.what).collect()
    }
}

fn lock(host: u64, version: u64) -> Value {
    json!({"life": 1, "disk": 0, "version": version, "host": host, "generation": 1})
}

#[track_caller]
fn assert_one(faults: &[String], beginning: &str) {
    assert!(
        faults.len() == 1 && faults[0].starts_with(beginning),
        "{beginning}: {faults:#?}"
    );
}

#[test]
fn turns_one_after_the_other_are_right() {
    let mut tale = Tale::of_two();
    tale.first_turn();
    tale.got(2, 102, 2);
    tale.wrote(2, 102, 2, [1, 11], [2, 22]);
    assert_eq!(tale.faults(2, 22), Vec::<String>::new());
}

#[test]
fn who_was_killed_may_have_written_or_not() {
    for written in [true, false] {
        let mut tale = Tale::of_two();
        tale.first_turn();
        tale.got(2, 102, 2);
        tale.about(2, 102, 2, [1, 11], [2, 22]);
        let (value, mark) = if written { (2, 22) } else { (1, 11) };
        assert_eq!(tale.faults(value, mark), Vec::<String>::new(), "{written}");
    }
}

#[test]
fn an_update_that_was_lost_is_seen() {
    let mut tale = Tale::of_two();
    tale.first_turn();
    tale.got(2, 102, 2);
    tale.wrote(2, 102, 2, [0, 0], [1, 22]);
    assert_one(&tale.faults(1, 22), "an update of disk 0 was lost");
}

#[test]
fn an_update_that_was_lost_is_seen_though_all_numbers_fit() {
    let mut tale = Tale::of_two();
    tale.first_turn();
    tale.got(2, 102, 2);
    tale.wrote(2, 102, 2, [1, 12], [2, 22]);
    assert_one(&tale.faults(2, 22), "an update of disk 0 was lost");
}

#[test]
fn a_counter_without_the_last_update_is_seen() {
    let mut tale = Tale::of_two();
    tale.first_turn();
    assert_one(&tale.faults(0, 0), "disk 0 holds");
}

#[test]
fn a_write_after_the_next_one_has_got_it_is_seen() {
    let mut tale = Tale::of_two();
    tale.got(1, 100, 1);
    tale.releasing(1, 101, 1);
    tale.wrote(1, 103, 1, [0, 0], [1, 11]);
    tale.got(2, 102, 2);
    tale.wrote(2, 104, 2, [1, 11], [2, 22]);
    assert_one(&tale.faults(2, 22), "two holders at once");
}

#[test]
fn one_version_with_two_owners_is_seen() {
    let mut tale = Tale::of_two();
    tale.first_turn();
    tale.got(2, 102, 1);
    tale.wrote(2, 102, 1, [1, 11], [2, 22]);
    assert_one(&tale.faults(2, 22), "one version twice");
}

/// m1 renews for the last time at 98, up to 98.1 s: it holds nothing from 106.1 on.
fn silent_since_98(asked: u64) -> Vec<String> {
    let mut tale = Tale::default();
    tale.renewed(1, 98);
    tale.got(1, 99, 1);
    tale.wrote(1, asked, 1, [0, 0], [1, 11]);
    tale.faults(1, 11)
}

#[test]
fn who_believes_that_it_holds_after_its_time_is_seen() {
    assert_eq!(silent_since_98(106), Vec::<String>::new());
    assert_one(&silent_since_98(107), "told that it holds, after its time");
}

/// m1 is silent from 100 on, and m2 gets what it held at `at`.
fn taken_at(at: u64, more: impl Fn(&mut Tale)) -> Tale {
    let mut tale = Tale::default();
    tale.renewed(1, 100);
    tale.got(1, 101, 1);
    tale.renewed(2, at);
    tale.got(2, at, 2);
    more(&mut tale);
    tale
}

#[test]
fn who_is_followed_too_early_is_seen() {
    let faults = |at| taken_at(at, |_| {}).faults(0, 0);
    assert_one(&faults(110), "taken over too early");
    assert_eq!(faults(111), Vec::<String>::new());
}

#[test]
fn a_new_life_of_the_owner_gives_away_what_it_held() {
    let new_life = |tale: &mut Tale| {
        let fields = json!({"host": 1, "from": 103 * SECOND, "to": 103 * SECOND, "generation": 2, "free": false});
        tale.add(103, 1, "renewed", fields);
    };
    let tale = taken_at(105, new_life);
    let story = Story::of(&tale.0);
    let all = takeovers(&tale.0, &story, &HashSet::new());
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].2, None);
    assert_eq!(tale.faults(0, 0), Vec::<String>::new());
}

#[test]
fn what_was_released_is_not_taken_over() {
    let release = |tale: &mut Tale| tale.releasing(1, 102, 1);
    assert_eq!(taken_at(103, release).faults(0, 0), Vec::<String>::new());
}

#[test]
fn a_loss_that_is_taken_back_is_seen() {
    let mut tale = Tale::of_two();
    tale.got(1, 100, 1);
    let mut fields = lock(1, 1);
    fields["again"] = true.into();
    tale.add(101, 1, "lost", fields);
    assert_one(&tale.faults(0, 0), "lost, and held again");
}
