//! The host note: it tells a disklease host from a sanlock host.

use super::error::{FormatErrorKind as Kind, Structure};
use super::ids::{Generation, HostId, Incarnation};
use super::layout::{Field, Record, SectorHead, record, writers};
use super::note::{self, NoteState};

/// Where the note is in a delta sector, of either sector size.
const AT: usize = 200;
/// Bytes of the note behind its head.
const LEN: usize = 48;
/// "hnd2".
const MAGIC: u32 = 0x3264_6e68;
/// "hndl", of notes without an incarnation. Still read, never written.
const OLD_MAGIC: u32 = 0x6c64_6e68;
/// Bytes of the boot id that a note keeps: the first half.
const BOOT_LEN: usize = 8;

const _: () = assert!(HostNote::AT == AT + note::HEAD_LEN && HostNote::LEN == LEN);

record! {
    /// What a disklease host says of itself, bytes 200 to 256 of its delta sector.
    ///
    /// Each claim and each renewal writes it. sanlock does not read these bytes, and writes zeros.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub struct HostNote: 208..256 {
        /// The version of the protocol that the host speaks.
        0 => pub protocol: u16,
        /// The host's io timeout in seconds; unlike the leader's field, covered by a checksum.
        2 => pub io_timeout_secs: u16,
        /// The pid of the process on its own host.
        4 => pub pid: u32,
        /// The token of the process lock that the process holds on its own host; 0 for none.
        8 => pub process_token: u32,
        /// The generation in which the note was written. A note of another generation is out of date.
        12 => pub generation: Generation,
        /// The first half of the boot id of the host's kernel.
        20 => pub boot: [u8; BOOT_LEN],
        /// The incarnation of the host that wrote the note. `None` in a note of the old layout.
        28 => pub incarnation: Option<Incarnation>,
        /// The host.
        44 => pub host_id: HostId,
        /// The host's fire timeout in seconds; 0 where it is unknown.
        46 => pub fire_timeout_secs: u16,
    }
}

impl HostNote {
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
        let is_old = u32::read(sector, AT) == Ok(OLD_MAGIC);
        let magic = if is_old { OLD_MAGIC } else { MAGIC };
        let read = note::open(sector, AT, LEN, magic).and_then(|body| match body {
            Some(body) if is_old => Self::read_old(body).map(Some),
            Some(_) => Self::read(sector).map(Some),
            None => Ok(None),
        });
        NoteState::of(Structure::HostNote, read)
    }

    /// From the layout of before incarnations existed. Its other fields no host reads any more.
    fn read_old(body: &[u8]) -> Result<Self, Kind> {
        Ok(Self {
            protocol: Field::read(body, 0)?,
            io_timeout_secs: Field::read(body, 2)?,
            pid: Field::read(body, 4)?,
            process_token: Field::read(body, 12)?,
            generation: Field::read(body, 16)?,
            boot: Field::read(body, 24)?,
            incarnation: None,
            host_id: Field::read(body, 40)?,
            fire_timeout_secs: Field::read(body, 42)?,
        })
    }

    writers! {
        /// A note of this host; the other fields are 0 or `None`.
        #[must_use]
        fn new(host_id: HostId, generation: Generation) -> Self {
            Self {
                protocol: 0,
                io_timeout_secs: 0,
                pid: 0,
                process_token: 0,
                generation,
                boot: [0; BOOT_LEN],
                incarnation: None,
                host_id,
                fire_timeout_secs: 0,
            }
        }

        /// Copies the note to its place in a delta sector. The rest is left alone.
        fn write_to(&self, sector: &mut SectorHead) {
            self.write(sector);
            note::seal(sector, AT, LEN, MAGIC);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FormatError;

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
        let damaged = |kind| NoteState::Damaged(FormatError::new(Structure::HostNote, kind));
        let short = Kind::Short {
            needed: 256,
            found: 255,
        };
        assert_eq!(HostNote::read_from(&[0; 255]), damaged(short));
        let mut other = sector();
        other[200] = 0;
        assert_eq!(
            HostNote::read_from(&other),
            damaged(Kind::Magic {
                expected: MAGIC,
                found: 0x3264_6e00
            })
        );
        let mut of_nobody = sector();
        2001_u16.write(&mut of_nobody, 252);
        note::seal(&mut of_nobody, AT, LEN, MAGIC);
        assert_eq!(
            HostNote::read_from(&of_nobody),
            damaged(Kind::OwnerRange {
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
        let mut sector = [0; 512];
        let old = &mut sector[208..];
        1_u16.write(old, 0);
        10_u16.write(old, 2);
        4711_u32.write(old, 4);
        // The features of the host, which no host reads any more.
        0x8000_0000_u32.write(old, 8);
        0x1234_5678_u32.write(old, 12);
        7_u64.write(old, 16);
        [0xb0; 8].write(old, 24);
        // The rest of the boot id.
        [0xb1; 8].write(old, 32);
        1500_u16.write(old, 40);
        60_u16.write(old, 42);
        note::seal(&mut sector, AT, LEN, OLD_MAGIC);
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
