//! The rules of leases on resources, one test for each, in virtual time.

mod acquire;
mod ballot;
mod counter_examples;
mod faults;
mod owner;
mod precondition;
mod release;
mod restored;
mod setup;
mod shared;
mod wrong;
