//! The bits by which a host calls others.

use std::collections::BTreeSet;

use disklease::format::{FormatError, FormatErrorKind, HostBitmap, HostId, Structure};

use super::{Case, host};
use crate::{golden, shown};

const OFFSET: usize = 256;
const END: usize = 512;

/// Any bytes as the bitmap of a delta sector.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let case = Case::new(data, OFFSET);
    let sector = &case.sector[..];
    let bitmap = match HostBitmap::read_from(sector) {
        Ok(bitmap) => bitmap,
        Err(error) => {
            let short = FormatError::new(
                Structure::HostBitmap,
                FormatErrorKind::Short {
                    needed: END,
                    found: sector.len(),
                },
            );
            assert!(sector.len() < END && error == short, "{error}");
            return shown::error(&error);
        }
    };
    let called: BTreeSet<HostId> = (0..HostId::MAX)
        .filter(|&bit| sector[OFFSET + usize::from(bit / 8)] & (1 << (bit % 8)) != 0)
        .map(host)
        .collect();
    is_this_set(&bitmap, &called);
}

fn is_this_set(bitmap: &HostBitmap, called: &BTreeSet<HostId>) {
    assert!(bitmap.iter().eq(called.iter().copied()));
    assert_eq!(bitmap.is_empty(), called.is_empty());
}

/// sanlock's sectors.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let sectors = golden::sectors("delta_", "bitmap");
    let seed = |sector: &Vec<u8>| Case::seed(1, OFFSET, &sector[..END]);
    sectors.iter().map(seed).collect()
}
