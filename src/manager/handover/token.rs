//! What goes between the two sides of a hand-over: fewer than 256 bytes, little-endian.
//!
//! | at | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | magic `"ldho"` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | 0 an offer; 1 an answer: started; 2: declined |
//! | 6 | 1 | how many locks |
//! | 7 | 8 | number of the offer |
//! | 15 | 2 | host id of who wrote it |
//! | 17 | 8 | generation of that |
//! | 25 | | for each lock: 8 bytes of the MD5 of lockspace and lease name, each padded to 48; version, 7 bits a byte, the lowest first, the top bit set in all but the last |
//! | | 4 | checksum of all before |

use md5::{Digest, Md5};

use crate::format::{Generation, HostId, LeaseVersion, OfferId, checksum};
use crate::manager::error::AcquireError;
use crate::manager::guard::LockGuard;
use crate::manager::request::LeaseSpec;
use crate::manager::target::Target;
use crate::paxos_lease::{RequiredEnd, VersionPrecondition};

const MAGIC: [u8; 4] = *b"ldho";
const VERSION: u8 = 1;
const KIND_OFFER: u8 = 0;
const KIND_STARTED: u8 = 1;
const KIND_DECLINED: u8 = 2;

/// Names a lease in few bytes.
type LeaseDigest = [u8; 8];

/// What a source gives to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverToken(Ticket);

/// What a target gives back to its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverAnswer(Ticket, HandoverOutcome);

/// What became of a hand-over at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum HandoverOutcome {
    /// The guest was started there.
    Started,
    /// It was not, and never will be.
    Declined,
}

/// Why bytes are no token or no answer, or none can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// They are too few, or too many.
    #[error(
        "{len} bytes are no hand-over token: it has 4 to {} bytes",
        HandoverToken::MAX_LEN
    )]
    Length {
        /// How many there are.
        len: usize,
    },
    /// They begin otherwise.
    #[error("these bytes are no hand-over token")]
    Magic,
    /// They are damaged.
    #[error(
        "the hand-over token is damaged: its checksum is {stored:#010x}, its bytes give {computed:#010x}"
    )]
    Checksum {
        /// What is written there.
        stored: u32,
        /// What it should be.
        computed: u32,
    },
    /// They are of another version.
    #[error("the hand-over token is of version {found}, this side understands {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// An answer where an offer should be, or the reverse, or neither.
    #[error("a hand-over token of kind {found} does not belong here")]
    Kind {
        /// Its kind.
        found: u8,
    },
    /// They are whole, but a field has a value that it cannot have, or there are more fields or fewer.
    #[error("the hand-over token holds something that no token holds")]
    Content,
    /// There are more locks than fit into a token.
    #[error("{locks} locks do not fit into one hand-over token")]
    TooMany {
        /// How many there are.
        locks: usize,
    },
    /// An answer to another offer.
    #[error("the answer is to another offer")]
    OtherOffer,
}

/// The content of a token or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    offer: OfferId,
    /// Who wrote it; `None` where nothing protects the locks.
    by: Option<(HostId, Generation)>,
    locks: Vec<(LeaseDigest, LeaseVersion)>,
}

fn digest(lease: &LeaseSpec) -> LeaseDigest {
    let mut hash = Md5::new();
    hash.update(lease.lockspace.as_name().as_bytes());
    hash.update(lease.name.as_name().as_bytes());
    let hash: [u8; 16] = hash.finalize().into();
    hash.first_chunk().copied().unwrap_or_default()
}

impl Ticket {
    fn of(guard: &LockGuard, offer: OfferId) -> Self {
        let lockspace = guard.lockspace();
        let locks = guard.leases().iter();
        let locks = locks.map(|lease| (digest(&lease.target().lease), lease.version()));
        Self {
            offer,
            by: lockspace.map(|lockspace| (lockspace.host_id(), lockspace.generation())),
            locks: locks.collect(),
        }
    }

    /// The answer of whoever has `guard` by now.
    pub(super) fn answer(guard: &LockGuard, token: &HandoverToken) -> Self {
        Self::of(guard, token.0.offer)
    }

    pub(super) fn answered(&self, outcome: HandoverOutcome) -> HandoverAnswer {
        HandoverAnswer(self.clone(), outcome)
    }

