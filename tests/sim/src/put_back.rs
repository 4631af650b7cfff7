//! What operators do to the lockspace while its hosts are at work: they put one host id's sector back to what it
//! was, or all of them.
//!
//! The promise (docs/failure-model.md): a host whose sector was put back finds that at its next renewal, and
//! loses all its leases. Until then no other host takes these leases on the word of the older record. A host that
//! acquires refuses a lease of a generation that the owner's sector has not reached. A host that joins under the
//! id is refused the leases of the host that was there: they are a twin's, or of a later generation.
//!
//! Nothing is promised of these leases once the sector shows a later generation, or shows that theirs has ended:
//! hosts have joined often enough under the id, or one has left. Nor is anything promised of what two hosts take,
//! or hold, at the same time while both believe that they are the one host of that id.
//!
//! A claim that was under way when the sector was put back may land later, over a claim that was made and
//! confirmed since. It has a later generation than that one, since its claimant read the sector before. Then the
//! leases of whoever joined since are free: nothing is promised of them either.

use std::rc::Rc;

use disklease::__sim::delta_lease::{DeltaRecord, Membership};

use super::checker::{Checker, Guard, Life};
use super::disk::SimDisk;
use super::io::IoKind;
use super::machine::Field;
use super::rig::host_id;

/// A host that was a member when its sector was put back, or became a member while a claim of before may land.
pub struct Wronged {
    life: Life,
    membership: Rc<Membership<SimDisk>>,
    /// What its sector was put back to.
    put: DeltaRecord,
    /// Its next renewal must find that out.
    must_notice: bool,
    /// The sector has shown a later generation, or the end of this one: its leases are free.
    is_void: bool,
}

/// Puts back the sector of `host`, or all.
pub fn put_back(field: &Field, host: Option<u64>) {
    let (sim, disk) = (&field.sim, field.space.disk.0);
    let copy = field.lockspace_copy.borrow().clone();
    for id in host.map_or(1..=3, |id| id..=id) {
        let offset = field.space.sector_offset(host_id(id));
        let (mut was, mut put) = ([0; 512], [0; 512]);
        copy.read(offset, &mut put);
        {
            let mut core = sim.core.borrow_mut();
            core.disks[disk].read(offset, &mut was);
            core.disks[disk].write(offset, &put);
        }
        if was != put {
            sim.note(None, || {
                format!("operator: the sector of host {id} is put back")
            });
            wrong(field, id, &put);
        }
    }
    field.checker.count(|tally| tally.operator_acts += 1);
}

fn wrong(field: &Field, id: u64, put: &[u8]) {
    let checker = &field.checker;
    let host = host_id(id);
    let Ok(put) = DeltaRecord::decode(put, host, &field.space.name) else {
        return;
    };
    let mut book = checker.book.borrow_mut();
    let is_crossed = {
        let core = field.sim.core.borrow();
        let offset = field.space.sector_offset(host);
        let mut ios = core.ios.values();
        let is_claimed =
            |(life, of): (&Life, &u64)| *of == id && core.hosts[life.0.0].life == life.1;
        book.claiming.iter().any(is_claimed)
            || ios.any(|io| {
                io.kind == IoKind::Write
                    && io.disk == field.space.disk
                    && io.offset == offset
                    && !io.ended
            })
    };
    if is_crossed {
        book.crossed.insert(id, put.clone());
    }
    for wronged in &mut book.wronged {
        if wronged.membership.host_id() == host {
            wronged.put = put.clone();
        }
    }
    let faults = field.scenario.faults;
    let members = book.members.iter();
    let wronged = members
        .filter(|(life, membership)| {
            membership.host_id() == host && checker.is_member(*life, membership)
        })
        .map(|(life, membership)| {
            let core = field.sim.core.borrow();
            // After a failed renewal either of two records is the host's own. A renewal that is under way
            // mends the sector.
            let is_steady = faults.write_error + faults.write_timeout == 0
                && core.hosts[life.0.0].cut_off.is_none();
            let mut ios = core.ios.values();
            let renews = ios
                .any(|io| (io.host, io.life) == *life && io.disk == field.space.disk && !io.ended);
            Wronged {
                life: *life,
                membership: Rc::clone(membership),
                put: put.clone(),
                must_notice: is_steady && !renews,
                is_void: false,
            }
        });
    let wronged: Vec<_> = wronged.collect();
    book.wronged.extend(wronged);
}

