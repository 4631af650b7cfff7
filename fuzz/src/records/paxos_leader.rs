//! The leader of a lease.

use disklease::format::{
    Commit, FormatError, FormatErrorKind, Generation, HostId, LeaseVersion, LockspaceName,
    PaxosLeader, ResourceName, Structure, probe_lease,
};

use super::{Case, name_at};
use crate::bytes::{self, u16_at, u32_at, u64_at};
use crate::{golden, shown};

const STRUCTURE: Structure = Structure::PaxosLeader;

/// Any bytes as the first sector of a lease.
///
/// # Panics
///
/// If the library is wrong, as all targets.
pub fn run(data: &[u8]) {
    let mut case = Case::new(data, 0);
    if case.seal {
        bytes::seal_leader(&mut case.sector);
    }
    let sector = &case.sector[..];
    let decoded = PaxosLeader::decode(sector);
    assert_eq!(decoded.map(|_| ()), judged(sector));
    match decoded {
        Ok(leader) => {
            reads_right(&leader, sector, case.host);
            changes_right(&leader, case.host);
        }
        Err(error) => shown::error(&error),
    }
}

/// What is wrong with these bytes.
fn judged(sector: &[u8]) -> Result<(), FormatError> {
    let structure = STRUCTURE;
    kind(sector)?;
    bytes::expect_checksum(structure, &sector[..168], u32_at(sector, 168))?;
    let expected = bytes::sizes(structure, sector)?.max_hosts();
    let (num_hosts, max_hosts) = (u64_at(sector, 16), u64_at(sector, 24));
    let (owner, timestamp_secs) = (u64_at(sector, 32), u64_at(sector, 152));
    if max_hosts != u64::from(expected) {
        let found = max_hosts;
        return Err(FormatError::new(
            structure,
            FormatErrorKind::MaxHosts { expected, found },
        ));
    }
    let max = expected;
    if num_hosts > max_hosts {
        let found = num_hosts;
        return Err(FormatError::new(
            structure,
            FormatErrorKind::TooManyHosts { max, found },
        ));
    }
    if owner > max_hosts {
        let found = owner;
        return Err(FormatError::new(
            structure,
            FormatErrorKind::OwnerRange { max, found },
        ));
    }
    if owner == 0 && timestamp_secs != 0 {
        return Err(FormatError::new(
            structure,
            FormatErrorKind::OwnerMissing { timestamp_secs },
        ));
    }
    Ok(())
}

/// Whether the bytes are the leader of a lease at all.
pub(crate) fn kind(sector: &[u8]) -> Result<(), FormatError> {
    let structure = STRUCTURE;
    if sector.len() < bytes::LEADER_LEN {
        return Err(FormatError::new(
            structure,
            FormatErrorKind::Short {
                needed: bytes::LEADER_LEN,
                found: sector.len(),
            },
        ));
    }
    let (expected, found) = (0x0615_2010, u32_at(sector, 0));
    if found == 0x1128_2016 {
        return Err(FormatError::new(structure, FormatErrorKind::Cleared));
    }
    if found != expected {
        return Err(FormatError::new(
            structure,
            FormatErrorKind::Magic { expected, found },
        ));
    }
    let (expected, found) = (6, u16_at(sector, 6));
    if found != expected {
        return Err(FormatError::new(
            structure,
            FormatErrorKind::Version { expected, found },
        ));
    }
    Ok(())
}

