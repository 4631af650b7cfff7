//! When a host counts as live, silent, failing or dead: the one rule, for whoever watches its sector.
//!
//! * Silence counts from the **completion** of the first read that showed the present content: a renewal
//!   that this read shows was started before the read had completed.
//! * Silence counts up to the **start** of the last read that showed it, never to the completion of that
//!   read, nor to an instant at which nobody read: a renewal that came after the start may not have been
//!   seen. Hosts with a short io timeout renew, and die, faster than a host with a long one reads.
//! * A host is dead when its silence is **longer** than 8N + F and the margin, by its own N and the longer
//!   F. Of both the longest counts that the content showed: no checksum covers the N in the record, and the
//!   note that repeats it may be damaged. A takeover may be late, never early.
//! * Whatever a write of another process changes is a sign of life: generation, host name, incarnation,
//!   time. A sector that cannot be read, or is damaged, is none, and is no silence either.

use std::fmt;
use std::time::Duration;

use super::record::DeltaRecord;
use super::rules;
use super::watch::{Change, ReadSpan, Watcher};
use crate::timing::Timing;
use crate::world::Timestamp;

/// What can be said of whether a host is alive, from one watcher's point of view, at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostState {
    /// Nobody owns the host id.
    Free,
    /// The host renewed not long ago.
    Live,
    /// The host was not watched for as long as it may take to renew, or its sector is damaged: it may be
    /// alive or dead.
    Unknown,
    /// The host was not seen to renew for longer than the time between two renewals, nor before that; it
    /// may be alive.
    Silent,
    /// The host was not seen to renew for so long that its own leases must be lost to it, but it may not
    /// have been stopped yet; or it renews, and only the reads are too rare.
    Failing,
    /// The host has not renewed for so long that it is gone for certain, and what it held can be taken: a
    /// read that was started after that time has shown it.
    Dead,
}

impl HostState {
    /// The state's name: `free`, `live`, `unknown`, `silent`, `failing` or `dead`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Live => "live",
            Self::Unknown => "unknown",
            Self::Silent => "silent",
            Self::Failing => "failing",
            Self::Dead => "dead",
        }
    }

    /// Whether nobody runs under the host id any more, for certain.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Free | Self::Dead)
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// For how long the host of a sector has shown no sign of life, by all reads of the sector so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    by: Watcher,
    /// What the last read showed.
    seen: DeltaRecord,
    /// The longest times that the present content showed.
    timing: Timing,
    changed_at: Timestamp,
    unchanged_until: Timestamp,
    renewal_seen: bool,
}

impl Silence {
    /// Of a sector that was not read before, and shows `seen`.
    #[must_use]
    pub fn first(by: Watcher, seen: &DeltaRecord, read: ReadSpan) -> Self {
        Self {
            by,
            timing: seen.timing(by.fire_timeout()),
            seen: seen.clone(),
            changed_at: rules::silent_from(by, read),
            unchanged_until: rules::silent_until(by, read),
            renewal_seen: false,
        }
    }

    /// The same silence, which `by` goes on watching.
    #[must_use]
    pub fn watched_by(self, by: Watcher) -> Self {
        let fire_timeout = self.timing.fire_timeout().max(by.fire_timeout());
        Self {
            by,
            timing: Timing::new(self.timing.io_timeout(), fire_timeout),
            ..self
        }
    }

    /// Takes in what a later read shows.
    pub fn observe(&mut self, seen: &DeltaRecord, read: ReadSpan) -> Change {
        let change = rules::change(self.by, &self.seen.sign(), &seen.sign());
        let next = Self::first(self.by, seen, read);
        let longest = rules::longest_times(self.by, self.timing, next.timing);
        *self = match change {
            Change::Nothing => Self {
                timing: longest,
                changed_at: self.changed_at,
                renewal_seen: self.renewal_seen,
                ..next
            },
            Change::Renewed => Self {
                renewal_seen: true,
                ..next
            },
            // Nobody knows yet whether that one renews. Its claim may have landed late over a host that
            // lives still, by times of its own.
            Change::OtherWriter => Self {
                timing: longest,
                ..next
            },
            Change::OtherGeneration => next,
        };
        change
    }

    /// What the last read showed.
    #[must_use]
    pub const fn seen(&self) -> &DeltaRecord {
        &self.seen
    }

    /// The times by which the host lives and dies: its own N, the longer F.
    #[must_use]
    pub fn timing(&self) -> Timing {
        rules::times_of_host(self.by, self.timing)
    }

    /// When a read that showed the present content first had completed.
    #[must_use]
    pub const fn changed_at(&self) -> Timestamp {
        self.changed_at
    }

    /// Whether the host was really seen to renew.
    #[must_use]
    pub const fn renewal_seen(&self) -> bool {
        self.renewal_seen
    }

    /// For how long the content has been seen unchanged.
    #[must_use]
    pub const fn unchanged_for(&self) -> Duration {
        self.unchanged_until.since(self.changed_at)
    }

    /// When the host counts as dead, should a read that is started later show no sign of life.
    #[must_use]
    pub fn dead_at(&self) -> Timestamp {
        self.changed_at + rules::dead_after(self.by, self.timing())
    }

