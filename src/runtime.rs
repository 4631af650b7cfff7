//! The real world under the algorithms: threads, clocks, storage.
//!
//! | what | where |
//! | --- | --- |
//! | run one future, and all that it joins, on the calling thread | [`executor`] |
//! | the kernel's clocks and chance | [`clock`] |
//! | disks, and the [`World`](crate::world::World) of them all | [`disk`] |

pub mod clock;
pub mod disk;
pub mod executor;
mod rules;
mod timer;
