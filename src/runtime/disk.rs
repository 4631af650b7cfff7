//! Real storage.
//!
//! A disk is opened ([`OpenOptions`]) and put on a pool of worker threads ([`IoPool`]), which makes
//! it a [`Disk`]. Its I/O is direct, goes through to the medium, and hangs at the worst for as long
//! as its caller allows. [`StorageWorld`] is the world that the algorithms see of it.

mod error;
mod handle;
mod identity;
mod info;
#[cfg(feature = "cli")]
mod landed;
mod named;
mod open;
mod pool;
mod raw;
mod request;
mod storage_world;
mod writes;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use error::{FileKind, OpenError, OpenErrorKind};
pub use handle::Disk;
pub use identity::{FileSystem, Identity, Links};
pub use info::DiskInfo;
#[cfg(feature = "cli")]
pub use landed::{NotLanded, await_writes, writes_end_with_process};
pub use named::{NamedFile, Refreshed};
pub use open::{Access, OpenOptions, OpenedDisk, file_system_of_one_host};
pub use pool::{IoPool, IoWatch};
#[cfg(test)]
pub(crate) use raw::FileNow;
pub use storage_world::StorageWorld;
