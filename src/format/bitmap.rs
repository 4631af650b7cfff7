//! The bits by which one host asks others to inspect its sector.

use super::error::{FormatError, Structure};
use super::ids::HostId;
use super::layout::Field;

/// Where the bitmap is in a delta sector, of either sector size.
const AT: usize = 256;
const LEN: usize = 256;
/// The bytes whose bits belong to hosts; those behind them have no meaning.
const HOST_BYTES: usize = 250;

const _: () = assert!(HOST_BYTES * 8 == 2000 && HostId::MAX == 2000);

/// The hosts that the sector's owner notifies, bytes 256 to 512 of a delta sector.
///
/// The bytes have no checksum. Acquiring and releasing write an empty one. disklease notifies no host: all
/// that it writes is an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostBitmap([u8; LEN]);

impl HostBitmap {
    /// From a delta sector.
    ///
    /// # Errors
    ///
    /// [`FormatError`] of kind `Short`.
    pub fn read_from(sector: &[u8]) -> Result<Self, FormatError> {
        let bits = Structure::HostBitmap.of(Field::read(sector, AT))?;
        Ok(Self(bits))
    }

    /// Whether this host is notified. Host 1 has the lowest bit of the first byte.
    #[must_use]
    pub fn contains(&self, host: HostId) -> bool {
        let index = host.get().saturating_sub(1);
        let byte = self.0.get(usize::from(index >> 3));
        byte.is_some_and(|bits| bits & 1 << (index & 7) != 0)
    }

    /// The hosts that are notified, lowest first. Bits that belong to no host are left out.
    pub fn iter(&self) -> impl Iterator<Item = HostId> + '_ {
        (1..=u64::from(HostId::MAX))
            .filter_map(|id| HostId::new(id).ok())
            .filter(|&host| self.contains(host))
    }

    /// Whether no host is notified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let bits = self.0.get(..HOST_BYTES);
        bits.is_some_and(|bits| bits == [0; HOST_BYTES])
    }
}

impl Default for HostBitmap {
    /// No hosts.
    fn default() -> Self {
        Self([0; LEN])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FormatErrorKind as Kind;

    fn host(id: u64) -> HostId {
        HostId::new(id).unwrap()
    }

    #[test]
    fn bits_are_where_the_format_has_them() {
        let mut sector = [0; 512];
        [sector[256], sector[257], sector[256 + 249]] = [0x81, 0x01, 0x80];
        let read = HostBitmap::read_from(&sector).unwrap();
        assert_eq!(
            read.iter().map(HostId::get).collect::<Vec<_>>(),
            [1, 8, 9, 2000]
        );
        assert!(!read.contains(host(7)) && read.contains(host(9)));
    }

    #[test]
    fn bits_of_no_host_call_nobody() {
        let mut sector = [0; 512];
        sector[256 + 250..].fill(0xff);
        assert!(HostBitmap::read_from(&sector).unwrap().is_empty());
    }

    #[test]
    fn a_short_sector_is_refused() {
        let short = Kind::Short {
            needed: 512,
            found: 511,
        };
        let short = FormatError::new(Structure::HostBitmap, short);
        assert_eq!(HostBitmap::read_from(&[0; 511]), Err(short));
    }
}
