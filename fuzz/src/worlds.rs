//! The algorithms over the simulated world of the tests: one host at a time on an image that was
//! changed in places, and two hosts against each other.

mod chooser;
pub mod delta_acquire;
pub mod paxos_acquire;
mod start;
pub mod two_hosts;
