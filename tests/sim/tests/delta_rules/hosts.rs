//! What the scans of a lockspace say of the other hosts.

use std::time::Duration;

use disklease::__sim::delta_lease::{HostTable, ReadSpan};
use disklease::__sim::world::Timestamp;
use disklease::HostState;
use disklease::format::{DeltaLeader, Generation, HostName, HostNote, lockspace_image};
use disklease::timing::{FireTimeout, IoTimeout};

use disklease_sim::rig::{SPACE, host_id, names, secs, timing};
use disklease_sim::wrong::switch_as_asked;

/// A lockspace as bytes, and a table that reads them.
pub struct Watch {
    area: Vec<u8>,
    pub table: HostTable,
}

pub const TICK: Duration = Duration::from_nanos(1);

pub fn at(after: Duration) -> Timestamp {
    Timestamp::from_nanos(1) + secs(1000) + after
}

impl Watch {
    pub fn new() -> Self {
        switch_as_asked();
        let area = lockspace_image(SPACE, &names().0, 10, None);
        let table = HostTable::new(SPACE, names().0, FireTimeout::DEFAULT, Some(host_id(3)));
        Self { area, table }
    }

    pub fn sector(&mut self, id: u64) -> &mut [u8] {
        let start = SPACE.delta_offset(host_id(id)) as usize;
        &mut self.area[start..start + 4096]
    }

    pub fn leader(&mut self, id: u64) -> DeltaLeader {
        DeltaLeader::decode(self.sector(id), host_id(id)).unwrap()
    }

    pub fn put(&mut self, id: u64, leader: DeltaLeader) {
        leader.write_to(self.sector(id).first_chunk_mut().unwrap());
    }

    pub fn join(&mut self, id: u64, io_secs: u16) {
        let name = HostName::new("other").unwrap();
        let leader = self
            .leader(id)
            .acquired(host_id(id), &name, 50, io_secs)
            .unwrap();
        self.put(id, leader);
    }

    /// The same record with another N.
    pub fn join_again(&mut self, id: u64, io_secs: u16) {
        let leader = self.leader(id);
        self.put(id, leader.renewed(leader.timestamp_secs(), io_secs));
    }

    pub fn renew(&mut self, id: u64) {
        let leader = self.leader(id);
        let next = leader.renewed(leader.timestamp_secs() + 1, leader.io_timeout_secs());
        self.put(id, next);
    }

    /// A scan that takes no time.
    pub fn scan(&mut self, when: Duration) {
        self.scan_taking(when, when);
    }

    pub fn scan_taking(&mut self, begun: Duration, ended: Duration) {
        let (started, completed) = (at(begun), at(ended));
        self.table
            .observe(&self.area, ReadSpan { started, completed });
    }

    fn state(&self, id: u64, when: Duration) -> HostState {
        self.table.state(host_id(id), at(when))
    }

    fn name(&self, id: u64, when: Duration) -> &'static str {
        self.state(id, when).name()
    }

    /// The state, and when the host counts as dead.
    fn state_and_end(&self, id: u64, when: Duration) -> (HostState, Timestamp) {
        let record = self.table.record(host_id(id)).unwrap();
        (self.state(id, when), record.silence.dead_at())
    }
}

/// An id that was never used is free, and no record is kept of it.
#[test]
fn an_id_that_was_never_used_is_free() {
    let mut watch = Watch::new();
    watch.scan(secs(0));
    assert_eq!(watch.state(1, secs(1000)), HostState::Free);
    assert!(watch.table.record(host_id(1)).is_none());
    assert_eq!(watch.table.iter().count(), 0);
}

/// A host that was seen once may live or not: unknown for 8N, then failing, and dead when a scan
/// that was started after 8N + F and a margin shows no change.
#[test]
fn a_host_that_was_seen_once_is_unknown_then_failing_then_dead() {
    let mut watch = Watch::new();
    watch.join(1, 10);
    watch.scan(secs(0));
    let dead_after = timing(10, 60).dead_after();
    let dead_at = at(dead_after);
    assert_eq!(
        watch.state_and_end(1, secs(80)),
        (HostState::Unknown, dead_at)
    );
    assert_eq!(
        watch.state_and_end(1, secs(80) + TICK),
        (HostState::Failing, dead_at)
    );
    watch.scan(dead_after);
    assert_eq!(
        watch.state_and_end(1, dead_after + TICK),
        (HostState::Failing, dead_at)
    );
    watch.scan(dead_after + TICK);
    assert_eq!(
        watch.state_and_end(1, dead_after + TICK),
        (HostState::Dead, dead_at)
    );
}

