//! Storage for tests: memory whose I/O hangs on command, and loop devices.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

mod answering;
mod hanging;
mod loop_device;

pub(crate) use answering::answering;
pub(crate) use hanging::HangingDisk;
pub(crate) use loop_device::LoopDevice;
