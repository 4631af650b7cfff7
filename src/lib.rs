//! Disk leases for virtual machines: one virtual disk, one running machine, whatever crashes.
//!
//! A virtual machine monitor holds a [`LockGuard`] for as long as its guest has a disk open. On every host that
//! shares the storage, no second guard for the same disk is given out meanwhile. There is no server and no network
//! in it: hosts agree through sectors on the shared storage itself, by delta leases for host identity and Disk Paxos
//! for each disk, in the on-disk format of `sanlock`. Hosts that run sanlock, as libvirt's do, can share a lockspace
//! with hosts that run this, and exclude each other.
//!
//! ```no_run
//! use std::time::Duration;
//! use disklease::{
//!     Access, HostId, LeaseDirectory, LockManager, LockRequest, Lockspace, Owner, PaxosManager, WaitLimit,
//!     Watchdog,
//! };
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Once a process: join the lockspace on the shared storage, which `disklease init` or
//!     // `LeaseDirectory::create_lockspace` made once. Blocks while the host id is won.
//!     let leases = LeaseDirectory::new("/var/lib/libvirt/sanlock");
//!     let lockspace = Lockspace::options(Watchdog::None)
//!         .io_timeout(Duration::from_secs(10))
//!         .join(leases.lockspace_path(), HostId::new(7)?)?;
//!     let manager: Box<dyn LockManager> = Box::new(PaxosManager::new(lockspace, leases)?);
//!
//!     // Once a guest, before it runs: lock its disks, all or none. The path of a disk is the same on every host.
//!     let request = LockRequest::new(Owner::this_process("guest-1"))
//!         .disk("/srv/images/guest-1.qcow2", Access::Exclusive)
//!         .wait(WaitLimit::For(Duration::from_secs(30)))
//!         .on_lost(|reason| eprintln!("stop the guest at once: {reason}"));
//!     let guard = match manager.acquire(request) {
//!         Ok(guard) => guard,
//!         Err(error) => match error.holder() {
//!             Some(holder) => return Err(format!("held by {holder}").into()),
//!             None => return Err(error.into()),
//!         },
//!     };
//!
//!     // While it runs: put `guard.event_fd()` into the event loop, and ask before each write.
//!     if guard.is_held() { /* submit the write */ }
//!
//!     // When it has stopped, and its writes have completed.
//!     guard.release()?;
//!     Ok(())
//! }
//! ```
//!
//! # What is promised, and what that rests on
//!
//! At no instant may two guests write one disk: no two guards for it say [`is_held`](LockGuard::is_held), and
//! every process that wrote under a lost guard has stopped before another guard is given out. This holds whatever crashes, hangs,
//! pauses, partitions or storage errors happen, as long as
//!
//! 1. **a sector is written whole or not at all, and a write that has completed is seen by every later read**, from
//!    whatever host. With `O_DIRECT`, which this crate requires, that holds for block devices, for NFS exported with
//!    `sync` and for cluster file systems; not with a write-back cache in the host, an asynchronous mirror or an NFS
//!    export with `async`. Without it two hosts can both believe that they won;
//! 2. **clocks of different hosts run at nearly the same rate**, within the margin in [`timing`]. Clocks are never
//!    compared. Without it a host may be taken for dead while it still believes in its leases;
//! 3. **a holder that may no longer write is stopped in time**: its guard says so 8N after the last good renewal, by
//!    the clock. N, the io timeout, limits one read or write on the leases. F is the fire timeout: after its leases are
//!    lost at 8N, a host has F to stop its holders. A holder that has not stopped by the end of the grace, a part of F,
//!    is killed, by this crate's threads, or else by a timer in the kernel; others take over after 8N + F, no sooner. A
//!    write that was submitted while the lock was held, and hangs in the kernel for longer than F, is stopped by a host
//!    [`Watchdog`] alone: without one the promise does not cover it. [`Lockspace::guarantee`] tells what is in force.
//!
//! In a lockspace shared with sanlock hosts the promise is sanlock's: its own protocol can end with two owners if
//! single writes are delayed for very long. Among disklease hosts alone it is ours. The pages
//! [`failure_model`](manual::failure_model) and [`protocol`](manual::protocol) of the manual have the whole.
//!
//! # The layers
//!
//! Each imports only from those above it.
//!
//! | layer | what |
//! | --- | --- |
//! | `probe` | hooks for tests of the algorithms: rules got wrong. Nothing without the private feature |
//! | [`mod@format`] | bytes to typed records and back; no I/O, no clock |
//! | [`timing`] | every derived time, and why a takeover cannot overlap |
//! | `world` | the one trait under the algorithms: disks, clock, sleep, chance |
//! | `delta_lease`, `paxos_lease` | the algorithms, as `async fn`s over `world`: one text in production and simulation |
//! | `host` | what a member host does by itself, over `world`: renewal, escalation, cleanup |
//! | `runtime` | the real world: clocks, an executor, direct I/O on worker threads with deadlines |
//! | `fence` | making sure that a holder stops: signals to its process, the deadman timer, host watchdogs |
//! | [`libvirt`] | libvirt's lease directory and names |
//! | [`lockspace`] | the live membership: join, renewal, loss, leave |
//! | `manager` | lock managers and guards: what an embedder uses |
//! | [`inspect`] | reads without a lock: what a lockspace or lease holds, and which host holds what |
//!
//! # Features
//!
//! * `cli`: the operator's command `disklease`.
#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    feature = "__sim",
    allow(
        rustdoc::private_intra_doc_links,
        reason = "the private feature is for tests, not for docs"
    )
)]

