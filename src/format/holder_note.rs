//! The note that names the holder of a lease.

use std::str;

use bytemuck::{Pod, Zeroable};

use super::error::{FormatError, Structure};
use super::ids::{Generation, HostId, Incarnation, LeaseVersion, OfferId};
use super::le::{Le16, Le32, Le64};
use super::note::{self, NoteState};
use super::record::SectorHead;

/// Where the note is in a dblock's sector, of either sector size.
const OFFSET: usize = 256;
const MAGIC: u32 = 0x6c64_6e6c;
const VERSION: u16 = 1;
const STATE_HELD: u16 = 1;
const STATE_HANDED_OVER: u16 = 2;
const STATE_UNUSED: u16 = 3;
const GUEST_NAME_LEN: usize = 128;

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

/// The note as it is on the disk, behind magic number and checksum.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawHolderNote {
    version: Le16,
    state: Le16,
    pid: Le32,
    host_id: Le64,
    generation: Le64,
    lver: Le64,
    acquired: Le64,
    boot_id: [u8; 16],
    guest_uuid: [u8; 16],
    guest_name: [u8; GUEST_NAME_LEN],
    /// The offer of a hand-over, the last used version of a skipped one; else zero.
    of_state: Le64,
    /// Zero, like all unused bytes, in a note that was written before incarnations existed.
    incarnation: [u8; 16],
    unused: [u8; 24],
}

const _: () = assert!(size_of::<RawHolderNote>() == 248 && align_of::<RawHolderNote>() == 1);

impl HolderNote {
    /// Bytes of a guest's name that are kept.
    pub const GUEST_NAME_MAX: usize = GUEST_NAME_LEN;