    fn to_bytes(&self, kind: u8) -> Vec<u8> {
        let (host, generation) = self
            .by
            .map_or((0, 0), |(host, generation)| (host.get(), generation.get()));
        let count = u8::try_from(self.locks.len()).unwrap_or(u8::MAX);
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, kind, count]);
        bytes.extend(self.offer.get().to_le_bytes());
        bytes.extend(host.to_le_bytes());
        bytes.extend(generation.to_le_bytes());
        for (digest, version) in &self.locks {
            bytes.extend(digest);
            write_number(&mut bytes, version.get());
        }
        let sum = checksum(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<(u8, Self), TokenError> {
        let len = bytes.len();
        let split = bytes.split_last_chunk();
        let (body, sum) = split.ok_or(TokenError::Length { len })?;
        let mut left = body.strip_prefix(&MAGIC).ok_or(TokenError::Magic)?;
        if len > HandoverToken::MAX_LEN {
            return Err(TokenError::Length { len });
        }
        let (stored, computed) = (u32::from_le_bytes(*sum), checksum(body));
        if stored != computed {
            return Err(TokenError::Checksum { stored, computed });
        }
        let [found, kind, count] = take(&mut left).ok_or(TokenError::Content)?;
        if found != VERSION {
            return Err(TokenError::Version { found });
        }
        let ticket = Self::read(left, count).ok_or(TokenError::Content)?;
        Ok((kind, ticket))
    }

    /// What follows the header.
    fn read(mut left: &[u8], count: u8) -> Option<Self> {
        let offer = OfferId::new(u64::from_le_bytes(take(&mut left)?));
        let host = u16::from_le_bytes(take(&mut left)?);
        let generation = Generation::new(u64::from_le_bytes(take(&mut left)?));
        let by = match HostId::new(host.into()) {
            Ok(host) => Some((host, generation)),
            Err(_) if (host, count, generation.get()) == (0, 0, 0) => None,
            Err(_) => return None,
        };
        let mut locks = Vec::with_capacity(count.into());
        for _ in 0..count {
            let (digest, version) = (take(&mut left)?, take_number(&mut left)?);
            locks.push((digest, LeaseVersion::new(version)));
        }
        left.is_empty().then_some(Self { offer, by, locks })
    }
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// The next field of what is left.
fn take<const N: usize>(left: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = left.split_first_chunk()?;
    *left = rest;
    Some(*field)
}

/// In its shortest form only: one number, one text.
fn take_number(left: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let [byte] = take(left)?;
        let low = u64::from(byte & 0x7f);
        number |= low.checked_shl(shift).filter(|part| part >> shift == low)?;
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(number);
        }
    }
    None
}

impl HandoverToken {
    /// Bytes of a token at most.
    pub const MAX_LEN: usize = 255;

    pub(super) fn of(guard: &LockGuard, offer: OfferId) -> Result<Self, TokenError> {
        let token = Self(Ticket::of(guard, offer));
        let locks = token.0.locks.len();
        if token.to_bytes().len() > Self::MAX_LEN {
            return Err(TokenError::TooMany { locks });
        }
        Ok(token)
    }

    /// For the migration stream.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes(KIND_OFFER)
    }

    /// Out of the migration stream.
    ///
    /// # Errors
    ///
    /// [`TokenError`] for anything but all the bytes of a token.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        match Ticket::from_bytes(bytes)? {
            (KIND_OFFER, ticket) => Ok(Self(ticket)),
            (found, _) => Err(TokenError::Kind { found }),
        }
    }

    /// Which host offers, in which generation. `None` where nothing protects the locks.
    #[must_use]
    pub const fn source(&self) -> Option<(HostId, Generation)> {
        self.0.by
    }

    /// How each of `targets` must have been left: they are those of the offer, no fewer and no more.
    pub(in crate::manager) fn expect_of(
        &self,
        targets: Vec<Target>,
    ) -> Result<Vec<(Target, Option<VersionPrecondition>)>, AcquireError> {
        let pairs = Target::pair(targets, self.0.locks.clone(), |(of_lock, _), lease| {
            *of_lock == digest(lease)
        })?;
        let expected = pairs.into_iter().map(|(target, (_, version))| {
            let precondition = VersionPrecondition {
                version,
                holder: self.0.by,
                required_end: RequiredEnd::HandedOver(self.0.offer),
            };
            (target, Some(precondition))
        });
        Ok(expected.collect())
    }
}

