//! The checksum of leaders, dblocks and our notes.

/// CRC-32C that starts from `0xFFFF_FFFE` and is not inverted at the end.
///
/// Common CRC-32C starts from all ones and is inverted; continued from the value 1 and inverted
/// once more it is this one.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(1, bytes) ^ u32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, bit by bit.
    fn by_hand(bytes: &[u8]) -> u32 {
        bytes.iter().fold(0xFFFF_FFFE, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 {
                    (crc >> 1) ^ 0x82F6_3B78
                } else {
                    crc >> 1
                }
            })
        })
    }

    #[test]
    fn known_values() {
        assert_eq!(checksum(b"123456789"), 0xE8C7_BB34);
        assert_eq!(checksum(b""), 0xFFFF_FFFE);
        assert_eq!(checksum(&[0; 48]), 0xCB5A_D842);
        assert_eq!(checksum(&[0; 168]), 0x7E11_FBD1);
    }

    #[test]
    fn agrees_with_the_definition_at_every_length() {
        let bytes: Vec<u8> = (0..=255).cycle().take(700).collect();
        for len in 0..bytes.len() {
            assert_eq!(
                checksum(&bytes[..len]),
                by_hand(&bytes[..len]),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn a_dblock_worked_by_hand() {
        let block: Vec<u8> = [1u64, 1, 1, 1, 1256, 1]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        assert_eq!(checksum(&block), 0x13B1_A4A7);
    }
}
