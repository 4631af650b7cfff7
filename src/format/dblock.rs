//! A host's own sector in a lease: its part in the ballots, whether it holds the lease shared, and
//! our note.

use bytemuck::{Pod, Zeroable};

use super::checksum::checksum;
use super::error::{FormatError, Structure};
use super::holder_note::HolderNote;
use super::ids::{Generation, HostId, LeaseVersion};
use super::le::{Le32, Le64};
use super::note::NoteState;
use super::record::{self, SectorHead};

/// Bytes that the checksum covers: all before it.
const CHECKED: usize = 48;
const RELEASED: u32 = 0x1;
/// Where the mode block is in the sector.
const MODE_OFFSET: usize = 128;
const SHARED: u32 = 0x1;

/// A proposal: who should own the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "these are the fields that the format has"
)]
pub struct Input {
    /// The proposed owner's host id, `inp`; as it is on the disk, where it may be any number. Never
    /// 0 when read, and written as no proposal at all when 0.
    pub owner: u64,
    /// The generation of the proposed owner, `inp2`.
    pub generation: u64,
    /// The proposed owner's clock in seconds, `inp3`.
    pub timestamp: u64,
}

/// A host's part in the ballots of a lease, bytes 0 to 56 of its sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "these are the fields that the format has"
)]
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

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawDblock {
    mbal: Le64,
    bal: Le64,
    inp: Le64,
    inp2: Le64,
    inp3: Le64,
    lver: Le64,
    checksum: Le32,
    flags: Le32,
}

const _: () = {
    assert!(size_of::<RawDblock>() == 56 && align_of::<RawDblock>() == 1);
    assert!(std::mem::offset_of!(RawDblock, checksum) == CHECKED);
};

impl Dblock {
    /// The dblock of `host`; `None` if there was never one.
    ///
    /// # Errors
    ///
    /// [`FormatError::Short`], [`FormatError::Checksum`].
    fn decode(sector: &[u8], host: HostId) -> Result<Option<Self>, FormatError> {
        let structure = Structure::Dblock(host);
        let raw: RawDblock = record::read(structure, sector, 0)?;
        if raw.is_empty() {
            return Ok(None);
        }
        record::expect_checksum(structure, raw.checksum.get(), raw.computed_checksum())?;
        let input = Input {
            owner: raw.inp.get(),
            generation: raw.inp2.get(),
            timestamp: raw.inp3.get(),
        };
        let flags = raw.flags.get();
        Ok(Some(Self {
            mbal: raw.mbal.get(),
            bal: raw.bal.get(),
            input: Some(input).filter(|input| input.owner != 0),
            version: LeaseVersion::new(raw.lver.get()),
            released: flags & RELEASED != 0,
            other_flags: flags & !RELEASED,
        }))
    }

    /// The flag alone, whatever the rest holds.
    fn released_flag(sector: &[u8], host: HostId) -> bool {
        let raw: Result<RawDblock, _> = record::read(Structure::Dblock(host), sector, 0);
        raw.is_ok_and(|raw| raw.flags.get() & RELEASED != 0)
    }

    /// The block with which a host enters a ballot for `version`: all else is zero.
    #[must_use]
    pub const fn for_version(version: LeaseVersion) -> Self {
        Self {
            mbal: 0,
            bal: 0,
            input: None,
            version,
            released: false,
            other_flags: 0,
        }
    }

    /// Copies the dblock to the start of `sector`, which the caller has zeroed. The rest, where
    /// mode block and note belong, is left alone.
    pub fn write_to(&self, sector: &mut SectorHead) {
        let mut raw = RawDblock {
            mbal: Le64::new(self.mbal),
            bal: Le64::new(self.bal),
            lver: Le64::new(self.version.get()),
            flags: Le32::new(
                self.other_flags & !RELEASED | if self.released { RELEASED } else { 0 },
            ),
            ..RawDblock::zeroed()
        };
        if let Some(input) = self.input.filter(|input| input.owner != 0) {
            raw.inp = Le64::new(input.owner);
            raw.inp2 = Le64::new(input.generation);
            raw.inp3 = Le64::new(input.timestamp);
        }
        raw.checksum = Le32::new(raw.computed_checksum());
        record::write::<0, _>(sector, &raw);
    }
}

impl RawDblock {
    /// Whether no host ever wrote it.
    fn is_empty(&self) -> bool {
        [self.mbal, self.bal, self.inp, self.lver]
            .iter()
            .all(|field| field.get() == 0)
            && self.checksum.get() == 0
    }

    fn computed_checksum(&self) -> u32 {
        checksum(bytemuck::bytes_of(self).get(..CHECKED).unwrap_or_default())
    }
}

/// The mark of a host that holds the lease shared, bytes 128 to 144 of its sector. No checksum
/// covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "these are the fields that the format has"
)]
pub struct ModeBlock {
    /// The generation of the host, which must still be its present one.
    pub shared: Generation,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawModeBlock {
    flags: Le32,
    /// Not always zeroed by sanlock.
    padding: [u8; 4],
    generation: Le64,
}

const _: () = assert!(size_of::<RawModeBlock>() == 16 && align_of::<RawModeBlock>() == 1);

impl ModeBlock {
    /// The mode block in a host's sector; `None` if it does not hold the lease shared.
    ///
    /// A host that does not share leaves zeros. So a generation without the flag is damage, and is
    /// taken for a shared lock whose flag was lost.
    fn read_from(sector: &[u8], host: HostId) -> Result<Option<Self>, FormatError> {
        let raw: RawModeBlock = record::read(Structure::ModeBlock(host), sector, MODE_OFFSET)?;
        let shared = Generation::new(raw.generation.get());
        let is_shared = raw.flags.get() & SHARED != 0 || shared.get() != 0;
        Ok(is_shared.then_some(Self { shared }))
    }

    /// Copies the mode block to its place in a host's sector. The rest is left alone. A host that
    /// does not hold the lease shared leaves these bytes zero.
    pub fn write_to(&self, sector: &mut SectorHead) {
        let raw = RawModeBlock {
            flags: Le32::new(SHARED),
            padding: [0; 4],
            generation: Le64::new(self.shared.get()),
        };
        record::write::<MODE_OFFSET, _>(sector, &raw);
    }
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
        let mode = ModeBlock::read_from(sector, host);
        let block = mode.and_then(|_| Dblock::decode(sector, host));
        Self {
            released: block.is_ok() && Dblock::released_flag(sector, host),
            block,
            shared: mode.ok().flatten().map(|mode| mode.shared),
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
        assert!(matches!(
            read.block,
            Err(FormatError::Checksum { structure, stored, computed })
                if structure == Structure::Dblock(host()) && stored != computed
        ));
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
        let short = |structure, needed, found| FormatError::Short {
            structure,
            needed,
            found,
        };
        let read = DblockSector::decode(&[0; 143], host());
        assert_eq!(
            read.block,
            Err(short(Structure::ModeBlock(host()), 144, 143))
        );
    }
}
