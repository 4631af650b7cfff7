//! The id that distinguishes lockspaces of the same name.

use std::fmt;
use std::str::FromStr;

use super::error::Structure;
use super::hex::Hex;
use super::note::{self, NoteState};
use super::record::SectorHead;

const MAGIC: u32 = 0x6c64_6964;

/// Distinguishes lockspaces of the same name: 128 random bits, as 32 hexadecimal digits.
///
/// disklease writes the id when it makes a lockspace, to the last sector of the area
/// ([`Geometry::lockspace_id_offset`](super::Geometry::lockspace_id_offset)), which belongs to no
/// host. sanlock never reads that sector, and writes it only when it initialises the lockspace.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockspaceId([u8; 16]);

/// A text that is no [`LockspaceId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lockspace id is 32 hexadecimal digits, as `disklease status` shows it")]
#[non_exhaustive]
pub struct LockspaceIdError;

impl LockspaceId {
    /// The id of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id in the last sector of a lockspace. A lockspace that sanlock made has none.
    #[must_use]
    pub fn read_from(sector: &[u8]) -> NoteState<Self> {
        let read = note::read(Structure::LockspaceId, sector, 0, MAGIC);
        NoteState::from_result(read.map(|id| id.map(Self)))
    }

    /// Copies the id to the start of the last sector of a lockspace. The rest is left alone.
    pub fn write_to(&self, sector: &mut SectorHead) {
        note::write::<0, _>(sector, MAGIC, &self.0);
    }

    /// Names a lockspace by its id, in an error's text.
    pub(crate) fn said(found: Option<Self>) -> String {
        match found {
            Some(id) => format!("the lockspace {id}"),
            None => "a lockspace without an id".to_owned(),
        }
    }
}

impl fmt::Display for LockspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for LockspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockspaceId({self})")
    }
}

impl FromStr for LockspaceId {
    type Err = LockspaceIdError;

    fn from_str(text: &str) -> Result<Self, LockspaceIdError> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_id);
        let mut bytes = number.ok_or(LockspaceIdError)?.to_le_bytes();
        // The first digits are the first byte.
        bytes.reverse();
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Geometry;

    const TEXT: &str = "000102030405060708090a0b0c0d0eff";

    fn id() -> LockspaceId {
        TEXT.parse().unwrap()
    }

    #[test]
    fn a_text_goes_to_bytes_and_back() {
        assert_eq!(id().to_bytes()[..2], [0, 1]);
        assert_eq!(id().to_string(), TEXT);
        assert_eq!(LockspaceId::new(id().to_bytes()), id());
        assert_eq!(TEXT.to_uppercase().parse(), Ok(id()));
        for bad in [
            "",
            "00",
            &format!("{TEXT}0"),
            &TEXT.replace("0001", "+001"),
            &"é".repeat(16),
        ] {
            assert_eq!(bad.parse::<LockspaceId>(), Err(LockspaceIdError), "{bad}");
        }
    }

    #[test]
    fn it_goes_to_the_start_of_a_sector_that_is_no_host_s_and_back() {
        for geometry in Geometry::ALL {
            let end = u64::try_from(geometry.area_size()).unwrap();
            let hosts = u64::try_from(geometry.lockspace_len(u16::MAX)).unwrap();
            let sector_size = u64::try_from(geometry.sector_size()).unwrap();
            let at = geometry.lockspace_id_offset();
            assert!(at >= hosts && at + sector_size == end, "{geometry}");
        }
        let mut sector = [0; 512];
        id().write_to(&mut sector);
        assert_eq!(sector[..4], *b"didl");
        assert!(sector[24..].iter().all(|&byte| byte == 0));
        assert_eq!(LockspaceId::read_from(&sector), NoteState::Present(id()));
        assert_eq!(LockspaceId::read_from(&[0; 512]), NoteState::Absent);
        for at in 0..24 {
            let mut damaged = sector;
            damaged[at] ^= 1;
            let read = LockspaceId::read_from(&damaged);
            assert!(matches!(read, NoteState::Damaged(_)), "byte {at}: {read:?}");
        }
        assert!(matches!(
            LockspaceId::read_from(&sector[..23]),
            NoteState::Damaged(_)
        ));
    }
}