/// A host that was seen to change lives for 8N from then.
#[test]
fn a_host_that_was_seen_to_renew_lives() {
    let mut watch = Watch::new();
    watch.join(1, 10);
    watch.scan(secs(0));
    watch.renew(1);
    watch.scan(secs(20));
    assert_eq!(watch.state(1, secs(100)), HostState::Live);
    let dead_at = at(secs(20) + timing(10, 60).dead_after());
    assert_eq!(
        watch.state_and_end(1, secs(100) + TICK),
        (HostState::Failing, dead_at)
    );
    watch.renew(1);
    watch.scan(secs(155));
    assert_eq!(watch.state(1, secs(156)), HostState::Live);
}

/// Nor does a scan that shows no renewal make it one that was never seen to live: it renews more rarely
/// than others look.
#[test]
fn a_host_that_was_seen_to_renew_lives_between_its_renewals() {
    let mut watch = Watch::new();
    watch.join(1, 10);
    watch.scan(secs(0));
    watch.renew(1);
    watch.scan(secs(20));
    watch.scan(secs(22));
    assert_eq!(watch.state(1, secs(23)), HostState::Live);
}

/// A note counts for the host and the life whose sector it stands in: it has a checksum of its own, and
/// the record beside it may be of another.
#[test]
fn a_note_of_another_host_or_life_is_dropped() {
    for (id, generation, counts) in [(1, 1, true), (2, 1, false), (1, 2, false)] {
        let mut watch = Watch::new();
        watch.join(1, 10);
        let note = HostNote::new(host_id(id), Generation::new(generation));
        note.write_to(watch.sector(1).first_chunk_mut().unwrap());
        watch.scan(secs(0));
        let record = watch.table.record(host_id(1)).unwrap();
        assert_eq!(record.seen().note.is_some(), counts, "{id} {generation}");
    }
}

/// A host that left is free; one that came back begins anew, and is unknown until it renews.
#[test]
fn a_new_life_is_unknown_until_it_renews() {
    let mut watch = Watch::new();
    watch.join(1, 10);
    watch.scan(secs(0));
    let left = watch.leader(1).released();
    watch.put(1, left);
    watch.scan(secs(10));
    assert_eq!(watch.name(1, secs(10)), "free");
    watch.join(1, 10);
    watch.scan(secs(20));
    assert_eq!(watch.name(1, secs(20)), "unknown");
    assert_eq!(
        watch
            .table
            .record(host_id(1))
            .unwrap()
            .seen()
            .leader
            .generation(),
        Generation::new(2)
    );
    watch.renew(1);
    watch.scan(secs(40));
    assert_eq!(watch.name(1, secs(40)), "live");
}

/// Silence counts from the end of the read that showed the content first, to the beginning of the
/// read that shows it still.
#[test]
fn silence_counts_from_the_end_of_one_read_to_the_beginning_of_another() {
    let mut watch = Watch::new();
    watch.join(1, 10);
    watch.scan_taking(secs(0), secs(9));
    let dead_after = timing(10, 60).dead_after();
    let dead_at = at(secs(9) + dead_after);
    assert_eq!(
        watch.state_and_end(1, secs(10)),
        (HostState::Unknown, dead_at)
    );
    watch.scan_taking(secs(5) + dead_after, secs(15) + dead_after);
    assert_eq!(
        watch.state_and_end(1, secs(15) + dead_after),
        (HostState::Failing, dead_at)
    );
    watch.scan_taking(secs(9) + dead_after + TICK, secs(20) + dead_after);
    assert_eq!(
        watch.state_and_end(1, secs(20) + dead_after),
        (HostState::Dead, dead_at)
    );
}

/// A host with a short io timeout is due to be dead long before a host with a long one scans again.
/// It is dead only when that scan shows it.
#[test]
fn a_host_is_not_dead_because_nobody_looks() {
    let mut watch = Watch::new();
    watch.table = HostTable::new(SPACE, names().0, FireTimeout::new(secs(5)).unwrap(), None);
    watch.join(1, 1);
    watch.scan(secs(0));
    watch.renew(1);
    watch.scan(secs(20));
    assert_eq!(watch.name(1, secs(39)), "failing");
    watch.renew(1);
    watch.scan(secs(40));
    assert_eq!(watch.name(1, secs(40)), "live");
}

