//! The leader of a lease: who owns it.

use super::dblock::Input;
use super::error::{FormatError, Structure};
use super::geometry::Geometry;
use super::ids::{Generation, HostId, LeaseVersion};
use super::le::{Le32, Le64};
use super::leader::{Kind, RawLeader};
use super::name::{LockspaceName, NameBytes, ResourceName};
use super::record;

pub(super) const PAXOS: Kind = Kind {
    magic: 0x0615_2010,
    version: 0x0006_0004,
};
const CLEARED_MAGIC: u32 = 0x1128_2016;
const SHORT_HOLD: u32 = 0x1;

/// The leader record of a lease, bytes 0 to 200 of its first sector.
///
/// Its checksum is right, and its sizes and host ids are such as can be. `==` compares all 200 bytes. Bytes
/// without a meaning are carried over from what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaxosLeader {
    raw: RawLeader,
    /// Both follow from `raw`.
    geometry: Geometry,
    num_hosts: u16,
}

/// The outcome of a ballot, to be written to the leader record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "these are the fields that the format has"
)]
pub struct Commit {
    /// The version of the ballot.
    pub version: LeaseVersion,
    /// The owner from now on.
    pub owner: HostId,
    /// The generation of the owner.
    pub generation: Generation,
    /// The owner's clock when it proposed itself, in seconds. 0 would say that the lease is free.
    pub timestamp_secs: u64,
    /// The host that writes this, which may have completed the ballot of another.
    pub writer: HostId,
    /// The generation of the writer.
    pub writer_generation: Generation,
    /// The writer's clock, in seconds.
    pub writer_clock_secs: u64,
    /// Whether the owner keeps the lease for long: the mark of a short hold is taken away.
    pub clear_short_hold: bool,
}

impl PaxosLeader {
    /// Bytes of the record.
    pub const LEN: usize = size_of::<RawLeader>();

    const STRUCTURE: Structure = Structure::PaxosLeader;

    /// The leader of a lease that was never held. 0 hosts, or more than there is room for, are as many as there
    /// is room for.
    #[must_use]
    pub fn free(
        geometry: Geometry,
        space: &LockspaceName,
        resource: &ResourceName,
        num_hosts: u16,
    ) -> Self {
        let max_hosts = geometry.max_hosts();
        let num_hosts = if num_hosts == 0 {
            max_hosts
        } else {
            num_hosts.min(max_hosts)
        };
        let raw = RawLeader {
            num_hosts: Le64::new(u64::from(num_hosts)),
            max_hosts: Le64::new(u64::from(max_hosts)),
            space_name: space.as_name(),
            resource_name: resource.as_name(),
            ..RawLeader::new(PAXOS, geometry)
        };
        Self {
            raw: raw.sealed(),
            geometry,
            num_hosts,
        }
    }

    /// Reads the first sector of a lease.
    ///
    /// Whether it is the lease that was looked for, and whether this host takes part, is for
    /// [`PaxosLeader::expect_names`] and [`PaxosLeader::expect_host`]. Minor versions and the absence of the
    /// area size are accepted.
    ///
    /// # Errors
    ///
    /// In this order: [`FormatError::Short`], [`FormatError::Cleared`], [`FormatError::Magic`],
    /// [`FormatError::Version`], [`FormatError::Checksum`], [`FormatError::SectorSize`],
    /// [`FormatError::AlignSize`], [`FormatError::MaxHosts`], [`FormatError::TooManyHosts`];
    /// [`FormatError::OwnerRange`] if the owner cannot be, [`FormatError::OwnerMissing`] if it is held by none.
    pub fn decode(sector: &[u8]) -> Result<Self, FormatError> {
        let structure = Self::STRUCTURE;
        let raw: RawLeader = record::read(structure, sector, 0)?;
        if raw.magic.get() == CLEARED_MAGIC {
            return Err(FormatError::Cleared { structure });
        }
        raw.expect_kind(structure, PAXOS)?;
        raw.expect_checksum(structure)?;
        let geometry = raw.geometry(structure)?;
        let max_hosts = geometry.max_hosts();
        let found = raw.max_hosts.get();
        if found != u64::from(max_hosts) {
            return Err(FormatError::MaxHosts {
                structure,
                expected: max_hosts,
                found,
            });
        }
        let num_hosts =
            up_to(max_hosts, raw.num_hosts).map_err(|found| FormatError::TooManyHosts {
                structure,
                max: max_hosts,
                found,
            })?;
        let owner = up_to(max_hosts, raw.owner_id).map_err(|found| FormatError::OwnerRange {
            structure,
            max: max_hosts,
            found,
        })?;
        let timestamp_secs = raw.timestamp.get();
        if owner == 0 && timestamp_secs != 0 {
            return Err(FormatError::OwnerMissing {
                structure,
                timestamp_secs,
            });
        }
        Ok(Self {
            raw,
            geometry,
            num_hosts,
        })
    }

