//! Incarnations of hosts in the lockspace: joining, renewing while another host is dead, joining again.
//!
//! All by the library's code, but each as one step: what a host does in the lockspace meets nobody
//! else's writes, and the others see of it only that its sector has changed.

use std::collections::HashMap;
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use disklease::__sim::delta_lease::{self, DeltaLease, HostTable, Membership, ReadSpan};
use disklease::__sim::world::{Timestamp, World};

use super::contents::{ContentId, Contents};
use super::layout::{GEOMETRY, Layout, SECTOR, claimant, host_id, timing};
use super::port::{Answer, Asked, Port};

pub type MemberId = u32;

/// What a host knows of itself and of the others, between two scans of the lockspace.
#[derive(Clone)]
pub struct Member {
    pub host: usize,
    pub generation: u64,
    pub lease: DeltaLease,
    pub table: HostTable,
    /// Nanoseconds of the host's clock right after the last scan.
    pub now: u64,
}

impl Member {
    pub fn membership(&self, layout: Layout) -> Membership<super::layout::StepDisk> {
        Membership::new(layout.lockspace_area(), &self.lease, self.table.clone())
    }
}

/// What becomes of the members and of the delta sectors when some time has passed.
#[derive(Clone)]
pub struct Epoch {
    /// By host; those of the dead are what they were.
    pub members: Vec<MemberId>,
    pub deltas: Vec<ContentId>,
}

pub struct Members {
    layout: Layout,
    list: Vec<Member>,
    epochs: HashMap<(u32, Vec<MemberId>, Vec<ContentId>), Epoch>,
    rejoins: HashMap<(MemberId, bool, Vec<ContentId>), (MemberId, ContentId)>,
}

/// Where a host's clock begins: hosts are told apart by the timestamps that they give.
fn clock_start(host: usize) -> u64 {
    (host as u64 + 1) * 1_000_000_000_000
}

/// How long hosts that do not renew are silent when they are seen to be dead: so many renewals of the
/// others.
fn renewals_of_epoch() -> u32 {
    let secs = |time: Duration| u32::try_from(time.as_secs()).unwrap();
    secs(timing().dead_after()).div_ceil(secs(timing().renewal_interval())) + 1
}

pub fn time_of_epoch() -> Duration {
    timing().renewal_interval() * renewals_of_epoch()
}

