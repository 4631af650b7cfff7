//! The request for a lease that another host holds.

use bytemuck::{Pod, Zeroable};

use super::error::{FormatError, Structure};
use super::ids::LeaseVersion;
use super::le::{Le32, Le64};
use super::record::{self, SectorHead};

const MAGIC: u32 = 0x0829_2011;
const VERSION: u32 = 0x0001_0001;

/// A request to the holder of a lease, bytes 0 to 24 of the lease's second sector.
///
/// The record has no checksum and does not name the requesting host. The last one written counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "these are the fields that the format has"
)]
pub struct RequestRecord {
    /// The version that the requesting host wants to commit: the request is to the holder of a lower
    /// one. 0 in an empty record.
    pub version: LeaseVersion,
    /// What is requested: [`RequestRecord::NONE`], [`RequestRecord::FORCE`],
    /// [`RequestRecord::GRACEFUL`]; any number when read.
    pub force_mode: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RawRequest {
    magic: Le32,
    version: Le32,
    lver: Le64,
    force_mode: Le32,
    unused: Le32,
}

const _: () = assert!(size_of::<RawRequest>() == 24 && align_of::<RawRequest>() == 1);

impl RequestRecord {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// The holder is to be killed.
    pub const FORCE: u32 = 1;
    /// The holder is to release the lease by itself.
    pub const GRACEFUL: u32 = 2;

    /// A record that requests nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            version: LeaseVersion::new(0),
            force_mode: Self::NONE,
        }
    }

    /// Reads the second sector of a lease.
    ///
    /// # Errors
    ///
    /// [`FormatError::Short`], [`FormatError::Magic`], [`FormatError::Version`].
    pub fn decode(sector: &[u8]) -> Result<Self, FormatError> {
        let structure = Structure::Request;
        let raw: RawRequest = record::read(structure, sector, 0)?;
        record::expect_magic(structure, MAGIC, raw.magic.get())?;
        record::expect_major(structure, VERSION, raw.version.get())?;
        Ok(Self {
            version: LeaseVersion::new(raw.lver.get()),
            force_mode: raw.force_mode.get(),
        })
    }

    /// Copies the record to the start of `sector`, which the caller has zeroed. The rest is left
    /// alone.
    pub fn write_to(&self, sector: &mut SectorHead) {
        let raw = RawRequest {
            magic: Le32::new(MAGIC),
            version: Le32::new(VERSION),
            lver: Le64::new(self.version.get()),
            force_mode: Le32::new(self.force_mode),
            unused: Le32::new(0),
        };
        record::write::<0, _>(sector, &raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(request: RequestRecord) -> [u8; 512] {
        let mut sector = [0; 512];
        request.write_to(&mut sector);
        sector
    }

    #[test]
    fn goes_to_bytes_and_back() {
        for (version, force_mode) in [(0, 0), (9, RequestRecord::GRACEFUL), (u64::MAX, u32::MAX)] {
            let request = RequestRecord {
                version: LeaseVersion::new(version),
                force_mode,
            };
            assert_eq!(RequestRecord::decode(&sector(request)), Ok(request));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let structure = Structure::Request;
        assert_eq!(
            RequestRecord::decode(&[0; 23]),
            Err(FormatError::Short {
                structure,
                needed: 24,
                found: 23
            })
        );
        assert_eq!(
            RequestRecord::decode(&[0; 512]),
            Err(FormatError::Magic {
                structure,
                expected: MAGIC,
                found: 0
            })
        );
        let mut newer = sector(RequestRecord::empty());
        newer[4] = 7;
        assert_eq!(RequestRecord::decode(&newer), Ok(RequestRecord::empty()));
        newer[6] = 2;
        assert_eq!(
            RequestRecord::decode(&newer),
            Err(FormatError::Version {
                structure,
                expected: 1,
                found: 2
            })
        );
    }
}
