//! Making sure that a holder that may no longer write is stopped, from near to far.
//!
//! | fence | what it stops | what it cannot |
//! | --- | --- | --- |
//! | a signal to the owner ([`OwnerProcess`]) | another process that holds a lock | one that hangs in the kernel |
//! | the [`Deadman`] | this process, also when it is stopped by SIGSTOP or all its threads hang | an I/O that the kernel has already |
//! | a [`HostWatchdog`]: [`Wdmd`] or a [`WatchdogDevice`] | this host, whatever hangs in it | a host that is suspended |
//!
//! Which of them are in force is the [`lockspace`](crate::lockspace)'s to say.

mod deadman;
#[cfg(feature = "cli")]
mod namespace;
mod parent_death;
mod process;
#[cfg(feature = "cli")]
mod signals;
mod watchdog;
mod watchdog_device;
mod wdmd;

pub use deadman::Deadman;
#[cfg(feature = "cli")]
pub use namespace::{mount_proc, new_pid_namespace};
pub use parent_death::die_with_this_thread;
pub use process::OwnerProcess;
#[cfg(feature = "cli")]
pub use signals::{SignalFd, SignalMask, is_ignored};
pub use watchdog::{DeviceLack, HostWatchdog, WatchdogError, WatchdogErrorKind};
pub use watchdog_device::WatchdogDevice;
pub use wdmd::{DEFAULT_SOCKET as WDMD_SOCKET, Wdmd};
