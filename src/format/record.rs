//! A record at its place in a sector, and the checks that all records have in common.

use bytemuck::Pod;

use super::error::{FormatError, Structure};
use super::le::Le32;

/// The part of a sector in which all records lie: the first 512 bytes, which are all of a small one.
///
/// Each record has room in it, so writing one cannot fail. What lies behind, in a sector of 4096
/// bytes, is zero.
pub type SectorHead = [u8; 512];

/// The record at byte `offset` of `sector`.
pub(super) fn read<T: Pod>(
    structure: Structure,
    sector: &[u8],
    offset: usize,
) -> Result<T, FormatError> {
    let needed = offset.saturating_add(size_of::<T>());
    sector
        .get(offset..needed)
        .and_then(|bytes| bytemuck::try_pod_read_unaligned(bytes).ok())
        .ok_or(FormatError::Short {
            structure,
            needed,
            found: sector.len(),
        })
}

/// Copies `record` to byte `OFFSET` of the sector. The rest is left alone.
pub(super) fn write<const OFFSET: usize, T: Pod>(sector: &mut SectorHead, record: &T) {
    const { assert!(OFFSET + size_of::<T>() <= size_of::<SectorHead>()) };
    let place = sector.iter_mut().skip(OFFSET);
    for (to, from) in place.zip(bytemuck::bytes_of(record)) {
        *to = *from;
    }
}

pub(super) fn expect_magic(
    structure: Structure,
    expected: u32,
    found: u32,
) -> Result<(), FormatError> {
    if found != expected {
        return Err(FormatError::Magic {
            structure,
            expected,
            found,
        });
    }
    Ok(())
}

/// Fails unless the upper halves of the two version words are the same. The lower ones do not
/// count.
pub(super) fn expect_major(
    structure: Structure,
    expected: u32,
    found: u32,
) -> Result<(), FormatError> {
    let [expected, found] = [expected, found].map(|word| Le32::new(word).upper_half());
    if found != expected {
        return Err(FormatError::Version {
            structure,
            expected,
            found,
        });
    }
    Ok(())
}

pub(super) fn expect_checksum(
    structure: Structure,
    stored: u32,
    computed: u32,
) -> Result<(), FormatError> {
    if stored != computed {
        return Err(FormatError::Checksum {
            structure,
            stored,
            computed,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_ends_early_is_not_read() {
        let short = Err(FormatError::Short {
            structure: Structure::Request,
            needed: 12,
            found: 11,
        });
        assert_eq!(read::<[u8; 4]>(Structure::Request, &[1; 11], 8), short);
    }

    #[test]
    fn a_record_is_written_to_its_own_bytes() {
        let mut sector = [1; 512];
        write::<508, _>(&mut sector, &[2u8; 4]);
        assert_eq!(sector[..508], [1; 508]);
        assert_eq!(sector[508..], [2; 4]);
    }
}
