//! The note by which a host of ours is told from one of sanlock's.

use bytemuck::{Pod, Zeroable};

use super::checksum::checksum;
use super::error::{FormatError, Structure};
use super::ids::{Generation, HostId};
use super::le::{Le16, Le32, Le64};
use super::note::NoteState;
use super::record;

/// Where the note is in a delta sector, of either sector size.
const OFFSET: usize = 200;
const MAGIC: u32 = 0x6c64_6e68;
/// Bytes of the note before those that the checksum covers: magic number and checksum.
const UNCHECKED: usize = 8;

/// What a host of ours says of itself, bytes 200 to 256 of its delta sector.
///
/// Written with each acquire and renewal. sanlock neither reads nor writes these bytes but as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostNote {
    /// The host.
    pub host_id: HostId,
    /// The generation in which the note was written. One of another generation is out of date.
    pub generation: Generation,
    /// The host's io timeout in seconds; here a checksum covers it.
    pub io_timeout_secs: u16,
    /// The process, in the host's own count.
    pub pid: u32,
    /// The boot of the host's kernel.
    pub boot_id: [u8; 16],
    /// The version of the protocol that the host speaks.
    pub protocol: u16,
    /// What else the host understands, one bit each.
    pub features: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawHostNote {
    magic: Le32,
    checksum: Le32,
    protocol: Le16,
    io_timeout: Le16,
    pid: Le32,
    features: Le64,
    generation: Le64,
    boot_id: [u8; 16],
    host_id: Le16,
    unused: [u8; 6],
}

const _: () = assert!(size_of::<RawHostNote>() == 56 && align_of::<RawHostNote>() == 1);

impl HostNote {
    /// A note of this host that says nothing else yet: the other fields are 0.
    #[must_use]
    pub const fn new(host_id: HostId, generation: Generation) -> Self {
        Self {
            host_id,
            generation,
            io_timeout_secs: 0,
            pid: 0,
            boot_id: [0; 16],
            protocol: 0,
            features: 0,
        }
    }

    /// The note in a delta sector.
    ///
    /// Any protocol version is accepted: telling it is what the note is for. Whether it is of the host whose
    /// sector it is, and of its present generation, is for the reader to compare.
    #[must_use]
    pub fn read_from(sector: &[u8]) -> NoteState<Self> {
        NoteState::from_result(Self::decode(sector))
    }

    fn decode(sector: &[u8]) -> Result<Option<Self>, FormatError> {
        let structure = Structure::HostNote;
        let raw: RawHostNote = record::read(structure, sector, OFFSET)?;
        if bytemuck::bytes_of(&raw).iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let found = raw.magic.get();
        if found != MAGIC {
            return Err(FormatError::Magic {
                structure,
                expected: MAGIC,
                found,
            });
        }
        let (stored, computed) = (raw.checksum.get(), raw.computed_checksum());
        if stored != computed {
            return Err(FormatError::Checksum {
                structure,
                stored,
                computed,
            });
        }
        let host_id =
            HostId::new(u64::from(raw.host_id.get())).map_err(|error| FormatError::OwnerRange {
                structure,
                max: HostId::MAX,
                found: error.given,
            })?;
        Ok(Some(Self {
            host_id,
            generation: Generation::new(raw.generation.get()),
            io_timeout_secs: raw.io_timeout.get(),
            pid: raw.pid.get(),
            boot_id: raw.boot_id,
            protocol: raw.protocol.get(),
            features: raw.features.get(),
        }))
    }

    /// Copies the note to its place in a delta sector. The rest is left alone.
    ///
    /// # Errors
    ///
    /// [`FormatError::Short`] if it does not fit; nothing is written then.
    pub fn write_to(&self, sector: &mut [u8]) -> Result<(), FormatError> {
        let mut raw = RawHostNote {
            magic: Le32::new(MAGIC),
            protocol: Le16::new(self.protocol),
            io_timeout: Le16::new(self.io_timeout_secs),
            pid: Le32::new(self.pid),
            features: Le64::new(self.features),
            generation: Le64::new(self.generation.get()),
            boot_id: self.boot_id,
            host_id: Le16::new(self.host_id.get()),
            ..RawHostNote::zeroed()
        };
        raw.checksum = Le32::new(raw.computed_checksum());
        record::write(Structure::HostNote, sector, OFFSET, &raw)
    }
}

impl RawHostNote {
    fn computed_checksum(&self) -> u32 {
        checksum(
            bytemuck::bytes_of(self)
                .get(UNCHECKED..)
                .unwrap_or_default(),
        )
    }
}
