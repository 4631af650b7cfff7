//! What is wrong with a lease itself.

use std::time::Duration;

use crate::format::{FormatError, FormatErrorKind, Generation, HostId, LeaseVersion, NameBytes};
use crate::paxos_lease::LeaseIoError;
use crate::runtime::disk::{Identity, OpenError};
use crate::world::{ReadError, WriteError};

/// What is wrong with a lease. Offsets are bytes from the start of the file or device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseFault {
    /// Its file or device cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(#[source] OpenError),
    /// The storage does not give it.
    #[error("cannot be read at byte {offset}: {error}; see what is wrong with its storage")]
    Unreadable {
        /// Where the read started.
        offset: u64,
        /// Why.
        #[source]
        error: ReadError,
    },
    /// The storage does not take a write.
    #[error("cannot be written at byte {offset}: {error}; see what is wrong with its storage")]
    Unwritable {
        /// Where the sector begins.
        offset: u64,
        /// Why.
        #[source]
        error: WriteError,
    },
    /// An earlier write of this host has not completed; what is read now may still change.
    #[error("has a write of this host that has not completed: wait until the storage answers")]
    WriteInFlight,
    /// The file or device ends before the lease does.
    #[error(
        "ends early: {wanted} bytes are needed from byte {offset} on, {got} are there; if no guest on any host uses it, initialise it, or delete the file if it is one of a lease directory, with its second link below .disklease"
    )]
    TooShort {
        /// Where the lease begins.
        offset: u64,
        /// Bytes needed.
        wanted: usize,
        /// Bytes there.
        got: usize,
    },
    /// The offset is in the middle of a sector.
    #[error("cannot begin at byte {offset}: it must be a multiple of {needed} bytes")]
    Misaligned {
        /// Where the lease should begin.
        offset: u64,
        /// What the offset must be a multiple of, in bytes.
        needed: u32,
    },
    /// There are zeros where it should begin.
    #[error(
        "is not initialised: there are zeros at byte {offset}; if no guest on any host uses it, initialise it, or delete the file if it is one of a lease directory, with its second link below .disklease"
    )]
    NotInitialised {
        /// Where the lease should begin.
        offset: u64,
    },
    /// Another program created its file a short while ago, and may be about to initialise it.
    #[error("is not initialised, but another program may be about to initialise it: it can be replaced after {} s more without a change", remaining.as_secs().saturating_add(1))]
    BeingCreated {
        /// After how much more time without a change it may be replaced.
        remaining: Duration,
    },
    /// It is missing, and so is what would show whether it is a new one: the directory of the second
    /// links was removed. A host that runs may hold it still.
    #[error("is missing: a host may hold it, for the second links that would show this are, or were, missing, too. If no host holds it, `disklease run --wait SECS` can make it after {} s; without --wait each try starts the count anew, unless a host stays joined", remaining.as_secs().saturating_add(1))]
    MayBeHeld {
        /// After how much more time it can be made.
        remaining: Duration,
    },
    /// Its second link is another file. One of the two was put there by hand, or by a host without second
    /// links.
    #[error("has a second link, below .disklease, that is another file: try again")]
    SecondLink {
        /// The file whose lease was acquired and given back.
        first: Identity,
    },
    /// It was retired on purpose.
    #[error("was cleared on purpose: initialise it again if it is wanted")]
    Cleared {
        /// Where it begins.
        offset: u64,
    },
    /// It is the lease of another lockspace or another resource.
    #[error(
        "is the lease of something else: it is named \"{found}\", not \"{expected}\"; is this the right file and offset?"
    )]
    Foreign {
        /// The name that was expected.
        expected: NameBytes,
        /// The name that is there.
        found: NameBytes,
    },
    /// It was made for fewer hosts than this host's id.
    #[error(
        "is for hosts 1 to {num_hosts} only, and this is host {host}: join with a lower host id, or initialise it for more hosts when nobody uses it"
    )]
    TooFewHosts {
        /// This host.
        host: HostId,
        /// How many take part.
        num_hosts: u16,
    },
    /// It is damaged.
    #[error("is damaged at byte {offset}: {error}; initialise it anew when nobody uses it")]
    Damaged {
        /// Where the damaged sector begins.
        offset: u64,
        /// What is wrong.
        #[source]
        error: FormatError,
    },
    /// What this host wrote to it is not there any more.
    #[error(
        "was initialised anew or restored to an older state while this host held it: it is at version {version}; find out who wrote to it"
    )]
    PutBack {
        /// The version that it has now.
        version: LeaseVersion,
    },
    /// Another host has taken it from this one, or it was given back behind its back.
    #[error("was taken: it is at version {version}, owned by {}", owned_by(*owner))]
    Taken {
        /// The version that it has now.
        version: LeaseVersion,
        /// The owner found; `None` when the lease is free.
        owner: Option<(HostId, Generation)>,
    },
    /// Its numbers cannot be raised any more.
    #[error("has used up its numbers: initialise it anew when nobody uses it")]
    NumbersUsedUp,
    /// The path names another file than the one that was locked, or none: other hosts do not see this
    /// lease.
    #[error("was removed or replaced meanwhile; another acquire takes what is there now")]
    Replaced,
}

pub(super) fn host_in_generation((host, generation): (HostId, Generation)) -> String {
    format!("host {host} (generation {generation})")
}

fn owned_by(owner: Option<(HostId, Generation)>) -> String {
    owner.map_or_else(|| "nobody".to_owned(), host_in_generation)
}

impl LeaseFault {
    pub(super) fn of_io(error: LeaseIoError) -> Self {
        match error {
            LeaseIoError::Read {
                offset,
                error: ReadError::EndOfFile { wanted, got },
            } => Self::TooShort {
                offset,
                wanted,
                got,
            },
            LeaseIoError::Read { offset, error } => Self::Unreadable { offset, error },
            LeaseIoError::Write { offset, error } => Self::Unwritable { offset, error },
            LeaseIoError::Format { offset, error } => match *error.kind() {
                FormatErrorKind::Magic { found: 0, .. } => Self::NotInitialised { offset },
                FormatErrorKind::Cleared => Self::Cleared { offset },
                FormatErrorKind::LockspaceName { expected, found }
                | FormatErrorKind::ResourceName { expected, found } => {
                    Self::Foreign { expected, found }
                }
                FormatErrorKind::NumHosts { host, num_hosts } => {
                    Self::TooFewHosts { host, num_hosts }
                }
                _ => Self::Damaged { offset, error },
            },
        }
    }
}
