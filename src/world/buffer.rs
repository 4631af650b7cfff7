//! Buffers that direct I/O takes: aligned to 4096 bytes in memory, whole sectors long, owned by one
//! I/O at a time.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::format::{Geometry, SectorHead};

/// The strictest alignment that direct I/O asks for on any disk of this format.
const ALIGNMENT: usize = 4096;

/// Some whole sectors of memory, zeroed when made. Reads as `[u8]`.
///
/// Aligned by hand, within memory that is not: glibc before 2.38 hardly ever uses memory again that
/// it was asked for with an alignment, and a buffer of a megabyte in each renewal adds up.
pub struct SectorBuf {
    bytes: Vec<u8>,
    /// Where the aligned part begins.
    start: usize,
    len: usize,
}

impl SectorBuf {
    /// `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len.saturating_add(ALIGNMENT)];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start, len }
    }

    /// One sector of such an area, as it is to be written: `head`, and zeros behind it.
    #[must_use]
    pub fn sector(geometry: Geometry, head: &SectorHead) -> Self {
        let mut sector = Self::zeroed(geometry.sector_size());
        for (to, from) in sector.iter_mut().zip(head) {
            *to = *from;
        }
        sector
    }

    /// Keeps the first `len` bytes, if there are as many.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl From<&[u8]> for SectorBuf {
    /// A copy of these bytes.
    fn from(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }
}

impl Clone for SectorBuf {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl Deref for SectorBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // Always there: less than one alignment lies before it, and one was added.
        let aligned = self.bytes.get(self.start..).unwrap_or_default();
        aligned.get(..self.len).unwrap_or(aligned)
    }
}

impl DerefMut for SectorBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let aligned = self.bytes.get_mut(self.start..).unwrap_or_default();
        let len = self.len.min(aligned.len());
        // OK to split: `len` is at most the length, by the line above.
        aligned.split_at_mut(len).0
    }
}

impl fmt::Debug for SectorBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SectorBuf")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_has_the_size_of_its_geometry_and_zeros_behind_the_head() {
        let small = SectorBuf::sector(Geometry::S512_A1M, &[7; 512]);
        assert_eq!(*small, [7; 512]);
        let large = SectorBuf::sector(Geometry::S4K_A1M, &[7; 512]);
        assert_eq!(large.len(), 4096);
        assert_eq!(large[..512], [7; 512]);
        assert_eq!(large[512..], [0; 3584]);
    }

    #[test]
    fn is_aligned_zeroed_and_of_the_length_asked_for() {
        for len in [0, 512, 4096, 4608, 1 << 20] {
            let mut buf = SectorBuf::zeroed(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.deref_mut().len(), len);
            assert!(buf.iter().all(|&b| b == 0));
            assert_eq!(buf.as_ptr().align_offset(ALIGNMENT), 0);
            buf.fill(7);
            let copy = buf.clone();
            assert!(copy.len() == len && copy.iter().all(|&b| b == 7));
            assert_eq!(copy.as_ptr().align_offset(ALIGNMENT), 0);
            buf.truncate(512);
            assert_eq!(buf.len(), len.min(512));
        }
    }
}
