//! A record at its place in a sector.

use bytemuck::Pod;

use super::error::{FormatError, Structure};
use super::le::Le32;

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

/// Copies `record` to byte `offset` of `sector`.
pub(super) fn write<T: Pod>(
    structure: Structure,
    sector: &mut [u8],
    offset: usize,
    record: &T,
) -> Result<(), FormatError> {
    let needed = offset.saturating_add(size_of::<T>());
    let found = sector.len();
    let place = sector.get_mut(offset..needed).ok_or(FormatError::Short {
        structure,
        needed,
        found,
    })?;
    place.copy_from_slice(bytemuck::bytes_of(record));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_does_not_fit_is_neither_read_nor_written() {
        let short = Err(FormatError::Short {
            structure: Structure::Request,
            needed: 12,
            found: 11,
        });
        assert_eq!(read::<[u8; 4]>(Structure::Request, &[1; 11], 8), short);
        let mut sector = [1; 11];
        assert_eq!(
            write(Structure::Request, &mut sector, 8, &[2u8; 4]),
            short.map(|_| ())
        );
        assert_eq!(sector, [1; 11]);
        assert_eq!(write(Structure::Request, &mut sector, 7, &[2u8; 4]), Ok(()));
        assert_eq!(sector, [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]);
    }
}
