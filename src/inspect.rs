//! Inspects lockspaces and leases without taking part: nothing is written, nothing is locked.
//!
//! A report shows what the storage held when the bytes were read. Whether a host lives, only several reads
//! can tell ([`LeaseDirectoryStatus`]); whether a disk is free to take, only an acquire can. Every file is
//! reported as the file is: damaged, cut short, zeroed or of another program. What cannot be understood is
//! reported as [`Damage`] at its byte offset, beside all that can.
//!
//! | to inspect | function |
//! | --- | --- |
//! | everything in a file or device | [`inspect_file`] |
//! | hosts and held disks of a lease directory | [`LeaseDirectoryStatus::observe`] |

mod error;
mod file;
mod held;
mod hosts;
mod lease;
mod local;
mod lockspace;
mod recognise;
mod source;
mod status;

pub use error::{Damage, InspectError, InspectErrorKind};
pub use file::{Area, FileOptions, FileReport, inspect_file};
pub use held::{HeldDisk, Holding, LeaseProblem, LeaseProblemKind};
pub use hosts::HostStatus;
pub use lease::{HostBlock, LeaseReport};
pub use local::LocalRenewal;
pub use lockspace::{HostSector, LockspaceReport};
pub use status::{LeaseDirectoryStatus, StatusOptions, Watch};