#[allow(
    unreachable_pub,
    unused_imports,
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "a layer of this crate: `pub` is its interface to the layers above"
)]
mod delta_lease;
#[allow(
    unreachable_pub,
    reason = "a layer of this crate: `pub` is its interface to the layers above"
)]
mod fence;
pub mod format;
#[allow(
    unreachable_pub,
    unused_imports,
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "a layer of this crate: `pub` is its interface to the layers above"
)]
mod host;
pub mod inspect;
pub mod libvirt;
pub mod lockspace;
mod manager;
#[cfg(doc)]
pub mod manual;
#[allow(
    unreachable_pub,
    unused_imports,
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "a layer of this crate: `pub` is its interface to the layers above"
)]
mod paxos_lease;
#[allow(
    unreachable_pub,
    reason = "a layer of this crate: `pub` is its interface to the layers above"
)]
mod probe;
#[allow(
    unnameable_types,
    unreachable_pub,
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "a layer of this crate: `pub` is its interface to the layers above"
)]
mod runtime;
pub mod timing;
#[allow(
    unreachable_pub,
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "a layer of this crate: `pub` is its interface to the layers above"
)]
mod world;

pub use delta_lease::{
    ClaimError, DeltaReleaseError, DeltaReleaseErrorKind, DeltaSectorError, DeltaSectorErrorKind,
    HostIdLoss, HostState, PutBack,
};
pub use fence::{DeviceLack, WatchdogError, WatchdogErrorKind, die_with_this_thread};
pub use format::HostId;
pub use libvirt::LeaseDirectory;
pub use lockspace::{JoinError, JoinErrorKind, LeaveError, Lockspace, LossReason, Watchdog};
pub use manager::{
    Accepted, Access, AcquireError, AcquireErrorKind, DirectoryError, FailureAction, FailureMeans,
    HandedOver, HandoverAnswer, HandoverError, HandoverOutcome, HandoverToken, HelperProgram,
    LeaseFault, LeaseSpec, LockError, LockEvent, LockGuard, LockInfo, LockManager, LockRequest,
    Locked, LossCallback, ManagerKind, NopManager, Offer, OfferError, Owner, PaxosManager,
    ReleaseError, ReleaseErrorKind, SuspendError, SuspendedLocks, TokenError, UnknownManager,
    VerifyError, VerifyErrorKind, WaitLimit,
};
pub use paxos_lease::{Holder, LaterHolder, OwnerSeen, VersionChange};
pub use runtime::disk::{FileKind, OpenError, OpenErrorKind};
pub use world::{CancelToken, OsError, ReadError, WriteError};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What this package's own command needs beyond the public API. Not part of that.
#[cfg(feature = "cli")]
#[doc(hidden)]
#[allow(missing_docs, reason = "documented where they are")]
pub mod __cli {
    pub use crate::fence::{
        Deadman, OwnerProcess, SignalFd, SignalMask, is_ignored, mount_proc, new_pid_namespace,
    };
    pub use crate::runtime::clock;
    pub use crate::runtime::disk::{NotLanded, await_writes, writes_end_with_process};
    pub use crate::world::Timestamp;

    /// Whether a disk may be known by `path`. No disk is read.
    ///
    /// # Errors
    ///
    /// Those with which an acquire refuses it.
    pub fn check_disk_path(path: &std::path::Path) -> Result<(), crate::AcquireError> {
        crate::manager::spelling::check_disk_path(path)
    }

    /// A text from a disk or a path, with what would move a terminal's cursor or text escaped.
    #[must_use]
    pub fn escaped(text: &str) -> String {
        crate::format::escaped(text)
    }

    /// Bytes as lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(bytes: &[u8]) -> String {
        crate::format::Hex(bytes).to_string()
    }

    /// No later join of this host id counts this one as ended before its leases have expired: see
    /// [`holds_for_others`](crate::lockspace::LockspaceOptions::holds_for_others).
    pub fn leave_no_proof(lockspace: &crate::Lockspace) {
        lockspace.inner().shared.revoke_proof();
    }

    /// When the leases are lost should no renewal succeed from now on; `None` when they are lost.
    #[must_use]
    pub fn deadline(lockspace: &crate::Lockspace) -> Option<Timestamp> {
        lockspace.membership().expiry().deadline()
    }
}

/// The algorithms, for this package's own tests, benches and fuzzers. Not part of the public API.
#[cfg(feature = "__sim")]
#[doc(hidden)]
pub mod __sim {
    /// The trait under the algorithms.
    pub mod world {
        pub use crate::world::*;
    }
    /// The kernel's clocks.
    pub mod runtime {
        pub use crate::runtime::clock;
    }
    /// Leases on host ids.
    pub mod delta_lease {
        pub use crate::delta_lease::*;
    }
    /// Leases on resources.
    pub mod paxos_lease {
        pub use crate::paxos_lease::*;
    }
    /// What stops a holder.
    pub mod fence {
        pub use crate::fence::*;
    }
    /// What a member host does by itself.
    pub mod host {
        pub use crate::host::*;
    }
    /// Rules got wrong on purpose, and what an algorithm keeps.
    pub mod probe {
        pub use crate::probe::*;
    }
}
