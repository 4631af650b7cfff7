//! `disklease run` and `disklease hold`: processes that run only while their disks are locked.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the hosts are real processes in real time"
)]

#[path = "cli_run/basics.rs"]
mod basics;
#[path = "cli_run/daemons.rs"]
mod daemons;
#[path = "cli_run/endings.rs"]
mod endings;
#[path = "cli_run/frozen.rs"]
mod frozen;
#[path = "cli_run/hold.rs"]
mod hold;
#[path = "cli_run/keeper.rs"]
mod keeper;
#[path = "cli_run/landing.rs"]
mod landing;
#[path = "cli_run/loss.rs"]
mod loss;
#[path = "cli_run/place.rs"]
mod place;
#[path = "cli_run/signals.rs"]
mod signals;
#[path = "cli_run/users.rs"]
mod users;
#[path = "cli_run/watchdog.rs"]
mod watchdog;
