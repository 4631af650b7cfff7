//! Disk leases for virtual machines.
#![deny(unsafe_code)]

pub mod format;
pub mod timing;
mod world;
