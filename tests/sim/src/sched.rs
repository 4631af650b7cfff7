//! Tasks, events, and the order in which they happen.
//!
//! All tasks that can go on do so first: what they do between two I/O steps is nobody else's
//! business. Then, of all events that are due, the chooser takes one. When none is due, the clock
//! moves to the next.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::{self, Write as _};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::choice::{Chooser, Stream};
use super::clock::{HostClock, TrueTime};
use super::disk::{CutOff, Faults, Sectors, SimDisk, SlowAt};
use super::io::{IoId, IoRecord, Ios};
use super::script::HoldRule;
use super::wrong;

/// A host of the simulation, by its number. Says nothing about its host id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostIx(pub usize);

impl HostIx {
    /// The numbers that are drawn for this host.
    pub fn stream(self) -> Stream {
        Stream(self.0 + 1)
    }
}

/// By a letter: host ids are numbers, and one machine may have any.
impl fmt::Display for HostIx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ".get(self.0).copied();
        f.write_char(letter.map_or('?', char::from))
    }
}

#[derive(Debug, Default)]
pub struct Host {
    pub clock: HostClock,
    /// Rises with each crash.
    pub life: u64,
    /// Its tasks do not go on: the process is stopped. Its I/O goes on.
    pub paused: bool,
    /// Its I/O stands still from its beginning on.
    pub io_hangs: bool,
    /// Until when it cannot reach any storage.
    pub cut_off: Option<(TrueTime, CutOff)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// `None` while it runs, and when it has ended.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    ready: Arc<Ready>,
    over: bool,
}

struct Ready {
    this: AtomicBool,
    /// Set with each of them: while it is not, there is no need to ask all.
    any: Arc<AtomicBool>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.this.store(true, Ordering::Relaxed);
        self.any.store(true, Ordering::Relaxed);
    }
}

pub struct Core {
    pub now: TrueTime,
    pub chooser: Box<dyn Chooser>,
    pub hosts: Vec<Host>,
    pub disks: Vec<Sectors>,
    /// Until when a disk is out of reach for all.
    pub outages: Vec<Option<(TrueTime, CutOff)>>,
    pub faults: Faults,
    /// Writes that landed when nobody waited for them any more.
    pub landed_late: u64,
    pub ios: Ios,
    pub sleepers: Vec<(u64, Option<Waker>)>,
    pub rules: Vec<HoldRule>,
    pub log: Option<Vec<IoRecord>>,
    /// What else is worth telling of a run with a log.
    pub notes: Vec<Note>,
    /// Things that were put down so far: of those of one instant, which came first.
    put_down: u64,
    /// Who waits for a certain I/O to begin.
    pub triggers: Vec<Trigger>,
    /// The soonest first; of those of one instant, the one that was planned first.
    events: BinaryHeap<Reverse<(TrueTime, u64, Event)>>,
    next_id: u64,
    /// Disks of which every host says that it is busy there.
    pub busy: Vec<SimDisk>,
}

/// A run. All clones are the same run.
#[derive(Clone)]
pub struct Sim {
    pub core: Rc<RefCell<Core>>,
    tasks: Rc<RefCell<Vec<TaskSlot>>>,
    /// Whether a task may be ready.
    pub any_ready: Arc<AtomicBool>,
}

/// Goes off when a host begins its `left`th I/O of a kind, counted from 1; or `is_call`, is about to.
pub struct Trigger {
    pub id: u64,
    pub host: HostIx,
    pub at: SlowAt,
    pub is_call: bool,
    pub left: u64,
    pub waker: Option<Waker>,
}

