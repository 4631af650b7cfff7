//! Acquiring locks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::guard::Locked;
use super::DirectoryError;
use crate::delta_lease::DeltaSectorError;
use crate::fence::WatchdogError;
use crate::format::{FormatError, Generation, HostId, LeaseVersion, LockspaceName, NameBytes};
use crate::host::{LossReason, NotReserved};
use crate::libvirt::CreateError;
use crate::paxos_lease::{self, Holder, LeaseIoError, VersionChange};
use crate::runtime::disk::{Identity, OpenError};
use crate::world::{OsError, ReadError, WriteError};

/// Why nothing was locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Another host has it.
    #[error("{locked} is held by {holder}")]
    Held {
        /// What was asked for.
        locked: Locked,
        /// Who has it, and what is known of that host's life.
        holder: Box<Holder>,
    },
    /// Other hosts have it in shared mode.
    #[error("{locked} is held in shared mode by {}", list_of_hosts(hosts))]
    HeldShared {
        /// What was asked for.
        locked: Locked,
        /// Their host ids and generations.
        hosts: Vec<(HostId, Generation)>,
    },
    /// The caller did not want to wait any longer.
    #[error("the wait for {locked} was cancelled")]
    Cancelled {
        /// What was waited for.
        locked: Locked,
    },
    /// Another guard of this process has it, or is just acquiring it.
    #[error("{locked} is held by another guard of this process")]
    HeldHere {
        /// What was asked for.
        locked: Locked,
    },
    /// An acquire or release of this process failed half-way and is being settled in the
    /// background.
    #[error(
        "{locked} is not settled yet after an I/O error of this host: try again when the storage answers"
    )]
    NotSettled {
        /// What was asked for.
        locked: Locked,
    },
    /// Other hosts wanted it too, all the time.
    #[error("{locked} could not be won against other hosts in {rounds} rounds: try again")]
    Contended {
        /// What was asked for.
        locked: Locked,
        /// How many.
        rounds: u32,
    },
    /// The owner's own lease cannot be read or is damaged, so nobody can tell whether it lives.
    #[error("{locked} is held by host {owner}, whose life cannot be judged: {error}")]
    OwnerUnreadable {
        /// What was asked for.
        locked: Locked,
        /// Who has it.
        owner: HostId,
        /// What is wrong with its sector in the lockspace.
        error: DeltaSectorError,
    },
    /// The lease is of a later life of its owner, this host or another, than there ever was in this
    /// lockspace. So nothing can be told of the owner: it may run, and renew in a lockspace that was
    /// replaced by this one.
    #[error(
        "{locked} is owned by host {host_id} in generation {on_lease}, but its lockspace is only at generation {in_lockspace}: the lockspace was initialised anew; initialise the lease {path:?} too, when nobody uses it"
    )]
    FromTheFuture {
        /// What was asked for.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// The owner.
        host_id: HostId,
        /// What the lease says.
        on_lease: Generation,
        /// What the lockspace says.
        in_lockspace: Generation,
    },
    /// Another host with this host's id and name has it.
    #[error(
        "{locked}: the lease in {path:?} was taken by another host with this host's id {host_id} and name (generation {generation}): give each machine a host id and a name of its own; where none is, leave the lockspace and join it again"
    )]
    HeldByTwin {
        /// What was asked for.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// The id of both.
        host_id: HostId,
        /// The generation of both.
        generation: Generation,
    },
    /// Something is wrong with the lease itself.
    #[error("{locked}: the lease in {path:?} {fault}")]
    Lease {
        /// What was asked for.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// What is wrong.
        fault: LeaseFault,
    },
    /// It is not as it was left: somebody has had it since. To go on with the guest would ruin its
    /// disk; it can be started from its disk as it is now.
    #[error(
        "{locked}: the lease in {path:?} is {change}; the guest must not go on from where it was, only start anew"
    )]
    NotAsLeft {
        /// What was asked for.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// What was expected, what was found, and who has or had it.
        change: Box<VersionChange>,
    },
    /// It was offered, but not handed over by that offer: its holder gave it back otherwise, or died.
    /// The guest may have run on after it was copied.
    #[error(
        "{locked}: the lease in {path:?}, at version {version}, was not handed over by this offer{}: the guest that was received must not run",
        by.as_ref().map_or_else(String::new, |(host, generation)| format!(" of host {host} (generation {generation})"))
    )]
    NotHandedOver {
        /// What was asked for.
        locked: Locked,
        /// The file or device with the lease.
        path: PathBuf,
        /// The version of the offer.
        version: LeaseVersion,
        /// Who made the offer.
        by: Option<(HostId, Generation)>,
    },
    /// What is asked for is not what was suspended or offered.
    #[error("{locked} is not among what was suspended or offered, or more was than is asked for")]
    OtherLocks {
        /// What was asked for, or not asked for.
        locked: Locked,
    },
    /// The state says of it no version, as it was held in shared mode: nothing tells whether it is as
    /// it was left.
    #[error("{locked} has no version in the state: it cannot be resumed, only acquired")]
    VersionUnknown {
        /// What was asked for.
        locked: Locked,
    },
    /// The lease does not exist and could not be created, or what it needs beside it.
    #[error("{locked}: its lease cannot be created: {error}")]
    Create {
        /// What was asked for.
        locked: Locked,
        /// Why.
        error: CreateError,
    },
    /// This host's own lease is lost; the lockspace must be left and joined anew.
    #[error("the lockspace is lost{}: leave it and join again", reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})")))]
    LockspaceLost {
        /// Why, as far as it is known already.
        reason: Option<LossReason>,
    },
    /// A lease was lost again before all were acquired, though this host's own lease is good.
    #[error("the locks were lost again before all were acquired: {reason}")]
    Lost {
        /// Why.
        reason: LossReason,
    },
    /// The path that was joined does not name the lockspace any more: it was removed or replaced.
    /// Hosts that have joined what is there now do not see this one, nor it them.
    #[error(
        "the lockspace {path:?} was removed or replaced since it was joined: leave it and join again"
    )]
    LockspaceReplaced {
        /// The path.
        path: PathBuf,
    },
    /// The lease directory is not the one of the lockspace any more: it is not mounted, or another one
    /// is mounted in its place.
    #[error("nothing is locked in a lease directory of another lockspace: {error}")]
    Directory {
        /// What is there.
        error: DirectoryError,
    },
    /// The lease is of a lockspace that this manager has not joined.
    #[error("the lease is of lockspace \"{asked_for}\", this manager has joined \"{joined}\"")]
    OtherLockspace {
        /// The lease's lockspace.
        asked_for: LockspaceName,
        /// The manager's.
        joined: LockspaceName,
    },
    /// The manager was made without a lease directory, where the leases of disks are.
    #[error("the lease of {disk:?} is in no lease directory: this manager was made without one")]
    NoLeaseDirectory {
        /// The disk.
        disk: PathBuf,
    },
    /// A path is relative, or holds a zero byte. What it names would depend on who asks.
    #[error(
        "{path:?} is no absolute path: a disk is known by the same absolute path on every host"
    )]
    PathNotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// A path has `//`, `.`, `..` or a slash at its end. The disk would have another lease under each
    /// spelling, and a guest under each.
    #[error(
        "{path:?} is not in normal form: each spelling of a path has a lease of its own, so that two guests could run on one disk. If it is the same disk, name it {normal:?}, for its guest and on every host"
    )]
    PathNotNormal {
        /// The path.
        path: PathBuf,
        /// What it looks like in normal form. Another file where a symbolic link comes before a `..`.
        normal: PathBuf,
    },
    /// The request names something twice.
    #[error("{path:?} is named twice in one request")]
    NamedTwice {
        /// The path.
        path: PathBuf,
    },
    /// The request names nothing.
    #[error("the request names no disk and no lease")]
    NothingToLock,
    /// The process that is to own the locks is not there, or cannot be watched.
    #[error("process {pid}, which is to own the locks, cannot be watched: {error}")]
    OwnerGone {
        /// Its number.
        pid: u32,
        /// Why.
        error: OsError,
    },
    /// The process that is to own the locks may not be sent signals by this one, which could not stop
    /// it when they are lost.
    #[error(
        "process {pid}, which is to own the locks, cannot be stopped by this one ({error}): run both as the same user, or give this one CAP_KILL"
    )]
    OwnerOutOfReach {
        /// Its number.
        pid: u32,
        /// Why.
        error: OsError,
    },
    /// The program that is to be run when the locks are lost cannot be run.
    #[error("the helper {program:?}, to be run when the locks are lost, cannot be: {error}")]
    Helper {
        /// The program.
        program: PathBuf,
        /// Why: it is not there, it is no program, or its path is not absolute.
        error: OsError,
    },
    /// Another process is to pause or restart its guest by itself when the locks are lost, and
    /// nothing would tell it.
    #[error(
        "another process is not told of a lost lock: name a helper or a callback that pauses or restarts its guest"
    )]
    NoMeans,
    /// A loss is to be ignored, and the host watchdog of this lockspace would not.
    #[error(
        "a lost lock cannot be ignored where a host watchdog is in force: join without one, or choose what is to be done"
    )]
    IgnoredWithWatchdog,
    /// The host watchdog does not work, and nothing is locked without it.
    #[error("nothing is locked without the host watchdog that was chosen: {error}")]
    Unprotected {
        /// What is wrong with it.
        error: WatchdogError,
    },
    /// The system refuses a thread that is needed to watch the owner.
    #[error("no thread is to be had to watch the owner of the locks: {error}")]
    Threads {
        /// Why.
        error: OsError,
    },
    /// The system refuses a descriptor for the guard's events.
    #[error("no event descriptor is to be had: {error}")]
    EventFd {
        /// Why.
        error: OsError,
    },
}