    /// This leader, if it belongs to this lease.
    ///
    /// # Errors
    ///
    /// [`FormatError::LockspaceName`] or [`FormatError::ResourceName`] otherwise.
    pub fn expect_names(
        self,
        space: &LockspaceName,
        resource: &ResourceName,
    ) -> Result<Self, FormatError> {
        let structure = Self::STRUCTURE;
        self.raw.expect_space(structure, space.as_name())?;
        let (expected, found) = (resource.as_name(), self.resource_name());
        if !found.same_text(&expected) {
            return Err(FormatError::ResourceName {
                structure,
                expected,
                found,
            });
        }
        Ok(self)
    }

    /// This leader, if the lease has a dblock for this host.
    ///
    /// # Errors
    ///
    /// [`FormatError::NumHosts`] otherwise.
    pub const fn expect_host(self, host: HostId) -> Result<Self, FormatError> {
        let (structure, num_hosts) = (Self::STRUCTURE, self.num_hosts);
        if host.get() > num_hosts {
            return Err(FormatError::NumHosts {
                structure,
                host,
                num_hosts,
            });
        }
        Ok(self)
    }

    /// This leader, if it has these sizes.
    ///
    /// # Errors
    ///
    /// [`FormatError::Geometry`] otherwise.
    pub fn expect_geometry(self, expected: Geometry) -> Result<Self, FormatError> {
        let (structure, found) = (Self::STRUCTURE, self.geometry);
        if found != expected {
            return Err(FormatError::Geometry {
                structure,
                expected,
                found,
            });
        }
        Ok(self)
    }

    /// The name of the lockspace.
    #[must_use]
    pub const fn space_name(&self) -> NameBytes {
        self.raw.space_name
    }

    /// The name of the resource.
    #[must_use]
    pub const fn resource_name(&self) -> NameBytes {
        self.raw.resource_name
    }

    /// The sizes of the lease.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How many hosts take part: those with ids from 1 to this. At most [`PaxosLeader::max_hosts`].
    #[must_use]
    pub const fn num_hosts(&self) -> u16 {
        self.num_hosts
    }

    /// How many hosts there is room for.
    #[must_use]
    pub const fn max_hosts(&self) -> u16 {
        self.geometry.max_hosts()
    }

    /// The last owner, which still holds the lease unless it [is free](PaxosLeader::is_free); `None` if there
    /// was none ever.
    #[must_use]
    pub fn owner_id(&self) -> Option<HostId> {
        HostId::new(self.raw.owner_id.get()).ok()
    }

