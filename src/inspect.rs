//! Inspects lockspaces and leases without taking part: nothing is written, nothing is locked.
//!
//! What an inspection shows was so when it was read; whether a host lives can be told
//! only by reading twice ([`LeaseDirectoryStatus`]), and whether a disk is free to take only by
//! taking it. Every file is taken as it is: damaged, cut short, zeroed or of another program. What
//! cannot be understood is shown as [`Damage`] at its byte offset, beside all that can.
//!
//! | to inspect | function |
//! | --- | --- |
//! | everything in a file or device | [`look`] |
//! | hosts and held disks of a lease directory | [`LeaseDirectoryStatus::observe`] |

mod area;
mod error;
mod file;
mod lease;
mod lockspace;
mod recognise;
mod source;
mod status;

pub use area::Area;
pub use error::{Damage, LookError, StatusError};
pub use file::{FileLook, LookOptions, look};
pub use lease::{HostBlock, LeaseLook};
pub use lockspace::{HostSector, LockspaceLook};
pub use status::{
    HeldDisk, Holding, HostStatus, LeaseDirectoryStatus, LeaseProblem, LeaseProblemKind,
    LocalRenewal, StatusOptions, Watch,
};
