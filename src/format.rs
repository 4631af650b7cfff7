//! The format on the shared storage: bytes to typed records and back.
//!
//! Nothing here does I/O, reads a clock or panics, whatever bytes it is given. A value of
//! [`DeltaLeader`] or [`PaxosLeader`] has passed every check that its bytes allow; what was wrong
//! otherwise, and in which [`Structure`], is in the [`FormatError`].
//!
//! ```text
//! lockspace area:  | host 1 | host 2 | ...                            one sector for each host id
//!     each sector:   DeltaLeader 0..200, HostNote 200..256, HostBitmap 256..512
//!     last sector:   LockspaceId 0..24
//!
//! lease area:      | leader | request | host 1 | host 2 | ...         and the value block in sector 2002
//!     leader:        PaxosLeader 0..200
//!     request:       RequestRecord 0..24
//!     each host:     Dblock 0..56, ModeBlock 128..144, HolderNote 256..512
//! ```
//!
//! Every sector is written whole, so a writer fills a zeroed `SectorHead` with all the records that
//! the sector is to hold. The `write_to` functions, which are this crate's own, leave the bytes that are
//! not theirs alone. Integers are little-endian.
//!
//! # Examples
//!
//! ```
//! use disklease::format::{Geometry, LockspaceName, lockspace_image, probe_lockspace};
//!
//! let area = lockspace_image(Geometry::S512_A1M, &LockspaceName::new("LS")?, 10, None);
//! assert_eq!(probe_lockspace(&area)?, Geometry::S512_A1M);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![allow(
    clippy::exhaustive_structs,
    reason = "a record has the fields that the format has"
)]

mod bitmap;
mod checksum;
mod dblock;
mod delta_leader;
mod error;
mod geometry;
mod holder_note;
mod host_note;
mod ids;
mod image;
mod layout;
mod leader;
mod name;
mod note;
mod paxos_leader;
mod probe;
mod request;
#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test fails by panicking, in its helpers too"
)]
mod tests;

#[cfg(any(test, feature = "__sim"))]
pub use dblock::ModeBlock;
#[cfg(feature = "__sim")]
pub use paxos_leader::Commit;

pub use bitmap::HostBitmap;
pub use checksum::checksum;
pub use dblock::{Dblock, DblockSector, Input};
pub use delta_leader::DeltaLeader;
pub use error::{FormatError, FormatErrorKind, Structure};
pub use geometry::Geometry;
pub use holder_note::{HolderNote, Tenure};
pub use host_note::HostNote;
pub(crate) use ids::Hex;
pub use ids::{
    Generation, HostId, HostIdError, Incarnation, LeaseVersion, LockspaceId, LockspaceIdError,
    OfferId,
};
pub use image::{lease_image, lockspace_image};
pub(crate) use layout::SectorHead;
#[cfg(feature = "cli")]
pub(crate) use name::escaped;
pub use name::{HostName, LockspaceName, NameBytes, NameError, ResourceName};
pub use note::NoteState;
#[cfg(not(feature = "__sim"))]
pub(crate) use paxos_leader::Commit;
pub use paxos_leader::PaxosLeader;
pub use probe::{PROBE_LEN, probe_lease, probe_lockspace};
pub use request::RequestRecord;
