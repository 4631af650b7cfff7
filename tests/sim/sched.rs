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

use super::choice::Chooser;
use super::clock::{HostClock, TrueTime};
use super::disk::{Faults, Sectors, SimDisk};
use super::io::{Io, IoId, IoRecord};
use super::script::HoldRule;

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
}