fn reads_right(leader: &PaxosLeader, sector: &[u8], host: HostId) {
    assert_eq!(Ok(leader.geometry()), bytes::sizes(STRUCTURE, sector));
    assert_eq!(probe_lease(sector), Ok(leader.geometry()));
    assert_eq!(u64::from(leader.num_hosts()), u64_at(sector, 16));
    assert_eq!(u64::from(leader.max_hosts()), u64_at(sector, 24));
    assert!(leader.num_hosts() <= leader.max_hosts());
    let owner = leader.last_owner().map_or(0, u64::from);
    assert_eq!(owner, u64_at(sector, 32));
    assert_eq!(leader.generation().get(), u64_at(sector, 40));
    assert_eq!(leader.version().get(), u64_at(sector, 48));
    assert_eq!(leader.space_name(), name_at(sector, 56));
    assert_eq!(leader.resource_name(), name_at(sector, 104));
    assert_eq!(leader.timestamp_secs(), u64_at(sector, 152));
    assert_eq!(leader.is_free(), u64_at(sector, 152) == 0);
    assert_eq!(leader.is_short_hold(), u32_at(sector, 8) & 1 != 0);
    assert_eq!(leader.write_id(), u64_at(sector, 176));
    assert_eq!(leader.write_generation().get(), u64_at(sector, 184));
    assert_eq!(leader.write_timestamp(), u64_at(sector, 192));
    let input = leader.input();
    assert_eq!((input.owner, input.generation), (owner, u64_at(sector, 40)));
    assert_eq!(input.timestamp, u64_at(sector, 152));
    shown::name(leader.space_name());
    shown::name(leader.resource_name());

    assert_eq!(written(leader), sector[..PaxosLeader::LEN]);

    let space = LockspaceName::from_disk(leader.space_name());
    let resource = ResourceName::from_disk(leader.resource_name());
    assert_eq!(leader.expect_names(&space, &resource), Ok(*leader));
    let others = (
        LockspaceName::new("LS").unwrap(),
        ResourceName::new("R").unwrap(),
    );
    let are_others = space != others.0 || resource != others.1;
    let answer = leader.expect_names(&others.0, &others.1);
    assert_eq!(answer.is_err(), are_others);
    answer.err().iter().for_each(shown::error);
    let answer = leader.expect_host(host);
    assert_eq!(answer.is_ok(), host.get() <= leader.num_hosts());
    answer.err().iter().for_each(shown::error);
}

fn changes_right(leader: &PaxosLeader, host: HostId) {
    let owner = HostId::new(1 + u64::from(host.get() % leader.max_hosts())).unwrap();
    // Numbers of the input's choice.
    let [a, b, c] = [
        leader.write_id(),
        leader.write_timestamp(),
        leader.write_generation().get(),
    ];
    let commit = Commit {
        version: LeaseVersion::new(a),
        owner,
        generation: Generation::new(b),
        timestamp_secs: c,
        writer: host,
        writer_generation: Generation::new(c),
        writer_clock_secs: a,
        clear_short_hold: b & 1 == 0,
    };
    let committed = leader.committed(commit);
    assert_eq!(committed.version(), commit.version);
    assert_eq!(committed.last_owner(), Some(owner));
    assert_eq!(committed.generation(), commit.generation);
    assert_eq!(committed.timestamp_secs(), c);
    assert_eq!(committed.write_id(), u64::from(host));
    assert_eq!(
        committed.is_short_hold(),
        leader.is_short_hold() && !commit.clear_short_hold
    );
    let freed = committed.freed(host, commit.generation, b);
    assert!(freed.is_free() && !freed.is_short_hold());
    assert_eq!(
        (freed.version(), freed.last_owner()),
        (commit.version, Some(owner))
    );
    let short = freed.short_hold();
    assert!(short.is_short_hold());
    for changed in [committed, freed, short] {
        assert_eq!(changed.space_name(), leader.space_name());
        assert_eq!(changed.num_hosts(), leader.num_hosts());
        assert_eq!(PaxosLeader::decode(&written(&changed)), Ok(changed));
    }
}

fn written(leader: &PaxosLeader) -> Vec<u8> {
    let mut sector = [0; 512];
    leader.write_to(&mut sector);
    assert!(sector[PaxosLeader::LEN..].iter().all(|&byte| byte == 0));
    sector[..PaxosLeader::LEN].to_vec()
}

/// sanlock's sectors.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut sectors = golden::sectors("paxos_", "leader");
    sectors.extend(golden::sectors("rindex_", "leader"));
    let seed = |sector: &Vec<u8>| Case::seed(1, 0, &sector[..PaxosLeader::LEN]);
    sectors.iter().map(seed).collect()
}
