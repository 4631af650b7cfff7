//! Buffers that direct I/O takes: aligned to 4096 bytes in memory, whole sectors long, owned by one
//! I/O at a time.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

/// The strictest alignment that direct I/O asks for on any disk of this format.
const ALIGNMENT: usize = 4096;

#[repr(C, align(4096))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Block([u8; ALIGNMENT]);

const _: () = assert!(size_of::<Block>() == ALIGNMENT && align_of::<Block>() == ALIGNMENT);

/// Some whole sectors of memory, zeroed when made. Reads as `[u8]`.
#[derive(Clone)]
pub struct SectorBuf {
    blocks: Vec<Block>,
    len: usize,
}

impl SectorBuf {
    /// `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self {
            blocks: bytemuck::zeroed_vec(len.div_ceil(ALIGNMENT)),
            len,
        }
    }

    /// Keeps the first `len` bytes, if there are as many.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for SectorBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.blocks);
        bytes.get(..self.len).unwrap_or(bytes)
    }
}

impl DerefMut for SectorBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.blocks);
        let len = len.min(bytes.len());
        // OK to split: `len` is at most the length, by the line above.
        bytes.split_at_mut(len).0
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
    fn is_aligned_zeroed_and_of_the_length_asked_for() {
        for len in [0, 512, 4096, 4608, 1 << 20] {
            let mut buf = SectorBuf::zeroed(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.deref_mut().len(), len);
            assert!(buf.iter().all(|&b| b == 0));
            assert_eq!(buf.as_ptr().align_offset(ALIGNMENT), 0);
        }
    }
}
