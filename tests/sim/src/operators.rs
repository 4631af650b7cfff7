//! What operators do to leases, also to held ones, and what it excuses.
//!
//! The promise (docs/failure-model.md): a holder whose lease is not on its disk any more loses its lock within
//! 2N, and has its grace then; until that nothing is promised of this lease, and everything of all others.
//! Whatever hosts had started before the act may still land on the lease, so the 2N count from when that has
//! ended: the first instant at which nothing of before is under way, and nothing of what was started beside that.
//! Whoever begins to acquire then is safe from all others who do so, and their versions rise. When the 2N have ended
//! one guard says held at most, and from then on all is as ever: nobody who holds is notified of a loss, everybody
//! gets the lease.
//!
//! Where something else was written in place of a lease, nobody holds it after 2N, and nothing may be written once
//! what was started before has ended.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use disklease::__sim::world::World;

use super::checker::{Checker, Life};
use super::clock::TrueTime;
use super::disk::{Sectors, SimDisk};
use super::machine::Field;
use super::trial::lease_disk;

/// What stands where an operator has written something else.
const FOREIGN: u8 = 0xab;

/// What an operator does to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Initialise,
    /// Takes a copy, to be put back later.
    Copy,
    /// Writes the last copy back, or what was there at first: all of it, or this sector.
    PutBack {
        sector: Option<u64>,
    },
    /// Writes something else in its place, and initialises the lease there after a while.
    Overwrite {
        lasts: Duration,
    },
}

/// What an act excuses.
pub struct Disturbance {
    disk: SimDisk,
    /// What is to be waited for: lives that have I/O under way, and works by their numbers.
    lives: Vec<Life>,
    works: Vec<u64>,
    stage: Stage,
    /// Nothing of this lease is on the disk: what it holds may not be changed once all of before has ended.
    is_foreign: bool,
    settled: Option<Sectors>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Something of before the act is under way.
    Before,
    /// Something is that was started while that was.
    Beside,
    /// Nothing is. Until then the holders may take to find out.
    FindOut(TrueTime),
    /// One says held at most. Until then the others may take to stop.
    Stop(TrueTime),
}

/// An acquire, a release, or another change of a lease that is under way; until this is dropped.
pub struct Work {
    checker: Checker,
    number: u64,
}

impl Drop for Work {
    fn drop(&mut self) {
        let number = self.number;
        let mut book = self.checker.book.borrow_mut();
        book.works.retain(|&(work, _, _)| work != number);
    }
}

impl Work {
    /// Nothing of before the last operator's act was under way when it began.
    pub fn is_fresh(&self) -> bool {
        let book = self.checker.book.borrow();
        let found = book.works.iter().find(|(work, _, _)| *work == self.number);
        found.is_none_or(|&(_, _, is_fresh)| is_fresh)
    }
}

impl Checker {
    pub fn begins(&self, lease: usize) -> Work {
        let mut book = self.book.borrow_mut();
        book.next_work += 1;
        let number = book.next_work;
        let is_fresh = book.disturbed[lease]
            .as_ref()
            .is_none_or(|disturbance| !matches!(disturbance.stage, Stage::Before | Stage::Beside));
        book.works.push((number, lease, is_fresh));
        Work {
            checker: self.clone(),
            number,
        }
    }

    pub fn is_disturbed(&self, lease: usize) -> bool {
        self.book.borrow().disturbed[lease].is_some()
    }

    /// An operator has changed what is on the disk of `lease`.
    fn disturb(&self, lease: usize, disk: SimDisk, is_foreign: bool) {
        let (lives, works) = self.under_way(lease, disk);
        let disturbance = Disturbance {
            disk,
            lives,
            works,
            stage: Stage::Before,
            is_foreign,
            settled: None,
        };
        let mut book = self.book.borrow_mut();
        book.disturbed[lease] = Some(disturbance);
        for (_, of, is_fresh) in &mut book.works {
            *is_fresh &= *of != lease;
        }
        for guard in &mut book.guards[lease] {
            guard.is_fresh = false;
        }
        // Of what was before nothing counts.
        book.newest[lease] = 0;
        drop(book);
        self.count(|tally| tally.operator_acts += 1);
    }