impl Checker {
    pub fn joins(&self, life: Life, membership: &Rc<Membership<SimDisk>>) {
        let mut book = self.book.borrow_mut();
        book.members.push((life, Rc::clone(membership)));
        let put = book.crossed.get(&membership.host_id().into()).cloned();
        if let Some(put) = put {
            book.wronged.push(Wronged {
                life,
                membership: Rc::clone(membership),
                put,
                must_notice: false,
                is_void: false,
            });
        }
    }

    pub fn claims(&self, life: Life, id: u64) {
        self.book.borrow_mut().claiming.insert(life, id);
    }

    pub fn has_claimed(&self, life: Life) {
        self.book.borrow_mut().claiming.remove(&life);
    }

    pub fn begins_acquire(&self, lease: usize, life: Life) {
        let now = self.sim.now();
        self.book.borrow_mut().begun.insert((lease, life), now);
    }

    /// After each step.
    pub fn look_at_wronged(&self, disk: SimDisk) {
        let mut unnoticed = None;
        for wronged in &mut self.book.borrow_mut().wronged {
            let membership = &wronged.membership;
            let host = membership.host_id();
            let mut sector = [0; 512];
            let offset = membership.area().sector_offset(host);
            self.sim.core.borrow().disks[disk.0].read(offset, &mut sector);
            let Ok(found) = DeltaRecord::decode(&sector, host, &membership.area().name) else {
                continue;
            };
            let (is, was) = (found.leader.generation(), membership.generation());
            wronged.is_void |= is > was || is == was && found.leader.is_free();
            let goes_on = found.incarnation() == Some(membership.incarnation())
                && found.leader != wronged.put.leader;
            if wronged.must_notice && goes_on && self.is_member(wronged.life, membership) {
                unnoticed = Some(wronged.life.0);
            }
        }
        if let Some(host) = unnoticed {
            self.breach(|| {
                format!("unnoticed: {host} has renewed over its sector that was put back")
            });
        }
    }

    /// Before `life` counts as the holder of `lease`: drops the guards to which nothing is promised.
    pub fn sort_out_unprotected(&self, lease: usize, life: Life, membership: &Membership<SimDisk>) {
        let mut book = self.book.borrow_mut();
        if book.wronged.is_empty() {
            return;
        }
        let guards = std::mem::take(&mut book.guards[lease]);
        let begun = book.begun.get(&(lease, life)).copied();
        // What befell the process last.
        let of = |life: Life| {
            book.wronged
                .iter()
                .rev()
                .find(|wronged| wronged.life == life)
        };
        let is_protected = |other: &Guard| {
            let is_one_host = membership.host_id() == other.membership.host_id();
            match of(other.life) {
                _ if of(life).is_some() && is_one_host => false,
                Some(wronged) if wronged.is_void => false,
                Some(_) if has_later_twin(&book.wronged, &other.membership) => false,
                Some(_) => !is_one_host || begun > Some(other.since),
                None => !has_twin(&book.wronged, &other.membership),
            }
        };
        let (kept, gone): (Vec<_>, Vec<_>) = guards.into_iter().partition(is_protected);
        book.guards[lease] = kept;
        for other in gone {
            self.sim.note(None, || {
                format!("nothing is promised of the lease of {}", other.life.0)
            });
            book.unprotected
                .extend([(lease, other.life), (lease, life)]);
        }
    }

    /// Whether a version may be had twice: by two hosts that both believe that they are the one host of an id.
    pub fn is_or_has_twin(&self, life: Life, membership: &Membership<SimDisk>) -> bool {
        let wronged = &self.book.borrow().wronged;
        wronged.iter().any(|wronged| wronged.life == life) || has_twin(wronged, membership)
    }
}

/// Whether the sector of a host with this id was put back, in whatever generation of that host.
fn has_twin(wronged: &[Wronged], membership: &Membership<SimDisk>) -> bool {
    let mut others = wronged.iter();
    others.any(|wronged| wronged.membership.host_id() == membership.host_id())
}

/// Whether a host of a later generation had this id when its sector was put back: to that one, the leases of
/// this host are of an earlier generation of its own.
fn has_later_twin(wronged: &[Wronged], membership: &Membership<SimDisk>) -> bool {
    wronged.iter().any(|wronged| {
        let other = &wronged.membership;
        other.host_id() == membership.host_id() && other.generation() > membership.generation()
    })
}
