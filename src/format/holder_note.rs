//! The note that names the holder of a lease.

use std::str;

use super::error::{FormatErrorKind as Kind, Structure};
use super::ids::{Generation, HostId, Incarnation, LeaseVersion, OfferId};
use super::layout::{Field, SectorHead, ensure, writers};
use super::note::{self, HEAD_LEN, NoteState};

/// Where the note is in a dblock's sector, of either sector size.
const AT: usize = 256;
/// Bytes of the note behind its head.
const LEN: usize = 248;
const MAGIC: u32 = 0x6c64_6e6c;
const VERSION: u16 = 1;
const STATE_HELD: u16 = 1;
const STATE_HANDED_OVER: u16 = 2;
const STATE_UNUSED: u16 = 3;

/// What a holder note says of the lease at its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tenure {
    /// The lease is held, or about to be.
    Held,
    /// The holder released it so that another host continues with the guest. All writes of the guest
    /// had completed and were on the disk.
    HandedOver(OfferId),
    /// The host owned the lease, or may have, but no guest used it (a skipped version). The disk is as
    /// the holder of this earlier version left it.
    Unused {
        /// The last version under which the disk may have been written.
        since: LeaseVersion,
    },
}

/// Who holds a lease, bytes 256 to 512 of the sector of the holder's dblock.
///
/// The format itself has numbers only. sanlock ignores these bytes, and zeroes them with its next
/// write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HolderNote {
    /// The host.
    pub host_id: HostId,
    /// The generation of the host. A note of another generation is out of date.
    pub generation: Generation,
    /// The incarnation of the host that wrote the note. `None` in a note of an old layout.
    pub incarnation: Option<Incarnation>,
    /// The version of the lease. A note of another version is out of date.
    pub version: LeaseVersion,
    /// What the note says of that version.
    pub tenure: Tenure,
    /// The process for which the lease is held, in the host's own count.
    pub pid: u32,
    /// The boot of the host's kernel.
    pub boot_id: [u8; 16],
    /// The guest, if it has a UUID. All zeros are none.
    pub guest_uuid: Option<[u8; 16]>,
    /// The name of the guest; may be empty. Comes from another host: not to be trusted on a
    /// terminal.
    pub guest_name: String,
    /// When the lease was acquired, by the host's wall clock, in seconds since 1970.
    pub acquired_unix_secs: u64,
}

impl HolderNote {
    /// Bytes of a guest's name that are kept.
    pub const GUEST_NAME_MAX: usize = 128;

    /// Whether the note is of this generation of the host, and of this version.
    #[must_use]
    pub fn is_of(&self, generation: Generation, version: LeaseVersion) -> bool {
        self.generation == generation && self.version == version
    }

    /// The note in the sector of this host's dblock.
    #[must_use]
    pub fn read_from(sector: &[u8], host: HostId) -> NoteState<Self> {
        let body = note::open(sector, AT, LEN, MAGIC);
        let read = body.and_then(|body| body.map(|body| Self::read(body, host)).transpose());
        NoteState::of(Structure::HolderNote(host), read)
    }

    /// The note in these bytes behind its head. Bytes 224 to 248 are unused.
    fn read(body: &[u8], host: HostId) -> Result<Self, Kind> {
        let (expected, found) = (VERSION, u16::read(body, 0)?);
        ensure(found == expected, Kind::Version { expected, found })?;
        // The offer of a hand-over, the last used version of a skipped one; else zero.
        let of_state = u64::read(body, 200)?;
        let tenure = match u16::read(body, 2)? {
            STATE_HELD => Tenure::Held,
            STATE_HANDED_OVER => Tenure::HandedOver(OfferId::new(of_state)),
            STATE_UNUSED => Tenure::Unused {
                since: LeaseVersion::new(of_state),
            },
            found => return Err(Kind::NoteState { found }),
        };
        let (expected, found) = (host, u64::read(body, 8)?);
        ensure(
            found == u64::from(expected),
            Kind::OwnerId { expected, found },
        )?;
        let name = <[u8; Self::GUEST_NAME_MAX]>::read(body, 72)?;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let name = str::from_utf8(name).map_err(|error| Kind::NoteText {
            at: error.valid_up_to(),
        })?;
        let guest_uuid = Field::read(body, 56)?;
        Ok(Self {
            host_id: host,
            generation: Field::read(body, 16)?,
            // Zero, like all unused bytes, in a note that was written before incarnations existed.
            incarnation: Field::read(body, 208)?,
            version: Field::read(body, 24)?,
            tenure,
            pid: Field::read(body, 4)?,
            boot_id: Field::read(body, 40)?,
            guest_uuid: Some(guest_uuid).filter(|uuid| *uuid != [0; 16]),
            guest_name: name.to_owned(),
            acquired_unix_secs: Field::read(body, 32)?,
        })
    }

