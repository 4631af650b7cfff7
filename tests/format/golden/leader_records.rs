//! Leader records of leases.

use disklease::format::{
    Commit, Generation, Geometry, LeaseVersion, LockspaceName, PaxosLeader, ResourceName,
    probe_lease,
};

use super::{golden, host, stored};

struct Paxos {
    file: &'static str,
    geometry: Geometry,
    owner: u64,
    generation: u64,
    lver: u64,
    space: &'static str,
    resource: &'static str,
    timestamp: u64,
    checksum: u32,
    written: (u64, u64, u64),
}

const FREE_PAXOS: Paxos = Paxos {
    file: "paxos_free_leader_512.bin",
    geometry: Geometry::S512_A1M,
    owner: 0,
    generation: 0,
    lver: 0,
    space: "LS",
    resource: "RES",
    timestamp: 0,
    checksum: 0xf2c7_9a65,
    written: (0, 0, 0),
};

const HELD_PAXOS: Paxos = Paxos {
    file: "paxos_ex_held_leader_512.bin",
    owner: 1,
    generation: 1,
    lver: 1,
    timestamp: 1256,
    checksum: 0x88d5_d23d,
    written: (1, 1, 1256),
    ..FREE_PAXOS
};

const FREE_PAXOS_4K: Paxos = Paxos {
    file: "paxos_free_leader_4k8M.bin",
    geometry: Geometry::S4K_A8M,
    space: "K",
    resource: "R",
    checksum: 0x279e_2167,
    ..FREE_PAXOS
};

const HELD_PAXOS_4K: Paxos = Paxos {
    file: "paxos_ex_held_leader_4k8M.bin",
    owner: 1500,
    generation: 1,
    lver: 1,
    timestamp: 3048,
    checksum: 0x48b8_dafd,
    written: (1500, 1, 3048),
    ..FREE_PAXOS_4K
};

const PAXOS: [Paxos; 9] = [
    FREE_PAXOS,
    HELD_PAXOS,
    Paxos {
        file: "paxos_ex_released_leader_512.bin",
        timestamp: 0,
        checksum: 0x5f02_c995,
        written: (1, 1, 1282),
        ..HELD_PAXOS
    },
    Paxos {
        file: "paxos_ex2_held_leader_512.bin",
        owner: 2,
        lver: 2,
        timestamp: 1283,
        checksum: 0xf9b7_0795,
        written: (2, 1, 1283),
        ..HELD_PAXOS
    },
    Paxos {
        file: "paxos_sh_leader_512.bin",
        owner: 2,
        lver: 4,
        timestamp: 0,
        checksum: 0x388d_5bfe,
        written: (2, 1, 1288),
        ..HELD_PAXOS
    },
    Paxos {
        file: "rindex_lease_leader_512.bin",
        lver: 4,
        space: "RX",
        resource: "rindex_lease",
        timestamp: 0,
        checksum: 0xaf47_9099,
        written: (1, 1, 3060),
        ..HELD_PAXOS
    },
    FREE_PAXOS_4K,
    HELD_PAXOS_4K,
    Paxos {
        file: "paxos_ex_released_leader_4k8M.bin",
        timestamp: 0,
        checksum: 0x9e68_37b8,
        written: (1500, 1, 3049),
        ..HELD_PAXOS_4K
    },
];

#[test]
fn leader_records() {
    for want in PAXOS {
        let file = want.file;
        let sector = golden(file);
        let leader = PaxosLeader::decode(&sector).expect(file);
        assert_eq!(sector.len(), want.geometry.sector_size(), "{file}");
        assert_eq!(leader.geometry(), want.geometry, "{file}");
        assert_eq!(probe_lease(&sector), Ok(want.geometry), "{file}");
        assert_eq!(
            (leader.num_hosts(), leader.max_hosts()),
            (2000, 2000),
            "{file}"
        );
        assert_eq!(
            leader.last_owner().map_or(0, u64::from),
            want.owner,
            "{file}"
        );
        assert_eq!(
            leader.generation(),
            Generation::new(want.generation),
            "{file}"
        );
        assert_eq!(leader.version(), LeaseVersion::new(want.lver), "{file}");
        assert_eq!(leader.space_name().to_string(), want.space, "{file}");
        assert_eq!(leader.resource_name().to_string(), want.resource, "{file}");
        assert_eq!(leader.timestamp_secs(), want.timestamp, "{file}");
        assert_eq!(leader.is_free(), want.timestamp == 0, "{file}");
        assert!(!leader.is_short_hold(), "{file}");
        assert_eq!(stored(&sector, 168), want.checksum, "{file}");
        let (id, generation, timestamp) = want.written;
        assert_eq!(leader.write_id(), id, "{file}");
        assert_eq!(
            leader.write_generation(),
            Generation::new(generation),
            "{file}"
        );
        assert_eq!(leader.write_timestamp(), timestamp, "{file}");
        assert_eq!(sector_of(leader), sector, "{file}");
    }
}

fn sector_of(leader: PaxosLeader) -> Vec<u8> {
    let mut sector = vec![0; leader.geometry().sector_size()];
    leader.write_to(sector.first_chunk_mut().unwrap());
    sector
}

/// What sanlock wrote at each step of a lease's life is what we would write.
#[test]
fn the_steps_of_a_lease_are_those_of_sanlock() {
    let commit = |version, owner, timestamp_secs| Commit {
        version: LeaseVersion::new(version),
        owner: host(owner),
        generation: Generation::new(1),
        timestamp_secs,
        writer: host(owner),
        writer_generation: Generation::new(1),
        writer_clock_secs: timestamp_secs,
        clear_short_hold: true,
    };
    let one = Generation::new(1);
    let (space, resource) = (
        LockspaceName::new("LS").unwrap(),
        ResourceName::new("RES").unwrap(),
    );
    let free = PaxosLeader::free(Geometry::S512_A1M, &space, &resource, 0);
    assert_eq!(sector_of(free), golden("paxos_free_leader_512.bin"));
    let held = free.committed(commit(1, 1, 1256));
    assert_eq!(sector_of(held), golden("paxos_ex_held_leader_512.bin"));
    let freed = held.freed(host(1), one, 1282);
    assert_eq!(sector_of(freed), golden("paxos_ex_released_leader_512.bin"));
    let held = freed.committed(commit(2, 2, 1283));
    assert_eq!(sector_of(held), golden("paxos_ex2_held_leader_512.bin"));
    let shared = held
        .committed(commit(4, 2, 1288))
        .short_hold()
        .freed(host(2), one, 1288);
    assert_eq!(sector_of(shared), golden("paxos_sh_leader_512.bin"));

    let (space, resource) = (
        LockspaceName::new("K").unwrap(),
        ResourceName::new("R").unwrap(),
    );
    let free = PaxosLeader::free(Geometry::S4K_A8M, &space, &resource, 0);
    assert_eq!(sector_of(free), golden("paxos_free_leader_4k8M.bin"));
    let held = free.committed(commit(1, 1500, 3048));
    assert_eq!(sector_of(held), golden("paxos_ex_held_leader_4k8M.bin"));
    let freed = held.freed(host(1500), one, 3049);
    assert_eq!(
        sector_of(freed),
        golden("paxos_ex_released_leader_4k8M.bin")
    );
}
