//! What is wrong with the bytes of a record.

use std::fmt;

use super::geometry::Geometry;
use super::ids::HostId;
use super::name::NameBytes;

/// The record that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Structure {
    /// The bytes of a whole lockspace or lease area.
    Area,
    /// The leader in the sector of a host id; `None` where the leader itself does not know which.
    DeltaLeader(Option<HostId>),
    /// A host's part in the ballots of a lease.
    Dblock(HostId),
    /// The holder note of a lease.
    HolderNote(HostId),
    /// The bits by which a host notifies others.
    HostBitmap,
    /// The host note.
    HostNote,
    /// The id of a lockspace.
    LockspaceId,
    /// Whether a host holds the lease shared.
    ModeBlock(HostId),
    /// Who owns a lease.
    PaxosLeader,
    /// The request for a lease.
    Request,
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Area => f.write_str("area"),
            Self::DeltaLeader(None) => f.write_str("delta lease"),
            Self::DeltaLeader(Some(host)) => write!(f, "delta lease of host {host}"),
            Self::Dblock(host) => write!(f, "dblock of host {host}"),
            Self::HolderNote(host) => write!(f, "holder note of host {host}"),
            Self::HostBitmap => f.write_str("host bitmap"),
            Self::HostNote => f.write_str("host note"),
            Self::LockspaceId => f.write_str("lockspace id"),
            Self::ModeBlock(host) => write!(f, "mode block of host {host}"),
            Self::PaxosLeader => f.write_str("leader record"),
            Self::Request => f.write_str("request record"),
        }
    }
}

/// What is wrong with the bytes of a record: one variant for each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// There are fewer bytes than the record has.
    #[error("{structure}: {needed} bytes are needed, {found} are there")]
    Short {
        /// In which record.
        structure: Structure,
        /// Bytes needed, from the start of the sector or area.
        needed: usize,
        /// Bytes given.
        found: usize,
    },
    /// The magic number is another: no such record is here.
    #[error("{structure}: magic number is {found:#010x}, not {expected:#010x}")]
    Magic {
        /// In which record.
        structure: Structure,
        /// What such a record begins with.
        expected: u32,
        /// What is there.
        found: u32,
    },
    /// The lease was cleared on purpose. No host can acquire it until it is initialised anew.
    #[error("{structure}: the lease was cleared")]
    Cleared {
        /// In which record.
        structure: Structure,
    },
    /// The major version is another: the record's meaning is unknown.
    #[error("{structure}: major version is {found}, not {expected}")]
    Version {
        /// In which record.
        structure: Structure,
        /// The major version that is understood.
        expected: u16,
        /// The major version that is there.
        found: u16,
    },
    /// The checksum does not match: the record was damaged or written in part.
    #[error("{structure}: checksum is {stored:#010x}, but its bytes give {computed:#010x}")]
    Checksum {
        /// In which record.
        structure: Structure,
        /// The checksum in the record.
        stored: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// The record belongs to another lockspace.
    #[error("{structure}: lockspace is \"{found}\", not \"{expected}\"")]
    LockspaceName {
        /// In which record.
        structure: Structure,
        /// The lockspace that was expected.
        expected: NameBytes,
        /// The lockspace in the record.
        found: NameBytes,
    },
    /// The record belongs to another resource.
    #[error("{structure}: resource is \"{found}\", not \"{expected}\"")]
    ResourceName {
        /// In which record.
        structure: Structure,
        /// The resource that was expected.
        expected: NameBytes,
        /// The resource in the record.
        found: NameBytes,
    },
    /// The format has no such sector size.
    #[error("{structure}: sector size is {found}, neither 512 nor 4096")]
    SectorSize {
        /// In which record.
        structure: Structure,
        /// Bytes of a sector, as the record has it.
        found: u32,
    },
    /// The sector size and the size of the area do not go together.
    #[error("{structure}: no area of {align_size} bytes goes with sectors of {sector_size}")]
    AlignSize {
        /// In which record.
        structure: Structure,
        /// Bytes of a sector.
        sector_size: u32,
        /// Bytes of an area.
        align_size: u64,
    },
    /// The geometry is another than that of the area which the record is part of.
    #[error("{structure}: it has {found}, but was expected to have {expected}")]
    Geometry {
        /// In which record.
        structure: Structure,
        /// The geometry that was expected.
        expected: Geometry,
        /// The geometry in the record.
        found: Geometry,
    },
    /// The largest host id is not the one of the record's own geometry.
    #[error("{structure}: its largest host id is {found}, not {expected}")]
    MaxHosts {
        /// In which record.
        structure: Structure,
        /// The largest host id of the geometry.
        expected: u16,
        /// The largest host id in the record.
        found: u64,
    },
    /// The lease says that more hosts take part than its geometry has room for.
    #[error("{structure}: {found} hosts take part, but there is room for {max}")]
    TooManyHosts {
        /// In which record.
        structure: Structure,
        /// The hosts that there is room for.
        max: u16,
        /// The hosts that take part, as the record has it.
        found: u64,
    },
    /// The lease was made for fewer hosts: this host cannot acquire it.
    #[error("{structure}: host {host} takes no part, only hosts 1 to {num_hosts} do")]
    NumHosts {
        /// In which record.
        structure: Structure,
        /// The host that wants to acquire it.
        host: HostId,
        /// The hosts that take part.
        num_hosts: u16,
    },
    /// The area has no sector for this host.
    #[error("{structure}: there is no sector for host {host}, only for hosts 1 to {max_hosts}")]
    NoSector {
        /// In which record.
        structure: Structure,
        /// The host.
        host: HostId,
        /// The largest host id of the geometry.
        max_hosts: u16,
    },
    /// The record in the sector of one host belongs to another.
    #[error("{structure}: it belongs to host {found}")]
    OwnerId {
        /// In which record.
        structure: Structure,
        /// The host whose sector it is.
        expected: HostId,
        /// The host in the record.
        found: u64,
    },
    /// The record belongs to a host id that does not exist.
    #[error("{structure}: it belongs to host {found}, but host ids are from 1 to {max}")]
    OwnerRange {
        /// In which record.
        structure: Structure,
        /// The largest host id.
        max: u16,
        /// The host in the record.
        found: u64,
    },
    /// The record has a time but no owner.
    #[error("{structure}: it is held since {timestamp_secs} s, but by no host")]
    OwnerMissing {
        /// In which record.
        structure: Structure,
        /// The time in the record, which is 0 in one that is not held.
        timestamp_secs: u64,
    },
    /// The dblock proposes an owner at time 0: once committed, the leader would name an owner and be
    /// free.
    #[error("{structure}: it proposes an owner at time 0")]
    InputWithoutTime {
        /// In which record.
        structure: Structure,
    },
    /// The sizes change from read to read.
    #[error("{structure}: its sizes change each time it is read")]
    Unstable {
        /// In which record.
        structure: Structure,
    },
    /// The note has a state that does not exist.
    #[error("{structure}: state is {found}, which has no meaning")]
    NoteState {
        /// In which record.
        structure: Structure,
        /// The state in the note.
        found: u16,
    },
    /// The text in the note is not UTF-8.
    #[error("{structure}: its text is not UTF-8 from byte {at} on")]
    NoteText {
        /// In which record.
        structure: Structure,
        /// Bytes of the text that are good.
        at: usize,
    },
}
