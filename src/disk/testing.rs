//! Storage for tests: memory whose I/O hangs on command, and loop devices.

mod hanging;
mod loop_device;

pub(crate) use hanging::HangingDisk;
pub(crate) use loop_device::LoopDevice;
