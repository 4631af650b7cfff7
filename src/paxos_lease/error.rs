//! Why a lease was not acquired, verified or given back.

use super::holder::{Holder, VersionChange};
use crate::delta_lease::DeltaSectorError;
use crate::format::{FormatError, FormatErrorKind, Generation, HostId, LeaseVersion};
use crate::world::{ReadError, WriteError};

/// Why a sector of a lease could not be read, believed or written. Offsets are bytes from the start
/// of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseIoError {
    /// The storage did not give it.
    #[error("the lease cannot be read at byte {offset}: {error}")]
    Read {
        /// Where the read started.
        offset: u64,
        /// Why.
        error: ReadError,
    },
    /// The storage gave something that is not this lease.
    #[error("the lease at byte {offset} is not valid: {error}")]
    Format {
        /// Where the sector begins.
        offset: u64,
        /// What is wrong with it.
        error: FormatError,
    },
    /// The storage did not report the write as done.
    #[error("the lease cannot be written at byte {offset}: {error}")]
    Write {
        /// Where the sector begins.
        offset: u64,
        /// Why.
        error: WriteError,
    },
}

impl LeaseIoError {
    /// Whether something else than this lease lies there, or nothing: the file was cut off, cleared
    /// or overwritten, or is gone on its server. Damage within a record is none of these: no host
    /// can take a lease that is damaged.
    pub(super) const fn shows_other_content(self) -> bool {
        match self {
            Self::Read { error, .. } => match error {
                ReadError::EndOfFile { .. } => true,
                ReadError::Failed(error) => error.errno() == libc::ESTALE,
                ReadError::TimedOut(_) => false,
            },
            Self::Format { error, .. } => matches!(
                error.kind(),
                FormatErrorKind::Magic { .. }
                    | FormatErrorKind::Cleared
                    | FormatErrorKind::LockspaceName { .. }
                    | FormatErrorKind::ResourceName { .. }
            ),
            Self::Write { .. } => false,
        }
    }
}

/// Why a sector is not known to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotWritten {
    /// INV-MEMBER: this host's own delta lease is lost. Nothing was written, and nothing will be.
    LockspaceLost,
    /// The storage did not report the write as done. It may land all the same.
    Unknown(LeaseIoError),
}

/// Why a lease was not acquired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The lease's own sectors could not be read, believed or written.
    #[error(transparent)]
    Lease(#[from] LeaseIoError),
    /// Another host owns it.
    #[error("the lease is held by {0}")]
    Held(Box<Holder>),
    /// Other hosts hold it in shared mode.
    #[error("the lease is held in shared mode by host {}", hosts.iter().map(|(host, _)| host.to_string()).collect::<Vec<_>>().join(", "))]
    HeldShared {
        /// Host ids and generations.
        hosts: Vec<(HostId, Generation)>,
    },
    /// The owner's delta lease cannot be read or is damaged, so whether the owner lives is not known.
    #[error(
        "the lease is held by host {owner}, and whether that host is alive is not known: {error}"
    )]
    OwnerUnreadable {
        /// Who owns the lease.
        owner: HostId,
        /// What is wrong.
        error: DeltaSectorError,
    },
    /// The lease names a host in a generation that it has not reached yet: the lockspace was made
    /// anew while the lease was kept. Whether that owner is alive is not known.
    #[error(
        "the lease is owned by host {host_id} in generation {on_lease}, the lockspace is only at generation {in_lockspace}: was the lockspace initialised anew?"
    )]
    FromTheFuture {
        /// The owner: this host or another.
        host_id: HostId,
        /// What the lease says.
        on_lease: Generation,
        /// What the lockspace says.
        in_lockspace: Generation,
    },
    /// Another process with this host's id, name and generation has it: a twin, by mistake.
    #[error(
        "the lease was taken by another host with this host's id {host_id} and name (generation {generation})"
    )]
    HeldByTwin {
        /// The id of both.
        host_id: HostId,
        /// The generation of both.
        generation: Generation,
    },
    /// Others balloted for it all the time.
    #[error("the lease could not be won against other hosts in {rounds} rounds")]
    Contended {
        /// How many times it was tried.
        rounds: u32,
    },
    /// The lease is not at the version that is required.
    #[error("the lease is {0}")]
    VersionChanged(Box<VersionChange>),
    /// The lease was given back, or its holder is dead, but it was not handed over by the offer that
    /// was to be accepted.
    #[error("the lease, at version {version}, was not handed over by this offer")]
    NotHandedOver {
        /// The version of the offer.
        version: LeaseVersion,
        /// Who made the offer.
        by: Option<(HostId, Generation)>,
    },
    /// Versions or ballot numbers cannot be raised any more.
    #[error("the lease's version or ballot numbers are used up")]
    NumbersUsedUp,
    /// An earlier write of this host to the lease has not completed; nothing may be decided before it
    /// has.
    #[error("an earlier write of this host to the lease has not completed yet")]
    WriteInFlight,
    /// This host's own delta lease was lost meanwhile.
    #[error("the lockspace is lost")]
    LockspaceLost,
}

