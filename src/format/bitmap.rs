//! The bits by which one host asks others to inspect its sector.

use super::error::{FormatError, Structure};
use super::ids::HostId;
use super::record::{self, SectorHead};

/// Where the bitmap is in a delta sector, of either sector size.
const OFFSET: usize = 256;
const LEN: usize = 256;
/// The bytes whose bits belong to hosts; those behind them have no meaning.
const HOST_BYTES: usize = 250;

const _: () = assert!(HOST_BYTES * 8 == 2000 && HostId::MAX == 2000);

/// The hosts that the sector's owner notifies, bytes 256 to 512 of a delta sector.
///
/// The bytes have no checksum. Acquiring and releasing write an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostBitmap([u8; LEN]);

impl HostBitmap {
    /// No hosts.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; LEN])
    }

    /// From a delta sector.
    ///
    /// # Errors
    ///
    /// [`FormatError::Short`].
    pub fn read_from(sector: &[u8]) -> Result<Self, FormatError> {
        record::read(Structure::HostBitmap, sector, OFFSET).map(Self)
    }

    /// Whether this host is notified.
    #[must_use]
    pub fn contains(&self, host: HostId) -> bool {
        let (byte, mask) = place(host);
        self.0.get(byte).is_some_and(|bits| bits & mask != 0)
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

    /// Adds this host.
    pub fn set(&mut self, host: HostId) {
        let (byte, mask) = place(host);
        if let Some(bits) = self.0.get_mut(byte) {
            *bits |= mask;
        }
    }

    /// Removes this host.
    pub fn clear(&mut self, host: HostId) {
        let (byte, mask) = place(host);
        if let Some(bits) = self.0.get_mut(byte) {
            *bits &= !mask;
        }
    }

    /// Copies the bits to their place in a delta sector. The rest is left alone.
    pub fn write_to(&self, sector: &mut SectorHead) {
        record::write::<OFFSET, _>(sector, &self.0);
    }
}

impl Default for HostBitmap {
    fn default() -> Self {
        Self::new()
    }
}

/// The byte of a host's bit, and the bit in it. Host 1 has the lowest bit of the first byte.
fn place(host: HostId) -> (usize, u8) {
    let index = host.get().saturating_sub(1);
    (usize::from(index >> 3), 1 << (index & 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: u64) -> HostId {
        HostId::new(id).unwrap()
    }

    #[test]
    fn bits_are_where_the_format_has_them() {
        let mut bitmap = HostBitmap::new();
        for id in [1, 8, 9, 2000] {
            bitmap.set(host(id));
        }
        let mut sector = [0; 512];
        bitmap.write_to(&mut sector);
        assert_eq!(
            (sector[256], sector[257], sector[256 + 249]),
            (0x81, 0x01, 0x80)
        );
        let read = HostBitmap::read_from(&sector).unwrap();
        assert_eq!(
            read.iter().map(HostId::get).collect::<Vec<_>>(),
            [1, 8, 9, 2000]
        );
        bitmap.clear(host(8));
        assert!(!bitmap.contains(host(8)) && bitmap.contains(host(9)));
    }

    #[test]
    fn bits_of_no_host_call_nobody() {
        let mut sector = [0; 512];
        sector[256 + 250..].fill(0xff);
        assert!(HostBitmap::read_from(&sector).unwrap().is_empty());
    }

    #[test]
    fn a_short_sector_is_refused() {
        let short = FormatError::Short {
            structure: Structure::HostBitmap,
            needed: 512,
            found: 511,
        };
        assert_eq!(HostBitmap::read_from(&[0; 511]), Err(short));
    }
}