    /// A note of this holder; the other fields are 0, empty or `None`.
    #[must_use]
    pub const fn new(host_id: HostId, generation: Generation, version: LeaseVersion) -> Self {
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
    pub fn with_guest_name(mut self, name: &str) -> Self {
        kept(name).clone_into(&mut self.guest_name);
        self
    }

    /// Whether the note is of this generation of the host, and of this version.
    #[must_use]
    pub fn is_of(&self, generation: Generation, version: LeaseVersion) -> bool {
        self.generation == generation && self.version == version
    }

    /// The note in the sector of this host's dblock.
    #[must_use]
    pub fn read_from(sector: &[u8], host: HostId) -> NoteState<Self> {
        NoteState::from_result(Self::decode(sector, host))
    }

    fn decode(sector: &[u8], host: HostId) -> Result<Option<Self>, FormatError> {
        let structure = Structure::HolderNote(host);
        let Some(raw) = note::read::<RawHolderNote>(structure, sector, OFFSET, MAGIC)? else {
            return Ok(None);
        };
        let found = raw.version.get();
        if found != VERSION {
            return Err(FormatError::Version {
                structure,
                expected: VERSION,
                found,
            });
        }
        let tenure = match (raw.state.get(), raw.of_state.get()) {
            (STATE_HELD, _) => Tenure::Held,
            (STATE_HANDED_OVER, offer) => Tenure::HandedOver(OfferId::new(offer)),
            (STATE_UNUSED, since) => Tenure::Unused {
                since: LeaseVersion::new(since),
            },
            (found, _) => return Err(FormatError::NoteState { structure, found }),
        };
        let found = raw.host_id.get();
        if found != u64::from(host) {
            return Err(FormatError::OwnerId {
                structure,
                expected: host,
                found,
            });
        }
        let name = raw
            .guest_name
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        let guest_name = str::from_utf8(name).map_err(|error| FormatError::NoteText {
            structure,
            at: error.valid_up_to(),
        })?;
        Ok(Some(Self {
            host_id: host,
            generation: Generation::new(raw.generation.get()),
            incarnation: Incarnation::new(raw.incarnation),
            version: LeaseVersion::new(raw.lver.get()),
            tenure,
            pid: raw.pid.get(),
            boot_id: raw.boot_id,
            guest_uuid: Some(raw.guest_uuid).filter(|uuid| *uuid != [0; 16]),
            guest_name: guest_name.to_owned(),
            acquired_unix_secs: raw.acquired.get(),
        }))
    }

    /// Copies the note to its place in the sector of a dblock. The rest is left alone. The guest's
    /// name is cut as [`HolderNote::with_guest_name`] does.
    pub fn write_to(&self, sector: &mut SectorHead) {
        let (state, of_state) = match self.tenure {
            Tenure::Held => (STATE_HELD, 0),
            Tenure::HandedOver(offer) => (STATE_HANDED_OVER, offer.get()),
            Tenure::Unused { since } => (STATE_UNUSED, since.get()),
        };
        let mut raw = RawHolderNote {
            version: Le16::new(VERSION),
            state: Le16::new(state),
            of_state: Le64::new(of_state),
            pid: Le32::new(self.pid),
            host_id: Le64::new(u64::from(self.host_id)),
            generation: Le64::new(self.generation.get()),
            lver: Le64::new(self.version.get()),
            acquired: Le64::new(self.acquired_unix_secs),
            boot_id: self.boot_id,
            guest_uuid: self.guest_uuid.unwrap_or_default(),
            incarnation: self.incarnation.map_or([0; 16], Incarnation::bytes),
            ..RawHolderNote::zeroed()
        };
        for (to, from) in raw
            .guest_name
            .iter_mut()
            .zip(kept(&self.guest_name).bytes())
        {
            *to = from;
        }
        note::write::<OFFSET, _>(sector, MAGIC, &raw);
    }
}

/// What is kept of a guest's name.
fn kept(name: &str) -> &str {
    let name = name.split('\0').next().unwrap_or_default();
    let len = GUEST_NAME_LEN.min(name.len());
    // A cut inside of a character gives `None`; a character has four bytes at most.
    (0..4)
        .find_map(|less| name.get(..len.saturating_sub(less)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostId {
        HostId::new(2).unwrap()
    }

    fn structure() -> Structure {
        Structure::HolderNote(host())
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

    /// What is said of a note after a change that the checksum covers.
    fn damage_of(change: impl FnOnce(&mut RawHolderNote)) -> FormatError {
        let mut sector = sector_of(&note());
        let mut raw = note::read(structure(), &sector, OFFSET, MAGIC)
            .unwrap()
            .unwrap();
        change(&mut raw);
        note::write::<OFFSET, _>(&mut sector, MAGIC, &raw);
        match HolderNote::read_from(&sector, host()) {
            NoteState::Damaged(error) => error,
            other => panic!("not damaged: {other:?}"),
        }
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
        let structure = structure();
        let short = FormatError::Short {
            structure,
            needed: 512,
            found: 511,
        };
        assert_eq!(
            HolderNote::read_from(&[0; 511], host()),
            NoteState::Damaged(short)
        );
        let mut other = sector_of(&note());
        other[256..260].copy_from_slice(&[1, 0, 0, 0]);
        assert_eq!(
            HolderNote::read_from(&other, host()),
            NoteState::Damaged(FormatError::Magic {
                structure,
                expected: MAGIC,
                found: 1
            })
        );
        assert_eq!(
            damage_of(|raw| raw.version = Le16::new(2)),
            FormatError::Version {
                structure,
                expected: 1,
                found: 2
            }
        );
        assert_eq!(
            damage_of(|raw| raw.state = Le16::new(0)),
            FormatError::NoteState {
                structure,
                found: 0
            }
        );
        assert_eq!(
            damage_of(|raw| raw.state = Le16::new(4)),
            FormatError::NoteState {
                structure,
                found: 4
            }
        );
        assert_eq!(
            damage_of(|raw| raw.host_id = Le64::new(3)),
            FormatError::OwnerId {
                structure,
                expected: host(),
                found: 3
            }
        );
        assert_eq!(
            damage_of(|raw| raw.guest_name[1] = 0xff),
            FormatError::NoteText { structure, at: 1 }
        );
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
