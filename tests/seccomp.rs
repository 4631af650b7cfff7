//! Real processes that close a system call filter on all their threads once they hold their locks: the lists in
//! `docs/embedding.md` are enough, and none of what they are made of can be spared. N is 1 s and F is 4 s, as in
//! `fencing`.

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

#[path = "seccomp/enough.rs"]
mod enough;
#[path = "seccomp/filter.rs"]
mod filter;
#[path = "seccomp/holder.rs"]
mod holder;
#[path = "seccomp/lists.rs"]
mod lists;
#[path = "seccomp/needed.rs"]
mod needed;
#[allow(dead_code, reason = "`fencing` uses all of it")]
#[path = "fencing/place.rs"]
mod place;
