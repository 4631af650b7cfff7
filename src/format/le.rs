//! Little-endian integers as they are in a record: bytes, without alignment.

use std::fmt;

use bytemuck::{Pod, Zeroable};

macro_rules! little_endian {
    ($(#[$doc:meta])* $name:ident, $int:ty, $len:literal) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
        pub(super) struct $name([u8; $len]);

        impl $name {
            pub(super) const fn new(value: $int) -> Self {
                Self(value.to_le_bytes())
            }

            pub(super) const fn get(self) -> $int {
                <$int>::from_le_bytes(self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.get().fmt(f)
            }
        }
    };
}

little_endian!(
    /// A `u16` in a record.
    Le16, u16, 2
);
little_endian!(
    /// A `u32` in a record.
    Le32, u32, 4
);
little_endian!(
    /// A `u64` in a record.
    Le64, u64, 8
);

impl Le32 {
    /// The upper 16 bits: the major version, where this is a version.
    pub(super) const fn upper_half(self) -> u16 {
        let [_, _, low, high] = self.0;
        u16::from_le_bytes([low, high])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_byte_comes_first() {
        assert_eq!(bytemuck::bytes_of(&Le16::new(0x1234)), [0x34, 0x12]);
        assert_eq!(
            bytemuck::bytes_of(&Le32::new(0x1221_2010)),
            [0x10, 0x20, 0x21, 0x12]
        );
        assert_eq!(bytemuck::bytes_of(&Le64::new(1)), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Le64::new(u64::MAX - 1).get(), u64::MAX - 1);
        assert_eq!(Le32::new(0x0006_0004).upper_half(), 6);
        assert_eq!(align_of::<Le64>(), 1);
    }
}
