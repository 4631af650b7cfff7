//! Disk leases for virtual machines.
#![deny(unsafe_code)]

mod delta_lease;
mod disk;
mod error;
pub mod format;
pub mod inspect;
pub mod libvirt;
pub mod lockspace;
pub mod manager;
mod paxos_lease;
pub mod timing;
mod world;

pub use disk::{FileKind, OpenError};
pub use error::{AcquireError, JoinError, LeaseFault, LeaveError, ReleaseError, VerifyError};
pub use format::HostId;
pub use libvirt::LeaseDirectory;
pub use lockspace::{Lockspace, LossReason, Watchdog};
pub use manager::{
    Access, LeaseSpec, LockGuard, LockManager, LockRequest, NopManager, Owner, PaxosManager,
    WaitLimit,
};
pub use paxos_lease::{Holder, OwnerSeen};
pub use world::{OsError, ReadError, WriteError};

/// The algorithms, for this package's own tests, benches and fuzzers. Not part of the public API.
#[cfg(feature = "__sim")]
#[doc(hidden)]
pub mod __sim {
    /// The trait under the algorithms.
    pub mod world {
        pub use crate::world::*;
    }
    /// Leases on host ids.
    pub mod delta_lease {
        pub use crate::delta_lease::*;
    }
    /// Leases on resources.
    pub mod paxos_lease {
        pub use crate::paxos_lease::*;
    }
}
