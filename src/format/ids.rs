//! The numbers that records are about.

use std::fmt;

use super::hex::Hex;

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

/// No host has this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a host id is from 1 to {max}, not {given}", max = HostId::MAX)]
#[non_exhaustive]
pub struct HostIdError {
    /// The number that was given.
    pub given: u64,
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

            /// The next one; `None` after the last, which no honest disk ever has.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// One offer to hand a lease over to another host: a random number, different for each offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId(u64);

impl OfferId {
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

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The membership of a host in its lockspace from one join on: 128 random bits, different for each join.
///
/// Two hosts that were given one host id and one name by mistake, and joined at the same time, agree in
/// everything else that stands on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation([u8; 16]);

impl Incarnation {
    /// From its bytes. `None` for all zeros, which say "unknown".
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The same for all hosts: what a mutant uses that draws no random bits.
    pub(crate) const FIXED: Self = Self([0xff; 16]);

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

counter!(
    /// Counts the joins of one host id. 0 before the first.
    Generation
);
counter!(
    /// The version of a lease: rises by one with each committed ballot. 0 before the first.
    LeaseVersion
);

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
    }
}