fn list_of_hosts(hosts: &[(HostId, Generation)]) -> String {
    let hosts: Vec<_> = hosts
        .iter()
        .map(|(host, generation)| format!("host {host} (generation {generation})"))
        .collect();
    hosts.join(", ")
}

/// What is wrong with a lease. Offsets are bytes from the start of the file or device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseFault {
    /// Its file or device cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(OpenError),
    /// The storage does not give it.
    #[error("cannot be read at byte {offset}: {error}")]
    Unreadable {
        /// Where the read began.
        offset: u64,
        /// Why.
        error: ReadError,
    },
    /// The storage does not take a write.
    #[error("cannot be written at byte {offset}: {error}")]
    Unwritable {
        /// Where the sector begins.
        offset: u64,
        /// Why.
        error: WriteError,
    },
    /// An earlier write of this host has not ended; what is read now may still change.
    #[error(
        "has a write of this host under way that has not ended: wait until the storage answers"
    )]
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
    /// It was begun and not finished, not long ago: somebody may still be at it.
    #[error("is not initialised, but somebody may be about to: it can be replaced after {} s more without a change", remaining.as_secs().saturating_add(1))]
    BeingCreated {
        /// After how much more time without a change it may be replaced.
        remaining: Duration,
    },
    /// It is missing, and so is what would show whether it is a new one: the directory of the second
    /// links was removed. A host that runs may hold it still.
    #[error("is missing, and the second links of the leases are, or were: a host that runs may hold it; unless one does it can be made in {} s, by who waits for that (`disklease run --wait`): without, each try begins anew where no host stays", remaining.as_secs().saturating_add(1))]
    MayBeHeld {
        /// After how much more time it can be made.
        remaining: Duration,
    },
    /// Its second link is another file. One of both was put there by hand, or by a host without second
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
    #[error("is another's: it is named \"{found}\", not \"{expected}\"")]
    Foreign {
        /// The name that was expected.
        expected: NameBytes,
        /// The name that is there.
        found: NameBytes,
    },
    /// It was made for fewer hosts than this host's id.
    #[error("is for hosts 1 to {num_hosts} only, and this is host {host}")]
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
        error: FormatError,
    },
    /// What this host wrote to it is not there any more.
    #[error(
        "was initialised anew or put back to an older state while this host held it: it is at version {version}"
    )]
    PutBack {
        /// The version that it has now.
        version: LeaseVersion,
    },
    /// Somebody else has taken it, while the other locks of the request were waited for.
    #[error(
        "was taken while others were waited for: it is at version {version}, owned by {}",
        owner.map_or_else(|| "nobody".to_owned(), |(host, generation)| format!("host {host} (generation {generation})"))
    )]
    Taken {
        /// The version that it has now.
        version: LeaseVersion,
        /// The owner found; `None` when the lease is free.
        owner: Option<(HostId, Generation)>,
    },
    /// Its numbers cannot be raised any more.
    #[error("has used up its numbers: initialise it anew when nobody uses it")]
    NumbersUsedUp,
    /// The path names another file than the one that was locked, or none: somebody replaced or removed it
    /// meanwhile.
    #[error("was removed or replaced while it was being acquired: try again")]
    Replaced,
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
            LeaseIoError::Format { offset, error } => match error {
                FormatError::Magic { found: 0, .. } => Self::NotInitialised { offset },
                FormatError::Cleared { .. } => Self::Cleared { offset },
                FormatError::LockspaceName {
                    expected, found, ..
                }
                | FormatError::ResourceName {
                    expected, found, ..
                } => Self::Foreign { expected, found },
                FormatError::NumHosts {
                    host, num_hosts, ..
                } => Self::TooFewHosts { host, num_hosts },
                error => Self::Damaged { offset, error },
            },
        }
    }
}

