//! Being one with libvirt's hosts: where its lock manager looks for leases and what it calls them.
//!
//! libvirt keeps one directory on storage that all hosts share. In it lie the lockspace
//! `__LIBVIRT__DISKS__` and one file for each disk, named by the MD5 of the disk's path. A host of
//! ours and a libvirt host with sanlock therefore exclude each other when both use the same
//! directory **and the same path for the same disk**.

mod create;
mod lease_directory;
mod names;
mod second_link;
mod state;

pub(crate) use create::Found;
pub use create::{CreateError, CreateErrorKind};
pub use lease_directory::LeaseDirectory;
pub(crate) use lease_directory::{MISSING_HINT, warn_of_one_host};
pub use names::{LOCKSPACE_NAME, lease_name, lockspace_name};
pub(crate) use second_link::{LeaseNames, Second, SecondLinks, is_lease_name};
pub use state::{
    HoldState, LeasePlace, LeaseState, StateError, StateErrorKind, parse_state, state_string,
};
