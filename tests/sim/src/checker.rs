//! Sees the true times of everything, tells nobody, and says what was broken.
//!
//! | broken | when |
//! | --- | --- |
//! | two holders | a lease is acquired while another host's guard still says held, by that host's own clock |
//! | write in flight | a lease is acquired while a write of the one who had it before is under way |
//! | stale write | a guest writes though a later owner has had the disk |
//! | version | an acquire gets a version that is not newer than all before |
//! | stale guest | a guest goes on from where it was suspended, or moves, though its disk was written since |
//! | loss taken back | a guard that said lost says held |
//! | healthy holder notified | a holder is notified that its lease is gone, which nobody has touched |
//! | stuck | after the host faults have ended somebody never gets the lease |
//! | unnoticed | a host renews over its sector that an operator has put back |
//!
//! What an operator does to a lease excuses all of this for that lease and for a while: see `operators.rs`. What
//! is done to the lockspace excuses less: see `put_back.rs`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use disklease::__sim::delta_lease::{DeltaRecord, Membership};
use disklease::__sim::world::Timestamp;
use disklease::timing::Timing;

use super::clock::TrueTime;
use super::disk::SimDisk;
use super::io::IoKind;
use super::operators::Disturbance;
use super::put_back::Wronged;
use super::sched::{HostIx, Sim};

/// What came to pass in a run, or in many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub acquires: u64,
    pub refusals: u64,
    pub guest_writes: u64,
    pub takeovers: u64,
    pub losses: u64,
    pub kills: u64,
    pub resets: u64,
    pub stops: u64,
    pub joins: u64,
    pub failed_joins: u64,
    pub leaves: u64,
    pub cleanups: u64,
    pub flips: u64,
    pub late_writes: u64,
    pub resumed: u64,
    pub handed_over: u64,
    pub moved: u64,
    pub declined: u64,
    pub refused_moves: u64,
    pub fenced: u64,
    pub operator_acts: u64,
    pub found_gone: u64,
}

impl Tally {
    /// Each count by its name.
    pub fn fields(&self) -> [(&'static str, u64); 22] {
        [
            ("acquires", self.acquires),
            ("refusals", self.refusals),
            ("guest writes", self.guest_writes),
            ("takeovers", self.takeovers),
            ("losses", self.losses),
            ("kills", self.kills),
            ("resets", self.resets),
            ("stops", self.stops),
            ("joins", self.joins),
            ("failed joins", self.failed_joins),
            ("leaves", self.leaves),
            ("cleanups", self.cleanups),
            ("flips", self.flips),
            ("late writes", self.late_writes),
            ("resumed", self.resumed),
            ("handed over", self.handed_over),
            ("moved", self.moved),
            ("declined", self.declined),
            ("refused moves", self.refused_moves),
            ("fenced", self.fenced),
            ("acts of operators", self.operator_acts),
            ("leases found gone", self.found_gone),
        ]
    }

    pub fn add(&mut self, other: &Self) {
        self.acquires += other.acquires;
        self.refusals += other.refusals;
        self.guest_writes += other.guest_writes;
        self.takeovers += other.takeovers;
        self.losses += other.losses;
        self.kills += other.kills;
        self.resets += other.resets;
        self.stops += other.stops;
        self.joins += other.joins;
        self.failed_joins += other.failed_joins;
        self.leaves += other.leaves;
        self.cleanups += other.cleanups;
        self.flips += other.flips;
        self.late_writes += other.late_writes;
        self.resumed += other.resumed;
        self.handed_over += other.handed_over;
        self.moved += other.moved;
        self.declined += other.declined;
        self.refused_moves += other.refused_moves;
        self.fenced += other.fenced;
        self.operator_acts += other.operator_acts;
        self.found_gone += other.found_gone;
    }
}

/// One incarnation of one host.
pub type Life = (HostIx, u64);

/// A guard, and whether it was notified that its lease is gone.
pub struct Guard {
    pub life: Life,
    pub version: u64,
    pub membership: Rc<Membership<SimDisk>>,
    pub lost: Arc<AtomicBool>,
    pub since: TrueTime,
    /// Whether nothing of before an operator's act was under way when its acquire began.
    pub is_fresh: bool,
    /// That it was notified has been noticed.
    pub is_counted: bool,
}

#[derive(Default)]
pub struct Book {
    /// The guards of each lease that were not given back, those of the dead among them.
    pub guards: Vec<Vec<Guard>>,
    pub newest: Vec<u64>,
    /// How often the disk of each lease was written.
    writes: Vec<u64>,
    /// What an operator's act still excuses, for each lease.
    pub disturbed: Vec<Option<Disturbance>>,
    /// What is under way on the leases: number, which, and whether it is fresh (see `operators.rs`).
    pub works: Vec<(u64, usize, bool)>,
    pub next_work: u64,
    /// All who were members, and what operators have done to some of them (see `put_back.rs`).
    pub members: Vec<(Life, Rc<Membership<SimDisk>>)>,
    pub wronged: Vec<Wronged>,
    /// Who claims which host id.
    pub claiming: BTreeMap<Life, u64>,
    /// Host ids whose sector was put back while a claim, or a write, of it was under way; and to what.
    pub crossed: BTreeMap<u64, DeltaRecord>,
    /// When each incarnation began to acquire each lease last.
    pub begun: BTreeMap<(usize, Life), TrueTime>,
    /// Two lives that may use a lease at the same time, for what an operator has done.
    pub unprotected: BTreeSet<(usize, Life)>,
    broken: Option<String>,
}

/// Keeps the book of one run. All clones keep the same.
#[derive(Clone)]
pub struct Checker {
    pub sim: Sim,
    guests: SimDisk,
    pub book: Rc<RefCell<Book>>,
    pub tally: Rc<Cell<Tally>>,
    /// Of the slowest host.
    pub timing: Timing,
}

impl Checker {
    pub fn new(sim: &Sim, leases: usize, guests: SimDisk, timing: Timing) -> Self {
        let book = Book {
            guards: (0..leases).map(|_| Vec::new()).collect(),
            newest: vec![0; leases],
            writes: vec![0; leases],
            disturbed: (0..leases).map(|_| None).collect(),
            ..Book::default()
        };
        Self {
            sim: sim.clone(),
            guests,
            book: Rc::new(RefCell::new(book)),
            tally: Rc::default(),
            timing,
        }
    }

