//! Where each read and write of one host waits, fails or goes through, as the test says.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Which files a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The one that is called so.
    Only(&'static str),
    /// All but the one that is called so.
    AllBut(&'static str),
    All,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The I/O hangs until [`Gate::go_on`] or [`Gate::drop_held`].
    Hold,
    /// It is done at once, and its answer hangs until then.
    HoldAnswer,
    /// It is done late by so much.
    Delay(Duration),
    /// It fails with EIO, and is not done.
    Fail,
}

/// What is wrong with a host's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) target: Target,
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) mode: Mode,
}

/// A read or a write that asks to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Io {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) write: bool,
}

/// What becomes of an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done now.
    Done,
    /// It is never done.
    Refused,
    /// It was done as soon as it was asked for, and is answered now.
    Answered,
    /// The same, and the answer is an error.
    Denied,
}

/// An I/O that a fault has met, as it ends.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) io: Io,
    /// How long it was kept from its fate.
    pub(crate) after: Duration,
    pub(crate) fate: Fate,
}

/// One gate for all I/O of a host.
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    tell: Box<dyn Fn(&Ended) + Send + Sync>,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    /// What hangs: `None`, or whether it is to be done.
    held: BTreeMap<u64, (Instant, Option<bool>)>,
    next: u64,
    /// Looks at names and attributes hang.
    looks_held: bool,
    /// How many do.
    looks: usize,
}

impl Fault {
    fn meets(&self, io: &Io) -> bool {
        let file = match self.target {
            Target::Only(name) => io.file == name,
            Target::AllBut(name) => io.file != name,
            Target::All => true,
        };
        file && if io.write { self.writes } else { self.reads }
    }
}

impl Gate {
    /// Open. Hears of each I/O that met a fault, before it is done.
    pub(crate) fn new(tell: impl Fn(&Ended) + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            tell: Box::new(tell),
        }
    }

    /// From now on. What hangs goes on hanging.
    pub(crate) fn set(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// No fault any more; what hangs is done now.
    pub(crate) fn go_on(&self) {
        self.end(true, None);
    }

    /// What hangs is done now, and all that comes after it meets this.
    pub(crate) fn go_on_into(&self, fault: Fault) {
        self.end(true, Some(fault));
    }

    /// No fault any more; what hangs is never done, unless it was at once, and fails with EIO.
    pub(crate) fn drop_held(&self) {
        self.end(false, None);
    }

    /// From now on whoever looks at the name or the attributes of a file hangs, until [`Gate::go_on`] or
    /// [`Gate::drop_held`].
    pub(crate) fn hold_looks(&self) {
        self.lock().looks_held = true;
    }

    /// How many looks hang.
    pub(crate) fn looks_held(&self) -> usize {
        self.lock().looks
    }

    /// Whether a look need not wait.
    pub(super) fn is_open_to_looks(&self) -> bool {
        !self.lock().looks_held
    }

    pub(super) fn pass_look(&self) {
        let mut state = self.lock();
        state.looks += 1;
        while state.looks_held {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.looks -= 1;
    }

    /// How many reads and writes hang that have come before `instant`.
    pub(crate) fn held_since_before(&self, instant: Instant) -> usize {
        let state = self.lock();
        state
            .held
            .values()
            .filter(|(since, end)| *since < instant && end.is_none())
            .count()
    }

    fn end(&self, done: bool, next: Option<Fault>) {
        let mut state = self.lock();
        state.fault = next;
        state.looks_held = false;
        for (_, end) in state.held.values_mut() {
            end.get_or_insert(done);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether `io` may go through at once.
    pub(super) fn is_open(&self, io: &Io) -> bool {
        !self.lock().fault.is_some_and(|fault| fault.meets(io))
    }

    /// Waits as the fault says, and does `work` when and if it is to be done. `None` if it fails.
    pub(super) fn pass<T>(&self, io: &Io, work: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock();
        let Some(fault) = state.fault.filter(|fault| fault.meets(io)) else {
            drop(state);
            return Some(work());
        };
        let begun = Instant::now();
        let tell = |fate| {
            (self.tell)(&Ended {
                io: io.clone(),
                after: begun.elapsed(),
                fate,
            });
        };
        match fault.mode {
            Mode::Fail => {
                drop(state);
                tell(Fate::Refused);
                None
            }
            Mode::Delay(by) => {
                drop(state);
                thread::sleep(by);
                tell(Fate::Done);
                Some(work())
            }
            Mode::Hold => {
                let done = self.hold(state, begun);
                tell(if done { Fate::Done } else { Fate::Refused });
                done.then(work)
            }
            Mode::HoldAnswer => {
                // Under the lock: the fault must not end in between.
                let answer = work();
                let good = self.hold(state, begun);
                tell(if good { Fate::Answered } else { Fate::Denied });
                good.then_some(answer)
            }
        }
    }

    /// Hangs; gives how it ends.
    fn hold(&self, mut state: MutexGuard<'_, State>, begun: Instant) -> bool {
        let number = state.next;
        state.next += 1;
        state.held.insert(number, (begun, None));
        loop {
            if let Some((_, Some(done))) = state.held.get(&number) {
                let done = *done;
                state.held.remove(&number);
                return done;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
