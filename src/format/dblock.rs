//! A host's own sector in a lease: its part in the ballots, whether it holds the lease shared, and
//! our note.

use super::checksum::checksum;
use super::error::{FormatError, FormatErrorKind as Kind, Structure};
use super::holder_note::HolderNote;
use super::ids::{Generation, HostId, LeaseVersion};
use super::layout::{Field, SectorHead, expect_checksum, part, writers};
use super::note::NoteState;

/// Where the checksum of a dblock is. It covers all bytes before it.
const CHECKSUM_AT: usize = 48;
const FLAGS_AT: usize = 52;
const RELEASED: u32 = 0x1;
/// Where the mode block is, and the generation in it.
const MODE_AT: usize = 128;
const SHARED_AT: usize = 136;
const SHARED: u32 = 0x1;

/// A proposal: who should own the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The proposed owner's host id, `inp`; as it is on the disk, where it may be any number. Never
    /// 0 when read, and written as no proposal at all when 0.
    pub owner: u64,
    /// The generation of the proposed owner, `inp2`.
    pub generation: u64,
    /// The proposed owner's clock in seconds, `inp3`.
    pub timestamp: u64,
}

impl Field for Option<Input> {
    const LEN: usize = 24;

    fn read(bytes: &[u8], at: usize) -> Result<Self, Kind> {
        let number = |n: usize| u64::read(bytes, at.saturating_add(n));
        let input = Input {
            owner: number(0)?,
            generation: number(8)?,
            timestamp: number(16)?,
        };
        Ok(Some(input).filter(|input| input.owner != 0))
    }

    fn write(self, bytes: &mut [u8], at: usize) {
        let input = self.filter(|input| input.owner != 0).unwrap_or_default();
        input.owner.write(bytes, at);
        input.generation.write(bytes, at.saturating_add(8));
        input.timestamp.write(bytes, at.saturating_add(16));
    }
}

/// A host's part in the ballots of a lease, bytes 0 to 56 of its sector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dblock {
    /// The largest ballot that the host has started.
    pub mbal: u64,
    /// The largest ballot in which the host proposed `input`.
    pub bal: u64,
    /// What the host proposed; `None` if it proposed nothing yet.
    pub input: Option<Input>,
    /// The version of the lease that the ballot is for.
    pub version: LeaseVersion,
    /// Whether the host, as the owner, released the lease. Not covered by the checksum.
    pub released: bool,
    /// The other flags as they were read, for carrying over; 0 in a new one. Not covered by the
    /// checksum.
    pub other_flags: u32,
}

impl Dblock {
    /// The dblock in a sector; `None` if no host ever wrote one, whatever the flags are.
    fn decode(sector: &[u8]) -> Result<Option<Self>, Kind> {
        let flags = u32::read(sector, FLAGS_AT)?;
        let block = Self {
            mbal: Field::read(sector, 0)?,
            bal: Field::read(sector, 8)?,
            input: Field::read(sector, 16)?,
            version: Field::read(sector, 40)?,
            released: flags & RELEASED != 0,
            other_flags: flags & !RELEASED,
        };
        let stored = u32::read(sector, CHECKSUM_AT)?;
        let is_empty = (block.mbal, block.bal, block.input) == (0, 0, None);
        if is_empty && block.version.get() == 0 && stored == 0 {
            return Ok(None);
        }
        expect_checksum(stored, checksum(part(sector, 0, CHECKSUM_AT)?))?;
        Ok(Some(block))
    }

    /// The block with which a host enters a ballot for `version`: all else is zero.
    pub(crate) fn for_version(version: LeaseVersion) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    writers! {
        /// Copies the dblock to the start of `sector`. The rest, where mode block and note belong, is left
        /// alone.
        fn write_to(&self, sector: &mut SectorHead) {
            let released = if self.released { RELEASED } else { 0 };
            self.mbal.write(sector, 0);
            self.bal.write(sector, 8);
            self.input.write(sector, 16);
            self.version.write(sector, 40);
            checksum(sector.get(..CHECKSUM_AT).unwrap_or_default()).write(sector, CHECKSUM_AT);
            (self.other_flags & !RELEASED | released).write(sector, FLAGS_AT);
        }
    }
}

/// The mark of a host that holds the lease shared, bytes 128 to 144 of its sector. No checksum
/// covers it. No lock of this crate is shared yet: only tests write it.
#[cfg(any(test, feature = "__sim"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeBlock {
    /// The generation of the host, which must still be its present one.
    pub shared: Generation,
}

#[cfg(any(test, feature = "__sim"))]
impl ModeBlock {
    writers! {
        /// Copies the mode block to its place in a host's sector. The rest is left alone. A host that
        /// does not hold the lease shared leaves these bytes zero.
        fn write_to(&self, sector: &mut SectorHead) {
            SHARED.write(sector, MODE_AT);
            0_u32.write(sector, MODE_AT + 4);
            self.shared.write(sector, SHARED_AT);
        }
    }
}

/// The generation in which a host holds the lease shared, if it does, by the mode block in its sector.
///
/// A host that does not share leaves zeros. So a generation without the flag is damage, and is
/// taken for a shared lock whose flag was lost. The bytes between them sanlock does not always zero.
fn shared(sector: &[u8]) -> Result<Option<Generation>, Kind> {
    let generation = Generation::read(sector, SHARED_AT)?;
    let flags = u32::read(sector, MODE_AT)?;
    Ok(Some(generation).filter(|generation| flags & SHARED != 0 || generation.get() != 0))
}

