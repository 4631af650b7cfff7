//! Disk leases for virtual machines.
#![deny(unsafe_code)]

mod delta_lease;
mod disk;
pub mod format;
mod paxos_lease;
pub mod timing;
mod world;

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
