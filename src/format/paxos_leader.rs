//! The leader record of a lease: which host owns it.

use super::dblock::Input;
use super::error::{FormatError, Structure};
use super::geometry::Geometry;
use super::ids::{Generation, HostId, LeaseVersion};
use super::le::{Le32, Le64};
use super::leader::{Kind, RawLeader};
use super::name::{LockspaceName, NameBytes, ResourceName};
use super::record::{self, SectorHead};

#[cfg(test)]
mod tests;

const PAXOS: Kind = Kind {
    magic: 0x0615_2010,
    version: 0x0006_0004,
};
const CLEARED_MAGIC: u32 = 0x1128_2016;
const SHORT_HOLD: u32 = 0x1;

/// The leader record of a lease, bytes 0 to 200 of its first sector.
///
/// The checksum is right, and sizes and host ids are in range. `==` compares all 200 bytes. Bytes without a meaning are carried over from what was read.
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

    /// The leader of a lease that was never held. 0 hosts, or more than there is room for, are as
    /// many as there is room for.
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
    /// Whether it is the expected lease, and whether this host takes part, is for
    /// [`PaxosLeader::expect_names`] and [`PaxosLeader::expect_host`]. Minor versions and the
    /// absence of the area size are accepted.
    ///
    /// # Errors
    ///
    /// In this order: [`FormatError::Short`], [`FormatError::Cleared`], [`FormatError::Magic`],
    /// [`FormatError::Version`], [`FormatError::Checksum`], [`FormatError::SectorSize`],
    /// [`FormatError::AlignSize`], [`FormatError::MaxHosts`], [`FormatError::TooManyHosts`];
    /// [`FormatError::OwnerRange`] if the owner cannot be, [`FormatError::OwnerMissing`] if it is
    /// held by none.
    pub fn decode(sector: &[u8]) -> Result<Self, FormatError> {
        let structure = Self::STRUCTURE;
        let raw = read_raw(sector)?;
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
        up_to(max_hosts, raw.owner_id).map_err(|found| FormatError::OwnerRange {
            structure,
            max: max_hosts,
            found,
        })?;
        raw.expect_owner(structure)?;
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

    /// The last owner, which still holds the lease unless it [is free](PaxosLeader::is_free);
    /// `None` if there was none ever.
    #[must_use]
    pub fn last_owner(&self) -> Option<HostId> {
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

    /// Whether the owner holds the lease only for the short time that acquiring it in shared mode
    /// takes.
    #[must_use]
    pub const fn is_short_hold(&self) -> bool {
        self.raw.flags.get() & SHORT_HOLD != 0
    }

    /// The host that wrote this leader last; 0 if it was never held. Not covered by the checksum,
    /// as are the other two about the writer.
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

    /// The leader after its owner released the lease.
    #[must_use]
    pub fn freed(&self, writer: HostId, writer_generation: Generation, clock_secs: u64) -> Self {
        self.changed(|raw| {
            raw.timestamp = Le64::new(0);
            written_by(raw, writer, writer_generation, clock_secs);
            set_flag(raw, SHORT_HOLD, false);
        })
    }

    /// The same with the mark of a short hold: its owner is acquiring the lease in shared mode.
    #[must_use]
    pub fn short_hold(&self) -> Self {
        self.changed(|raw| set_flag(raw, SHORT_HOLD, true))
    }

    /// Copies the record to the start of `sector`, which the caller has zeroed. The rest is left
    /// alone.
    pub fn write_to(&self, sector: &mut SectorHead) {
        record::write::<0, _>(sector, &self.raw);
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

/// The record of a lease that was not cleared, of a version that is understood.
pub(super) fn read_raw(sector: &[u8]) -> Result<RawLeader, FormatError> {
    let structure = PaxosLeader::STRUCTURE;
    RawLeader::read(structure, PAXOS, sector).map_err(|error| match error {
        FormatError::Magic {
            found: CLEARED_MAGIC,
            ..
        } => FormatError::Cleared { structure },
        other => other,
    })
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
