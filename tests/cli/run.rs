//! `disklease run` and `disklease hold`: processes that run only while their disks are locked.

mod basics;
mod daemons;
mod endings;
mod frozen;
mod hold;
mod keeper;
mod landing;
mod loss;
pub(crate) mod place;
mod signals;
mod users;
mod watchdog;
