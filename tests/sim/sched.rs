//! Tasks, events, and the order in which they happen.
//!
//! All tasks that can go on do so first: what they do between two I/O steps is nobody else's
//! business. Then, of all events that are due, the chooser takes one. When none is due, the clock
//! moves to the next.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use disklease::__sim::world::{OsError, ReadError, SectorBuf, WriteError};

use super::choice::Chooser;
use super::clock::{HostClock, TrueTime};
use super::disk::{Faults, Plan, Sectors, SimDisk};
use super::io::{Io, IoId, IoKind, IoRecord, IoView, Outcome};
use super::script::HoldRule;

/// EIO.
const IO_ERROR: OsError = OsError(5);

/// A host of the simulation, by its number. Says nothing about its host id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostIx(pub usize);

#[derive(Debug, Default)]
pub struct Host {
    pub clock: HostClock,
    /// Rises with each crash.
    pub life: u64,
    /// Its tasks do not go on: the process is stopped. Its I/O goes on.
    pub paused: bool,
    /// Its I/O stands still from its beginning on.
    pub io_hangs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first part of a torn read looks: so many chunks.
    EarlyPart(IoId, usize),
    /// A write lands, a read looks.
    Effect(IoId),
    /// The storage answers.
    End(IoId),
    /// The caller's patience ends.
    Deadline(IoId),
    /// A sleeper wakes.
    Wake(u64),
}

struct TaskSlot {
    host: HostIx,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    ready: Arc<Ready>,
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct Core {
    pub now: TrueTime,
    pub chooser: Box<dyn Chooser>,
    pub hosts: Vec<Host>,
    pub disks: Vec<Sectors>,
    pub faults: Faults,
    pub ios: BTreeMap<IoId, Io>,
    pub sleepers: BTreeMap<u64, Option<Waker>>,
    pub rules: Vec<HoldRule>,
    pub log: Option<Vec<IoRecord>>,
    events: BTreeMap<(TrueTime, u64), Event>,
    next_id: u64,
}

/// A run. All clones are the same run.
#[derive(Clone)]
pub struct Sim {
    pub core: Rc<RefCell<Core>>,
    tasks: Rc<RefCell<Vec<TaskSlot>>>,
}

/// What a task will have come to.
pub struct Task<T>(Rc<RefCell<Option<T>>>);

impl<T> Task<T> {
    pub fn is_done(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// What it came to. Panics if it is not done yet.
    pub fn take(&self) -> T {
        self.0.borrow_mut().take().expect("the task is done")
    }
}

impl Sim {
    /// A run in which nothing goes wrong and I/O takes no time, with a log.
    pub fn new(chooser: impl Chooser + 'static) -> Self {
        let core = Core {
            now: TrueTime(0),
            chooser: Box::new(chooser),
            hosts: Vec::new(),
            disks: Vec::new(),
            faults: Faults::default(),
            ios: BTreeMap::new(),
            sleepers: BTreeMap::new(),
            rules: Vec::new(),
            log: Some(Vec::new()),
            events: BTreeMap::new(),
            next_id: 0,
        };
        Self {
            core: Rc::new(RefCell::new(core)),
            tasks: Rc::default(),
        }
    }

    /// The same without a log, for runs by the thousand.
    pub fn without_log(chooser: impl Chooser + 'static) -> Self {
        let sim = Self::new(chooser);
        sim.core.borrow_mut().log = None;
        sim
    }

    pub fn set_faults(&self, faults: Faults) {
        self.core.borrow_mut().faults = faults;
    }

    pub fn add_disk(&self, sectors: Sectors) -> SimDisk {
        let mut core = self.core.borrow_mut();
        core.disks.push(sectors);
        SimDisk(core.disks.len() - 1)
    }

    pub fn add_host(&self, clock: HostClock) -> HostIx {
        let mut core = self.core.borrow_mut();
        core.hosts.push(Host {
            clock,
            ..Host::default()
        });
        HostIx(core.hosts.len() - 1)
    }