    pub fn count(&self, one: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        one(&mut tally);
        self.tally.set(tally);
    }

    pub fn is_broken(&self) -> bool {
        self.book.borrow().broken.is_some()
    }

    pub fn broken(&self) -> Option<String> {
        self.book.borrow().broken.clone()
    }

    /// The first breach counts.
    pub fn breach(&self, what: impl FnOnce() -> String) {
        let mut book = self.book.borrow_mut();
        if book.broken.is_none() {
            book.broken = Some(what());
            drop(book);
            self.sim.note(None, || "here it breaks".to_owned());
        }
    }

    pub fn says_held(&self, guard: &Guard) -> bool {
        !guard.lost.load(Ordering::Relaxed) && self.is_member(guard.life, &guard.membership)
    }

    pub fn is_member(&self, life: Life, membership: &Membership<SimDisk>) -> bool {
        let core = self.sim.core.borrow();
        let host = &core.hosts[life.0.0];
        let now = Timestamp::from_nanos(host.clock.shows(core.now));
        let deadline = membership.expiry().deadline();
        host.life == life.1 && deadline.is_some_and(|deadline| now < deadline)
    }

    /// A guest write to the disk of `lease`, by anybody else than `life`, that is under way.
    fn write_in_flight(&self, lease: usize, life: Life) -> Option<HostIx> {
        let core = self.sim.core.borrow();
        let unprotected = &self.book.borrow().unprotected;
        core.ios
            .values()
            .find(|io| {
                io.kind == IoKind::Write
                    && io.disk == self.guests
                    && io.offset == offset_of(lease)
                    && !io.ended
                    && (io.host, io.life) != life
                    && !unprotected.contains(&(lease, (io.host, io.life)))
            })
            .map(|io| io.host)
    }