    fn under_way(&self, lease: usize, disk: SimDisk) -> (Vec<Life>, Vec<u64>) {
        let works = self.book.borrow().works.clone();
        let works = works.into_iter().filter(|&(_, of, _)| of == lease);
        (
            self.with_io(disk),
            works.map(|(number, _, _)| number).collect(),
        )
    }

    fn with_io(&self, disk: SimDisk) -> Vec<Life> {
        let core = self.sim.core.borrow();
        let ios = core.ios.values().filter(|io| io.disk == disk && !io.ended);
        ios.map(|io| (io.host, io.life)).collect()
    }

    /// After each step: who was notified that its lease is gone, and how far an excuse goes. `is_strict`: nobody may
    /// be notified so without an operator's doing.
    pub fn look(&self, is_strict: bool) {
        let leases = self.book.borrow().guards.len();
        for lease in 0..leases {
            self.look_at_told(lease, is_strict);
            // What has just been answered of its I/O may begin the next at this very instant.
            if self.is_disturbed(lease) && !self.sim.any_ready.load(Ordering::Relaxed) {
                self.look_at_disturbed(lease);
            }
        }
    }

    fn look_at_told(&self, lease: usize, is_strict: bool) {
        let is_disturbed = self.is_disturbed(lease);
        let mut told = Vec::new();
        for guard in &mut self.book.borrow_mut().guards[lease] {
            if guard.lost.load(Ordering::Relaxed) && !guard.is_counted {
                guard.is_counted = true;
                told.push((guard.life, guard.version, Rc::clone(&guard.membership)));
            }
        }
        for (life, version, membership) in told {
            self.count(|tally| tally.found_gone += 1);
            if is_strict && !is_disturbed && self.is_member(life, &membership) {
                self.breach(|| {
                    format!("healthy holder notified: {} is notified that its lease, version {version}, is gone", life.0)
                });
            }
        }
    }

    fn look_at_disturbed(&self, lease: usize) {
        let now = self.sim.now();
        let Some(mut disturbance) = self.book.borrow_mut().disturbed[lease].take() else {
            return;
        };
        if disturbance.is_over(self) {
            match disturbance.stage {
                Stage::Before => {
                    let (lives, works) = self.under_way(lease, disturbance.disk);
                    disturbance.lives = lives;
                    disturbance.works = works;
                    disturbance.stage = Stage::Beside;
                    if disturbance.is_foreign {
                        let core = self.sim.core.borrow();
                        disturbance.settled = Some(core.disks[disturbance.disk.0].clone());
                    }
                }
                Stage::Beside => {
                    let until = now.after(self.timing.renewal_interval());
                    disturbance.stage = Stage::FindOut(until);
                    self.sim.note(None, || {
                        format!(
                            "nothing of before the operator's act on lease {lease} is under way"
                        )
                    });
                }
                Stage::FindOut(until) if now > until => {
                    self.one_holds(lease, disturbance.is_gone());
                    disturbance.stage = Stage::Stop(until.after(self.timing.grace()));
                }
                Stage::Stop(until) if now > until => {
                    self.one_holds(lease, disturbance.is_gone());
                    let mut book = self.book.borrow_mut();
                    let guards = std::mem::take(&mut book.guards[lease]);
                    let held = guards.into_iter().filter(|guard| self.says_held(guard));
                    book.guards[lease] = held.collect();
                    let versions = book.guards[lease].iter().map(|guard| guard.version);
                    book.newest[lease] = versions.fold(book.newest[lease], u64::max);
                    return;
                }
                Stage::FindOut(_) | Stage::Stop(_) => {}
            }
        }
        self.book.borrow_mut().disturbed[lease] = Some(disturbance);
    }

    fn one_holds(&self, lease: usize, is_gone: bool) {
        let holders: Vec<_> = {
            let book = self.book.borrow();
            let held = book.guards[lease]
                .iter()
                .filter(|guard| self.says_held(guard));
            held.map(|guard| (guard.life.0.to_string(), guard.version))
                .collect()
        };
        if holders.len() > usize::from(!is_gone) {
            self.breach(|| {
                format!("holders long after an operator's act on lease {lease}: {holders:?} (host, version)")
            });
        }
    }

