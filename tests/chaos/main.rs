//! Processes of ours, and sanlock daemons, that are killed, stopped and cut off from their storage at any moment,
//! while each raises counters under leases that all of them want: no update is lost, no two hold a lease at once, no
//! guard says held when its time has ended, and no host is followed too early.
//!
//! # What is tested here, and what is switched off
//!
//! A guard answers by the clock. What a holder does between that answer and its write is not the guard's, and a
//! process can be stopped right there. Then something else must keep the process from ever going on. The library
//! has a deadman timer, an escalation that kills owners, and host watchdogs for that. This test switches all three
//! off (`without_deadman`, `FailureAction::Ignore`, `Watchdog::None`), so that the guard's answer is tested and not
//! what stands behind it; `tests/host` tests the three. In their place stands a watchdog of the
//! test's own, for both sides. So there are two kinds of stops here:
//!
//! * at **random** instants, of any length: the test's own watchdog resets the machine before 8N + F have passed (see
//!   `watchdog.rs`), so the process goes on before that or not at all;
//! * **parked**: the process stops itself right *before* it asks its guard, for as long as it likes, while others take
//!   over, and goes on. Nothing but the guard's answer is then between it and a lost update.
//!
//! I/O that hangs in the storage is done late as long as its machine lives, and never once that was reset.
//!
//! `DISKLEASE_CHAOS_SECS` says how long the chaos lasts; `DISKLEASE_CHAOS_SEED` is what it follows from.

#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test in real time: it fails by panicking, and tells what it counted"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test code: a panic is how it fails"
)]

mod checker;
mod control;
mod counter;
mod figures;
mod guest;
mod history;
mod holds;
mod machine;
mod moves;
mod peer;
mod place;
mod plan;
mod plan_alone;
mod plan_mixed;
mod run;
mod start;
mod storage_works;
mod verdicts;
mod watchdog;

use std::time::Duration;

use run::Run;

/// What has to have happened to machines of ours alone.
const ALONE: &[&str] = &[
    "disklease: dead by kill",
    "disklease: dead by kill while it holds",
    "disklease: dead by reset",
    "disklease: stopped, shorter than its expiry",
    "disklease: stopped, past its expiry",
    "disklease: stopped until the reset",
    "disklease: parked until another had the lease",
    "disklease: storage fault Hold",
    "disklease: storage fault Fail",
    "disklease: storage hung past the expiry",
    "disklease: storage hung until the reset",
    "disklease: I/O refused",
    "disklease: lease writes landed after the io timeout",
    "disklease: lockspace writes landed after the io timeout",
    "disklease: writes landed after the process died",
    "disklease: expired after a renewal that was answered late",
    "disklease: loss found out before a write",
    "disklease: lockspace lost",
    "disklease: joined anew at once after a kill",
    "takeover after death: disklease from disklease",
];

/// What has to have happened where sanlock is among them.
const MIXED: &[&str] = &[
    "sanlock: dead by kill",
    "sanlock: dead by kill while it holds",
    "sanlock: client killed",
    "sanlock: dead by reset",
    "sanlock: stopped, shorter than its expiry",
    "sanlock: stopped, past its expiry",
    "sanlock: stopped until the reset",
    "sanlock: storage fault Hold",
    "sanlock: storage hung past the expiry",
    "sanlock: clients killed by their daemon after its expiry",
    "disklease: dead by kill while it holds",
    "disklease: stopped, shorter than its expiry",
    "disklease: stopped, past its expiry",
    "disklease: parked until another had the lease",
    "disklease: storage fault Hold",
    "disklease: storage fault Fail",
    "disklease: storage hung past the expiry",
    "disklease: I/O refused",
    "disklease: loss found out before a write",
    "disklease: lockspace lost",
    "takeover after death: disklease from sanlock",
    "takeover after death: sanlock from disklease",
];

#[test]
fn five_machines_of_ours() {
    Run {
        name: "alone",
        fire_timeout: Duration::from_secs(2),
        disks: plan_alone::DISKS,
        plans: plan_alone::plans(),
        secs: 60,
        has_aftermath: true,
        musts: ALONE,
    }
    .play();
}

#[test]
fn two_machines_with_sanlock_and_three_of_ours() {
    Run {
        name: "mixed",
        fire_timeout: Duration::from_secs(60),
        disks: plan_mixed::DISKS,
        plans: plan_mixed::plans(),
        secs: 120,
        // Deaths take a minute here.
        has_aftermath: false,
        musts: MIXED,
    }
    .play();
}

#[test]
#[ignore = "not a test: a host of ours that tests start as a process of its own"]
fn host_process() {
    disklease_fixtures::host_process::child::serve(|_, command| {
        match disklease_fixtures::host_process::child::text(command, "do") {
            "chaos" => Ok(guest::run(command)),
            other => Err(format!("not a command: {other}")),
        }
    });
}