impl Members {
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            list: Vec::new(),
            epochs: HashMap::new(),
            rejoins: HashMap::new(),
        }
    }

    pub fn get(&self, id: MemberId) -> &Member {
        &self.list[id as usize]
    }

    fn add(&mut self, member: Member) -> MemberId {
        self.list.push(member);
        u32::try_from(self.list.len() - 1).unwrap()
    }

    /// All hosts join, and see each other renew or not.
    pub fn join_all(
        &mut self,
        contents: &mut Contents,
        deltas: &mut [ContentId],
        see_renewals: bool,
    ) -> Vec<MemberId> {
        let free = deltas.to_vec();
        let mut members: Vec<_> = (0..self.layout.ids())
            .map(|host| self.join(contents, host, clock_start(host), deltas))
            .collect();
        let mut renew = (1 << self.layout.hosts) - 1;
        if self.layout.twin {
            // As if none had seen the other. The sector is the twin's from now on, and when that has
            // renewed for a while, its clock shows what the other's does.
            let now = clock_start(0) - u64::try_from(time_of_epoch().as_nanos()).unwrap();
            deltas[0] = free[0];
            members.push(self.join(contents, self.layout.ids(), now, deltas));
            renew &= !1;
        }
        if !see_renewals {
            return members;
        }
        let epoch = self.pass_time(contents, renew, &members, deltas);
        deltas.copy_from_slice(&epoch.deltas);
        epoch.members
    }

    fn join(
        &mut self,
        contents: &mut Contents,
        host: usize,
        now: u64,
        deltas: &mut [ContentId],
    ) -> MemberId {
        let port = Port::new(self.layout, now);
        let id = self.layout.id_of(host);
        let (area, claimant) = (self.layout.lockspace_area(), claimant(host, id));
        let claim = delta_lease::claim(&port, &area, &claimant, &|_| {});
        let lease = alone(&port, contents, deltas, claim).expect("the id is free, or its own");
        let fire_timeout = timing().fire_timeout();
        let mut table = HostTable::new(GEOMETRY, area.name, fire_timeout, Some(host_id(id)));
        let scan = area.read_all(&port, timing().io());
        let scan = alone(&port, contents, deltas, scan).expect("the lockspace can be read");
        let read = ReadSpan {
            started: port.now(),
            completed: port.now(),
        };
        table.observe(&scan, read);
        self.add(Member {
            host,
            generation: lease.generation().get(),
            lease,
            table,
            now: port.nanos(),
        })
    }

    /// The host joins anew, at once, or when its death was seen.
    pub fn rejoin(
        &mut self,
        contents: &mut Contents,
        old: MemberId,
        was_seen_dead: bool,
        deltas: &[ContentId],
    ) -> (MemberId, ContentId) {
        let key = (old, was_seen_dead, deltas.to_vec());
        if let Some(&joined) = self.rejoins.get(&key) {
            return joined;
        }
        let passed = if was_seen_dead {
            time_of_epoch()
        } else {
            Duration::ZERO
        };
        let now = Timestamp::from_nanos(self.get(old).now) + passed;
        let (host, now) = (self.get(old).host, now.as_nanos());
        let mut deltas = deltas.to_vec();
        let member = self.join(contents, host, now, &mut deltas);
        self.rejoins.insert(key, (member, deltas[host]));
        (member, deltas[host])
    }

    /// So much time passes that hosts that do not renew are dead. Those in `alive` renew in time,
    /// all the while.
    pub fn pass_time(
        &mut self,
        contents: &mut Contents,
        alive: u32,
        members: &[MemberId],
        deltas: &[ContentId],
    ) -> Epoch {
        let key = (alive, members.to_vec(), deltas.to_vec());
        if let Some(epoch) = self.epochs.get(&key) {
            return epoch.clone();
        }
        let mut deltas = deltas.to_vec();
        let mut living: Vec<(Member, Port)> = members
            .iter()
            .enumerate()
            .filter(|&(host, _)| alive >> host & 1 == 1)
            .map(|(_, &id)| self.get(id).clone())
            .map(|member| {
                let port = Port::new(self.layout, member.now);
                (member, port)
            })
            .collect();
        let interval = timing().renewal_interval();
        for _ in 0..renewals_of_epoch() {
            for (member, port) in &mut living {
                port.advance_to((port.now() + interval).as_nanos());
                let membership = member.membership(self.layout);
                let renewal = delta_lease::renew(port, &membership, &mut member.lease);
                let renewed = alone(port, contents, &mut deltas, renewal);
                renewed.expect("nothing is in the way of a renewal");
                member.table = membership.hosts(|table| table.clone());
            }
        }
        let mut after = members.to_vec();
        for (mut member, port) in living {
            member.now = port.nanos();
            let host = member.host;
            after[host] = self.add(member);
        }
        let epoch = Epoch {
            members: after,
            deltas,
        };
        self.epochs.insert(key, epoch.clone());
        epoch
    }
}

/// Runs `future` to its end while nobody else does anything. It touches delta sectors only.
fn alone<T>(
    port: &Port,
    contents: &mut Contents,
    deltas: &mut [ContentId],
    future: impl Future<Output = T>,
) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        let host_at = |offset: u64| usize::try_from(offset).unwrap() / SECTOR;
        match port.take_asked().expect("it waits for something") {
            Asked::Read {
                offset, mut into, ..
            } => {
                for (host, sector) in (host_at(offset)..).zip(into.chunks_exact_mut(SECTOR)) {
                    sector.copy_from_slice(contents.bytes(deltas[host]));
                }
                port.answer(Answer::Read(Ok(into)));
            }
            Asked::Write { offset, bytes, .. } => {
                deltas[host_at(offset)] = contents.id_of(&bytes);
                port.answer(Answer::Wrote(Ok(())));
            }
            Asked::Sleep { until } => {
                port.advance_to(until.as_nanos());
                port.answer(Answer::Woken);
            }
        }
    }
}
