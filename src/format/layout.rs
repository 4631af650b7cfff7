//! Where the fields of a record lie in its sector, and what reads and writes them.

use super::error::FormatErrorKind as Kind;

/// The part of a sector in which all records lie: the first 512 bytes, which are all of a small one.
///
/// Each record has room in it, so writing one cannot fail. What lies behind, in a sector of 4096
/// bytes, is zero.
pub(crate) type SectorHead = [u8; 512];

/// A value that lies in a field of a record: little-endian, without alignment.
pub(super) trait Field: Sized {
    /// Bytes of the field.
    const LEN: usize;

    /// The value at byte `at`.
    fn read(bytes: &[u8], at: usize) -> Result<Self, Kind>;

    /// Copies the value to byte `at`. What does not fit is left out: [`record!`] sees to it that all does.
    fn write(self, bytes: &mut [u8], at: usize);
}

impl<const N: usize> Field for [u8; N] {
    const LEN: usize = N;

    fn read(bytes: &[u8], at: usize) -> Result<Self, Kind> {
        let field = part(bytes, at, N)?;
        field.try_into().map_err(|_| short(bytes, at, N))
    }

    fn write(self, bytes: &mut [u8], at: usize) {
        for (to, from) in bytes.iter_mut().skip(at).zip(self) {
            *to = from;
        }
    }
}

/// Fields whose values are made of their bytes, and made bytes again, by these functions.
macro_rules! fields {
    ($($value:ty: $len:literal, $from_bytes:expr, $to_bytes:expr;)*) => {$(
        impl $crate::format::layout::Field for $value {
            const LEN: usize = $len;

            fn read(bytes: &[u8], at: usize) -> Result<Self, $crate::format::FormatErrorKind> {
                <[u8; $len]>::read(bytes, at).map($from_bytes)
            }

            fn write(self, bytes: &mut [u8], at: usize) {
                let field: [u8; $len] = $to_bytes(self);
                field.write(bytes, at);
            }
        }
    )*};
}
pub(super) use fields;

fields! {
    u16: 2, Self::from_le_bytes, Self::to_le_bytes;
    u32: 4, Self::from_le_bytes, Self::to_le_bytes;
    u64: 8, Self::from_le_bytes, Self::to_le_bytes;
}

/// A record of which each field is declared once: its type, its name, and the byte at which it begins.
pub(super) trait Record: Sized {
    /// Where the record begins in its sector, of either sector size.
    const AT: usize;
    /// Bytes of the record.
    const LEN: usize;

    /// The record in `sector`.
    fn read(sector: &[u8]) -> Result<Self, Kind>;

    /// Copies the fields to their places. The rest is left alone.
    fn write(&self, sector: &mut SectorHead);
}

/// Declares a [`Record`] that lies at byte `$from` to `$to` of its sector. Offsets of fields are counted from
/// the start of the record; fields do not overlap.
macro_rules! record {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $from:literal..$to:literal {
            $($(#[$doc:meta])* $at:literal => $field_vis:vis $field:ident: $value:ty,)*
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[$doc])* $field_vis $field: $value,)*
        }

        impl $crate::format::layout::Record for $name {
            const AT: usize = $from;
            const LEN: usize = $to - $from;

            fn read(sector: &[u8]) -> Result<Self, $crate::format::FormatErrorKind> {
                use $crate::format::layout::Field;
                $crate::format::layout::part(sector, $from, Self::LEN)?;
                Ok(Self { $($field: Field::read(sector, $from + $at)?,)* })
            }

            #[allow(clippy::arithmetic_side_effects, reason = "of constants")]
            fn write(&self, sector: &mut $crate::format::SectorHead) {
                use $crate::format::layout::Field;
                const {
                    let mut end = 0;
                    $(
                        assert!(end <= $at, "fields overlap");
                        end = $at + <$value as Field>::LEN;
                    )*
                    assert!($from + end <= $to && $to <= size_of::<$crate::format::SectorHead>());
                }
                $(self.$field.write(sector, $from + $at);)*
            }
        }
    };
}
pub(super) use record;

/// Functions by which records are made and written: for this crate only, and for its simulator and fuzzers.
macro_rules! writers {
    ($($(#[$meta:meta])* fn $name:ident($($args:tt)*) $(-> $output:ty)? $body:block)*) => {$(
        #[cfg(feature = "__sim")]
        $(#[$meta])*
        pub fn $name($($args)*) $(-> $output)? $body

        #[cfg(not(feature = "__sim"))]
        $(#[$meta])*
        pub(crate) fn $name($($args)*) $(-> $output)? $body
    )*};
}
pub(super) use writers;

/// What a leader tells, each by one expression over its private fields.
macro_rules! readers {
    ($self:ident; $($(#[$doc:meta])* $name:ident: $value:ty = $read:expr;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub const fn $name(&$self) -> $value {
            $read
        }
    )*};
}
pub(super) use readers;

/// The `len` bytes at byte `at`.
pub(super) fn part(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], Kind> {
    let part = bytes.get(at..at.saturating_add(len));
    part.ok_or_else(|| short(bytes, at, len))
}

const fn short(bytes: &[u8], at: usize, len: usize) -> Kind {
    Kind::Short {
        needed: at.saturating_add(len),
        found: bytes.len(),
    }
}

/// Fails unless `is_right`.
pub(super) const fn ensure(is_right: bool, otherwise: Kind) -> Result<(), Kind> {
    if is_right { Ok(()) } else { Err(otherwise) }
}

pub(super) fn expect_magic(expected: u32, found: u32) -> Result<(), Kind> {
    ensure(found == expected, Kind::Magic { expected, found })
}

/// Fails unless the major versions are the same, which are the upper halves of the two version words. The
/// minor ones do not count.
pub(super) fn expect_major(expected: u32, found: u32) -> Result<(), Kind> {
    let [expected, found] = [expected, found].map(|word| {
        let [_, _, low, high] = word.to_le_bytes();
        u16::from_le_bytes([low, high])
    });
    ensure(found == expected, Kind::Version { expected, found })
}

pub(super) fn expect_checksum(stored: u32, computed: u32) -> Result<(), Kind> {
    ensure(stored == computed, Kind::Checksum { stored, computed })
}

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        #[derive(Debug, PartialEq)]
        struct Example: 500..512 {
            0 => small: u16,
            4 => large: u64,
        }
    }

    #[test]
    fn a_record_is_written_to_its_own_bytes_lowest_byte_first() {
        let mut sector = [9; 512];
        let example = Example {
            small: 0x1234,
            large: 1,
        };
        example.write(&mut sector);
        assert_eq!(sector[..500], [9; 500]);
        assert_eq!(
            sector[500..],
            [0x34, 0x12, 9, 9, 1, 0, 0, 0, 0, 0, 0, 0][..]
        );
        assert_eq!(Example::read(&sector), Ok(example));
    }

    #[test]
    fn a_record_that_ends_early_is_not_read() {
        let short = Kind::Short {
            needed: 512,
            found: 511,
        };
        assert_eq!(Example::read(&[1; 511]), Err(short));
        assert_eq!(u32::read(&[1; 3], usize::MAX), {
            Err(Kind::Short {
                needed: usize::MAX,
                found: 3,
            })
        });
    }

    #[test]
    fn the_upper_half_of_a_version_is_the_major_one() {
        assert_eq!(expect_major(0x0006_0004, 0x0006_0003), Ok(()));
        let other = Kind::Version {
            expected: 6,
            found: 7,
        };
        assert_eq!(expect_major(0x0006_0004, 0x0007_0004), Err(other));
    }
}
