//! What goes wrong with locks: one type, with a kind for each operation.
//!
//! A [`LockError`] says once which lock it is about and where the lease of that lies; its kind says what is
//! wrong, who holds the lock and what to do next, and carries as fields what a program needs to decide. That
//! something cannot be read, is damaged, is another host's, is held, and took too long are different kinds
//! everywhere.

mod acquire;
mod directory;
mod fault;
mod lock_error;
mod release;

pub use acquire::{AcquireError, AcquireErrorKind};
pub use directory::DirectoryError;
pub use fault::LeaseFault;
pub use lock_error::LockError;
pub use release::{ReleaseError, ReleaseErrorKind, VerifyError, VerifyErrorKind};
