//! The command `disklease`, as an operator sees it: what it says, makes, runs and refuses.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test, of real processes in real time: a panic is how it fails"
)]

mod dump;
mod init;
mod removed;
mod run;
mod status;
mod twins;
