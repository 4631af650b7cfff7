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
//! | stuck | after the blows are over somebody never gets the lease |

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use disklease::__sim::delta_lease::Membership;
use disklease::__sim::world::Timestamp;

use super::disk::SimDisk;
use super::io::IoKind;
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
    pub debts: u64,
    pub flips: u64,
    pub late_writes: u64,
    pub resumed: u64,
    pub handed_over: u64,
    pub moved: u64,
    pub declined: u64,
    pub refused_moves: u64,
    pub fenced: u64,
}

impl Tally {
    /// Each count by its name.
    pub fn fields(&self) -> [(&'static str, u64); 20] {
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
            ("debts", self.debts),
            ("flips", self.flips),
            ("late writes", self.late_writes),
            ("resumed", self.resumed),
            ("handed over", self.handed_over),
            ("moved", self.moved),
            ("declined", self.declined),
            ("refused moves", self.refused_moves),
            ("fenced", self.fenced),
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
        self.debts += other.debts;
        self.flips += other.flips;
        self.late_writes += other.late_writes;
        self.resumed += other.resumed;
        self.handed_over += other.handed_over;
        self.moved += other.moved;
        self.declined += other.declined;
        self.refused_moves += other.refused_moves;
        self.fenced += other.fenced;
    }
}

/// One life of one host.
pub type Life = (HostIx, u64);

struct Guard {
    life: Life,
    version: u64,
    membership: Rc<Membership<SimDisk>>,
}

#[derive(Default)]
struct Book {
    /// The guards of each lease that were not given back, those of the dead among them.
    guards: Vec<Vec<Guard>>,
    newest: Vec<u64>,
    /// How often the disk of each lease was written.
    writes: Vec<u64>,
    broken: Option<String>,
}

/// Keeps the book of one run. All clones keep the same.
#[derive(Clone)]
pub struct Referee {
    sim: Sim,
    guests: SimDisk,
    book: Rc<RefCell<Book>>,
    pub tally: Rc<Cell<Tally>>,
}

impl Referee {
    pub fn new(sim: &Sim, leases: usize, guests: SimDisk) -> Self {
        let book = Book {
            guards: (0..leases).map(|_| Vec::new()).collect(),
            newest: vec![0; leases],
            writes: vec![0; leases],
            broken: None,
        };
        Self {
            sim: sim.clone(),
            guests,
            book: Rc::new(RefCell::new(book)),
            tally: Rc::default(),
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

    fn says_held(&self, guard: &Guard) -> bool {
        let core = self.sim.core.borrow();
        let host = &core.hosts[guard.life.0.0];
        let now = Timestamp::from_nanos(host.clock.shows(core.now));
        host.life == guard.life.1
            && guard
                .membership
                .expiry()
                .deadline()
                .is_some_and(|deadline| now < deadline)
    }

    /// A guest write to the disk of `lease`, by anybody else than `life`, that is under way.
    fn write_in_flight(&self, lease: usize, life: Life) -> Option<HostIx> {
        let core = self.sim.core.borrow();
        core.ios
            .values()
            .find(|io| {
                io.kind == IoKind::Write
                    && io.disk == self.guests
                    && io.offset == offset_of(lease)
                    && !io.ended
                    && (io.host, io.life) != life
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
    ) {
        let other = self.book.borrow().guards[lease]
            .iter()
            .find(|guard| guard.life != life && self.says_held(guard))
            .map(|guard| (guard.life, guard.version));
        if let Some(((host, _), theirs)) = other {
            self.breach(|| {
                format!(
                    "two holders: {} has version {version}, {} says it holds version {theirs}",
                    life.0, host
                )
            });
        }
        if let Some(host) = self.write_in_flight(lease, life) {
            self.breach(|| {
                format!(
                    "write in flight: {} has version {version}, a write of the guest of {} is under way",
                    life.0, host
                )
            });
        }
        let newest = self.book.borrow().newest[lease];
        if version <= newest {
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
        book.guards[lease].clear();
        book.guards[lease].push(Guard {
            life,
            version,
            membership: Rc::clone(membership),
        });
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
        let newest = self.book.borrow().newest[lease];
        if version < newest {
            self.breach(|| {
                format!(
                    "stale write: the guest of {} writes with version {version}, {newest} was had since",
                    life.0
                )
            });
        }
        if let Some(host) = self.write_in_flight(lease, life) {
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

    /// How many guards this life of a host has.
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