    /// The generation of the last owner.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        Generation::new(self.raw.owner_generation.get())
    }

    /// The version of the last ballot that was committed.
    #[must_use]
    pub const fn version(&self) -> LeaseVersion {
        LeaseVersion::new(self.raw.lver.get())
    }

    /// The owner's clock when it proposed itself, in seconds; 0 if the lease is free.
    #[must_use]
    pub const fn timestamp_secs(&self) -> u64 {
        self.raw.timestamp.get()
    }

    /// Owner, generation and time, as they were proposed in the ballot that made this owner; the
    /// time is 0 once the lease is free.
    #[must_use]
    pub fn input(&self) -> Input {
        Input {
            owner: self.raw.owner_id.get(),
            generation: self.raw.owner_generation.get(),
            timestamp: self.timestamp_secs(),
        }
    }

    /// Whether nobody holds the lease exclusively. It may be held shared.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.timestamp_secs() == 0
    }

    /// Whether the owner said that it holds the lease only for the short time that getting it shared takes.
    #[must_use]
    pub const fn is_short_hold(&self) -> bool {
        self.raw.flags.get() & SHORT_HOLD != 0
    }

    /// The host that wrote this leader last; 0 if it was never held. Not covered by the checksum, as are the
    /// other two about the writer.
    #[must_use]
    pub const fn write_id(&self) -> u64 {
        self.raw.write_id.get()
    }

    /// The generation of the host that wrote this leader last.
    #[must_use]
    pub const fn write_generation(&self) -> Generation {
        Generation::new(self.raw.write_generation.get())
    }

    /// The clock of the host that wrote this leader last, in seconds.
    #[must_use]
    pub const fn write_timestamp(&self) -> u64 {
        self.raw.write_timestamp.get()
    }

    /// The leader after a ballot.
    #[must_use]
    pub fn committed(&self, commit: Commit) -> Self {
        self.changed(|raw| {
            raw.lver = Le64::new(commit.version.get());
            raw.owner_id = Le64::new(u64::from(commit.owner));
            raw.owner_generation = Le64::new(commit.generation.get());
            raw.timestamp = Le64::new(commit.timestamp_secs);
            written_by(
                raw,
                commit.writer,
                commit.writer_generation,
                commit.writer_clock_secs,
            );
            if commit.clear_short_hold {
                set_flag(raw, SHORT_HOLD, false);
            }
        })
    }

    /// The leader after its owner gave the lease back.
    #[must_use]
    pub fn freed(&self, writer: HostId, writer_generation: Generation, clock_secs: u64) -> Self {
        self.changed(|raw| {
            raw.timestamp = Le64::new(0);
            written_by(raw, writer, writer_generation, clock_secs);
            set_flag(raw, SHORT_HOLD, false);
        })
    }

    /// The same with the mark of a short hold: its owner is only getting the lease shared.
    #[must_use]
    pub fn short_hold(&self) -> Self {
        self.changed(|raw| set_flag(raw, SHORT_HOLD, true))
    }

    /// Copies the record to the start of `sector`, which the caller has zeroed. The rest is left alone.
    ///
    /// # Errors
    ///
    /// [`FormatError::Short`] if it does not fit; nothing is written then.
    pub fn write_to(&self, sector: &mut [u8]) -> Result<(), FormatError> {
        record::write(Self::STRUCTURE, sector, 0, &self.raw)
    }

    fn changed(&self, change: impl FnOnce(&mut RawLeader)) -> Self {
        let mut raw = self.raw;
        change(&mut raw);
        Self {
            raw: raw.sealed(),
            ..*self
        }
    }
}

/// The number, or itself as the error if it is above `max`.
fn up_to(max: u16, number: Le64) -> Result<u16, u64> {
    let number = number.get();
    u16::try_from(number)
        .ok()
        .filter(|&small| small <= max)
        .ok_or(number)
}

fn written_by(raw: &mut RawLeader, writer: HostId, generation: Generation, clock_secs: u64) {
    raw.write_id = Le64::new(u64::from(writer));
    raw.write_generation = Le64::new(generation.get());
    raw.write_timestamp = Le64::new(clock_secs);
}