    /// What an operator had written in place of the lease is as it was, but for what a late write had spoilt.
    fn foreign_is_untouched(&self, lease: usize, disk: SimDisk) {
        let settled = match &self.book.borrow().disturbed[lease] {
            Some(disturbance) if disturbance.is_foreign => disturbance.settled.clone(),
            _ => None,
        };
        let Some(settled) = settled else { return };
        let mut was = [0; 512 * SECTORS];
        let mut is = was;
        settled.read(0, &mut was);
        self.sim.core.borrow().disks[disk.0].read(0, &mut is);
        let mut sectors = was.chunks(512).zip(is.chunks(512));
        if sectors.any(|(was, is)| was == [FOREIGN; 512] && was != is) {
            self.breach(|| {
                format!("user data: what was written in place of lease {lease} was overwritten")
            });
        }
    }
}

impl Disturbance {
    /// Nothing of the lease is left, nor has a late write brought its leader back.
    fn is_gone(&self) -> bool {
        let mut leader = [0; 512];
        let settled = self.settled.as_ref();
        settled.is_some_and(|settled| {
            settled.read(0, &mut leader);
            leader == [FOREIGN; 512]
        })
    }

    /// Whether what is waited for has come to its end, each for a moment.
    fn is_over(&mut self, checker: &Checker) -> bool {
        if !self.lives.is_empty() {
            let now = checker.with_io(self.disk);
            self.lives.retain(|life| now.contains(life));
        }
        if !self.works.is_empty() {
            let book = checker.book.borrow();
            let is_on = |work: &u64| book.works.iter().any(|(number, _, _)| number == work);
            self.works.retain(is_on);
        }
        self.lives.is_empty() && self.works.is_empty()
    }
}

/// Does `act` to `lease`.
pub fn operate(field: &Rc<Field>, lease: usize, act: Act) {
    let disk = field.leases[lease].disk;
    let sim = &field.sim;
    // What is there is no lease, and not for the operator of leases.
    if field.is_foreign.borrow()[lease] {
        return;
    }
    sim.note(None, || format!("operator, lease {lease}: {act:?}"));
    match act {
        Act::Copy => {
            let copy = sim.core.borrow().disks[disk.0].clone();
            field.copies.borrow_mut()[lease] = copy;
        }
        Act::Initialise => write(field, lease, &lease_disk(), None, false),
        Act::PutBack { sector } => {
            let copy = field.copies.borrow()[lease].clone();
            write(field, lease, &copy, sector, false);
        }
        Act::Overwrite { lasts } => {
            let len = sim.core.borrow().disks[disk.0].len;
            write(field, lease, &foreign(len), None, true);
            let (field, world) = (Rc::clone(field), field.hardware.clone());
            field.sim.clone().spawn(world.host, async move {
                world.sleep(lasts).await;
                field.sim.note(None, || {
                    format!("operator, lease {lease}: initialised again")
                });
                write(&field, lease, &lease_disk(), None, false);
            });
        }
    }
}

fn foreign(len: u64) -> Sectors {
    let mut foreign = Sectors::new(len);
    foreign.write(0, &[FOREIGN; 512 * SECTORS]);
    foreign
}

/// The leader, the request, and the blocks of three hosts.
pub const SECTORS: usize = 5;

fn write(field: &Rc<Field>, lease: usize, from: &Sectors, sector: Option<u64>, is_foreign: bool) {
    let disk = field.leases[lease].disk;
    field.checker.foreign_is_untouched(lease, disk);
    let mut bytes = [0; 512 * SECTORS];
    from.read(0, &mut bytes);
    {
        let mut core = field.sim.core.borrow_mut();
        match sector {
            None => core.disks[disk.0].write(0, &bytes),
            Some(n) => {
                let at = n as usize * 512;
                core.disks[disk.0].write(at as u64, &bytes[at..at + 512]);
            }
        }
    }
    field.is_foreign.borrow_mut()[lease] = is_foreign;
    field.checker.disturb(lease, disk, is_foreign);
}
