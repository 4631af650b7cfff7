//! What a joined host knows of itself and of the others: all that a paxos lease needs to be acquired.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{DeltaLease, Expiry, HostRecord, HostState, HostTable, LockspaceArea};
use crate::format::{Generation, HostId};
use crate::timing::Timing;
use crate::world::Timestamp;

/// One life of one host id in one lockspace, shared by the renewal loop and every lease of this host.
#[derive(Debug)]
pub struct Membership<D> {
    area: LockspaceArea<D>,
    host_id: HostId,
    generation: Generation,
    timing: Timing,
    expiry: Expiry,
    /// Locked for single look-ups and for taking in one scan; never across I/O.
    hosts: Mutex<HostTable>,
    /// The last stamp given out by [`Membership::unique_stamp_secs`].
    last_stamp_secs: AtomicU64,
}

impl<D> Membership<D> {
    /// The membership that begins with `lease`, knowing what `hosts` knows.
    #[must_use]
    pub fn new(area: LockspaceArea<D>, lease: &DeltaLease, hosts: HostTable) -> Self {
        Self {
            area,
            host_id: lease.host_id(),
            generation: lease.generation(),
            timing: lease.timing,
            expiry: Expiry::until(lease.expires_at()),
            hosts: Mutex::new(hosts),
            last_stamp_secs: AtomicU64::new(0),
        }
    }

    /// Where the lockspace lies.
    #[must_use]
    pub const fn area(&self) -> &LockspaceArea<D> {
        &self.area
    }

    /// This host.
    #[must_use]
    pub const fn host_id(&self) -> HostId {
        self.host_id
    }

    /// This life of this host.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// This host's times.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// Whether, and until when, this host may believe in its leases.
    #[must_use]
    pub const fn expiry(&self) -> &Expiry {
        &self.expiry
    }

    /// Runs `look` on the table of hosts. The table is locked meanwhile: `look` does no I/O.
    pub fn hosts<T>(&self, look: impl FnOnce(&mut HostTable) -> T) -> T {
        look(&mut self.hosts.lock())
    }

    /// What was seen of `host`, if anything.
    #[must_use]
    pub fn observed(&self, host: HostId) -> Option<HostRecord> {
        self.hosts(|table| table.record(host).cloned())
    }

    /// Whether the life `generation` of `host` may still be running. What is not known counts as running.
    #[must_use]
    pub fn may_be_alive(&self, host: HostId, generation: Generation, now: Timestamp) -> bool {
        self.hosts(|table| match table.record(host) {
            None => true,
            Some(record) if record.generation > generation => false,
            Some(_) => !matches!(table.state(host, now), HostState::Free | HostState::Dead { .. }),
        })
    }

    /// A value for the paxos input's timestamp: `clock_secs`, or more if that was given out before.
    ///
    /// **INV-STAMP**: no two acquires of one life of a host propose the same input. The format's unit is the
    /// second, and two acquires can fall into one; with equal inputs a host could take the commit of an earlier
    /// acquire for its present one.
    pub fn unique_stamp_secs(&self, clock_secs: u64) -> u64 {
        let next = |last: u64| clock_secs.max(last.saturating_add(1));
        let last = self.last_stamp_secs.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        next(last.unwrap_or_else(|last| last))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;

    #[test]
    fn inv_stamp_stamps_of_one_second_differ_and_never_are_zero() {
        // The same closure as above, on a bare atomic: a membership needs a disk that this test does not have.
        let last = AtomicU64::new(0);
        let stamp = |clock: u64| {
            let next = |last: u64| clock.max(last.saturating_add(1));
            next(last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last))).unwrap())
        };
        assert_eq!([stamp(0), stamp(7), stamp(7), stamp(6), stamp(20)], [1, 7, 8, 9, 20]);
    }
}