fn set_flag(raw: &mut RawLeader, flag: u32, set: bool) {
    let flags = raw.flags.get();
    raw.flags = Le32::new(if set { flags | flag } else { flags & !flag });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::le::Le16;
    use crate::format::leader::tests::sector_with;

    const S: Structure = Structure::PaxosLeader;

    fn host(id: u64) -> HostId {
        HostId::new(id).unwrap()
    }

    fn names() -> (LockspaceName, ResourceName) {
        (
            LockspaceName::new("LS").unwrap(),
            ResourceName::new("RES").unwrap(),
        )
    }

    fn free(geometry: Geometry, num_hosts: u16) -> PaxosLeader {
        let (space, resource) = names();
        PaxosLeader::free(geometry, &space, &resource, num_hosts)
    }

    fn commit(clear_short_hold: bool) -> Commit {
        Commit {
            version: LeaseVersion::new(4),
            owner: host(2),
            generation: Generation::new(7),
            timestamp_secs: 1283,
            writer: host(9),
            writer_generation: Generation::new(8),
            writer_clock_secs: 1290,
            clear_short_hold,
        }
    }

    fn held() -> PaxosLeader {
        free(Geometry::S512_A1M, 0).committed(commit(true))
    }

    /// What decoding says of a held leader after a change that the checksum covers.
    fn decode_with(change: impl FnOnce(&mut RawLeader)) -> Result<PaxosLeader, FormatError> {
        PaxosLeader::decode(&sector_with(|s| held().write_to(s), change))
    }

    #[test]
    fn the_life_of_a_lease() {
        let free = free(Geometry::S512_A1M, 0);
        assert_eq!(
            (free.is_free(), free.owner_id(), free.num_hosts()),
            (true, None, 2000)
        );
        let held = held();
        assert_eq!((held.is_free(), held.owner_id()), (false, Some(host(2))));
        assert_eq!(
            (held.version(), held.generation()),
            (LeaseVersion::new(4), Generation::new(7))
        );
        assert_eq!((held.timestamp_secs(), held.write_id()), (1283, 9));
        assert_eq!(
            (held.write_generation(), held.write_timestamp()),
            (Generation::new(8), 1290)
        );
        let freed = held.short_hold().freed(host(2), Generation::new(7), 1300);
        assert_eq!((freed.is_free(), freed.owner_id()), (true, Some(host(2))));
        assert_eq!(
            (freed.version(), freed.is_short_hold()),
            (held.version(), false)
        );
        assert_eq!((freed.write_id(), freed.write_timestamp()), (2, 1300));
        for leader in [free, held, held.short_hold(), freed] {
            let mut sector = [0; 512];
            leader.write_to(&mut sector).unwrap();
            assert_eq!(PaxosLeader::decode(&sector), Ok(leader));
        }
    }

    #[test]
    fn the_mark_of_a_short_hold_stays_until_it_is_cleared() {
        let short = held().short_hold();
        assert!(short.is_short_hold() && !held().is_short_hold());
        assert!(short.committed(commit(false)).is_short_hold());
        assert_eq!(short.committed(commit(true)), held());
    }

    #[test]
    fn bytes_without_a_meaning_are_carried_over() {
        let odd = decode_with(|raw| {
            raw.unused1 = Le64::new(11);
            raw.unused2 = Le16::new(12);
            raw.io_timeout = Le16::new(13);
            raw.flags = Le32::new(0x4000_0010);
        })
        .unwrap();
        let next = odd
            .freed(host(1), Generation::new(1), 5)
            .committed(commit(true));
        assert_eq!((next.raw.unused1.get(), next.raw.unused2.get()), (11, 12));
        assert_eq!(
            (next.raw.io_timeout.get(), next.raw.flags.get()),
            (13, 0x4000_0010)
        );
    }

    #[test]
    fn the_number_of_hosts_has_the_limit_of_the_geometry() {
        for g in Geometry::ALL {
            assert_eq!(free(g, 0).num_hosts(), g.max_hosts());
            assert_eq!(free(g, u16::MAX).num_hosts(), g.max_hosts());
            assert_eq!(
                (free(g, 8).num_hosts(), free(g, 8).max_hosts()),
                (8, g.max_hosts())
            );
        }
        let few = free(Geometry::S512_A1M, 8);
        assert_eq!(few.expect_host(host(8)), Ok(few));
        assert_eq!(
            few.expect_host(host(9)),
            Err(FormatError::NumHosts {
                structure: S,
                host: host(9),
                num_hosts: 8
            })
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let short = FormatError::Short {
            structure: S,
            needed: 200,
            found: 199,
        };
        assert_eq!(PaxosLeader::decode(&[0; 199]), Err(short));
        assert_eq!(held().write_to(&mut [0; 199]), Err(short));
        assert_eq!(
            PaxosLeader::decode(&[0; 512]),
            Err(FormatError::Magic {
                structure: S,
                expected: PAXOS.magic,
                found: 0
            })
        );
        assert_eq!(
            decode_with(|raw| raw.magic = Le32::new(CLEARED_MAGIC)),
            Err(FormatError::Cleared { structure: S })
        );
        assert_eq!(
            decode_with(|raw| raw.version = Le32::new(0x0005_0004)),
            Err(FormatError::Version {
                structure: S,
                expected: 6,
                found: 5
            })
        );
        assert_eq!(
            decode_with(|raw| raw.sector_size = Le32::new(0)),
            Err(FormatError::SectorSize {
                structure: S,
                found: 0
            })
        );
        assert_eq!(
            decode_with(|raw| raw.flags = Le32::new(0x40)),
            Err(FormatError::AlignSize {
                structure: S,
                sector_size: 512,
                align_size: 4 << 20
            })
        );
        assert_eq!(
            decode_with(|raw| raw.max_hosts = Le64::new(250)),
            Err(FormatError::MaxHosts {
                structure: S,
                expected: 2000,
                found: 250
            })
        );
        assert_eq!(
            decode_with(|raw| raw.num_hosts = Le64::new(65_537)),
            Err(FormatError::TooManyHosts {
                structure: S,
                max: 2000,
                found: 65_537
            })
        );
        assert_eq!(
            decode_with(|raw| raw.owner_id = Le64::new(2001)),
            Err(FormatError::OwnerRange {
                structure: S,
                max: 2000,
                found: 2001
            })
        );
        assert_eq!(
            decode_with(|raw| raw.owner_id = Le64::new(0)),
            Err(FormatError::OwnerMissing {
                structure: S,
                timestamp_secs: 1283
            })
        );
        let mut sector = sector_with(|s| held().write_to(s), |_| ());
        sector[16] ^= 0x80;
        assert!(matches!(
            PaxosLeader::decode(&sector),
            Err(FormatError::Checksum { structure: S, stored, computed }) if stored != computed
        ));
    }

    #[test]
    fn another_lease_or_geometry_is_refused() {
        let (space, resource) = names();
        let other_space = LockspaceName::new("LS2").unwrap();
        let other_resource = ResourceName::new("RE").unwrap();
        assert_eq!(held().expect_names(&space, &resource), Ok(held()));
        assert_eq!(
            held().expect_names(&other_space, &resource),
            Err(FormatError::LockspaceName {
                structure: S,
                expected: other_space.as_name(),
                found: space.as_name()
            })
        );
        assert_eq!(
            held().expect_names(&space, &other_resource),
            Err(FormatError::ResourceName {
                structure: S,
                expected: other_resource.as_name(),
                found: resource.as_name()
            })
        );
        assert_eq!(
            held().expect_geometry(Geometry::S4K_A8M),
            Err(FormatError::Geometry {
                structure: S,
                expected: Geometry::S4K_A8M,
                found: Geometry::S512_A1M
            })
        );
    }
}
