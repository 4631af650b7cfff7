//! Real processes that lose their locks, or end with them: who is told, asked to end and killed, and when, and what
//! is left on the disk, as it is seen from outside. N is 1 s and F is 4 s: warned at 6 s, lost at 8 s, killed at
//! 10 s, by the deadman at 11 s, and all is over at 12 s.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::large_stack_arrays,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    clippy::zombie_processes,
    missing_docs,
    reason = "a test, of real processes in real time"
)]

#[path = "fencing/crowd.rs"]
mod crowd;
#[path = "fencing/endings.rs"]
mod endings;
#[path = "fencing/fork.rs"]
mod fork;
#[path = "fencing/frozen.rs"]
mod frozen;
#[path = "fencing/holder.rs"]
mod holder;
#[path = "fencing/ladder.rs"]
mod ladder;
#[path = "fencing/owners.rs"]
mod owners;
#[path = "fencing/place.rs"]
mod place;