    /// Whether the host is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.unchanged_until > self.dead_at()
    }

    /// The state of the host at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> HostState {
        let timing = self.timing();
        if self.seen.leader.is_free() {
            HostState::Free
        } else if rules::seen_until(self.by, self.unchanged_until, now) > self.dead_at() {
            HostState::Dead
        } else if now.since(self.changed_at) > timing.lost_after() {
            HostState::Failing
        } else if self.renewal_seen {
            HostState::Live
        } else if self.unchanged_for() > timing.renewal_interval() {
            HostState::Silent
        } else {
            HostState::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{DeltaLeader, Geometry, HostId, HostName, HostNote, LockspaceName};
    use crate::timing::{FireTimeout, IoTimeout};

    const OWN: Timing = Timing::new(IoTimeout::MIN, FireTimeout::DEFAULT);
    const ALL: [Watcher; 3] = [
        Watcher::Claimant(OWN),
        Watcher::Table(OWN.fire_timeout()),
        Watcher::Acquirer(OWN),
    ];

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(after: Duration) -> Timestamp {
        Timestamp::from_nanos(7) + after
    }

    fn read(started: Duration, completed: Duration) -> ReadSpan {
        ReadSpan {
            started: at(started),
            completed: at(completed),
        }
    }

    /// The record of a host of this name, with N = 5 s.
    fn record(host_name: &str, clock: u64) -> DeltaRecord {
        let (geometry, space) = (Geometry::S512_A1M, LockspaceName::new("LS").unwrap());
        let name = HostName::new(host_name).unwrap();
        let leader = DeltaLeader::free(geometry, &space, 5)
            .acquired(HostId::FIRST, &name, clock, 5)
            .unwrap();
        DeltaRecord { leader, note: None }
    }

    fn with_note(record: &DeltaRecord, fire_timeout_secs: u16) -> DeltaRecord {
        let mut note = HostNote::new(HostId::FIRST, record.leader.generation());
        note.fire_timeout_secs = fire_timeout_secs;
        note.io_timeout_secs = 5;
        DeltaRecord {
            note: Some(note),
            ..record.clone()
        }
    }

    #[test]
    fn every_watcher_takes_a_host_for_dead_by_the_same_read() {
        // 8N + F, and a margin of 1 s.
        let dead_after = secs(40 + 60 + 1);
        for by in ALL {
            let found = record("h", 1);
            let mut silence = Silence::first(by, &found, read(secs(0), secs(3)));
            assert_eq!(silence.dead_at(), at(secs(3) + dead_after));
            // A read that was started at that very instant is too early, however late it completed.
            let last = secs(3) + dead_after;
            for (started, is_dead) in [(last, false), (last + Duration::from_nanos(1), true)] {
                let change = silence.observe(&found, read(started, started + secs(9)));
                assert_eq!((change, silence.is_dead()), (Change::Nothing, is_dead));
                assert_eq!(silence.unchanged_for(), started.saturating_sub(secs(3)));
                let state = silence.state(at(started + secs(9)));
                assert_eq!(state == HostState::Dead, is_dead, "{by:?} {state}");
            }
        }
    }

    #[test]
    fn every_watcher_takes_the_same_changes_for_life() {
        let before = record("h", 1);
        let rejoined = DeltaRecord {
            leader: {
                let name = HostName::new("h").unwrap();
                let next = before.leader.acquired(HostId::FIRST, &name, 1, 5);
                next.unwrap()
            },
            note: None,
        };
        for by in ALL {
            for (after, expected, is_live) in [
                (record("h", 2), Change::Renewed, true),
                (record("h", 1), Change::Nothing, false),
                (record("another", 1), Change::OtherWriter, false),
                (record("another", 2), Change::OtherWriter, false),
                (rejoined.clone(), Change::OtherGeneration, false),
            ] {
                let mut silence = Silence::first(by, &before, read(secs(0), secs(0)));
                let change = silence.observe(&after, read(secs(20), secs(21)));
                assert_eq!(change, expected, "{by:?} {after:?}");
                let changed_at = if change == Change::Nothing { 0 } else { 21 };
                assert_eq!(silence.changed_at(), at(secs(changed_at)));
                let state = silence.state(at(secs(22)));
                assert_eq!(state == HostState::Live, is_live, "{by:?} {state}");
            }
        }
    }

    #[test]
    fn of_times_that_change_without_a_renewal_the_longest_count() {
        let plain = record("h", 1);
        let other_n = |io_timeout_secs| DeltaRecord {
            leader: plain.leader.renewed(1, io_timeout_secs),
            note: None,
        };
        for by in ALL {
            for (first, then) in [(5, 2), (2, 5)] {
                let mut silence = Silence::first(by, &other_n(first), read(secs(0), secs(0)));
                let change = silence.observe(&other_n(then), read(secs(1), secs(1)));
                assert_eq!(change, Change::Nothing, "damage is no life");
                assert_eq!(silence.timing().io_timeout().as_secs(), 5);
            }
            // The note tells 90 s; without it the host is one of sanlock's.
            let mut silence = Silence::first(by, &with_note(&plain, 90), read(secs(0), secs(0)));
            assert_eq!(
                silence.observe(&plain, read(secs(1), secs(1))),
                Change::Nothing
            );
            assert_eq!(silence.timing().fire_timeout().as_secs(), 90);
            let renewed = record("h", 2);
            assert_eq!(
                silence.observe(&renewed, read(secs(2), secs(2))),
                Change::Renewed
            );
            assert_eq!(silence.timing().fire_timeout().as_secs(), 60);
        }
    }
}
