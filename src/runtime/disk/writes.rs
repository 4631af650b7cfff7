//! One write at a time for each sector: who may write where, over all opens of a disk in this
//! process.
//!
//! Each write claims its bytes when it is asked for. It goes to the workers once no older claim
//! overlaps it, and the claim ends with the write itself, not with the patience of its caller. So a
//! write that hangs keeps every later write of the same bytes from being started, and can never land over
//! that one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::identity::Identity;
use super::pool::{Job, Shared};
use crate::runtime::rules;

/// The table of each disk that is in use. An entry goes with the last user of its table.
static TABLES: Mutex<BTreeMap<Identity, Weak<WriteTable>>> = Mutex::new(BTreeMap::new());

/// The writes of one disk that were asked for and have not completed.
pub(super) struct WriteTable {
    identity: Identity,
    claims: Mutex<Claims>,
}

#[derive(Default)]
struct Claims {
    /// By age, the oldest first.
    entries: BTreeMap<u64, Entry>,
    next: u64,
}

struct Entry {
    range: Range<u64>,
    /// A write whose turn has not come, and whose workers do it then.
    waiting: Option<(Arc<Shared>, Arc<dyn Job>)>,
    started: bool,
}

impl Claims {
    fn is_first(&self, id: u64, range: &Range<u64>) -> bool {
        let mut older = self.entries.range(..id);
        rules::may_start(older.any(|(_, older)| overlap(&older.range, range)))
    }
}

const fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

impl WriteTable {
    /// The table that all opens of this disk share.
    pub(super) fn of(identity: Identity) -> Arc<Self> {
        let mut tables = TABLES.lock();
        if let Some(table) = tables.get(&identity).and_then(Weak::upgrade) {
            return table;
        }
        let table = Arc::new(Self {
            identity,
            claims: Mutex::default(),
        });
        tables.insert(identity, Arc::downgrade(&table));
        table
    }

    /// Claims `range` after all that have claimed some of it before.
    pub(super) fn claim(self: &Arc<Self>, range: Range<u64>) -> Claim {
        let mut claims = self.claims.lock();
        let id = claims.next;
        claims.next = id.wrapping_add(1);
        claims.entries.insert(
            id,
            Entry {
                range,
                waiting: None,
                started: false,
            },
        );
        Claim {
            table: Arc::clone(self),
            id,
        }
    }

    /// Gives `job`, whose claim is `id`, to the workers of `pool` when its turn has come.
    pub(super) fn line_up(&self, id: u64, pool: &Arc<Shared>, job: Arc<dyn Job>) {
        let mut claims = self.claims.lock();
        let range = claims.entries.get(&id).map(|entry| entry.range.clone());
        if range.is_some_and(|range| claims.is_first(id, &range)) {
            drop(claims);
            pool.enqueue(job);
        } else if let Some(entry) = claims.entries.get_mut(&id) {
            entry.waiting = Some((Arc::clone(pool), job));
        }
    }

    /// How many writes were started and have not completed.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.claims
            .lock()
            .entries
            .values()
            .filter(|entry| entry.started)
            .count()
    }

    /// Whether a write to some of `range` was started and has not completed.
    pub(super) fn is_in_flight(&self, range: &Range<u64>) -> bool {
        let claims = self.claims.lock();
        (claims.entries.values()).any(|entry| entry.started && overlap(&entry.range, range))
    }

    fn end(&self, id: u64) {
        let mut claims = self.claims.lock();
        let ended = claims.entries.remove(&id);
        let turns: Vec<u64> = (claims.entries.range(id..))
            .filter(|(id, entry)| entry.waiting.is_some() && claims.is_first(**id, &entry.range))
            .map(|(&id, _)| id)
            .collect();
        let mut take = |id| claims.entries.get_mut(id)?.waiting.take();
        let ready: Vec<_> = turns.iter().filter_map(&mut take).collect();
        drop(claims);
        // Out of the lock: the last reference to a request drops its claim, which comes back here.
        drop(ended);
        for (pool, job) in ready {
            pool.enqueue(job);
        }
    }
}

impl Drop for WriteTable {
    fn drop(&mut self) {
        let mut tables = TABLES.lock();
        // Another open may have put a new table there since the last user of this one went.
        if tables
            .get(&self.identity)
            .is_some_and(|table| table.strong_count() == 0)
        {
            tables.remove(&self.identity);
        }
    }
}

/// The right, sooner or later, to write some bytes. Given back when dropped.
pub(super) struct Claim {
    table: Arc<WriteTable>,
    id: u64,
}

impl Claim {
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Counts the write as in flight from now on.
    pub(super) fn start(&self) {
        if let Some(entry) = self.table.claims.lock().entries.get_mut(&self.id) {
            entry.started = true;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.table.end(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_listed(identity: Identity) -> bool {
        TABLES.lock().contains_key(&identity)
    }

    #[test]
    fn all_users_of_a_disk_share_a_table_and_the_last_one_takes_it_away() {
        let (one, other) = (Identity::unique(), Identity::unique());
        let first = WriteTable::of(one);
        let second = WriteTable::of(one);
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &WriteTable::of(other)));
        assert!(!is_listed(other));
        let claim = first.claim(0..512);
        drop((first, second));
        assert!(is_listed(one));
        assert!(Arc::ptr_eq(&claim.table, &WriteTable::of(one)));
        drop(claim);
        assert!(!is_listed(one));
    }

    #[test]
    fn only_an_older_claim_of_the_same_bytes_is_in_the_way() {
        let table = WriteTable::of(Identity::unique());
        let first =
            |claim: &Claim, range: Range<u64>| table.claims.lock().is_first(claim.id, &range);
        let area = table.claim(1024..4096);
        assert!(first(&area, 1024..4096));
        for (range, free) in [
            (0..1024, true),
            (0..1025, false),
            (512..8192, false),
            (2048..2560, false),
            (4095..4096, false),
            (4096..4608, true),
        ] {
            let claim = table.claim(range.clone());
            assert_eq!(first(&claim, range.clone()), free, "{range:?}");
        }
        let late = table.claim(1024..1536);
        drop(area);
        assert!(first(&late, 1024..1536));
        assert_eq!(table.in_flight(), 0);
        late.start();
        assert_eq!(table.in_flight(), 1);
        drop(late);
        assert_eq!(table.in_flight(), 0);
    }
}
