//! The format against bytes and values that nobody chose: round trips, flipped bits, garbage.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use disklease::format::{
    Commit, Dblock, DblockSector, DeltaLeader, Generation, Geometry, HolderNote, HostBitmap,
    HostId, HostName, HostNote, Incarnation, Input, LeaseVersion, LockspaceName, ModeBlock,
    NameBytes, NoteState, PaxosLeader, RequestRecord, ResourceName, checksum, probe_lease,
    probe_lockspace,
};
use proptest::prelude::*;

/// All golden sectors whose file names begin so.
fn golden(prefix: &str) -> Vec<(String, Vec<u8>)> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut sectors: Vec<_> = fs::read_dir(vectors)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name.starts_with(prefix) && name.ends_with(".bin"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    sectors.sort();
    sectors
}

fn of_kind(prefix: &str, part: &str) -> Vec<(String, Vec<u8>)> {
    golden(prefix)
        .into_iter()
        .filter(|(name, _)| name.contains(part))
        .collect()
}

fn host(id: u64) -> HostId {
    HostId::new(id).unwrap()
}

fn u64_at(sector: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(sector[at..at + 8].try_into().unwrap())
}

/// Flips each bit of the first `len` bytes, one at a time.
fn flips(sector: &[u8], len: usize) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..len * 8).map(|bit| {
        let mut flipped = sector.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

/// Bytes of a leader that are the checksum or under it; and of a dblock.
const LEADER_PROTECTED: usize = 172;
const DBLOCK_PROTECTED: usize = 52;

#[test]
fn a_flipped_bit_of_a_delta_leader_is_seen() {
    let sectors = golden("delta_");
    assert_eq!(sectors.len(), 9);
    for (name, sector) in sectors {
        let owner = host(u64_at(&sector, 32).max(1));
        assert!(DeltaLeader::decode(&sector, owner).is_ok(), "{name}");
        for (bit, flipped) in flips(&sector, LEADER_PROTECTED) {
            assert!(
                DeltaLeader::decode(&flipped, owner).is_err(),
                "{name}, bit {bit}"
            );
        }
    }
}

#[test]
fn a_flipped_bit_of_a_leader_record_is_seen() {
    let mut sectors = of_kind("paxos_", "leader");
    sectors.extend(of_kind("rindex_", "lease_leader"));
    assert_eq!(sectors.len(), 9);
    for (name, sector) in sectors {
        assert!(PaxosLeader::decode(&sector).is_ok(), "{name}");
        for (bit, flipped) in flips(&sector, LEADER_PROTECTED) {
            assert!(PaxosLeader::decode(&flipped).is_err(), "{name}, bit {bit}");
        }
    }
}

#[test]
fn a_flipped_bit_of_a_dblock_is_seen() {
    let mut sectors = of_kind("paxos_", "dblock");
    sectors.extend(of_kind("rindex_", "dblock"));
    assert_eq!(sectors.len(), 9);
    for (name, sector) in sectors {
        let owner = host(u64_at(&sector, 16));
        assert!(DblockSector::decode(&sector, owner).block.is_ok(), "{name}");
        for (bit, flipped) in flips(&sector, DBLOCK_PROTECTED) {
            let read = DblockSector::decode(&flipped, owner);
            assert!(read.block.is_err(), "{name}, bit {bit}");
        }
    }
}

/// Runs every decoder. What is accepted must be what is written again.
fn decode_all(bytes: &[u8], host: HostId) {
    let _ = (probe_lockspace(bytes), probe_lease(bytes));
    let len = bytes.len().min(512);
    let mut again = [0; 512];
    again[..len].copy_from_slice(&bytes[..len]);
    if let Ok(leader) = DeltaLeader::decode(bytes, host) {
        leader.write_to(&mut again);
        assert!(leader.is_free() || leader.owner_id() == u64::from(host));
        let _ = (
            leader.space_name().to_string(),
            leader.host_name().to_string(),
        );
        let _ = (leader.renewed(0, 0), leader.released());
    }
    if let Ok(leader) = PaxosLeader::decode(bytes) {
        leader.write_to(&mut again);
        assert!(leader.num_hosts() <= leader.max_hosts());
        assert!(leader.is_free() || leader.owner_id().is_some());
        let _ = (
            leader.space_name().to_string(),
            leader.resource_name().to_string(),
        );
    }
    if let Ok(request) = RequestRecord::decode(bytes) {
        request.write_to(&mut again);
        assert_eq!(RequestRecord::decode(&again), Ok(request));
        again[..24].copy_from_slice(&bytes[..24]);
    }
    let read = DblockSector::decode(bytes, host);
    if let Ok(Some(block)) = read.block {
        let mut sector = [0; 512];
        block.write_to(&mut sector);
        assert_eq!(DblockSector::decode(&sector, host).block, Ok(Some(block)));
    }
    if let NoteState::Present(note) = read.note {
        let mut sector = [0; 512];
        note.write_to(&mut sector);
        assert_eq!(
            HolderNote::read_from(&sector, host),
            NoteState::Present(note)
        );
    }
    if let NoteState::Present(note) = HostNote::read_from(bytes) {
        let mut sector = [0; 512];
        note.write_to(&mut sector);
        assert_eq!(HostNote::read_from(&sector), NoteState::Present(note));
    }
    if let Ok(bitmap) = HostBitmap::read_from(bytes) {
        bitmap.write_to(&mut again);
        let _ = bitmap.iter().count();
    }
    assert_eq!(again[..len], bytes[..len]);
}

/// Puts the right checksum of a leader and of a dblock, so that what comes after that check is reached.
fn seal(sector: &mut [u8], as_leader: bool) {
    let (covered, at) = if as_leader { (168, 168) } else { (48, 48) };
    let sum = checksum(&sector[..covered]);
    sector[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

fn any_host() -> impl Strategy<Value = HostId> {
    (1..=u64::from(HostId::MAX)).prop_map(host)
}

fn any_geometry() -> impl Strategy<Value = Geometry> {
    prop::sample::select(Geometry::ALL.to_vec())
}

/// 1 to `max` bytes without a NUL.
fn name(max: usize) -> impl Strategy<Value = String> {
    "[^\\x00]{1,48}".prop_map(move |mut text| {
        while text.len() > max {
            text.pop();
        }
        text
    })
}

fn any_commit() -> impl Strategy<Value = Commit> {
    (any::<[u64; 5]>(), 1..=250u64, 1..=250u64, any::<bool>()).prop_map(
        |(
            [
                version,
                generation,
                clock,
                writer_generation,
                writer_clock_secs,
            ],
            o,
            w,
            clear,
        )| {
            Commit {
                version: LeaseVersion::new(version),
                owner: host(o),
                generation: Generation::new(generation),
                timestamp_secs: clock,
                writer: host(w),
                writer_generation: Generation::new(writer_generation),
                writer_clock_secs,
                clear_short_hold: clear,
            }
        },
    )
}

proptest! {
    #[test]
    fn garbage_is_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..1100),
        host in any_host(),
    ) {
        decode_all(&bytes, host);
    }

    /// Golden sectors with some bytes changed, cut to any length, with and without right checksums.
    #[test]
    fn near_misses_are_read_without_a_panic(
        (_, sector) in prop::sample::select(golden("")),
        changes in prop::collection::vec((0..256usize, any::<u8>()), 0..6),
        seal_leader in any::<bool>(),
        seal_dblock in any::<bool>(),
        cut in prop_oneof![3 => Just(4096usize), 1 => 0..600usize],
        host in prop_oneof![Just(host(1)), Just(host(2)), any_host()],
    ) {
        let mut sector = sector;
        for (at, byte) in changes {
            sector[at] = byte;
        }
        if seal_leader {
            seal(&mut sector, true);
        }
        if seal_dblock {
            seal(&mut sector, false);
        }
        sector.truncate(cut);
        decode_all(&sector, host);
    }

    #[test]
    fn names_go_to_the_disk_and_back(text in name(48)) {
        let space = LockspaceName::new(&text).unwrap();
        prop_assert_eq!(LockspaceName::from_disk(space.as_name()), space);
        prop_assert!(space.as_name().text() == text.as_bytes());
        let resource = ResourceName::new(&text).unwrap();
        prop_assert_eq!(ResourceName::from_disk(resource.as_name()), resource);
        prop_assert_eq!(HostName::new(&text).is_ok(), text.len() <= 47);
    }

    #[test]
    fn any_name_is_shown_on_one_line(bytes in any::<[u8; 32]>(), tail in any::<[u8; 16]>()) {
        let mut field = [0; 48];
        field[..32].copy_from_slice(&bytes);
        field[32..].copy_from_slice(&tail);
        let shown = NameBytes::new(field).to_string();
        prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
    }

    #[test]
    fn delta_leaders_go_to_bytes_and_back(
        geometry in any_geometry(),
        space in name(48),
        host_name in name(47),
        id in any_host(),
        clocks in any::<[u64; 2]>(),
        io_timeout in any::<u16>(),
    ) {
        let free = DeltaLeader::free(geometry, &LockspaceName::new(&space).unwrap(), io_timeout);
        let name = HostName::new(&host_name).unwrap();
        let held = free.acquired(id, &name, clocks[0], io_timeout).unwrap();
        prop_assert!(!held.is_free() && held.host_name() == name.as_name());
        for leader in [free, held, held.renewed(clocks[1], io_timeout), held.released()] {
            let mut sector = vec![0; geometry.sector_size()];
            leader.write_to(sector.first_chunk_mut().unwrap());
            prop_assert_eq!(DeltaLeader::decode(&sector, id), Ok(leader));
            prop_assert_eq!(probe_lockspace(&sector), Ok(geometry));
        }
    }

    #[test]
    fn leader_records_go_to_bytes_and_back(
        geometry in any_geometry(),
        space in name(48),
        resource in name(48),
        num_hosts in any::<u16>(),
        commit in any_commit(),
    ) {
        let space = LockspaceName::new(&space).unwrap();
        let resource = ResourceName::new(&resource).unwrap();
        let free = PaxosLeader::free(geometry, &space, &resource, num_hosts);
        let held = free.short_hold().committed(commit);
        prop_assert_eq!(held.is_short_hold(), !commit.clear_short_hold);
        prop_assert_eq!(held.owner_id(), Some(commit.owner));
        let freed = held.freed(commit.owner, commit.generation, commit.writer_clock_secs);
        prop_assert_eq!(freed.version(), commit.version);
        for leader in [free, held, freed] {
            let mut sector = vec![0; geometry.sector_size()];
            leader.write_to(sector.first_chunk_mut().unwrap());
            let read = PaxosLeader::decode(&sector).unwrap();
            prop_assert_eq!(read.expect_names(&space, &resource), Ok(leader));
            prop_assert_eq!(probe_lease(&sector), Ok(geometry));
        }
    }

    #[test]
    fn dblock_sectors_go_to_bytes_and_back(
        numbers in any::<[u64; 5]>(),
        owner in 0..3u64,
        released in any::<bool>(),
        flags in any::<u32>(),
        shared in any::<Option<u64>>(),
        guest in "[^\\x00]{0,60}",
        pid in any::<u32>(),
        uuid in any::<Option<[u8; 16]>>(),
        id in any_host(),
    ) {
        let [mbal, bal, generation, timestamp, version] = numbers;
        let version = LeaseVersion::new(version);
        let input = Some(Input { owner, generation, timestamp }).filter(|input| input.owner != 0);
        let block = Dblock { mbal, bal, input, version, released, other_flags: flags & !1 };
        let mut note = HolderNote::new(id, Generation::new(generation), version);
        note.pid = pid;
        note.guest_uuid = uuid.filter(|uuid| *uuid != [0; 16]);
        let note = note.with_guest_name(&guest);
        prop_assert!(guest.starts_with(&note.guest_name));
        prop_assert!(guest.len().min(HolderNote::GUEST_NAME_MAX) < note.guest_name.len() + 4);
        let shared = shared.map(Generation::new);

        let mut sector = [0; 512];
        block.write_to(sector.first_chunk_mut().unwrap());
        note.write_to(sector.first_chunk_mut().unwrap());
        if let Some(shared) = shared {
            ModeBlock { shared }.write_to(sector.first_chunk_mut().unwrap());
        }
        let read = DblockSector::decode(&sector, id);
        prop_assert_eq!(read.block, Ok(Some(block)));
        prop_assert_eq!(read.shared, shared);
        prop_assert_eq!(read.note, NoteState::Present(note));
    }

    #[test]
    fn host_notes_go_to_bytes_and_back(
        id in any_host(),
        generation in any::<u64>(),
        (boot, incarnation) in any::<([u8; 8], [u8; 16])>(),
        (io_timeout, protocol) in any::<(u16, u16)>(),
        (pid, process_token) in any::<(u32, u32)>(),
    ) {
        let mut note = HostNote::new(id, Generation::new(generation));
        note.boot = boot;
        note.incarnation = Incarnation::new(incarnation);
        note.io_timeout_secs = io_timeout;
        note.protocol = protocol;
        note.pid = pid;
        note.process_token = process_token;
        let mut sector = [0; 512];
        note.write_to(sector.first_chunk_mut().unwrap());
        prop_assert_eq!(HostNote::read_from(&sector), NoteState::Present(note));
    }

    #[test]
    fn bitmaps_are_sets_of_hosts(
        set in prop::collection::btree_set(1..=u64::from(HostId::MAX), 0..40),
        cleared in 1..=u64::from(HostId::MAX),
    ) {
        let mut bitmap = HostBitmap::new();
        for &id in &set {
            bitmap.set(host(id));
        }
        bitmap.clear(host(cleared));
        let wanted: BTreeSet<u64> = set.into_iter().filter(|&id| id != cleared).collect();
        let mut sector = [0; 512];
        bitmap.write_to(sector.first_chunk_mut().unwrap());
        let read = HostBitmap::read_from(&sector).unwrap();
        prop_assert_eq!(read.iter().map(u64::from).collect::<BTreeSet<_>>(), wanted);
    }
}