    pub fn now(&self) -> TrueTime {
        self.core.borrow().now
    }

    /// Starts a task of `host`. It dies with the host.
    pub fn spawn<T: 'static>(
        &self,
        host: HostIx,
        future: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        let out = Rc::new(RefCell::new(None));
        let into = out.clone();
        self.tasks.borrow_mut().push(TaskSlot {
            host,
            future: Some(Box::pin(async move {
                let result = future.await;
                *into.borrow_mut() = Some(result);
            })),
            ready: Arc::new(Ready(AtomicBool::new(true))),
        });
        Task(out)
    }

    /// Drops all tasks of `host`.
    pub fn drop_tasks(&self, host: HostIx) {
        let mut dropped = Vec::new();
        self.tasks.borrow_mut().retain_mut(|slot| {
            if slot.host == host {
                dropped.push(slot.future.take());
            }
            slot.host != host
        });
        // Only now: futures that are dropped look at the run.
        drop(dropped);
    }

    /// One event, or all that the tasks can do before the next. False when nothing is left to
    /// happen.
    pub fn step(&self) -> bool {
        if self.poll_tasks() {
            return true;
        }
        let mut core = self.core.borrow_mut();
        let Some(event) = core.next_event() else {
            return false;
        };
        core.fire(event);
        true
    }

    /// Lets each task that can go on do so. False if none could.
    fn poll_tasks(&self) -> bool {
        let mut any = false;
        let mut at = 0;
        loop {
            let mut tasks = self.tasks.borrow_mut();
            let Some(slot) = tasks.get_mut(at) else { break };
            let paused = self.core.borrow().hosts[slot.host.0].paused;
            if paused || !slot.ready.0.swap(false, Ordering::Relaxed) {
                at += 1;
                continue;
            }
            any = true;
            let Some(mut future) = slot.future.take() else {
                at += 1;
                continue;
            };
            let waker = Waker::from(slot.ready.clone());
            drop(tasks);
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            let mut tasks = self.tasks.borrow_mut();
            match polled {
                Poll::Ready(()) => {
                    tasks.remove(at);
                }
                Poll::Pending => {
                    tasks[at].future = Some(future);
                    at += 1;
                }
            }
        }
        any
    }

    /// When the next event is due, and which it is.
    pub fn next_due(&self) -> Option<(TrueTime, Event)> {
        let mut core = self.core.borrow_mut();
        core.forget_stale();
        core.events
            .first_key_value()
            .map(|(key, event)| (key.0, *event))
    }

    /// Whether a task can go on at once.
    pub fn has_ready_task(&self) -> bool {
        let core = self.core.borrow();
        let tasks = self.tasks.borrow();
        tasks
            .iter()
            .any(|slot| slot.ready.0.load(Ordering::Relaxed) && !core.hosts[slot.host.0].paused)
    }
}

impl Core {
    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn at(&mut self, when: TrueTime, event: Event) {
        let seq = self.new_id();
        self.events.insert((when.max(self.now), seq), event);
    }

    fn is_stale(&self, event: Event) -> bool {
        match event {
            Event::Effect(id) | Event::End(id) | Event::EarlyPart(id, _) => {
                self.ios.get(&id).is_none_or(|io| io.ended || io.held)
            }
            Event::Deadline(id) => self
                .ios
                .get(&id)
                .is_none_or(|io| io.outcome.is_some() || io.abandoned),
            Event::Wake(id) => !self.sleepers.contains_key(&id),
        }
    }

