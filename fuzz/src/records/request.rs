//! The request for a lease.

use disklease::format::{FormatError, RequestRecord, Structure};

use super::Case;
use crate::bytes::{u16_at, u32_at, u64_at};
use crate::{golden, shown};

const LEN: usize = 24;

/// Any bytes as the second sector of a lease.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let case = Case::new(data, 0);
    let sector = &case.sector[..];
    let decoded = RequestRecord::decode(sector);
    assert_eq!(decoded.map(|_| ()), judged(sector));
    let request = match decoded {
        Ok(request) => request,
        Err(error) => return shown::error(&error),
    };
    assert_eq!(request.version.get(), u64_at(sector, 8));
    assert_eq!(request.force_mode, u32_at(sector, 16));
    let mut again = [0; 512];
    request.write_to(&mut again);
    assert_eq!(RequestRecord::decode(&again), Ok(request));
    let is_as_we_write_it = u16_at(sector, 4) == 1 && u32_at(sector, 20) == 0;
    assert_eq!(again[..LEN] == sector[..LEN], is_as_we_write_it);
}

/// What is wrong with these bytes.
fn judged(sector: &[u8]) -> Result<(), FormatError> {
    let structure = Structure::Request;
    if sector.len() < LEN {
        return Err(FormatError::Short {
            structure,
            needed: LEN,
            found: sector.len(),
        });
    }
    let (expected, found) = (0x0829_2011, u32_at(sector, 0));
    if found != expected {
        return Err(FormatError::Magic {
            structure,
            expected,
            found,
        });
    }
    let (expected, found) = (1, u16_at(sector, 6));
    if found != expected {
        return Err(FormatError::Version {
            structure,
            expected,
            found,
        });
    }
    Ok(())
}

/// sanlock's sectors.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let sectors = golden::sectors("paxos_request", "");
    let seed = |sector: &Vec<u8>| Case::seed(1, 0, &sector[..LEN]);
    sectors.iter().map(seed).collect()
}
