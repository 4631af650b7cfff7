//! The host note: it tells a disklease host from a sanlock host.

use bytemuck::{Pod, Zeroable};

use super::error::{FormatError, Structure};
use super::ids::{Generation, HostId, Incarnation};
use super::le::{Le16, Le32, Le64};
use super::note::{self, NoteState};
use super::record::SectorHead;

/// Where the note is in a delta sector, of either sector size.
const OFFSET: usize = 200;
/// "hnd2".
const MAGIC: u32 = 0x3264_6e68;
/// "hndl", of notes without an incarnation. Still read, never written.
const OLD_MAGIC: u32 = 0x6c64_6e68;
/// Bytes of the boot id that a note keeps: the first half.
const BOOT_LEN: usize = 8;

/// What a disklease host says of itself, bytes 200 to 256 of its delta sector.
///
/// Each claim and each renewal writes it. sanlock does not read these bytes, and writes zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostNote {
    /// The host.
    pub host_id: HostId,
    /// The generation in which the note was written. A note of another generation is out of date.
    pub generation: Generation,
    /// The host's io timeout in seconds; unlike the leader's field, covered by a checksum.
    pub io_timeout_secs: u16,
    /// The host's fire timeout in seconds; 0 where it is unknown.
    pub fire_timeout_secs: u16,
    /// The pid of the process on its own host.
    pub pid: u32,
    /// The first half of the boot id of the host's kernel.
    pub boot: [u8; BOOT_LEN],
    /// The version of the protocol that the host speaks.
    pub protocol: u16,
    /// The token of the process lock that the process holds on its own host; 0 for none.
    pub process_token: u32,
    /// The incarnation of the host that wrote the note. `None` in a note of the old layout.
    pub incarnation: Option<Incarnation>,
}

/// The note as it is on the disk, behind magic number and checksum.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawHostNote {
    protocol: Le16,
    io_timeout: Le16,
    pid: Le32,
    process_token: Le32,
    generation: Le64,
    boot: [u8; BOOT_LEN],
    incarnation: [u8; 16],
    host_id: Le16,
    fire_timeout: Le16,
}

const _: () = assert!(size_of::<RawHostNote>() == 48 && align_of::<RawHostNote>() == 1);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct OldRawHostNote {
    protocol: Le16,
    io_timeout: Le16,
    pid: Le32,
    features: Le32,
    process_token: Le32,
    generation: Le64,
    boot: [u8; BOOT_LEN],
    rest_of_boot: [u8; BOOT_LEN],
    host_id: Le16,
    fire_timeout: Le16,
    unused: [u8; 4],
}

const _: () = assert!(size_of::<OldRawHostNote>() == size_of::<RawHostNote>());

impl From<OldRawHostNote> for RawHostNote {
    fn from(old: OldRawHostNote) -> Self {
        Self {
            protocol: old.protocol,
            io_timeout: old.io_timeout,
            pid: old.pid,
            process_token: old.process_token,
            generation: old.generation,
            boot: old.boot,
            incarnation: [0; 16],
            host_id: old.host_id,
            fire_timeout: old.fire_timeout,
        }
    }
}

impl HostNote {
    /// A note of this host; the other fields are 0 or `None`.
    #[must_use]
    pub const fn new(host_id: HostId, generation: Generation) -> Self {
        Self {
            host_id,
            generation,
            io_timeout_secs: 0,
            fire_timeout_secs: 0,
            pid: 0,
            boot: [0; BOOT_LEN],
            protocol: 0,
            process_token: 0,
            incarnation: None,
        }
    }

    /// What a note keeps of the boot id of a kernel.
    #[must_use]
    pub fn boot_of(boot_id: &[u8; 16]) -> [u8; BOOT_LEN] {
        std::array::from_fn(|at| boot_id.get(at).copied().unwrap_or_default())
    }

    /// The note in a delta sector.
    ///
    /// Any protocol version is accepted: the note is there to show it. The caller compares host id and
    /// generation with those of the sector.
    #[must_use]
    pub fn read_from(sector: &[u8]) -> NoteState<Self> {
        NoteState::from_result(Self::decode(sector))
    }