    fn forget_stale(&mut self) {
        while let Some((&key, &event)) = self.events.first_key_value() {
            if !self.is_stale(event) {
                return;
            }
            self.events.remove(&key);
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        self.forget_stale();
        let first = self.events.first_key_value()?.0.0;
        self.now = self.now.max(first);
        let due: Vec<_> = self
            .events
            .range(..=(self.now, u64::MAX))
            .filter(|&(_, &event)| !self.is_stale(event))
            .map(|(&key, _)| key)
            .collect();
        let chosen = if due.len() > 1 {
            self.chooser.choose(due.len())
        } else {
            0
        };
        self.events.remove(&due[chosen])
    }

    fn fire(&mut self, event: Event) {
        match event {
            Event::EarlyPart(id, chunks) => self.look(id, Some(chunks)),
            Event::Effect(id) => self.take_effect(id),
            Event::End(id) => self.end(id),
            Event::Deadline(id) => self.give_up(id),
            Event::Wake(id) => {
                if let Some(Some(waker)) = self.sleepers.remove(&id) {
                    waker.wake();
                }
            }
        }
    }

    /// Takes an I/O in. It begins at once, unless an earlier write is in its way.
    pub fn submit(
        &mut self,
        host: HostIx,
        kind: IoKind,
        disk: SimDisk,
        offset: u64,
        buf: SectorBuf,
        timeout: Duration,
    ) -> IoId {
        let life = self.hosts[host.0].life;
        let in_the_way = kind == IoKind::Write
            && self.ios.values().any(|io| {
                io.host == host
                    && io.life == life
                    && io.kind == IoKind::Write
                    && !io.ended
                    && io.overlaps(disk, offset, buf.len())
            });
        let id = IoId(self.new_id());
        let io = Io {
            host,
            life,
            kind,
            disk,
            offset,
            buf,
            timeout,
            queued: true,
            held: false,
            fails: false,
            effect_at_end: false,
            seen_early: 0,
            has_happened: false,
            ended: false,
            outcome: None,
            abandoned: false,
            waker: None,
        };
        self.ios.insert(id, io);
        if !in_the_way {
            self.begin(id);
        }
        // The host's own clock measures its patience.
        let clock = self.hosts[host.0].clock;
        let until = clock.reaches(
            clock
                .shows(self.now)
                .saturating_add(timeout.as_nanos() as u64),
        );
        self.at(until, Event::Deadline(id));
        id
    }

    fn begin(&mut self, id: IoId) {
        let now = self.now;
        let io = self.ios.get_mut(&id).unwrap();
        io.queued = false;
        let view = IoView {
            host: io.host,
            kind: io.kind,
            disk: io.disk,
            offset: io.offset,
            len: io.buf.len(),
            bytes: if io.kind == IoKind::Write {
                &io.buf
            } else {
                &[]
            },
        };
        if let Some(log) = &mut self.log {
            log.push(IoRecord {
                id,
                host: view.host,
                kind: view.kind,
                offset: view.offset,
                len: view.len,
                begun: now,
                effect: None,
                told: None,
                bytes: view.bytes.to_vec(),
            });
        }
        let caught = self
            .rules
            .iter_mut()
            .find_map(|rule| rule.catches(id, &view));
        io.held = caught.is_some() || self.hosts[io.host.0].io_hangs;
        if io.held {
            return;
        }
        let plan = match io.kind {
            IoKind::Read => {
                let chunks = io.buf.len() / 512;
                self.faults
                    .plan_read(&mut *self.chooser, chunks, io.timeout)
            }
            IoKind::Write => self.faults.plan_write(&mut *self.chooser, io.timeout),
        };
        self.schedule(id, plan);
    }

    /// Lets a begun I/O go the way of `plan`, counted from now.
    pub fn schedule(&mut self, id: IoId, plan: Plan) {
        let io = self.ios.get_mut(&id).unwrap();
        io.held = false;
        io.fails = plan.fails;
        io.effect_at_end = plan.effect == Some(plan.end);
        let now = self.now;
        if let Some((when, chunks)) = plan.early_part {
            self.at(now.after(when), Event::EarlyPart(id, chunks));
        }
        match plan.effect {
            Some(effect) if effect != plan.end => self.at(now.after(effect), Event::Effect(id)),
            _ => {}
        }
        self.at(now.after(plan.end), Event::End(id));
    }

    fn record(&mut self, id: IoId, change: impl FnOnce(&mut IoRecord)) {
        if let Some(log) = &mut self.log
            && let Some(record) = log.iter_mut().rev().find(|record| record.id == id)
        {
            change(record);
        }
    }

    fn look(&mut self, id: IoId, first_chunks: Option<usize>) {
        let Some(io) = self.ios.get_mut(&id) else {
            return;
        };
        // What the early part of a torn read has seen stays seen.
        let (from, to) = match first_chunks {
            Some(chunks) => (0, chunks * 512),
            None => (io.seen_early, io.buf.len()),
        };
        io.seen_early = to;
        let offset = io.offset + from as u64;
        self.disks[io.disk.0].read(offset, &mut io.buf[from..to]);
    }

    pub fn take_effect(&mut self, id: IoId) {
        let now = self.now;
        match self.ios[&id].kind {
            IoKind::Read => self.look(id, None),
            IoKind::Write => {
                let io = &self.ios[&id];
                self.disks[io.disk.0].write(io.offset, &io.buf);
            }
        }
        self.record(id, |record| record.effect = Some(now));
    }

    /// The storage answers: nothing more will happen to the disk by this I/O.
    pub fn end(&mut self, id: IoId) {
        if self.ios[&id].effect_at_end {
            self.take_effect(id);
        }
        let io = self.ios.get_mut(&id).unwrap();
        io.ended = true;
        let past_end = io.offset + io.buf.len() as u64 > self.disks[io.disk.0].len;
        let outcome = match io.kind {
            IoKind::Read if io.fails => Outcome::Read(ReadError::Failed(IO_ERROR)),
            IoKind::Read if past_end => Outcome::Read(ReadError::EndOfFile {
                wanted: io.buf.len(),
                got: self.disks[io.disk.0].len.saturating_sub(io.offset) as usize,
            }),
            IoKind::Write if io.fails || past_end => Outcome::Write(WriteError::Failed(IO_ERROR)),
            _ => Outcome::Done,
        };
        let (host, life) = (io.host, io.life);
        let (disk, offset, len) = (io.disk, io.offset, io.buf.len());
        let was_write = io.kind == IoKind::Write;
        self.tell(id, outcome);
        if was_write {
            self.begin_next(host, life, disk, offset, len);
        }
    }

    /// The write that waited longest for a place that has become free, if there is one.
    fn begin_next(&mut self, host: HostIx, life: u64, disk: SimDisk, offset: u64, len: usize) {
        let next = self.ios.iter().find(|(_, io)| {
            io.host == host && io.life == life && io.queued && io.overlaps(disk, offset, len)
        });
        if let Some((&id, _)) = next {
            self.begin(id);
        }
    }

    fn give_up(&mut self, id: IoId) {
        let io = &self.ios[&id];
        let outcome = match io.kind {
            IoKind::Read => Outcome::Read(ReadError::TimedOut(io.timeout)),
            IoKind::Write if io.queued => Outcome::Write(WriteError::NotBegun(io.timeout)),
            IoKind::Write => Outcome::Write(WriteError::TimedOut(io.timeout)),
        };
        if io.queued {
            self.ios.get_mut(&id).unwrap().ended = true;
        }
        self.tell(id, outcome);
    }

    fn tell(&mut self, id: IoId, outcome: Outcome) {
        let now = self.now;
        let io = self.ios.get_mut(&id).unwrap();
        if io.outcome.is_none() {
            io.outcome = Some(outcome);
            if let Some(waker) = io.waker.take() {
                waker.wake();
            }
            self.record(id, |record| record.told = Some((now, outcome)));
        }
        self.forget_if_over(id);
    }

    pub fn forget_if_over(&mut self, id: IoId) {
        if self.ios.get(&id).is_some_and(|io| io.ended && io.abandoned) {
            self.ios.remove(&id);
        }
    }

    /// Nobody waits for this I/O any more. It goes on, if it was begun.
    pub fn abandon(&mut self, id: IoId) {
        let Some(io) = self.ios.get_mut(&id) else {
            return;
        };
        io.abandoned = true;
        if io.queued {
            io.ended = true;
        }
        self.forget_if_over(id);
    }
}
