//! The leader record of a lease: which host owns it.

use super::dblock::Input;
use super::error::{FormatError, FormatErrorKind as Kind, Structure};
use super::geometry::Geometry;
use super::ids::{Generation, HostId, LeaseVersion};
use super::layout::{Record, SectorHead, ensure, readers, writers};
use super::leader::{LeaderKind, RawLeader};
use super::name::{LockspaceName, NameBytes, ResourceName};

#[cfg(test)]
mod tests;

const PAXOS: LeaderKind = LeaderKind {
    magic: 0x0615_2010,
    version: 0x0006_0004,
};
const CLEARED_MAGIC: u32 = 0x1128_2016;
const SHORT_HOLD: u32 = 0x1;

/// The leader record of a lease, bytes 0 to 200 of its first sector.
///
/// The checksum is right, and sizes and host ids are in range. `==` compares all 200
/// bytes. Bytes without a meaning are carried over from what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaxosLeader {
    raw: RawLeader,
    /// Both follow from `raw`.
    geometry: Geometry,
    num_hosts: u16,
}

/// The outcome of a ballot, to be written to the leader record.
#[cfg_attr(
    not(feature = "__sim"),
    allow(unreachable_pub, reason = "for the simulator and the fuzzers")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub const LEN: usize = <RawLeader as Record>::LEN;

    /// Reads the first sector of a lease.
    ///
    /// Whether it is the expected lease, and whether this host takes part, is for
    /// [`PaxosLeader::expect_names`] and [`PaxosLeader::expect_host`]. Minor versions and the
    /// absence of the area size are accepted.
    ///
    /// # Errors
    ///
    /// [`FormatError`], in this order: `Short`, `Cleared`, `Magic`,
    /// `Version`, `Checksum`, `SectorSize`,
    /// `AlignSize`, `MaxHosts`, `TooManyHosts`;
    /// `OwnerRange` if the owner cannot be, `OwnerMissing` if it is
    /// held by none.
    pub fn decode(sector: &[u8]) -> Result<Self, FormatError> {
        let read = || {
            let raw = read_raw(sector)?;
            raw.expect_checksum()?;
            let geometry = raw.geometry()?;
            let max = geometry.max_hosts();
            let (expected, found) = (max, raw.max_hosts);
            ensure(found == u64::from(max), Kind::MaxHosts { expected, found })?;
            let num_hosts = up_to(max, raw.num_hosts);
            let num_hosts = num_hosts.map_err(|found| Kind::TooManyHosts { max, found })?;
            up_to(max, raw.owner_id).map_err(|found| Kind::OwnerRange { max, found })?;
            raw.expect_owner()?;
            Ok(Self {
                raw,
                geometry,
                num_hosts,
            })
        };
        Structure::PaxosLeader.of(read())
    }

    /// This leader, if it belongs to this lease.
    ///
    /// # Errors
    ///
    /// [`FormatError`] of kind `LockspaceName` or `ResourceName` otherwise.
    pub fn expect_names(
        self,
        space: &LockspaceName,
        resource: &ResourceName,
    ) -> Result<Self, FormatError> {
        let (expected, found) = (resource.as_name(), self.resource_name());
        let is_same_resource = found.same_text(&expected);
        let other = Kind::ResourceName { expected, found };
        let checked = self.raw.expect_space(space);
        let checked = checked.and_then(|()| ensure(is_same_resource, other));
        Structure::PaxosLeader.of(checked.map(|()| self))
    }

    /// This leader, if the lease has a dblock for this host.
    ///
    /// # Errors
    ///
    /// [`FormatError`] of kind `NumHosts` otherwise.
    pub fn expect_host(self, host: HostId) -> Result<Self, FormatError> {
        let num_hosts = self.num_hosts;
        let takes_part = ensure(host.get() <= num_hosts, Kind::NumHosts { host, num_hosts });
        Structure::PaxosLeader.of(takes_part.map(|()| self))
    }

    readers! {
        self;
        /// The name of the lockspace.
        space_name: NameBytes = self.raw.space_name;
        /// The name of the resource.
        resource_name: NameBytes = self.raw.resource_name;
        /// The sizes of the lease.
        geometry: Geometry = self.geometry;
        /// How many hosts take part: those with ids from 1 to this. At most [`PaxosLeader::max_hosts`].
        num_hosts: u16 = self.num_hosts;
        /// How many hosts there is room for.
        max_hosts: u16 = self.geometry.max_hosts();
        /// The generation of the last owner.
        generation: Generation = self.raw.owner_generation;
        /// The version of the last ballot that was committed.
        version: LeaseVersion = self.raw.lver;
        /// The owner's clock when it proposed itself, in seconds; 0 if the lease is free.
        timestamp_secs: u64 = self.raw.timestamp;
        /// Whether no host holds the lease exclusively. It may be held shared.
        is_free: bool = self.timestamp_secs() == 0;
        /// Whether the owner holds the lease only for the short time that acquiring it in shared mode
        /// takes.
        is_short_hold: bool = self.raw.flags & SHORT_HOLD != 0;
        /// The host that wrote this leader last; 0 if it was never held. Not covered by the checksum,
        /// as are the other two about the writer.
        write_id: u64 = self.raw.write_id;
        /// The generation of the host that wrote this leader last.
        write_generation: Generation = self.raw.write_generation;
        /// The clock of the host that wrote this leader last, in seconds.
        write_timestamp: u64 = self.raw.write_timestamp;
    }

    /// The last owner, which still holds the lease unless it [is free](PaxosLeader::is_free);
    /// `None` if there was none ever.
    #[must_use]
    pub fn last_owner(&self) -> Option<HostId> {
        HostId::new(self.raw.owner_id).ok()
    }

    /// Owner, generation and time, as they were proposed in the ballot that made this owner; the
    /// time is 0 once the lease is free.
    #[must_use]
    pub fn input(&self) -> Input {
        Input {
            owner: self.raw.owner_id,
            generation: self.raw.owner_generation.get(),
            timestamp: self.timestamp_secs(),
        }
    }

    fn changed(&self, change: impl FnOnce(&mut RawLeader)) -> Self {
        Self {
            raw: self.raw.changed(change),
            ..*self
        }
    }

    writers! {
        /// The leader of a lease that was never held. 0 hosts, or more than there is room for, are as
        /// many as there is room for.
        #[must_use]
        fn free(
            geometry: Geometry,
            space: &LockspaceName,
            resource: &ResourceName,
            num_hosts: u16,
        ) -> Self {
            let max_hosts = geometry.max_hosts();
            let num_hosts = Some(num_hosts).filter(|hosts| (1..max_hosts).contains(hosts));
            let num_hosts = num_hosts.unwrap_or(max_hosts);
            let raw = RawLeader::new(PAXOS, geometry, space).changed(|raw| {
                raw.num_hosts = u64::from(num_hosts);
                raw.max_hosts = u64::from(max_hosts);
                raw.resource_name = resource.as_name();
            });
            Self { raw, geometry, num_hosts }
        }

        /// The leader after a ballot.
        #[must_use]
        fn committed(&self, commit: Commit) -> Self {
            self.changed(|raw| {
                raw.lver = commit.version;
                raw.owner_id = u64::from(commit.owner);
                raw.owner_generation = commit.generation;
                raw.timestamp = commit.timestamp_secs;
                raw.write_id = u64::from(commit.writer);
                raw.write_generation = commit.writer_generation;
                raw.write_timestamp = commit.writer_clock_secs;
                if commit.clear_short_hold {
                    raw.flags &= !SHORT_HOLD;
                }
            })
        }

        /// The leader after its owner released the lease.
        #[must_use]
        fn freed(&self, writer: HostId, writer_generation: Generation, clock_secs: u64) -> Self {
            self.changed(|raw| {
                raw.timestamp = 0;
                raw.write_id = u64::from(writer);
                raw.write_generation = writer_generation;
                raw.write_timestamp = clock_secs;
                raw.flags &= !SHORT_HOLD;
            })
        }

        /// Copies the record to the start of `sector`. The rest is left alone.
        fn write_to(&self, sector: &mut SectorHead) {
            self.raw.write(sector);
        }
    }

    /// The same with the mark of a short hold: its owner is acquiring the lease in shared mode. No lock of
    /// this crate is shared yet: only tests write it.
    #[cfg(any(test, feature = "__sim"))]
    #[must_use]
    pub fn short_hold(&self) -> Self {
        self.changed(|raw| raw.flags |= SHORT_HOLD)
    }
}

/// The record of a lease that was not cleared, of a version that is understood.
pub(super) fn read_raw(sector: &[u8]) -> Result<RawLeader, Kind> {
    RawLeader::of_kind(PAXOS, sector).map_err(|kind| match kind {
        Kind::Magic {
            found: CLEARED_MAGIC,
            ..
        } => Kind::Cleared,
        other => other,
    })
}

/// The number, or itself as the error if it is above `max`.
fn up_to(max: u16, number: u64) -> Result<u16, u64> {
    let small = u16::try_from(number).ok();
    small.filter(|&small| small <= max).ok_or(number)
}
