//! A state of a whole world, as numbers.

use super::contents::ContentId;
use super::hash::Mixer;
use super::hosts::NodeId;
use super::layout::{HOSTS_MAX, SLOTS_MAX, Slot};

/// Writes that may be in flight at once, after a time-out.
pub const LATE_MAX: usize = 2;

#[derive(Clone, Copy)]
pub struct State {
    pub sectors: [ContentId; SLOTS_MAX],
    /// Where each host stands.
    pub hosts: [NodeId; HOSTS_MAX],
    /// What a host has read so far of several sectors, as a row; 0 is nothing. Of a host that
    /// watches an owner: all sectors as they were when it read the leader.
    pub seen: [u32; HOSTS_MAX],
    /// A host that was answered and has not gone on: the answer, by number; 0 is none.
    pub answered: [u8; HOSTS_MAX],
    pub late: [Option<Late>; LATE_MAX],
    /// Faults that are left.
    pub deaths: u8,
    pub stalls: u8,
    pub rejoins: u8,
    pub late_left: u8,
    pub failures: u8,
    /// Hosts that all others see as dead, one bit each.
    pub dead: u8,
    /// The newest version that was ever held.
    pub newest_held: u8,
}

/// A write that its host gave up waiting for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Late {
    pub host: u8,
    pub slot: u8,
    pub content: ContentId,
}

impl State {
    /// All of it, in 64 bits: that two of so many states have the same is most unlikely.
    pub fn key(&self) -> u64 {
        let mut mixer = Mixer::default();
        let two = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        for pair in self.sectors.chunks(2) {
            mixer.mix(two(pair[0], pair.get(1).copied().unwrap_or(0)));
        }
        for host in 0..HOSTS_MAX {
            mixer.mix(two(self.hosts[host], self.seen[host]));
        }
        for late in self.late {
            mixer.mix(late.map_or(0, |late| {
                let place = u32::from(late.host) << 8 | u32::from(late.slot);
                two(late.content, 1 << 16 | place)
            }));
        }
        mixer.mix(u64::from_le_bytes([
            self.deaths,
            self.stalls,
            self.rejoins,
            self.late_left,
            self.failures,
            self.dead,
            self.newest_held,
            0,
        ]));
        let [a, b, c] = self.answered;
        mixer.mix(u64::from(u32::from_le_bytes([a, b, c, 0])));
        // 0 marks an empty place in the set of the visited.
        mixer.end().max(1)
    }

    /// The sectors to which writes of `host` are in flight, one bit each.
    pub fn in_flight(&self, host: usize) -> u32 {
        let own = self.late.iter().flatten();
        own.filter(|late| usize::from(late.host) == host)
            .fold(0, |slots, late| slots | 1 << late.slot)
    }

    pub fn is_in_flight(&self, host: usize, slot: Slot) -> bool {
        self.in_flight(host) >> slot & 1 == 1
    }

    pub fn is_dead(&self, host: usize) -> bool {
        self.dead >> host & 1 == 1
    }

    /// One more write in flight. Their order says nothing.
    pub fn add_late(&mut self, late: Late) {
        let free = self.late.iter_mut().find(|place| place.is_none());
        *free.expect("there is room for all that the spec allows") = Some(late);
        self.late.sort_unstable();
    }

    /// No write of `host` is in flight any more; none of them landed.
    pub fn drop_late_of(&mut self, host: usize) {
        for late in &mut self.late {
            *late = late.filter(|late| usize::from(late.host) != host);
        }
        self.late.sort_unstable();
    }
}
