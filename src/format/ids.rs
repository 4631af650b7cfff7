//! The numbers and tokens that records are about.

use std::fmt;
use std::str::FromStr;

use super::error::FormatErrorKind;
use super::layout::{Field, fields};

/// A host of a lockspace: 1 to [`HostId::MAX`].
///
/// A [`Geometry`](super::Geometry) may have room for fewer hosts: see its `check_host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(u16);

impl HostId {
    /// The smallest host id. Its sector is the one by which a lockspace is recognised.
    pub const FIRST: Self = Self(1);
    /// The largest host id of any geometry.
    pub const MAX: u16 = 2000;

    /// The host of this number.
    ///
    /// # Errors
    ///
    /// [`HostIdError`] unless it is from 1 to [`HostId::MAX`].
    pub fn new(id: u64) -> Result<Self, HostIdError> {
        match u16::try_from(id) {
            Ok(id @ 1..=Self::MAX) => Ok(Self(id)),
            _ => Err(HostIdError { given: id }),
        }
    }

    /// The number, 1 to [`HostId::MAX`].
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl From<HostId> for u64 {
    fn from(host: HostId) -> Self {
        Self::from(host.0)
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Field for HostId {
    const LEN: usize = 2;

    fn read(bytes: &[u8], at: usize) -> Result<Self, FormatErrorKind> {
        let found = u64::from(u16::read(bytes, at)?);
        let max = Self::MAX;
        Self::new(found).map_err(|_| FormatErrorKind::OwnerRange { max, found })
    }

    fn write(self, bytes: &mut [u8], at: usize) {
        self.0.write(bytes, at);
    }
}

/// No host has this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a host id is from 1 to {max}, not {given}", max = HostId::MAX)]
#[non_exhaustive]
pub struct HostIdError {
    /// The number that was given.
    pub given: u64,
}

/// A number of 64 bits, and how it is shown.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $show:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// From its number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $show(&self.0, f)
            }
        }

        fields! {
            $name: 8, |bytes| Self(u64::from_le_bytes(bytes)), |number: Self| number.0.to_le_bytes();
        }
    };
}

number!(
    /// Counts the joins of one host id. 0 before the first.
    Generation,
    fmt::Display::fmt
);
number!(
    /// The version of a lease: rises by one with each committed ballot. 0 before the first.
    LeaseVersion,
    fmt::Display::fmt
);
number!(
    /// One offer to hand a lease over to another host: a random number, different for each offer.
    OfferId,
    |number, f: &mut fmt::Formatter<'_>| write!(f, "{number:016x}")
);

macro_rules! counts {
    ($($name:ident)*) => {$(
        impl $name {
            /// The next one; `None` after the last, which no honest disk ever has.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }
        }
    )*};
}

counts!(Generation LeaseVersion);

/// A token of 128 random bits, shown as 32 hexadecimal digits.
macro_rules! token {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Its bytes.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Hex(&self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

token!(
    /// The membership of a host in its lockspace from one join on: 128 random bits, different for each
    /// join.
    ///
    /// Two hosts that were given one host id and one name by mistake, and joined at the same time, agree in
    /// everything else that stands on the disk.
    Incarnation
);

impl Incarnation {
    /// The same for all hosts: what a mutant uses that draws no random bits.
    pub(crate) const FIXED: Self = Self([0xff; 16]);

    /// From its bytes. `None` for all zeros, which say "unknown".
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }
}

fields! {
    Option<Incarnation>: 16, Incarnation::new, |known: Self| known.map_or([0; 16], Incarnation::to_bytes);
}

token!(
    /// Distinguishes lockspaces of the same name: 128 random bits, as 32 hexadecimal digits.
    ///
    /// disklease writes the id when it makes a lockspace, to the last sector of the area
    /// ([`Geometry::lockspace_id_offset`](super::Geometry::lockspace_id_offset)), which belongs to no
    /// host. sanlock never reads that sector, and writes it only when it initialises the lockspace.
    LockspaceId
);

/// A text that is no [`LockspaceId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lockspace id is 32 hexadecimal digits, as `disklease status` shows it")]
#[non_exhaustive]
pub struct LockspaceIdError;

impl LockspaceId {
    /// The id of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Names a lockspace by its id, in an error's text.
    pub(crate) fn said(found: Option<Self>) -> String {
        match found {
            Some(id) => format!("the lockspace {id}"),
            None => "a lockspace without an id".to_owned(),
        }
    }
}

impl FromStr for LockspaceId {
    type Err = LockspaceIdError;

    fn from_str(text: &str) -> Result<Self, LockspaceIdError> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_id);
        let mut bytes = number.ok_or(LockspaceIdError)?.to_le_bytes();
        // The first digits are the first byte.
        bytes.reverse();
        Ok(Self(bytes))
    }
}

/// Shows bytes as lower-case hexadecimal digits, two each.
#[derive(Clone, Copy)]
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ids_are_from_1_to_2000() {
        assert_eq!(HostId::new(1).unwrap(), HostId::FIRST);
        assert_eq!(HostId::new(2000).unwrap().get(), HostId::MAX);
        for bad in [0, 2001, 65_537, u64::MAX] {
            assert_eq!(HostId::new(bad), Err(HostIdError { given: bad }));
        }
        let text = HostId::new(2001).unwrap_err().to_string();
        assert_eq!(text, "a host id is from 1 to 2000, not 2001");
    }

    #[test]
    fn counters_end_instead_of_beginning_anew() {
        assert_eq!(Generation::new(1).next(), Some(Generation::new(2)));
        assert_eq!(Generation::new(u64::MAX).next(), None);
        assert_eq!(LeaseVersion::new(u64::MAX).next(), None);
        assert_eq!(LeaseVersion::new(7).to_string(), "7");
        assert_eq!(OfferId::new(0x1f).to_string(), "000000000000001f");
    }

    #[test]
    fn every_byte_is_two_digits() {
        assert_eq!(Hex(&[0, 0x1f, 0xff]).to_string(), "001fff");
        assert_eq!(Hex(&[]).to_string(), "");
    }

    #[test]
    fn a_text_goes_to_bytes_and_back() {
        const TEXT: &str = "000102030405060708090a0b0c0d0eff";
        let id: LockspaceId = TEXT.parse().unwrap();
        assert_eq!(id.to_bytes()[..2], [0, 1]);
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(format!("{id:?}"), format!("LockspaceId({TEXT})"));
        assert_eq!(LockspaceId::new(id.to_bytes()), id);
        assert_eq!(TEXT.to_uppercase().parse(), Ok(id));
        for bad in [
            "",
            "00",
            &format!("{TEXT}0"),
            &TEXT.replace("0001", "+001"),
            &"é".repeat(16),
        ] {
            assert_eq!(bad.parse::<LockspaceId>(), Err(LockspaceIdError), "{bad}");
        }
    }
}