/// All that a host's own sector in a lease holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DblockSector {
    /// The host's part in the ballots: `Ok(None)` if the host never took part, an error if the dblock
    /// is damaged or too short.
    pub block: Result<Option<Dblock>, FormatError>,
    /// Whether the host's RELEASED flag is set. Also true of a block that is otherwise empty, which
    /// sanlock leaves behind after a failed acquire. Never true where `block` is an error.
    pub released: bool,
    /// The generation in which the host holds the lease shared, if it does. No checksum covers it,
    /// and it is read whatever the state of `block`.
    pub shared: Option<Generation>,
    /// Our note on the holder.
    pub note: NoteState<HolderNote>,
}

impl DblockSector {
    /// Reads the sector of `host`.
    ///
    /// A damaged part does not hide the others. A sector too short for its mode block has an error
    /// for its `block`: whether the host holds the lease shared is not known then, and must not read
    /// as "no".
    #[must_use]
    pub fn decode(sector: &[u8], host: HostId) -> Self {
        let shared = Structure::ModeBlock(host).of(shared(sector));
        let block = shared.and_then(|_| Structure::Dblock(host).of(Dblock::decode(sector)));
        let flags = u32::read(sector, FLAGS_AT).unwrap_or_default();
        Self {
            released: block.is_ok() && flags & RELEASED != 0,
            block,
            shared: shared.ok().flatten(),
            note: HolderNote::read_from(sector, host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostId {
        HostId::new(2).unwrap()
    }

    fn block() -> Dblock {
        Dblock {
            mbal: 2002,
            bal: 2002,
            input: Some(Input {
                owner: 2,
                generation: 1,
                timestamp: 1283,
            }),
            version: LeaseVersion::new(2),
            released: false,
            other_flags: 0,
        }
    }

    fn decode(block: Dblock) -> DblockSector {
        let mut sector = [0; 512];
        block.write_to(&mut sector);
        DblockSector::decode(&sector, host())
    }

    #[test]
    fn goes_to_bytes_and_back() {
        let promise = Dblock {
            bal: 0,
            input: None,
            ..block()
        };
        let released = Dblock {
            released: true,
            ..block()
        };
        let flags = Dblock {
            other_flags: 0x8000_0002,
            ..released
        };
        for block in [block(), promise, released, flags] {
            let sector = decode(block);
            assert_eq!(sector.block, Ok(Some(block)));
            assert_eq!((sector.shared, sector.note), (None, NoteState::Absent));
        }
    }

    #[test]
    fn a_proposal_of_nobody_is_none() {
        let nobody = Input {
            owner: 0,
            generation: 5,
            timestamp: 6,
        };
        let read = decode(Dblock {
            input: Some(nobody),
            ..block()
        })
        .block
        .unwrap()
        .unwrap();
        assert_eq!(read.input, None);
    }

    #[test]
    fn the_released_flag_is_not_taken_from_the_other_flags() {
        let read = decode(Dblock {
            other_flags: 0x3,
            ..block()
        })
        .block
        .unwrap()
        .unwrap();
        assert_eq!((read.released, read.other_flags), (false, 0x2));
    }

    #[test]
    fn a_block_that_was_never_written_is_none_whatever_its_flags_are() {
        let mut sector = [0; 512];
        assert_eq!(DblockSector::decode(&sector, host()).block, Ok(None));
        sector[52] = 1;
        assert_eq!(DblockSector::decode(&sector, host()).block, Ok(None));
        sector[48] = 1;
        assert!(DblockSector::decode(&sector, host()).block.is_err());
    }

    #[test]
    fn a_damaged_block_does_not_hide_mode_and_note() {
        let mut sector = [0; 512];
        let note = HolderNote::new(host(), Generation::new(9), LeaseVersion::new(2));
        block().write_to(&mut sector);
        ModeBlock {
            shared: Generation::new(9),
        }
        .write_to(&mut sector);
        note.write_to(&mut sector);
        sector[0] ^= 1;
        sector[132..136].fill(0xaa);
        let read = DblockSector::decode(&sector, host());
        let error = read.block.unwrap_err();
        assert_eq!(error.structure(), Structure::Dblock(host()));
        assert!(matches!(error.kind(), Kind::Checksum { stored, computed } if stored != computed));
        assert_eq!(read.shared, Some(Generation::new(9)));
        assert_eq!(read.note, NoteState::Present(note));
    }

    #[test]
    fn a_generation_without_the_flag_is_shared_and_other_flags_without_one_are_not() {
        let mut sector = [0; 512];
        sector[128] = 2;
        sector[132..136].fill(0xaa);
        assert_eq!(DblockSector::decode(&sector, host()).shared, None);
        sector[136] = 9;
        let shared = DblockSector::decode(&sector, host()).shared;
        assert_eq!(shared, Some(Generation::new(9)));
    }

    #[test]
    fn what_is_short_is_said() {
        let read = DblockSector::decode(&[0; 143], host());
        let short = Kind::Short {
            needed: 144,
            found: 143,
        };
        let short = FormatError::new(Structure::ModeBlock(host()), short);
        assert_eq!(read.block, Err(short));
    }
}