    writers! {
        /// A note of this holder; the other fields are 0, empty or `None`.
        #[must_use]
        fn new(host_id: HostId, generation: Generation, version: LeaseVersion) -> Self {
            Self {
                host_id,
                generation,
                incarnation: None,
                version,
                tenure: Tenure::Held,
                pid: 0,
                boot_id: [0; 16],
                guest_uuid: None,
                guest_name: String::new(),
                acquired_unix_secs: 0,
            }
        }

        /// With the name of a guest, cut to what is kept of it: whole characters before the first NUL,
        /// [`HolderNote::GUEST_NAME_MAX`] bytes at most.
        #[must_use]
        fn with_guest_name(mut self, name: &str) -> Self {
            kept(name).clone_into(&mut self.guest_name);
            self
        }

        /// Copies the note to its place in the sector of a dblock. The rest is left alone. The guest's
        /// name is cut as [`HolderNote::with_guest_name`] does.
        fn write_to(&self, sector: &mut SectorHead) {
            let (state, of_state) = match self.tenure {
                Tenure::Held => (STATE_HELD, 0),
                Tenure::HandedOver(offer) => (STATE_HANDED_OVER, offer.get()),
                Tenure::Unused { since } => (STATE_UNUSED, since.get()),
            };
            let mut body = [0; LEN];
            VERSION.write(&mut body, 0);
            state.write(&mut body, 2);
            self.pid.write(&mut body, 4);
            u64::from(self.host_id).write(&mut body, 8);
            self.generation.write(&mut body, 16);
            self.version.write(&mut body, 24);
            self.acquired_unix_secs.write(&mut body, 32);
            self.boot_id.write(&mut body, 40);
            self.guest_uuid.unwrap_or_default().write(&mut body, 56);
            for (to, from) in body.iter_mut().skip(72).zip(kept(&self.guest_name).bytes()) {
                *to = from;
            }
            of_state.write(&mut body, 200);
            self.incarnation.write(&mut body, 208);
            body.write(sector, AT + HEAD_LEN);
            note::seal(sector, AT, LEN, MAGIC);
        }
    }
}

/// What is kept of a guest's name.
fn kept(name: &str) -> &str {
    let name = name.split('\0').next().unwrap_or_default();
    let len = HolderNote::GUEST_NAME_MAX.min(name.len());
    // A cut inside of a character gives `None`; a character has four bytes at most.
    (0..4)
        .find_map(|less| name.get(..len.saturating_sub(less)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FormatError;

    fn host() -> HostId {
        HostId::new(2).unwrap()
    }

    fn note() -> HolderNote {
        HolderNote {
            pid: 4711,
            incarnation: Incarnation::new([0x1c; 16]),
            boot_id: [0xb0; 16],
            guest_uuid: Some([0xab; 16]),
            acquired_unix_secs: 1_800_000_000,
            ..HolderNote::new(host(), Generation::new(7), LeaseVersion::new(12))
        }
        .with_guest_name("gäst-1")
    }

    fn sector_of(note: &HolderNote) -> [u8; 512] {
        let mut sector = [0; 512];
        note.write_to(&mut sector);
        sector
    }

    fn damaged(kind: Kind) -> NoteState<HolderNote> {
        NoteState::Damaged(FormatError::new(Structure::HolderNote(host()), kind))
    }

    /// What is said of a note in whose body this stands at byte `at`, which the checksum covers.
    fn read_with(at: usize, field: impl Field) -> NoteState<HolderNote> {
        let mut sector = sector_of(&note());
        field.write(&mut sector[264..], at);
        note::seal(&mut sector, AT, LEN, MAGIC);
        HolderNote::read_from(&sector, host())
    }

    #[test]
    fn goes_to_its_own_bytes_and_back() {
        let sector = sector_of(&note());
        assert_eq!(
            HolderNote::read_from(&sector, host()),
            NoteState::Present(note())
        );
        assert_eq!(sector[..256], [0; 256]);
        assert_eq!(HolderNote::read_from(&[0; 512], host()), NoteState::Absent);
        for tenure in [
            Tenure::HandedOver(OfferId::new(u64::MAX)),
            Tenure::Unused {
                since: LeaseVersion::new(11),
            },
        ] {
            let note = HolderNote { tenure, ..note() };
            let read = HolderNote::read_from(&sector_of(&note), host());
            assert_eq!(read, NoteState::Present(note));
        }
        let bare = HolderNote::new(host(), Generation::new(1), LeaseVersion::new(1));
        assert_eq!(
            HolderNote::read_from(&sector_of(&bare), host()).present(),
            Some(bare)
        );
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let cut = |name: &str| {
            let note = HolderNote {
                guest_name: name.to_owned(),
                ..note()
            };
            let read = HolderNote::read_from(&sector_of(&note), host())
                .present()
                .unwrap();
            assert_eq!(read, note.with_guest_name(name));
            read.guest_name
        };
        assert_eq!(cut(&"x".repeat(200)), "x".repeat(128));
        assert_eq!(cut(&"x".repeat(128)), "x".repeat(128));
        for less in 1..4 {
            let start = "x".repeat(128 - less);
            assert_eq!(cut(&format!("{start}\u{1f40e}{start}")), start);
        }
        assert_eq!(cut(&"\u{1f40e}".repeat(40)), "\u{1f40e}".repeat(32));
        assert_eq!(cut("a\0b"), "a");
        assert_eq!(cut(""), "");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let short = Kind::Short {
            needed: 512,
            found: 511,
        };
        assert_eq!(HolderNote::read_from(&[0; 511], host()), damaged(short));
        let mut other = sector_of(&note());
        1_u32.write(&mut other, 256);
        let magic = Kind::Magic {
            expected: MAGIC,
            found: 1,
        };
        assert_eq!(HolderNote::read_from(&other, host()), damaged(magic));
        let version = Kind::Version {
            expected: 1,
            found: 2,
        };
        assert_eq!(read_with(0, 2_u16), damaged(version));
        for found in [0, 4] {
            assert_eq!(read_with(2, found), damaged(Kind::NoteState { found }));
        }
        let owner = Kind::OwnerId {
            expected: host(),
            found: 3,
        };
        assert_eq!(read_with(8, 3_u64), damaged(owner));
        assert_eq!(read_with(73, [0xff]), damaged(Kind::NoteText { at: 1 }));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        for bit in 256 * 8..512 * 8 {
            let mut flipped = sector_of(&note());
            flipped[bit / 8] ^= 1 << (bit % 8);
            let state = HolderNote::read_from(&flipped, host());
            assert!(matches!(state, NoteState::Damaged(_)), "bit {bit}");
        }
    }
}
