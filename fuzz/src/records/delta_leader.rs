//! The leader in the sector of a host id.

use disklease::format::{
    DeltaLeader, FormatError, Geometry, HostId, HostName, LockspaceName, Structure, probe_lockspace,
};

use super::{Case, generation_after, name_at};
use crate::bytes::{self, u16_at, u32_at, u64_at};
use crate::{golden, shown};

/// Any bytes as the sector of any host.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut case = Case::new(data, 0);
    if case.seal {
        bytes::seal_leader(&mut case.sector);
    }
    let (sector, host) = (&case.sector[..], case.host);
    let decoded = DeltaLeader::decode(sector, host);
    assert_eq!(decoded.map(|_| ()), judged(sector, host));
    match decoded {
        Ok(leader) => reads_right(&leader, sector, host),
        Err(error) => shown::error(&error),
    }
}

/// What is wrong with these bytes.
fn judged(sector: &[u8], host: HostId) -> Result<(), FormatError> {
    let structure = Structure::DeltaLeader(Some(host));
    kind(structure, sector)?;
    bytes::expect_checksum(structure, &sector[..168], u32_at(sector, 168))?;
    bytes::sizes(structure, sector)?;
    let (owner, timestamp_secs) = (u64_at(sector, 32), u64_at(sector, 152));
    match owner {
        0 if timestamp_secs != 0 => Err(FormatError::OwnerMissing {
            structure,
            timestamp_secs,
        }),
        found if found != 0 && found != u64::from(host) => Err(FormatError::OwnerId {
            structure,
            expected: host,
            found,
        }),
        _ => Ok(()),
    }
}

/// Whether the bytes are a delta leader at all.
pub(crate) fn kind(structure: Structure, sector: &[u8]) -> Result<(), FormatError> {
    if sector.len() < bytes::LEADER_LEN {
        return Err(FormatError::Short {
            structure,
            needed: bytes::LEADER_LEN,
            found: sector.len(),
        });
    }
    let (expected, found) = (0x1221_2010, u32_at(sector, 0));
    if found != expected {
        return Err(FormatError::Magic {
            structure,
            expected,
            found,
        });
    }
    let (expected, found) = (3, u16_at(sector, 6));
    if found != expected {
        return Err(FormatError::Version {
            structure,
            expected,
            found,
        });
    }
    Ok(())
}

fn reads_right(leader: &DeltaLeader, sector: &[u8], host: HostId) {
    let structure = Structure::DeltaLeader(Some(host));
    assert_eq!(Ok(leader.geometry()), bytes::sizes(structure, sector));
    assert_eq!(probe_lockspace(sector), Ok(leader.geometry()));
    assert_eq!(leader.owner_id(), u64_at(sector, 32));
    assert_eq!(leader.generation().get(), u64_at(sector, 40));
    assert_eq!(leader.space_name(), name_at(sector, 56));
    assert_eq!(leader.host_name(), name_at(sector, 104));
    assert_eq!(leader.timestamp_secs(), u64_at(sector, 152));
    assert_eq!(leader.is_free(), u64_at(sector, 152) == 0);
    assert_eq!(leader.io_timeout_secs(), u16_at(sector, 174));
    shown::name(leader.space_name());
    shown::name(leader.host_name());

    // All 200 bytes are carried over, whatever they mean.
    assert_eq!(written(leader), sector[..DeltaLeader::LEN]);

    let own = LockspaceName::from_disk(leader.space_name());
    assert_eq!(leader.expect_space(&own), Ok(*leader));
    let other = LockspaceName::new("LS").unwrap();
    let is_other = leader.space_name().text() != b"LS";
    let answer = leader.expect_space(&other);
    assert_eq!(answer.is_err(), is_other);
    answer.err().iter().for_each(shown::error);
    for geometry in Geometry::ALL {
        let answer = leader.expect_geometry(geometry);
        assert_eq!(answer.is_ok(), geometry == leader.geometry());
        answer.err().iter().for_each(shown::error);
    }
    changes_right(leader, host);
}

fn changes_right(leader: &DeltaLeader, host: HostId) {
    let name = HostName::new("a-new-host").unwrap();
    let clock = leader.generation().get() ^ leader.timestamp_secs();
    let taken = leader.acquired(host, &name, clock, 7);
    assert_eq!(
        taken.map(|taken| taken.generation()),
        generation_after(leader.generation())
    );
    if let Some(taken) = taken {
        assert!(!taken.is_free() && taken.host_name() == name.as_name());
        assert_eq!(taken.io_timeout_secs(), 7);
        comes_back(&taken, host);
        let renewed = taken.renewed(clock.wrapping_add(1), 8);
        assert!(!renewed.is_free() && renewed.generation() == taken.generation());
        comes_back(&renewed, host);
    }
    let released = leader.released();
    assert!(released.is_free() && released.generation() == leader.generation());
    comes_back(&released, host);
}

fn written(leader: &DeltaLeader) -> Vec<u8> {
    let mut sector = [0; 512];
    leader.write_to(&mut sector);
    assert!(sector[DeltaLeader::LEN..].iter().all(|&byte| byte == 0));
    sector[..DeltaLeader::LEN].to_vec()
}

fn comes_back(leader: &DeltaLeader, host: HostId) {
    assert_eq!(DeltaLeader::decode(&written(leader), host), Ok(*leader));
}

/// sanlock's sectors.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let sectors = golden::sectors("delta_", "");
    let seed = |sector: &Vec<u8>| {
        let owner = u16::try_from(u64_at(sector, 32)).unwrap();
        Case::seed(owner.max(1), 0, &sector[..256])
    };
    sectors.iter().map(seed).collect()
}