    /// An acquire came back with success, and the host is a member still: from now on its guest may
    /// write.
    pub fn acquired(
        &self,
        lease: usize,
        life: Life,
        version: u64,
        membership: &Rc<Membership<SimDisk>>,
        lost: &Arc<AtomicBool>,
        is_fresh: bool,
    ) {
        let guard = Guard {
            life,
            version,
            membership: Rc::clone(membership),
            lost: Arc::clone(lost),
            since: self.sim.now(),
            is_fresh,
            is_counted: false,
        };
        self.sort_out_unprotected(lease, life, membership);
        let is_disturbed = self.is_disturbed(lease);
        if is_disturbed && !is_fresh {
            self.book.borrow_mut().guards[lease].push(guard);
            self.count(|tally| tally.acquires += 1);
            return;
        }
        let other = self.book.borrow().guards[lease]
            .iter()
            .find(|guard| {
                (guard.is_fresh || !is_disturbed) && guard.life != life && self.says_held(guard)
            })
            .map(|guard| (guard.life, guard.version));
        if let Some(((host, _), theirs)) = other {
            self.breach(|| {
                format!(
                    "two holders: {} has version {version}, {} says it holds version {theirs}",
                    life.0, host
                )
            });
        }
        if let Some(host) = self.write_in_flight(lease, life)
            && !is_disturbed
        {
            self.breach(|| {
                format!(
                    "write in flight: {} has version {version}, a write of the guest of {} is under way",
                    life.0, host
                )
            });
        }
        let newest = self.book.borrow().newest[lease];
        let is_given_twice = version == newest && self.is_or_has_twin(life, membership);
        if version <= newest && !is_given_twice {
            self.breach(|| {
                format!(
                    "version: {} has version {version}, but {newest} was had before",
                    life.0
                )
            });
        }
        let mut book = self.book.borrow_mut();
        book.newest[lease] = version.max(newest);
        let taken_over = !book.guards[lease].is_empty();
        if !is_disturbed {
            book.guards[lease].clear();
        }
        book.guards[lease].push(guard);
        drop(book);
        self.count(|tally| {
            tally.acquires += 1;
            tally.takeovers += u64::from(taken_over);
        });
    }

    /// A guest begins a write, because its guard says held.
    pub fn writes(&self, lease: usize, life: Life, version: u64) {
        self.count(|tally| tally.guest_writes += 1);
        self.book.borrow_mut().writes[lease] += 1;
        if self.book.borrow().unprotected.contains(&(lease, life)) {
            return;
        }
        let is_disturbed = self.is_disturbed(lease);
        let is_his = |guard: &Guard| (guard.life, guard.version) == (life, version);
        let is_fresh = |guard: &Guard| is_his(guard) && guard.is_fresh;
        if is_disturbed && !self.book.borrow().guards[lease].iter().any(is_fresh) {
            return;
        }
        let newest = self.book.borrow().newest[lease];
        if version < newest {
            self.breach(|| {
                format!(
                    "stale write: the guest of {} writes with version {version}, {newest} was had since",
                    life.0
                )
            });
        }
        if let Some(host) = self.write_in_flight(lease, life)
            && !is_disturbed
        {
            self.breach(|| {
                format!(
                    "write in flight: the guests of {} and {} write at once",
                    life.0, host
                )
            });
        }
    }

    /// How often the disk of a lease was written by now, by whomever.
    pub fn writes_so_far(&self, lease: usize) -> u64 {
        self.book.borrow().writes[lease]
    }

    /// A guest goes on that was paused when its disk had been written so often.
    pub fn goes_on(&self, lease: usize, life: Life, writes: u64) {
        let now = self.writes_so_far(lease);
        if now != writes {
            self.breach(|| {
                format!(
                    "stale guest: that of host {} goes on as of {writes} writes to its disk, which has had {now}",
                    life.0.0
                )
            });
        }
    }

    /// The guest has stopped; its guard is about to be given back or dropped.
    pub fn gives_up(&self, lease: usize, life: Life) {
        self.book.borrow_mut().guards[lease].retain(|guard| guard.life != life);
    }

    /// How many guards this incarnation of a host has.
    pub fn guards_of(&self, life: Life) -> usize {
        let book = self.book.borrow();
        let guards = book.guards.iter().flatten();
        guards.filter(|guard| guard.life == life).count()
    }
}

/// Where the guests' disk of a lease is written.
pub fn offset_of(lease: usize) -> u64 {
    lease as u64 * 512
}
