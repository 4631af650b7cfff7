//! What a test may do to a run: hold an I/O back, crash a host, run up to a point.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::Plan;
use super::io::{IoId, IoRecord, IoView};
use super::sched::{Event, HostIx, Sim, Task};

/// More events than any test needs: what runs longer runs for ever.
const STEPS_MAX: u64 = 3_000_000;

/// Holds back the first I/O for which `wanted` says so.
pub struct HoldRule {
    host: HostIx,
    wanted: Box<dyn FnMut(&IoView<'_>) -> bool>,
    caught: Rc<Cell<Option<IoId>>>,
}

impl HoldRule {
    pub fn catches(&mut self, id: IoId, io: &IoView<'_>) -> Option<()> {
        if io.host == self.host && self.caught.get().is_none() && (self.wanted)(io) {
            self.caught.set(Some(id));
            return Some(());
        }
        None
    }
}

/// An I/O that is or will be held back.
#[derive(Clone, Debug)]
pub struct Hold(Rc<Cell<Option<IoId>>>);

impl Hold {
    /// Whether it has started, and so is held.
    pub fn has_caught(&self) -> bool {
        self.0.get().is_some()
    }

    fn id(&self) -> IoId {
        self.0.get().expect("the I/O to be held has begun")
    }
}

/// What becomes of the writes that a host has under way when it crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// They go on as if nothing had happened; those that are held stay so.
    GoOn,
    /// They land at once.
    Land,
    /// They never land.
    Vanish,
    /// Each lands at once or never, by chance.
    Either,
}

