//! Joining, leaving and losing a lockspace: each way in which it can go wrong, by name and in
//! bounded time.

#![allow(
    clippy::disallowed_methods,
    reason = "real files and real processes, in real time"
)]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is how it fails"
)]

#[path = "lockspace_errors/devices.rs"]
mod devices;
#[path = "lockspace_errors/files.rs"]
mod files;
#[path = "lockspace_errors/fire_timeouts.rs"]
mod fire_timeouts;
#[path = "lockspace_errors/in_flight.rs"]
mod in_flight;
#[path = "lockspace_errors/lives.rs"]
mod lives;
#[path = "lockspace_errors/loss.rs"]
mod loss;
#[path = "lockspace_errors/place.rs"]
mod place;
#[path = "lockspace_errors/settling.rs"]
mod settling;
#[path = "lockspace_errors/twice.rs"]
mod twice;
