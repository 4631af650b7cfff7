//! What a joined host knows of itself and of the others: all that a paxos lease needs to be
//! acquired.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::area::LockspaceArea;
use super::expiry::Expiry;
use super::hosts::{HostRecord, HostTable};
use super::lease::DeltaLease;
use super::rules;
use crate::format::{Generation, HostId, Incarnation};
use crate::timing::Timing;
use crate::world::Timestamp;

/// One generation of one host id in one lockspace, shared by the renewal loop and every lease of this
/// host.
#[derive(Debug)]
pub struct Membership<D> {
    area: LockspaceArea<D>,
    host_id: HostId,
    generation: Generation,
    incarnation: Incarnation,
    timing: Timing,
    expiry: Expiry,
    /// Locked for single queries and for taking in one scan; never across I/O.
    hosts: Mutex<HostTable>,
    timestamps: Timestamps,
}

impl<D> Membership<D> {
    /// The membership that starts with `lease`, knowing what `hosts` knows.
    #[must_use]
    pub fn new(area: LockspaceArea<D>, lease: &DeltaLease, hosts: HostTable) -> Self {
        Self {
            area,
            host_id: lease.host_id(),
            generation: lease.generation(),
            incarnation: lease.incarnation(),
            timing: lease.timing(),
            expiry: Expiry::until(lease.expires_at()),
            hosts: Mutex::new(hosts),
            timestamps: Timestamps::default(),
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

    /// Which join of the host id it is.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Which incarnation of this host it is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
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

    /// **INV-MEMBER**: how long a write to a lease may take that is asked for at `now`: N, but not
    /// beyond the instant at which this host's leases are lost. `None` when they are lost: then
    /// nothing may be written. A write that has not been started within its limit is never started.
    #[must_use]
    pub fn write_limit(&self, now: Timestamp) -> Option<Duration> {
        // First the question, then the deadline: a renewal in between only moves that on.
        let is_held = self.expiry.is_held(now);
        let deadline = self.expiry.deadline().filter(|_| is_held);
        let left = deadline.map(|deadline| deadline.since(now));
        rules::write_limit(self.timing.io(), left)
    }

    /// Runs `ask` on the table of hosts. The table is locked meanwhile: `ask` does no I/O.
    pub fn hosts<T>(&self, ask: impl FnOnce(&mut HostTable) -> T) -> T {
        ask(&mut self.hosts.lock())
    }

    /// What was seen of `host`, if anything.
    #[must_use]
    pub fn observed(&self, host: HostId) -> Option<HostRecord> {
        self.hosts(|table| table.record(host).cloned())
    }

    /// Whether `host` may still be running in this generation. What is not known counts as running.
    #[must_use]
    pub fn may_be_alive(&self, host: HostId, generation: Generation, now: Timestamp) -> bool {
        self.hosts(|table| {
            let record = table.record(host);
            let in_table = record.map(|record| record.seen().leader.generation());
            let has_ended = table.state(host, now).has_ended();
            rules::may_be_alive(generation, in_table, has_ended)
        })
    }

    /// A value for the paxos input's timestamp: `clock_secs`, or more if that was given out before.
    ///
    /// **INV-TIMESTAMP**: no two acquires of one generation of a host propose the same input. The format's
    /// unit is the second, and two acquires can fall into one; with equal inputs a host could take
    /// the commit of an earlier acquire for its present one.
    pub fn unique_timestamp_secs(&self, clock_secs: u64) -> u64 {
        self.timestamps.next(clock_secs)
    }

    /// The last one of these values that was given out; 0 for none.
    #[cfg(feature = "__sim")]
    #[must_use]
    pub fn last_timestamp_secs(&self) -> u64 {
        self.timestamps.last.load(Ordering::Acquire)
    }
}

/// Timestamps that rise with each one given out, and follow the clock where they can.
#[derive(Debug, Default)]
struct Timestamps {
    last: AtomicU64,
}

impl Timestamps {
    fn next(&self, clock_secs: u64) -> u64 {
        let after = |last| rules::next_input_secs(clock_secs, last);
        let last = self
            .last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
                Some(after(last))
            });
        after(last.unwrap_or_else(|last| last))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamps;

    #[test]
    fn inv_timestamp_timestamps_of_one_second_differ_and_none_is_zero() {
        let timestamps = Timestamps::default();
        assert_eq!(
            [0, 7, 7, 6, 20].map(|clock| timestamps.next(clock)),
            [1, 7, 8, 9, 20]
        );
    }
}
