//! One error type for each operation on locks.
//!
//! Each variant says what is wrong, where, who holds it and what to do next, and carries as fields
//! what a program needs to decide. That something cannot be read, is damaged, is somebody else's,
//! is held, and took too long are different variants everywhere.

mod acquire;
mod directory;
mod release;

pub use acquire::{AcquireError, LeaseFault};
pub use directory::DirectoryError;
pub use release::{ReleaseError, VerifyError};