/// The `n`th I/O (from 1) of those that are `wanted`.
pub fn nth(
    n: usize,
    mut wanted: impl FnMut(&IoView<'_>) -> bool,
) -> impl FnMut(&IoView<'_>) -> bool {
    let mut seen = 0;
    move |io| {
        seen += usize::from(wanted(io));
        seen == n && wanted(io)
    }
}

impl Sim {
    /// Holds back the first I/O of `host`, from now on, that is `wanted`: it has started, but neither
    /// lands nor looks nor ends before it is released. Its caller's patience is not prolonged.
    pub fn hold_next(
        &self,
        host: HostIx,
        wanted: impl FnMut(&IoView<'_>) -> bool + 'static,
    ) -> Hold {
        let caught = Rc::new(Cell::new(None));
        self.core.borrow_mut().rules.push(HoldRule {
            host,
            wanted: Box::new(wanted),
            caught: caught.clone(),
        });
        Hold(caught)
    }

    /// Lets a held I/O land, or look, now; but the storage's answer stays out until it is released.
    pub fn let_happen(&self, hold: &Hold) {
        let id = hold.id();
        let mut core = self.core.borrow_mut();
        core.take_effect(id);
        core.ios.get_mut(id).unwrap().has_happened = true;
    }

    /// Lets a held I/O land, or look, and end, as the very next that happens on the disk.
    pub fn release_held(&self, hold: &Hold) {
        self.finish_held(hold, true, false);
    }

    /// A held I/O ends with an error; a write has landed then, or not.
    pub fn fail_held(&self, hold: &Hold, lands: bool) {
        self.finish_held(hold, lands, true);
    }

    fn finish_held(&self, hold: &Hold, lands: bool, fails: bool) {
        let id = hold.id();
        let mut core = self.core.borrow_mut();
        assert!(core.ios[id].held, "released twice");
        let lands = lands && !core.ios[id].has_happened;
        let plan = Plan {
            effect: lands.then_some(Duration::ZERO),
            fails,
            ..Plan::PROMPT
        };
        core.schedule(id, plan);
        core.end(id);
    }

    /// The next I/O of `host` that is `wanted` fails; a write has landed then, or not.
    pub fn fail_next(
        &self,
        host: HostIx,
        lands: bool,
        wanted: impl FnMut(&IoView<'_>) -> bool + 'static,
    ) {
        let hold = self.hold_next(host, wanted);
        self.run_until(|| hold.has_caught());
        self.fail_held(&hold, lands);
    }

    /// All I/O of `host` that begins from now on stands still.
    pub fn hang_io(&self, host: HostIx) {
        self.core.borrow_mut().hosts[host.0].io_hangs = true;
    }

    /// I/O that begins from now on goes on again; what hangs already stays where it is.
    pub fn unhang_io(&self, host: HostIx) {
        self.core.borrow_mut().hosts[host.0].io_hangs = false;
    }

    /// Stops the process of `host`, or lets it go on. Its I/O goes on meanwhile.
    pub fn pause(&self, host: HostIx, paused: bool) {
        self.core.borrow_mut().hosts[host.0].paused = paused;
        self.any_ready.store(true, Ordering::Relaxed);
    }

    /// Ends the present incarnation of `host`: its tasks are gone. New ones belong to its next incarnation.
    pub fn crash(&self, host: HostIx, pending: Pending) {
        self.drop_tasks(host);
        self.core.borrow_mut().hosts[host.0].life += 1;
        self.end_writes(host, None, pending);
    }

    /// What becomes of the writes that `host`, or one incarnation of it, has under way.
    pub fn end_writes(&self, host: HostIx, life: Option<u64>, pending: Pending) {
        let mut core = self.core.borrow_mut();
        let of_host: Vec<_> = core
            .ios
            .iter()
            .filter(|(_, io)| {
                io.host == host
                    && life.is_none_or(|life| io.life == life)
                    && io.is_write_in_flight()
            })
            .map(|(id, _)| id)
            .collect();
        for id in of_host {
            let effect = match pending {
                Pending::GoOn => continue,
                Pending::Land => Some(Duration::ZERO),
                Pending::Vanish => None,
                Pending::Either => {
                    (core.chooser.draw_for(host.stream(), 2) == 0).then_some(Duration::ZERO)
                }
            };
            core.schedule(
                id,
                Plan {
                    effect,
                    ..Plan::PROMPT
                },
            );
            core.end(id);
        }
    }

    /// Runs until `there` is true. Panics when nothing is left to happen before.
    pub fn run_until(&self, mut there: impl FnMut() -> bool) {
        for _ in 0..STEPS_MAX {
            if there() {
                return;
            }
            assert!(
                self.step(),
                "nothing is left to happen\n{}",
                self.log_text()
            );
        }
        panic!("no end after {STEPS_MAX} steps\n{}", self.log_text());
    }

    /// Runs until `task` is done, and gives what it came to.
    pub fn run<T>(&self, task: &Task<T>) -> T {
        self.run_until(|| task.is_done());
        task.take()
    }

    /// Runs a task of `host` until it is done.
    pub fn run_on<T: 'static>(&self, host: HostIx, future: impl Future<Output = T> + 'static) -> T {
        let task = self.spawn(host, future);
        self.run(&task)
    }

    /// Runs until the I/O of `hold` has started.
    pub fn run_until_held(&self, hold: &Hold) {
        self.run_until(|| hold.has_caught());
    }

    /// Runs until nothing can happen any more but that the patience with a held I/O ends.
    pub fn run_until_blocked(&self) {
        for _ in 0..STEPS_MAX {
            if !self.has_ready_task() {
                match self.next_due() {
                    None => return,
                    Some((_, Event::Deadline(id))) if self.core.borrow().ios[id].held => return,
                    Some(_) => {}
                }
            }
            self.step();
        }
        panic!("no end after {STEPS_MAX} steps\n{}", self.log_text());
    }

    /// Runs for this long, in true time.
    pub fn run_for(&self, pause: Duration) {
        let until = self.now().after(pause);
        for _ in 0..STEPS_MAX {
            if self.has_ready_task() || self.next_due().is_some_and(|(at, _)| at <= until) {
                self.step();
                continue;
            }
            self.core.borrow_mut().now = until;
            return;
        }
        panic!("no end after {STEPS_MAX} steps\n{}", self.log_text());
    }

    /// The log from entry `from` on.
    pub fn log_since(&self, from: usize) -> Vec<IoRecord> {
        let core = self.core.borrow();
        core.log
            .as_ref()
            .map_or_else(Vec::new, |log| log[from..].to_vec())
    }

    /// How many entries the log has.
    pub fn log_len(&self) -> usize {
        self.core.borrow().log.as_ref().map_or(0, Vec::len)
    }

    /// The log as text, for a test that failed.
    pub fn log_text(&self) -> String {
        use std::fmt::Write as _;
        let core = self.core.borrow();
        let mut text = format!("at {:?}\n", core.now);
        for io in core.log.iter().flatten() {
            let _ = writeln!(
                text,
                "{:>14} host {} {:?} {:#x}+{} effect {:?} told {:?}",
                io.begun.0, io.host.0, io.kind, io.offset, io.len, io.effect, io.told
            );
        }
        text
    }
}
