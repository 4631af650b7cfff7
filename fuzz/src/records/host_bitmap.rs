//! The bits by which a host calls others.

use std::collections::BTreeSet;

use disklease::format::{FormatError, HostBitmap, HostId, Structure};

use super::{Case, host};
use crate::bytes::u16_at;
use crate::{golden, shown};

const OFFSET: usize = 256;
const END: usize = 512;

/// Any bytes as the bitmap of a delta sector; then each pair of bytes is a host that is called, or
/// not any more.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let case = Case::new(data, OFFSET);
    let sector = &case.sector[..];
    let mut bitmap = match HostBitmap::read_from(sector) {
        Ok(bitmap) => bitmap,
        Err(error) => {
            let short = FormatError::Short {
                structure: Structure::HostBitmap,
                needed: END,
                found: sector.len(),
            };
            assert!(sector.len() < END && error == short, "{error}");
            return shown::error(&error);
        }
    };
    let mut called: BTreeSet<HostId> = (0..HostId::MAX)
        .filter(|&bit| sector[OFFSET + usize::from(bit / 8)] & (1 << (bit % 8)) != 0)
        .map(host)
        .collect();
    is_this_set(&bitmap, &called);
    let mut again = [0; 512];
    bitmap.write_to(&mut again);
    assert!(again[..OFFSET].iter().all(|&byte| byte == 0));
    assert_eq!(again[OFFSET..END], sector[OFFSET..END]);

    for pair in sector[END..].chunks_exact(2) {
        let word = u16_at(pair, 0);
        let host = host(word >> 1);
        if word & 1 == 0 {
            bitmap.set(host);
            called.insert(host);
        } else {
            bitmap.clear(host);
            called.remove(&host);
        }
        assert_eq!(bitmap.contains(host), word & 1 == 0);
    }
    is_this_set(&bitmap, &called);
}

fn is_this_set(bitmap: &HostBitmap, called: &BTreeSet<HostId>) {
    assert!(bitmap.iter().eq(called.iter().copied()));
    assert_eq!(bitmap.is_empty(), called.is_empty());
}

/// sanlock's sectors, and some calls more.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let sectors = golden::sectors("delta_", "bitmap");
    let seed = |sector: &Vec<u8>| {
        let mut seed = Case::seed(1, OFFSET, &sector[..END]);
        seed.extend([2, 0, 3, 0, 0xff, 0xff]);
        seed
    };
    sectors.iter().map(seed).collect()
}