impl AcquireError {
    /// Whether somebody else has it: another host, in whatever mode, or another guard of this
    /// process.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(
            self,
            Self::Held { .. } | Self::HeldShared { .. } | Self::HeldHere { .. }
        )
    }

    /// Whether another try may well succeed though nobody holds it: also where a directory or a file was
    /// removed by hand while the lease was made or acquired, which the next try makes again.
    #[must_use]
    pub const fn is_contended(&self) -> bool {
        matches!(
            self,
            Self::Contended { .. }
                | Self::NotSettled { .. }
                | Self::Create {
                    error: CreateError::Io {
                        error: OsError(libc::ENOENT | libc::ESTALE),
                        ..
                    },
                    ..
                }
                | Self::Lease {
                    fault: LeaseFault::Replaced
                        | LeaseFault::BeingCreated { .. }
                        | LeaseFault::MayBeHeld { .. }
                        | LeaseFault::SecondLink { .. }
                        | LeaseFault::PutBack { .. }
                        | LeaseFault::Taken { .. },
                    ..
                }
        )
    }

    /// Who holds it, if another host does and it is known.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Held { holder, .. } => Some(holder),
            _ => None,
        }
    }

    pub(crate) fn of_reservation(error: NotReserved, locked: Locked) -> Self {
        match error {
            NotReserved::InUse => Self::HeldHere { locked },
            NotReserved::CleanupPending => Self::NotSettled { locked },
            NotReserved::Left => Self::LockspaceLost {
                reason: Some(LossReason::Left),
            },
        }
    }

    pub(crate) fn of_algorithm(
        error: paxos_lease::AcquireError,
        locked: &Locked,
        path: &Path,
        loss: Option<LossReason>,
    ) -> Self {
        use paxos_lease::AcquireError as E;
        let (locked, path) = (locked.clone(), path.to_owned());
        match error {
            E::Lease(error) => Self::Lease {
                locked,
                path,
                fault: LeaseFault::of_io(error),
            },
            E::Held(holder) => Self::Held { locked, holder },
            E::HeldShared { hosts } => Self::HeldShared { locked, hosts },
            E::OwnerUnreadable { owner, error } => Self::OwnerUnreadable {
                locked,
                owner,
                error,
            },
            E::HeldByTwin {
                host_id,
                generation,
            } => Self::HeldByTwin {
                locked,
                path,
                host_id,
                generation,
            },
            E::FromTheFuture {
                host_id,
                on_lease,
                in_lockspace,
            } => Self::FromTheFuture {
                locked,
                path,
                host_id,
                on_lease,
                in_lockspace,
            },
            E::Contended { rounds } => Self::Contended { locked, rounds },
            E::VersionChanged(change) => Self::NotAsLeft {
                locked,
                path,
                change,
            },
            E::NotHandedOver { version, by } => Self::NotHandedOver {
                locked,
                path,
                version,
                by,
            },
            E::NumbersUsedUp => Self::Lease {
                locked,
                path,
                fault: LeaseFault::NumbersUsedUp,
            },
            E::WriteInFlight => Self::Lease {
                locked,
                path,
                fault: LeaseFault::WriteInFlight,
            },
            E::LockspaceLost => Self::LockspaceLost { reason: loss },
        }
    }
}
