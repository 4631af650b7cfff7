//! Fast hashing of small keys that nobody chooses to collide.

use std::hash::{BuildHasherDefault, Hasher};

pub type Quick = BuildHasherDefault<Mixer>;

/// Multiplies and folds, word by word.
#[derive(Clone, Copy, Default)]
pub struct Mixer(u64);

const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

impl Mixer {
    pub fn mix(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word ^ 0xA076_1D64_78BD_642F) * u128::from(FACTOR);
        self.0 = (wide as u64) ^ ((wide >> 64) as u64).wrapping_add(self.0.rotate_left(23));
    }

    /// A hash all of whose bits depend on all words (the end of `MurmurHash3`).
    pub fn end(self) -> u64 {
        let mut h = self.0;
        h = (h ^ h >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        h = (h ^ h >> 33).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        h ^ h >> 33
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.end()
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.mix(number.cast_unsigned() as u64);
    }
}
