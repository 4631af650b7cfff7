//! Reading and sealing records by the words of the format alone: the other side of each comparison
//! with the library.

use std::sync::LazyLock;

use disklease::format::{FormatError, FormatErrorKind, Geometry, Structure};

/// Bytes of a leader that its checksum covers, and where the checksum is.
pub const LEADER_CHECKED: usize = 168;
/// Bytes of a leader.
pub const LEADER_LEN: usize = 200;
/// The same as [`LEADER_CHECKED`], of a dblock.
pub const DBLOCK_CHECKED: usize = 48;
/// Where our notes are, and how long they are.
pub const HOST_NOTE: (usize, usize) = (200, 56);
pub const HOLDER_NOTE: (usize, usize) = (256, 256);

/// # Panics
///
/// If the bytes are not there, as all of these.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The checksum: CRC-32C that starts from `0xFFFF_FFFE` and is not inverted at the end.
#[must_use]
pub fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xFFFF_FFFE, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ REMAINDERS[usize::from(low ^ byte)]
    })
}

/// What each byte leaves behind, bit by bit by the reflected polynomial.
static REMAINDERS: LazyLock<[u32; 256]> = LazyLock::new(|| {
    let mut remainders = [0; 256];
    for (byte, remainder) in (0..).zip(&mut remainders) {
        *remainder = (0..8).fold(byte, |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & (crc & 1_u32).wrapping_neg())
        });
    }
    remainders
});

/// Fails as the library should if the checksum at byte `at` is not that of `checked`.
///
/// # Errors
///
/// [`FormatErrorKind::Checksum`].
pub fn expect_checksum(
    structure: Structure,
    checked: &[u8],
    stored: u32,
) -> Result<(), FormatError> {
    let computed = crc(checked);
    if stored == computed {
        return Ok(());
    }
    Err(FormatError::new(
        structure,
        FormatErrorKind::Checksum { stored, computed },
    ))
}

/// Puts the checksum where it belongs, so that what comes after that check is reached.
fn seal(record: &mut [u8], checked: std::ops::Range<usize>, at: usize) {
    if record.len() >= checked.end.max(at + 4) {
        let sum = crc(&record[checked]);
        record[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Seals a leader at the start of `sector`.
pub fn seal_leader(sector: &mut [u8]) {
    seal(sector, 0..LEADER_CHECKED, LEADER_CHECKED);
}

/// Seals a dblock at the start of `sector`.
pub fn seal_dblock(sector: &mut [u8]) {
    seal(sector, 0..DBLOCK_CHECKED, DBLOCK_CHECKED);
}

/// Seals the note at byte `at`.
pub fn seal_note(sector: &mut [u8], (at, len): (usize, usize)) {
    if let Some(note) = sector.get_mut(at..at + len) {
        seal(note, 8..len, 4);
    }
}

/// The sizes that a leader's bytes tell.
///
/// # Errors
///
/// [`FormatErrorKind::SectorSize`], [`FormatErrorKind::AlignSize`].
pub fn sizes(structure: Structure, leader: &[u8]) -> Result<Geometry, FormatError> {
    let (flags, sector_size) = (u32_at(leader, 8), u32_at(leader, 12));
    if sector_size != 512 && sector_size != 4096 {
        let found = sector_size;
        return Err(FormatError::new(
            structure,
            FormatErrorKind::SectorSize { found },
        ));
    }
    let mib = [(0x10, 1), (0x20, 2), (0x40, 4), (0x80, 8)]
        .into_iter()
        .find(|(flag, _)| flags & flag != 0)
        .map(|(_, mib)| mib);
    match (sector_size, mib) {
        (512, None | Some(1)) => Ok(Geometry::S512_A1M),
        (4096, Some(1)) => Ok(Geometry::S4K_A1M),
        (4096, Some(2)) => Ok(Geometry::S4K_A2M),
        (4096, Some(4)) => Ok(Geometry::S4K_A4M),
        (4096, None | Some(8)) => Ok(Geometry::S4K_A8M),
        (_, mib) => Err(FormatError::new(
            structure,
            FormatErrorKind::AlignSize {
                sector_size,
                align_size: mib.unwrap_or(0) << 20,
            },
        )),
    }
}