impl From<NotWritten> for AcquireError {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::LockspaceLost => Self::LockspaceLost,
            NotWritten::Unknown(error) => Self::Lease(error),
        }
    }
}

/// Why a lease was not given back, or not by this host; or why what was left of it is not cleaned up
/// yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GiveBackError {
    /// The storage failed half-way. On the disk this host may still own the lease: that is to be
    /// cleaned up.
    #[error(transparent)]
    Lease(#[from] LeaseIoError),
    /// The leader is not what made this host the owner. Either another host took the lease, and nothing was
    /// written; or the leader is an older record of this host's own, and only the mark was written.
    #[error(
        "the lease is not this host's any more: it is at version {version}, last written by host {writer}"
    )]
    NotOurs {
        /// The version found.
        version: LeaseVersion,
        /// Who wrote the leader last.
        writer: u64,
    },
    /// What this host wrote to its own sector is not there any more: the lease was initialised anew,
    /// or restored to an older state. Nothing was written.
    #[error(
        "the lease on the disk is not the one that was held: it was initialised anew or restored to an older state, and is at version {version}; nothing was written to it"
    )]
    NotThere {
        /// The version found.
        version: LeaseVersion,
    },
    /// An earlier write of this host to the lease has not completed. To be tried again when it has.
    #[error("an earlier write of this host to the lease has not completed yet")]
    WriteInFlight,
    /// This host's own delta lease is lost: others judge the lease by that now. From then on
    /// nothing was written.
    #[error("the lease was not given back: its lockspace is lost")]
    LockspaceLost,
}

impl From<NotWritten> for GiveBackError {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::LockspaceLost => Self::LockspaceLost,
            NotWritten::Unknown(error) => Self::Lease(error),
        }
    }
}

/// Why a lease cannot be confirmed to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The storage does not tell. The lease may still be ours.
    #[error(transparent)]
    Lease(#[from] LeaseIoError),
    /// Something else lies there, or nothing: the lease is lost.
    #[error("the lease is not on its disk any more: {0}")]
    NotThere(LeaseIoError),
    /// The lease was initialised anew, or restored to an older state: it is lost.
    #[error(
        "the lease was initialised anew or restored to an older state: it is at version {version}"
    )]
    PutBack {
        /// The version found.
        version: LeaseVersion,
    },
    /// The disk names another owner: the lease is lost.
    #[error("the lease is not this host's any more: it is at version {version}, owned by host {}", owner.map_or_else(|| "none".to_owned(), |(host, generation)| format!("{host} in generation {generation}")))]
    NotOurs {
        /// The version found.
        version: LeaseVersion,
        /// The owner found, `None` when the lease is free.
        owner: Option<(HostId, Generation)>,
    },
}
