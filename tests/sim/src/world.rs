//! The library's `World` over the simulation, one for each host.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use disklease::__sim::world::{ReadError, SectorBuf, Timestamp, World, WriteError};

use super::disk::{Plan, SimDisk, SlowAt};
use super::io::{IoId, IoKind, Outcome};
use super::sched::{Event, HostIx, Sim, Trigger};

/// The world of one host.
#[derive(Clone)]
pub struct SimWorld {
    pub sim: Sim,
    pub host: HostIx,
}

impl SimWorld {
    pub fn new(sim: &Sim, host: HostIx) -> Self {
        Self {
            sim: sim.clone(),
            host,
        }
    }

    /// Ends when `host` is about to begin its `nth` write of a kind from now on: it has inspected the deadline, and
    /// has not called the kernel yet.
    pub async fn until_call(&self, host: HostIx, at: SlowAt, nth: u64) {
        self.until(host, at, nth, true).await;
    }

    /// Ends when `host` begins its `nth` I/O of a kind from now on.
    pub async fn until_io(&self, host: HostIx, at: SlowAt, nth: u64) {
        self.until(host, at, nth, false).await;
    }

    async fn until(&self, host: HostIx, at: SlowAt, nth: u64, is_call: bool) {
        let id = {
            let mut core = self.sim.core.borrow_mut();
            let id = core.new_id();
            core.triggers.push(Trigger {
                id,
                host,
                at,
                is_call,
                left: nth,
                waker: None,
            });
            id
        };
        std::future::poll_fn(|context| {
            let mut core = self.sim.core.borrow_mut();
            let found = core
                .triggers
                .iter_mut()
                .position(|trigger| trigger.id == id);
            match found.map(|found| (found, &mut core.triggers[found])) {
                Some((_, trigger)) if trigger.left > 0 => {
                    trigger.waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Some((found, _)) => {
                    core.triggers.swap_remove(found);
                    Poll::Ready(())
                }
                None => Poll::Ready(()),
            }
        })
        .await;
    }

    /// A write that takes just this long, whatever is the matter with the storage otherwise, and
    /// that nobody gives up on. True if it was done.
    pub async fn write_for(&self, disk: SimDisk, offset: u64, takes: Duration) -> bool {
        let plan = Plan {
            effect: Some(takes),
            end: takes,
            ..Plan::PROMPT
        };
        let kind = IoKind::Write;
        let buf = SectorBuf::zeroed(512);
        let (outcome, _) =
            IoFuture::begin(self, kind, disk, offset, buf, Duration::MAX, Some(plan)).await;
        outcome == Outcome::Done
    }
}

impl World for SimWorld {
    type Disk = SimDisk;

    async fn read(
        &self,
        disk: &SimDisk,
        offset: u64,
        into: SectorBuf,
        timeout: Duration,
    ) -> Result<SectorBuf, ReadError> {
        let (outcome, buf) =
            IoFuture::begin(self, IoKind::Read, *disk, offset, into, timeout, None).await;
        match outcome {
            Outcome::Read(error) => Err(error),
            _ => Ok(buf),
        }
    }

    async fn write(
        &self,
        disk: &SimDisk,
        offset: u64,
        bytes: SectorBuf,
        timeout: Duration,
    ) -> Result<(), WriteError> {
        assert!(
            bytes.len() == 512 || bytes.len() == 4096,
            "one sector at a time"
        );
        assert!(offset.is_multiple_of(bytes.len() as u64), "a whole sector");
        let is_caught = {
            let mut core = self.sim.core.borrow_mut();
            core.pull_triggers(self.host, true, false, *disk, offset)
        };
        if is_caught {
            // Whoever waits for it goes first.
            self.sleep(Duration::from_nanos(1)).await;
        }
        let (outcome, _) =
            IoFuture::begin(self, IoKind::Write, *disk, offset, bytes, timeout, None).await;
        match outcome {
            Outcome::Write(error) => Err(error),
            _ => Ok(()),
        }
    }

    fn is_write_in_flight(&self, disk: &SimDisk, offset: u64, len: usize) -> bool {
        let core = self.sim.core.borrow();
        let life = core.hosts[self.host.0].life;
        core.ios.values().any(|io| {
            io.host == self.host
                && io.life == life
                && io.is_write_in_flight()
                && io.overlaps(*disk, offset, len)
        })
    }

    fn is_busy(&self, disk: &SimDisk) -> bool {
        self.sim.core.borrow().busy.contains(disk)
    }

    fn now(&self) -> Timestamp {
        let core = self.sim.core.borrow();
        Timestamp::from_nanos(core.hosts[self.host.0].clock.shows(core.now))
    }

    fn clock_secs(&self) -> u64 {
        let core = self.sim.core.borrow();
        let clock = core.hosts[self.host.0].clock;
        clock.shows(core.now) / 1_000_000_000 + clock.secs_ahead
    }

    async fn sleep_until(&self, at: Timestamp) {
        if self.now() >= at {
            return;
        }
        let id = {
            let mut core = self.sim.core.borrow_mut();
            let id = core.new_id();
            core.sleepers.push((id, None));
            let wakes_at = core.hosts[self.host.0].clock.reaches(at.as_nanos());
            core.at(wakes_at, Event::Wake(id));
            id
        };
        Sleep {
            sim: self.sim.clone(),
            id,
        }
        .await;
    }

    fn random(&self, below: u64) -> u64 {
        let mut core = self.sim.core.borrow_mut();
        core.chooser.draw_for(self.host.stream(), below)
    }
}

/// Ends when the storage has answered or the time is up. Dropped before, it leaves the I/O to go on.
struct IoFuture {
    sim: Sim,
    id: IoId,
}

impl IoFuture {
    fn begin(
        world: &SimWorld,
        kind: IoKind,
        disk: SimDisk,
        offset: u64,
        buf: SectorBuf,
        timeout: Duration,
        plan: Option<Plan>,
    ) -> Self {
        let mut core = world.sim.core.borrow_mut();
        let id = core.submit(world.host, kind, disk, offset, buf, timeout, plan);
        drop(core);
        Self {
            sim: world.sim.clone(),
            id,
        }
    }
}

impl Future for IoFuture {
    type Output = (Outcome, SectorBuf);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut core = self.sim.core.borrow_mut();
        let io = core.ios.get_mut(self.id).unwrap();
        match io.outcome {
            Some(Outcome::Done) => {
                let buf = std::mem::replace(&mut io.buf, SectorBuf::zeroed(0));
                Poll::Ready((Outcome::Done, buf))
            }
            // The buffer stays with the I/O.
            Some(error) => Poll::Ready((error, SectorBuf::zeroed(0))),
            None => {
                io.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for IoFuture {
    fn drop(&mut self) {
        self.sim.core.borrow_mut().abandon(self.id);
    }
}

struct Sleep {
    sim: Sim,
    id: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut core = self.sim.core.borrow_mut();
        let sleeper = core.sleepers.iter_mut().find(|(id, _)| *id == self.id);
        match sleeper {
            Some((_, waker)) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let mut core = self.sim.core.borrow_mut();
        core.sleepers.retain(|(id, _)| *id != self.id);
    }
}