/// The io timeout is that of the host itself. One that no host can have written counts as the
/// longest; our note, which has a checksum, makes it longer, never shorter.
#[test]
fn the_io_timeout_is_the_hosts_own() {
    for (field, noted, counts) in [
        (20, None, 20),
        (0, None, 255),
        (5, Some(20), 20),
        (20, Some(5), 20),
    ] {
        let mut watch = Watch::new();
        watch.join(1, field);
        if let Some(noted) = noted {
            let mut note = HostNote::new(host_id(1), Generation::new(1));
            note.io_timeout_secs = noted;
            note.write_to(watch.sector(1).first_chunk_mut().unwrap());
            watch.sector(1)[256..512].fill(0);
        }
        watch.scan(secs(0));
        let record = watch.table.record(host_id(1)).unwrap();
        assert_eq!(
            Some(record.silence.timing().io_timeout()),
            IoTimeout::from_secs(counts)
        );
        let dead_at = at(timing(u64::from(counts), 60).dead_after());
        assert_eq!(
            watch.state_and_end(1, secs(0)),
            (HostState::Unknown, dead_at)
        );
    }
}

/// Without a renewal the io timeout cannot have got shorter: that is damage, which no checksum
/// tells. With one it may.
#[test]
fn the_io_timeout_gets_shorter_by_a_renewal_only() {
    let mut watch = Watch::new();
    watch.join(1, 10);
    watch.scan(secs(0));
    watch.sector(1)[174] = 2;
    watch.scan(secs(1));
    let n = |watch: &Watch| {
        watch
            .table
            .record(host_id(1))
            .unwrap()
            .silence
            .timing()
            .io_timeout()
            .as_secs()
    };
    assert_eq!(n(&watch), 10);
    watch.scan(secs(100));
    assert_eq!(watch.name(1, secs(100)), "failing");
    watch.renew(1);
    watch.scan(secs(101));
    assert_eq!(n(&watch), 2);
}

/// A host without our note is one of sanlock's, whose fire timeout is not shorter than 60 s.
#[test]
fn a_host_of_sanlocks_has_at_least_sanlocks_fire_timeout() {
    for (fire, noted, counts) in [
        (5, false, 60),
        (5, true, 5),
        (90, false, 90),
        (90, true, 90),
    ] {
        let mut watch = Watch::new();
        let fire = FireTimeout::new(secs(fire)).unwrap();
        watch.table = HostTable::new(SPACE, names().0, fire, None);
        watch.join(1, 1);
        if noted {
            let note = HostNote::new(host_id(1), Generation::new(1));
            note.write_to(watch.sector(1).first_chunk_mut().unwrap());
        }
        watch.scan(secs(0));
        let dead_at = at(timing(1, counts).dead_after());
        assert_eq!(
            watch.state_and_end(1, secs(0)),
            (HostState::Unknown, dead_at)
        );
    }
}

/// A note of another life of the host says nothing of this one.
#[test]
fn a_note_of_another_generation_does_not_count() {
    let mut watch = Watch::new();
    watch.join(1, 5);
    let mut note = HostNote::new(host_id(1), Generation::new(9));
    note.io_timeout_secs = 200;
    note.write_to(watch.sector(1).first_chunk_mut().unwrap());
    watch.scan(secs(0));
    let record = watch.table.record(host_id(1)).unwrap();
    assert_eq!(
        Some(record.silence.timing().io_timeout()),
        IoTimeout::from_secs(5)
    );
}

/// A sector that cannot be read is never proof of death: its owner may renew it in a way that
/// cannot be seen. What was seen before is kept for when it can be read again.
#[test]
fn a_damaged_sector_is_never_proof_of_death() {
    let mut watch = Watch::new();
    watch.join(1, 10);
    watch.scan(secs(0));
    watch.renew(1);
    watch.scan(secs(20));
    watch.sector(1)[60] ^= 1;
    watch.scan(secs(30));
    assert_eq!(watch.name(1, secs(30)), "unknown");
    watch.scan(secs(1000));
    assert_eq!(watch.name(1, secs(1000)), "unknown");
    watch.sector(1)[60] ^= 1;
    watch.scan(secs(1001));
    assert_eq!(
        watch.name(1, secs(1001)),
        "dead",
        "not changed since 20 s, as one can see now"
    );

    let mut watch = Watch::new();
    watch.join(2, 10);
    watch.sector(2)[60] ^= 1;
    watch.scan(secs(0));
    watch.scan(secs(5000));
    assert_eq!(
        watch.name(2, secs(5000)),
        "unknown",
        "nor at the first look"
    );
}

/// The own host is live in its own table, whatever the scan shows.
#[test]
fn the_own_host_is_live() {
    let mut watch = Watch::new();
    assert_eq!(watch.name(3, secs(0)), "live");
    watch.join(3, 1);
    watch.scan(secs(0));
    assert_eq!(watch.name(3, secs(10_000)), "live");
}
