//! Guests that are suspended and resumed, or that move from host to host while they run.
//!
//! What a guest needs to go on is its image: how its lease was left, and how often its disk had been
//! written by then, which no host knows and the checker compares. Images of suspended guests are files:
//! they outlive the process, and hosts. A guest that moves sends its image through a stream, whose last
//! part may be lost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use disklease::__sim::delta_lease::Membership;
use disklease::__sim::host::Reservation;
use disklease::__sim::paxos_lease::{
    self, AcquireError, GiveBackError, HandoverEnd, HeldLease, LeftBehind, RequiredEnd,
    VersionPrecondition, hand_over,
};
use disklease::__sim::world::World;
use disklease::format::{HolderNote, LeaseVersion, OfferId};
use futures_util::FutureExt;

use super::checker::offset_of;
use super::disk::SimDisk;
use super::machine::Host;
use super::sched::HostIx;

/// All that a guest needs to go on.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub expected: VersionPrecondition,
    /// How often its disk had been written when it was paused. `None` as long as the last part is
    /// missing: it cannot run.
    pub writes: Option<u64>,
    /// Whether it comes through a stream.
    pub moving: bool,
}

/// An image on its way to another host.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub image: Image,
    pub from: HostIx,
}

/// How a hold ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Release,
    Suspend,
    HandOver,
}

impl Host {
    fn moves(&self) -> bool {
        self.field.scenario.moves && !self.field.is_quiet()
    }

    /// The guest to go on with, if one is there; else one is started from its disk.
    pub fn arrival(&self, lease: usize) -> Option<Image> {
        if !self.moves() {
            return None;
        }
        let world = &self.world;
        let stream = self.field.streams.borrow()[lease];
        if let Some(stream) = stream
            && stream.from != world.host
            && world.random(4) != 0
        {
            self.note(|| "is to accept a guest".to_owned());
            return Some(stream.image);
        }
        if world.random(3) == 0 {
            return None;
        }
        // Taken, so that nobody goes on with it twice.
        let image = self.suspended.borrow_mut()[lease].take();
        if image.is_some() {
            self.note(|| "is to resume its guest".to_owned());
        }
        image
    }

    /// An acquire for `image` failed.
    pub fn did_not_arrive(&self, lease: usize, image: Image, error: &AcquireError) {
        let is_over = matches!(
            error,
            AcquireError::VersionChanged(_) | AcquireError::NotHandedOver { .. }
        );
        if is_over {
            self.field.checker.count(|tally| tally.refused_moves += 1);
        }
        match (image.moving, is_over) {
            (true, true) => self.end_stream(lease, image),
            (false, false) => self.suspended.borrow_mut()[lease] = Some(image),
            (true, false) | (false, true) => {}
        }
    }

    fn end_stream(&self, lease: usize, image: Image) {
        let mut streams = self.field.streams.borrow_mut();
        let required_end = |of: Stream| of.image.expected.required_end;
        if streams[lease].is_some_and(|of| required_end(of) == image.expected.required_end) {
            streams[lease] = None;
        }
    }

    /// A lease was won for `image`. False if its guest does not run here after all: the lease was
    /// given back then.
    pub async fn arrives(
        &self,
        membership: &Rc<Membership<SimDisk>>,
        lease: usize,
        held: &HeldLease,
        image: Option<Image>,
        reservation: &mut Option<Reservation<SimDisk, usize>>,
    ) -> bool {
        let Some(image) = image else { return true };
        let mut writes = image.writes;
        if image.moving {
            // By now the last part has come, or never will.
            let stream = self.field.streams.borrow()[lease];
            let same = stream.filter(|of| of.image.expected == image.expected);
            writes = same.and_then(|of| of.image.writes);
            self.end_stream(lease, image);
        }
        let declines = image.moving && self.world.random(4) == 0;
        if let (Some(writes), false) = (writes, declines) {
            self.field.checker.goes_on(lease, self.life(), writes);
            self.field.checker.count(|tally| {
                tally.moved += u64::from(image.moving);
                tally.resumed += u64::from(!image.moving);
            });
            return true;
        }
        self.note(|| "declines the guest".to_owned());
        self.field.checker.count(|tally| tally.declined += 1);
        let note = held.unused_note(bare_note(membership));
        let area = &self.field.leases[lease];
        let released = paxos_lease::release(&self.world, membership, area, held, note.as_ref());
        if let Err(GiveBackError::Lease(_)) = released.await {
            let pending = LeftBehind::of_release(held).with_note(note);
            if let Some(reservation) = reservation.take() {
                reservation.clean_up(area.clone(), pending);
            }
        }
        false
    }

    pub fn ending(&self) -> Ending {
        if !self.moves() {
            return Ending::Release;
        }
        [Ending::Release, Ending::Suspend, Ending::HandOver][self.world.random(3) as usize]
    }

