//! Each step of a hand-over, and what is left when it fails.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::party::{LIMIT, Place};

/// Longer than the pause of a target that waits for its source.
const A_WHILE: Duration = Duration::from_millis(700);

#[track_caller]
fn names(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} in {error:?}");
    }
}

/// All goes well. Nobody runs in between; the source is kept out, with or without the answer.
#[test]
fn a_guest_moves_and_its_source_is_kept_out() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    target.tell("accept", json!({"token": token}));
    thread::sleep(A_WHILE);
    assert!(source.runs(), "an offer changes nothing");
    let begun = Instant::now();
    source.ok("hand over");
    assert!(!source.runs());
    target.0.answer(LIMIT).unwrap();
    println!("time: from hand-over to accept {:?}", begun.elapsed());
    assert!(!target.runs(), "not before it is started");
    let answer = target.ok("start accepted");
    assert!(target.runs() && !source.runs());
    // As if the answer had been lost.
    let refused = source.ask("reclaim", json!({})).unwrap_err();
    names(
        &refused,
        &[
            "host 2 \"ours2\" (generation 1)",
            "guest \"guest\"",
            "has it since",
        ],
    );
    let verdict = source.ask("confirm", json!({"answer": answer}));
    assert_eq!(verdict.unwrap(), "started");
    assert!(target.runs());
}

#[test]
fn a_flush_that_fails_keeps_the_locks() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    let failed = source.ask("hand over", json!({"flush": "no space"}));
    names(&failed.unwrap_err(), &["the locks are kept", "no space"]);
    assert!(source.runs());
    let refused = target.ask("accept", json!({"token": token, "millis": 800}));
    names(&refused.unwrap_err(), &["is held by host 1"]);
    // Tried again, the same token is good.
    source.ok("hand over");
    target.accept(&token).unwrap();
    target.ok("start accepted");
    assert!(target.runs() && !source.runs());
}

/// A migration that is off: the source goes on, and its guest ends later. The token is worth nothing,
/// though the lease is free and at the offered version.
#[test]
fn an_offer_that_was_cancelled_is_never_accepted() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    source.ok("cancel");
    assert!(source.runs());
    source.ok("release");
    let refused = target.accept(&token).unwrap_err();
    names(
        &refused,
        &[
            "was not handed over by this offer of host 1",
            "must not run",
        ],
    );
}

#[test]
fn a_source_that_dies_before_the_release_has_not_handed_over() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    source.tell("hand over", json!({"flush": "dies"}));
    while !source.0.has_ended() {
        thread::sleep(Duration::from_millis(10));
    }
    let refused = target.ask("accept", json!({"token": token, "millis": 3000}));
    names(&refused.unwrap_err(), &["is held by host 1"]);
    assert!(!target.runs());
}

#[test]
fn a_source_that_dies_after_the_release_has_handed_over() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    source.ok("hand over");
    source.0.kill9();
    target.accept(&token).unwrap();
    target.ok("start accepted");
    assert!(target.runs());
}

#[test]
fn a_target_that_dies_before_it_accepts_leaves_the_guest_to_its_source() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    target.tell("accept", json!({"token": token}));
    thread::sleep(A_WHILE);
    target.0.kill9();
    source.ok("hand over");
    assert_eq!(source.ok("reclaim"), 2);
    assert!(source.runs());
}

#[test]
fn a_target_that_dies_after_it_accepted_may_have_run() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    source.ok("hand over");
    target.accept(&token).unwrap();
    target.0.kill9();
    let refused = source.ask("reclaim", json!({})).unwrap_err();
    names(&refused, &["host 2", "only start anew"]);
    assert!(!source.runs());
}

#[test]
fn a_target_that_declines_gives_the_guest_back() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    source.ok("hand over");
    target.accept(&token).unwrap();
    let answer = target.ok("decline");
    let verdict = source.ask("confirm", json!({"answer": answer}));
    assert_eq!(verdict.unwrap(), "declined");
    // One version was the target's.
    assert_eq!(source.ok("reclaim"), 3);
    assert!(source.runs());
    let refused = target.accept(&token).unwrap_err();
    names(&refused, &["host 1 \"ours1\"", "has it since"]);
}

/// Somebody else comes between release and accept: both sides are refused by its name.
#[test]
fn a_third_host_that_comes_first_is_named_to_both() {
    let place = Place::new();
    let [mut source, mut target, mut third] = place.hosts();
    let token = source.start_and_offer();
    source.ok("hand over");
    assert_eq!(third.ok("start"), 2);
    for refused in [target.accept(&token), source.ask("reclaim", json!({}))] {
        names(&refused.unwrap_err(), &["host 3 \"ours3\"", "has it since"]);
    }
    assert!(third.runs());
}

/// The guest did not run here: whoever does not say so has declined.
#[test]
fn a_target_that_drops_what_it_accepted_gives_the_guest_back() {
    let place = Place::new();
    let [mut source, mut target] = place.hosts();
    let token = source.start_and_offer();
    source.ok("hand over");
    target.accept(&token).unwrap();
    target.ok("drop accepted");
    assert_eq!(source.ok("reclaim"), 3);
    assert!(source.runs());
}

/// The lockspace is removed while a guest is on its way: neither side runs it, or writes anything for it.
#[test]
fn a_side_that_has_lost_its_locks_neither_hands_over_nor_starts() {
    let place = Place::new();
    let [mut source, mut target, mut third] = place.hosts();
    let token = source.start_and_offer();
    source.ok("hand over");
    target.accept(&token).unwrap();
    assert_eq!(third.ask("start other", json!({})).unwrap(), 1);
    third.ok("offer");
    std::fs::remove_file(place.path().join("__LIBVIRT__DISKS__")).unwrap();
    let end = Instant::now() + LIMIT;
    while third.runs() {
        assert!(
            Instant::now() < end,
            "it does not see that the lockspace is gone"
        );
        thread::sleep(Duration::from_millis(50));
    }
    // It would abort in its flush.
    let lost = third.ask("hand over", json!({"flush": "dies"}));
    names(&lost.unwrap_err(), &["the locks were lost before"]);
    while target.ok("is member") == true {
        assert!(
            Instant::now() < end,
            "it does not see that the lockspace is gone"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let lost = target.ask("start accepted", json!({}));
    assert_eq!(lost.unwrap_err(), "lost");
}
