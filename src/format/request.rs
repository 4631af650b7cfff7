//! The request for a lease that another host holds.

use super::error::{FormatError, Structure};
use super::ids::LeaseVersion;
use super::layout::{Field, SectorHead, expect_magic, expect_major, part, writers};

const MAGIC: u32 = 0x0829_2011;
const VERSION: u32 = 0x0001_0001;
/// Bytes of the record. The last four have no meaning.
const LEN: usize = 24;

/// A request to the holder of a lease, bytes 0 to 24 of the lease's second sector.
///
/// The record has no checksum and does not name the requesting host. The last one written counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// The version that the requesting host wants to commit: the request is to the holder of a lower
    /// one. 0 in an empty record.
    pub version: LeaseVersion,
    /// What is requested: [`RequestRecord::NONE`], [`RequestRecord::FORCE`],
    /// [`RequestRecord::GRACEFUL`]; any number when read.
    pub force_mode: u32,
}

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
    /// [`FormatError`] of kind `Short`, `Magic`, `Version`.
    pub fn decode(sector: &[u8]) -> Result<Self, FormatError> {
        let read = || {
            part(sector, 0, LEN)?;
            expect_magic(MAGIC, u32::read(sector, 0)?)?;
            expect_major(VERSION, u32::read(sector, 4)?)?;
            Ok(Self {
                version: Field::read(sector, 8)?,
                force_mode: Field::read(sector, 16)?,
            })
        };
        Structure::Request.of(read())
    }

    writers! {
        /// Copies the record to the start of `sector`. The rest is left alone.
        fn write_to(&self, sector: &mut SectorHead) {
            [0; LEN].write(sector, 0);
            MAGIC.write(sector, 0);
            VERSION.write(sector, 4);
            self.version.write(sector, 8);
            self.force_mode.write(sector, 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FormatErrorKind as Kind;

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
        let error = |kind| Err(FormatError::new(Structure::Request, kind));
        assert_eq!(
            RequestRecord::decode(&[0; 23]),
            error(Kind::Short {
                needed: 24,
                found: 23
            })
        );
        assert_eq!(
            RequestRecord::decode(&[0; 512]),
            error(Kind::Magic {
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
            error(Kind::Version {
                expected: 1,
                found: 2
            })
        );
    }
}