/// Something that was said of a run: when, as the how-manieth thing of all, of which host, what.
pub type Note = (TrueTime, u64, Option<HostIx>, String);

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
        Self::new_boxed(Box::new(chooser))
    }

    pub fn new_boxed(chooser: Box<dyn Chooser>) -> Self {
        wrong::switch_as_asked();
        let core = Core {
            now: TrueTime(0),
            chooser,
            hosts: Vec::new(),
            disks: Vec::new(),
            outages: Vec::new(),
            faults: Faults::default(),
            landed_late: 0,
            ios: Ios::default(),
            sleepers: Vec::new(),
            rules: Vec::new(),
            log: Some(Vec::new()),
            notes: Vec::new(),
            put_down: 0,
            triggers: Vec::new(),
            events: BinaryHeap::new(),
            next_id: 0,
            busy: Vec::new(),
        };
        Self {
            core: Rc::new(RefCell::new(core)),
            tasks: Rc::default(),
            any_ready: Arc::default(),
        }
    }

    /// The same without a log, for runs by the thousand.
    pub fn without_log(chooser: impl Chooser + 'static) -> Self {
        Self::without_log_boxed(Box::new(chooser))
    }

    pub fn without_log_boxed(chooser: Box<dyn Chooser>) -> Self {
        let sim = Self::new_boxed(chooser);
        sim.core.borrow_mut().log = None;
        sim
    }

    /// Puts something down in a run that has a log.
    pub fn note(&self, host: Option<HostIx>, text: impl FnOnce() -> String) {
        let mut core = self.core.borrow_mut();
        if core.log.is_some() {
            let (now, order) = (core.now, core.next_order());
            core.notes.push((now, order, host, text()));
        }
    }

    pub fn set_faults(&self, faults: Faults) {
        self.core.borrow_mut().faults = faults;
    }

    pub fn add_disk(&self, sectors: Sectors) -> SimDisk {
        let mut core = self.core.borrow_mut();
        core.disks.push(sectors);
        core.outages.push(None);
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
            ready: Arc::new(Ready {
                this: AtomicBool::new(true),
                any: Arc::clone(&self.any_ready),
            }),
            over: false,
        });
        self.any_ready.store(true, Ordering::Relaxed);
        Task(out)
    }

    /// Drops all tasks of `host`. A task may do this to another host.
    pub fn drop_tasks(&self, host: HostIx) {
        let mut dropped = Vec::new();
        for slot in self.tasks.borrow_mut().iter_mut() {
            if slot.host == host {
                slot.over = true;
                dropped.push(slot.future.take());
            }
        }
        // Only now: futures that are dropped inspect the run.
        drop(dropped);
    }

    /// Ends the run. Tasks hold the run that holds them, so without this it would never be freed.
    pub fn end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
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
        if !self.any_ready.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.tasks.borrow_mut().retain(|slot| !slot.over);
        let mut any = false;
        let mut at = 0;
        loop {
            let mut tasks = self.tasks.borrow_mut();
            let Some(slot) = tasks.get_mut(at) else { break };
            let paused = self.core.borrow().hosts[slot.host.0].paused;
            if paused || !slot.ready.this.swap(false, Ordering::Relaxed) {
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
                Poll::Pending if !tasks[at].over => tasks[at].future = Some(future),
                _ => tasks[at].over = true,
            }
            at += 1;
        }
        any
    }

    /// When the next event is due, and which it is.
    pub fn next_due(&self) -> Option<(TrueTime, Event)> {
        let mut core = self.core.borrow_mut();
        core.forget_stale();
        core.events
            .peek()
            .map(|Reverse((at, _, event))| (*at, *event))
    }

    /// Whether a task can go on at once.
    pub fn has_ready_task(&self) -> bool {
        let core = self.core.borrow();
        let tasks = self.tasks.borrow();
        tasks
            .iter()
            .any(|slot| slot.ready.this.load(Ordering::Relaxed) && !core.hosts[slot.host.0].paused)
    }
}

impl Core {
    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn at(&mut self, when: TrueTime, event: Event) {
        let seq = self.new_id();
        self.events.push(Reverse((when.max(self.now), seq, event)));
    }

    /// Numbers what is put down for the history.
    pub fn next_order(&mut self) -> u64 {
        self.put_down += 1;
        self.put_down
    }

    fn is_stale(&self, event: Event) -> bool {
        match event {
            Event::Effect(id) | Event::End(id) | Event::EarlyPart(id, _) => {
                self.ios.get(id).is_none_or(|io| io.ended || io.held)
            }
            Event::Deadline(id) => self
                .ios
                .get(id)
                .is_none_or(|io| io.outcome.is_some() || io.abandoned),
            Event::Wake(id) => self.sleepers.iter().all(|&(sleeper, _)| sleeper != id),
        }
    }

    fn forget_stale(&mut self) {
        while let Some(&Reverse((_, _, event))) = self.events.peek() {
            if !self.is_stale(event) {
                return;
            }
            self.events.pop();
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        self.forget_stale();
        let Reverse((at, seq, event)) = self.events.pop()?;
        self.now = self.now.max(at);
        let due_now = |next: Option<&Reverse<(TrueTime, u64, Event)>>| {
            next.is_some_and(|Reverse((at, _, _))| *at <= self.now)
        };
        if !due_now(self.events.peek()) {
            return Some(event);
        }
        let mut due = vec![Reverse((at, seq, event))];
        while due_now(self.events.peek()) {
            let next = self.events.pop()?;
            if !self.is_stale(next.0.2) {
                due.push(next);
            }
        }
        let chosen = if due.len() > 1 {
            self.chooser.choose(due.len())
        } else {
            0
        };
        let Reverse((_, _, event)) = due.remove(chosen);
        self.events.extend(due);
        Some(event)
    }

    fn fire(&mut self, event: Event) {
        match event {
            Event::EarlyPart(id, chunks) => self.look(id, Some(chunks)),
            Event::Effect(id) => self.take_effect(id),
            Event::End(id) => self.end(id),
            Event::Deadline(id) => self.give_up(id),
            Event::Wake(id) => {
                if let Some(at) = self.sleepers.iter().position(|&(sleeper, _)| sleeper == id)
                    && let (_, Some(waker)) = self.sleepers.swap_remove(at)
                {
                    waker.wake();
                }
            }
        }
    }
}