    fn left_as(&self, membership: &Membership<SimDisk>, version: u64) -> VersionPrecondition {
        // A text has no room for the holder.
        let holder = (membership.host_id(), membership.generation());
        VersionPrecondition {
            version: LeaseVersion::new(version),
            holder: (self.world.random(2) == 0).then_some(holder),
            required_end: RequiredEnd::AnyEnd,
        }
    }

    /// The guest is paused; its writes have ended, or are known to be no others'.
    pub fn keep(&self, membership: &Membership<SimDisk>, lease: usize, version: u64) {
        if !self.moves() {
            return;
        }
        let image = Image {
            expected: self.left_as(membership, version),
            writes: Some(self.field.checker.writes_so_far(lease)),
            moving: false,
        };
        self.note(|| format!("keeps its guest, as of version {version}"));
        self.suspended.borrow_mut()[lease] = Some(image);
    }

    /// Offers the guest to whoever takes it. It runs on meanwhile.
    pub fn offer(&self, membership: &Membership<SimDisk>, lease: usize, version: u64) -> OfferId {
        let offer = OfferId::new(self.world.random(1 << 60));
        let expected = VersionPrecondition {
            version: LeaseVersion::new(version),
            holder: Some((membership.host_id(), membership.generation())),
            required_end: RequiredEnd::HandedOver(offer),
        };
        let image = Image {
            expected,
            writes: None,
            moving: true,
        };
        self.note(|| format!("offers its guest, as of version {version}"));
        let stream = Stream {
            image,
            from: self.world.host,
        };
        self.field.streams.borrow_mut()[lease] = Some(stream);
        offer
    }

    /// Pauses the guest, sends the last part of its image, and hands the lease over. False if the
    /// guest goes on here after all.
    pub async fn hand_over(
        &self,
        membership: &Rc<Membership<SimDisk>>,
        lease: usize,
        held: &HeldLease,
        offer: OfferId,
        reservation: &mut Option<Reservation<SimDisk, usize>>,
    ) -> bool {
        let (field, world, life) = (&self.field, &self.world, self.life());
        let version = held.version().get();
        // The last write is under way when the guest is paused.
        field.checker.writes(lease, life, version);
        let takes = Duration::from_millis(1 + world.random(300));
        let mut write = Box::pin(world.write_for(field.guests, offset_of(lease), takes)).fuse();
        let _ = futures_util::poll!(&mut write);
        let writes = field.checker.writes_so_far(lease);
        if world.random(5) != 0
            && let Some(stream) = &mut field.streams.borrow_mut()[lease]
            && stream.image.expected.required_end == RequiredEnd::HandedOver(offer)
        {
            stream.image.writes = Some(writes);
        }
        world.sleep(Duration::from_millis(world.random(300))).await;
        if world.random(4) == 0 {
            self.note(|| "goes on with its guest: the migration is off".to_owned());
            write.await;
            return false;
        }
        let fails = world.random(6) == 0;
        let flush = async {
            write.await;
            if fails { Err(()) } else { Ok(()) }
        };
        if !membership.expiry().is_held(world.now()) {
            // Lost before: nothing is handed over.
            flush.await.unwrap_or_default();
            return false;
        }
        let runs = Cell::new(true);
        let stop = || {
            field.checker.gives_up(lease, life);
            runs.set(false);
        };
        let note = held.handed_over_note(bare_note(membership), offer);
        let area = &field.leases[lease];
        if let Some(reservation) = reservation {
            reservation.give_back();
        }
        let release = paxos_lease::release(world, membership, area, held, Some(&note));
        match hand_over(flush, stop, release).await {
            HandoverEnd::Kept(()) => {
                self.note(|| "goes on with its guest: the flush failed".to_owned());
                return false;
            }
            HandoverEnd::Gone(released) => {
                self.note(|| format!("has handed its guest over: {released:?}"));
                field.checker.count(|tally| tally.handed_over += 1);
                if let Err(GiveBackError::Lease(_)) = released {
                    let pending = LeftBehind::of_release(held).with_note(Some(note));
                    if let Some(reservation) = reservation.take() {
                        reservation.clean_up(area.clone(), pending);
                    }
                }
            }
        }
        if runs.get() {
            return false;
        }
        if world.random(2) == 0 {
            // The answer got lost, or says that the guest was declined.
            self.note(|| "is to reclaim its guest".to_owned());
            let image = Image {
                expected: self.left_as(membership, version),
                writes: Some(writes),
                moving: false,
            };
            self.suspended.borrow_mut()[lease] = Some(image);
        }
        true
    }
}

fn bare_note(membership: &Membership<SimDisk>) -> HolderNote {
    let version = LeaseVersion::new(0);
    HolderNote::new(membership.host_id(), membership.generation(), version)
}