impl HandoverAnswer {
    /// For the way back to the source.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes(match self.1 {
            HandoverOutcome::Started => KIND_STARTED,
            HandoverOutcome::Declined => KIND_DECLINED,
        })
    }

    /// From the target.
    ///
    /// # Errors
    ///
    /// [`TokenError`] for anything but all the bytes of an answer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        match Ticket::from_bytes(bytes)? {
            (KIND_STARTED, ticket) => Ok(Self(ticket, HandoverOutcome::Started)),
            (KIND_DECLINED, ticket) => Ok(Self(ticket, HandoverOutcome::Declined)),
            (found, _) => Err(TokenError::Kind { found }),
        }
    }

    /// What became of it.
    #[must_use]
    pub const fn outcome(&self) -> HandoverOutcome {
        self.1
    }

    /// Which host answers, in which generation. `None` where nothing protects the locks.
    #[must_use]
    pub const fn target(&self) -> Option<(HostId, Generation)> {
        self.0.by
    }

    pub(super) const fn offer(&self) -> OfferId {
        self.0.offer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::{lease_name, lockspace_name};

    fn ticket(locks: usize) -> Ticket {
        let lock = |n: usize| {
            let name = lease_name(format!("/disk/{n}").as_ref());
            let version = LeaseVersion::new(1 << (n % 64));
            (
                digest(&LeaseSpec::new(lockspace_name(), name, "/", 0)),
                version,
            )
        };
        Ticket {
            offer: OfferId::new(0x0123_4567_89ab_cdef),
            by: Some((HostId::new(2000).unwrap(), Generation::new(3))),
            locks: (0..locks).map(lock).collect(),
        }
    }

    #[test]
    fn tokens_and_answers_go_to_bytes_and_back() {
        for locks in [0, 1, 2, 12] {
            let token = HandoverToken(ticket(locks));
            let bytes = token.to_bytes();
            assert!(bytes.len() <= HandoverToken::MAX_LEN);
            assert_eq!(HandoverToken::from_bytes(&bytes), Ok(token));
            let found = KIND_OFFER;
            assert_eq!(
                HandoverAnswer::from_bytes(&bytes),
                Err(TokenError::Kind { found })
            );
            for outcome in [HandoverOutcome::Started, HandoverOutcome::Declined] {
                let answer = ticket(locks).answered(outcome);
                let bytes = answer.to_bytes();
                assert_eq!(HandoverAnswer::from_bytes(&bytes), Ok(answer));
                assert!(HandoverToken::from_bytes(&bytes).is_err());
            }
        }
        let unprotected = Ticket {
            by: None,
            ..ticket(0)
        };
        let token = HandoverToken(unprotected);
        assert_eq!(HandoverToken::from_bytes(&token.to_bytes()), Ok(token));
    }

    /// A change of any bit is seen, as is a cut anywhere and a byte too many.
    #[test]
    fn what_is_damaged_is_refused() {
        let bytes = HandoverToken(ticket(3)).to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(HandoverToken::from_bytes(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(HandoverToken::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(HandoverToken::from_bytes(&longer).is_err());
    }

    fn sealed(change: impl FnOnce(&mut Vec<u8>)) -> Result<HandoverToken, TokenError> {
        let mut bytes = HandoverToken(ticket(1)).to_bytes();
        bytes.truncate(bytes.len().saturating_sub(4));
        change(&mut bytes);
        let sum = checksum(&bytes);
        bytes.extend(sum.to_le_bytes());
        HandoverToken::from_bytes(&bytes)
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(sealed(|bytes| bytes[0] = 0), Err(TokenError::Magic));
        assert_eq!(
            sealed(|bytes| bytes[4] = 2),
            Err(TokenError::Version { found: 2 })
        );
        assert_eq!(
            sealed(|bytes| bytes[5] = 3),
            Err(TokenError::Kind { found: 3 })
        );
        assert_eq!(sealed(|bytes| bytes[6] = 2), Err(TokenError::Content));
        assert_eq!(sealed(|bytes| bytes[6] = 0), Err(TokenError::Content));
        assert_eq!(
            sealed(|bytes| bytes[15..17].fill(0)),
            Err(TokenError::Content)
        );
        // A number in more bytes than it needs, and one that is too large.
        let field = Err(TokenError::Content);
        let number = |number: &'static [u8]| {
            sealed(|bytes| {
                bytes.truncate(33);
                bytes.extend(number);
            })
        };
        assert_eq!(number(&[0x81, 0]), field);
        assert_eq!(
            number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            field
        );
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let read = sealed(|bytes| {
            bytes.truncate(33);
            bytes.extend(largest);
        });
        assert_eq!(read.unwrap().0.locks[0].1, LeaseVersion::new(u64::MAX));
        let too_long = HandoverToken(ticket(200)).to_bytes();
        let len = too_long.len();
        assert_eq!(
            HandoverToken::from_bytes(&too_long),
            Err(TokenError::Length { len })
        );
    }
}
