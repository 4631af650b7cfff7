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
/// Written with each acquire and renewal. sanlock neither reads nor writes these bytes but as
/// zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostNote {
    /// The host.
    pub host_id: HostId,
    /// The generation in which the note was written. One of another generation is out of date.
    pub generation: Generation,
    /// The host's io timeout in seconds; here a checksum covers it.
    pub io_timeout_secs: u16,
    /// The host's fire timeout in seconds; 0 where it is not told.
    pub fire_timeout_secs: u16,
    /// The process, in the host's own count.
    pub pid: u32,
    /// The boot of the host's kernel.
    pub boot_id: [u8; 16],
    /// The version of the protocol that the host speaks.
    pub protocol: u16,
    /// What else the host understands, one bit each.
    pub features: u32,
    /// Which life lock the process holds on its own host; 0 for none.
    pub life_mark: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawHostNote {
    magic: Le32,
    checksum: Le32,
    protocol: Le16,
    io_timeout: Le16,
    pid: Le32,
    features: Le32,
    life_mark: Le32,
    generation: Le64,
    boot_id: [u8; 16],
    host_id: Le16,
    fire_timeout: Le16,
    unused: [u8; 4],
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
            fire_timeout_secs: 0,
            pid: 0,
            boot_id: [0; 16],
            protocol: 0,
            features: 0,
            life_mark: 0,
        }
    }

    /// The note in a delta sector.
    ///
    /// Any protocol version is accepted: telling it is what the note is for. Whether it is of the
    /// host whose sector it is, and of its present generation, is for the reader to compare.
    #[must_use]
    pub fn read_from(sector: &[u8]) -> NoteState<Self> {
        NoteState::from_result(Self::decode(sector))
    }

    fn decode(sector: &[u8]) -> Result<Option<Self>, FormatError> {
        let structure = Structure::HostNote;
        let raw: RawHostNote = record::read(structure, sector, OFFSET)?;
        if bytemuck::bytes_of(&raw) == bytemuck::bytes_of(&RawHostNote::zeroed()) {
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
            fire_timeout_secs: raw.fire_timeout.get(),
            pid: raw.pid.get(),
            boot_id: raw.boot_id,
            protocol: raw.protocol.get(),
            features: raw.features.get(),
            life_mark: raw.life_mark.get(),
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
            features: Le32::new(self.features),
            life_mark: Le32::new(self.life_mark),
            generation: Le64::new(self.generation.get()),
            boot_id: self.boot_id,
            host_id: Le16::new(self.host_id.get()),
            fire_timeout: Le16::new(self.fire_timeout_secs),
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

#[cfg(test)]
mod tests {
    use super::*;

    const S: Structure = Structure::HostNote;

    fn note() -> HostNote {
        HostNote {
            host_id: HostId::new(1500).unwrap(),
            generation: Generation::new(7),
            io_timeout_secs: 10,
            pid: 4711,
            boot_id: [0xb0; 16],
            protocol: 1,
            features: 1 << 31,
            life_mark: 0x1234_5678,
            fire_timeout_secs: 60,
        }
    }

    fn sector() -> [u8; 512] {
        let mut sector = [0; 512];
        note().write_to(&mut sector).unwrap();
        sector
    }

    #[test]
    fn goes_to_its_own_bytes_and_back() {
        let sector = sector();
        assert_eq!(HostNote::read_from(&sector), NoteState::Present(note()));
        assert_eq!(sector[200..204], [0x68, 0x6e, 0x64, 0x6c]);
        assert!(
            sector[..200]
                .iter()
                .chain(&sector[256..])
                .all(|&byte| byte == 0)
        );
        let new = HostNote::new(HostId::FIRST, Generation::new(1));
        let mut other = [0; 256];
        new.write_to(&mut other).unwrap();
        assert_eq!(HostNote::read_from(&other).present(), Some(new));
        assert_eq!(HostNote::read_from(&[0; 256]), NoteState::Absent);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let short = FormatError::Short {
            structure: S,
            needed: 256,
            found: 255,
        };
        assert_eq!(HostNote::read_from(&[0; 255]), NoteState::Damaged(short));
        assert_eq!(note().write_to(&mut [0; 255]), Err(short));
        let mut other = sector();
        other[200] = 0;
        assert_eq!(
            HostNote::read_from(&other),
            NoteState::Damaged(FormatError::Magic {
                structure: S,
                expected: MAGIC,
                found: 0x6c64_6e00
            })
        );
        let mut nobody: RawHostNote = record::read(S, &sector(), OFFSET).unwrap();
        nobody.host_id = Le16::new(2001);
        nobody.checksum = Le32::new(nobody.computed_checksum());
        let mut of_nobody = [0; 512];
        record::write(S, &mut of_nobody, OFFSET, &nobody).unwrap();
        assert_eq!(
            HostNote::read_from(&of_nobody),
            NoteState::Damaged(FormatError::OwnerRange {
                structure: S,
                max: 2000,
                found: 2001
            })
        );
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        for bit in 200 * 8..256 * 8 {
            let mut flipped = sector();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let state = HostNote::read_from(&flipped);
            assert!(matches!(state, NoteState::Damaged(_)), "bit {bit}");
        }
    }

    /// The example of docs/on-disk-format.md.
    #[test]
    fn the_documented_example_is_what_is_written() {
        let mut note = HostNote::new(HostId::new(7).unwrap(), Generation::new(3));
        note.protocol = 1;
        note.io_timeout_secs = 10;
        note.fire_timeout_secs = 60;
        note.pid = 4711;
        note.life_mark = 0x1234_5678;
        note.boot_id = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let mut sector = [0; 512];
        note.write_to(&mut sector).unwrap();
        assert_eq!(
            crate::format::Hex(&sector[200..256]).to_string(),
            concat!(
                "686e646c0aa6260f01000a0067120000",
                "00000000785634120300000000000000",
                "000102030405060708090a0b0c0d0e0f",
                "07003c0000000000"
            )
        );
    }
}