    fn decode(sector: &[u8]) -> Result<Option<Self>, FormatError> {
        let structure = Structure::HostNote;
        let raw = match note::read(structure, sector, OFFSET, MAGIC) {
            Err(FormatError::Magic {
                found: OLD_MAGIC, ..
            }) => note::read::<OldRawHostNote>(structure, sector, OFFSET, OLD_MAGIC)?
                .map(RawHostNote::from),
            read => read?,
        };
        let Some(raw) = raw else { return Ok(None) };
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
            boot: raw.boot,
            protocol: raw.protocol.get(),
            process_token: raw.process_token.get(),
            incarnation: Incarnation::new(raw.incarnation),
        }))
    }

    /// Copies the note to its place in a delta sector. The rest is left alone.
    pub fn write_to(&self, sector: &mut SectorHead) {
        let raw = RawHostNote {
            protocol: Le16::new(self.protocol),
            io_timeout: Le16::new(self.io_timeout_secs),
            pid: Le32::new(self.pid),
            process_token: Le32::new(self.process_token),
            generation: Le64::new(self.generation.get()),
            boot: self.boot,
            incarnation: self.incarnation.map_or([0; 16], Incarnation::bytes),
            host_id: Le16::new(self.host_id.get()),
            fire_timeout: Le16::new(self.fire_timeout_secs),
        };
        note::write::<OFFSET, _>(sector, MAGIC, &raw);
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
            boot: [0xb0; 8],
            protocol: 1,
            process_token: 0x1234_5678,
            incarnation: Incarnation::new([0x1c; 16]),
            fire_timeout_secs: 60,
        }
    }

    fn sector() -> [u8; 512] {
        let mut sector = [0; 512];
        note().write_to(&mut sector);
        sector
    }

    #[test]
    fn goes_to_its_own_bytes_and_back() {
        let sector = sector();
        assert_eq!(HostNote::read_from(&sector), NoteState::Present(note()));
        assert_eq!(sector[200..204], *b"hnd2");
        assert!(
            sector[..200]
                .iter()
                .chain(&sector[256..])
                .all(|&byte| byte == 0)
        );
        let new = HostNote::new(HostId::FIRST, Generation::new(1));
        let mut other = [0; 512];
        new.write_to(&mut other);
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
        let mut other = sector();
        other[200] = 0;
        assert_eq!(
            HostNote::read_from(&other),
            NoteState::Damaged(FormatError::Magic {
                structure: S,
                expected: MAGIC,
                found: 0x3264_6e00
            })
        );
        let mut of_nobody = sector();
        let mut raw: RawHostNote = note::read(S, &of_nobody, OFFSET, MAGIC).unwrap().unwrap();
        raw.host_id = Le16::new(2001);
        note::write::<OFFSET, _>(&mut of_nobody, MAGIC, &raw);
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
        note.process_token = 0x1234_5678;
        let counted: [u8; 16] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        note.boot = HostNote::boot_of(&counted);
        note.incarnation = Incarnation::new(counted.map(|n| 0xf0 + n));
        let mut sector = [0; 512];
        note.write_to(&mut sector);
        assert_eq!(
            crate::format::Hex(&sector[200..256]).to_string(),
            concat!(
                "686e6432dc021e0e01000a0067120000",
                "78563412030000000000000000010203",
                "04050607f0f1f2f3f4f5f6f7f8f9fafb",
                "fcfdfeff07003c00"
            )
        );
    }

    /// Written before incarnations existed: all other fields are read.
    #[test]
    fn notes_of_the_old_layout_are_read() {
        let old = OldRawHostNote {
            protocol: Le16::new(1),
            io_timeout: Le16::new(10),
            pid: Le32::new(4711),
            features: Le32::new(1 << 31),
            process_token: Le32::new(0x1234_5678),
            generation: Le64::new(7),
            boot: [0xb0; 8],
            rest_of_boot: [0xb1; 8],
            host_id: Le16::new(1500),
            fire_timeout: Le16::new(60),
            ..OldRawHostNote::zeroed()
        };
        let mut sector = [0; 512];
        note::write::<OFFSET, _>(&mut sector, OLD_MAGIC, &old);
        let expected = HostNote {
            incarnation: None,
            ..note()
        };
        assert_eq!(HostNote::read_from(&sector).present(), Some(expected));
        sector[240] ^= 1;
        assert!(matches!(
            HostNote::read_from(&sector),
            NoteState::Damaged(_)
        ));
    }
}
