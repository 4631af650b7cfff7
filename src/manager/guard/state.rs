//! What a guard and the threads that notify it of a loss have in common.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::EventfdFlags;
use rustix::process::{Signal, getpid, kill_process};

use crate::fence::OwnerProcess;
use crate::host::{Holder, LossReason, Notice, OnLoss, Victim};
use crate::lockspace::{HolderToken, Lockspace, NotProtected, OwnerEnd};
use crate::manager::error::{AcquireError, AcquireErrorKind, ReleaseError};
use crate::manager::failure::LossCallback;
use crate::manager::lease::{Lease, Leaving, Unstarted};
use crate::manager::locked::Locked;
use crate::manager::request::Wishes;

/// What a guard has to tell. See [`LockGuard::next_event`](super::LockGuard::next_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockEvent {
    /// The host's lease could not be renewed for 6N. If that goes on, the locks are lost after
    /// `left`.
    Warned {
        /// Renewals that failed in a row.
        missed_renewals: u32,
        /// How long the locks can still be counted on.
        left: Duration,
    },
    /// After a warning: the host's lease was renewed again, and nothing is lost.
    Renewed,
    /// The host watchdog has gone, or is back. While it is gone, what is held is as safe as without
    /// one, and nothing new is locked.
    Watchdog {
        /// Whether it is in force.
        in_force: bool,
    },
    /// The locks are lost, for good.
    Lost(LossReason),
}

/// What a guard is made of, but for its handle.
pub(super) struct GuardState {
    lost: AtomicBool,
    pending: Mutex<Pending>,
    pub(super) event: OwnedFd,
    /// In the order in which they were taken; given back in the reverse order.
    pub(super) leases: Vec<Lease>,
    pub(super) unprotected: Vec<Locked>,
    /// `None` where nothing protects the locks.
    pub(super) lockspace: Option<Lockspace>,
    /// Dropped when the holder says that it has stopped.
    token: Mutex<Option<HolderToken>>,
    /// `None`: this process.
    owner: Option<Arc<OwnerProcess>>,
    is_fenced: bool,
    terminates: bool,
    /// Whether everything is given back. Locked while that is under way: whoever comes second waits.
    given_back: Mutex<bool>,
    pid: u32,
}

type OnLost = Box<dyn FnOnce(&LossReason) + Send>;

fn once(callback: LossCallback) -> OnLost {
    Box::new(move |reason| callback.call(reason))
}

/// What the holder is to be notified of, and what is to be run.
#[derive(Default)]
struct Pending {
    reason: Option<LossReason>,
    events: VecDeque<LockEvent>,
    on_lost: Vec<OnLost>,
    /// What the failure action wants to be run after those.
    action: Option<OnLost>,
    on_owner_end: Vec<LossCallback>,
}

impl Pending {
    /// Whether a loss is to have something done. What is found lost after the owner's end, while its
    /// locks are given back, is nobody's any more; what was lost before is reported though the owner ended
    /// by that.
    fn is_to_act(&self) -> bool {
        self.reason != Some(LossReason::OwnerEnded)
    }

    fn take_on_lost(&mut self) -> Vec<OnLost> {
        let mut callbacks = std::mem::take(&mut self.on_lost);
        callbacks.extend(self.action.take());
        callbacks
    }
}

impl GuardState {
    pub(super) fn unprotected(
        locked: Vec<Locked>,
        wishes: Wishes,
    ) -> Result<Arc<Self>, AcquireError> {
        let state = Self::new(Unstarted::default(), locked, None, wishes)?;
        Ok(Arc::new(state))
    }

    pub(super) fn over(
        lockspace: &Lockspace,
        leases: Unstarted,
        wishes: Wishes,
    ) -> Result<Arc<Self>, AcquireError> {
        let shared = &lockspace.inner().shared;
        let token = HolderToken::new(shared, wishes.action.is_fenced());
        let mut token = token.map_err(|error| match error {
            NotProtected::Lost => AcquireErrorKind::lockspace_lost(lockspace),
            NotProtected::Watchdog(error) => AcquireErrorKind::Unprotected(error),
        })?;
        let state = Self::new(leases, Vec::new(), Some(lockspace.clone()), wishes)?;
        let state = Arc::new(state);
        let holder: Arc<dyn Holder> = Arc::<Self>::clone(&state);
        let files = state.leases.iter().map(Lease::file).collect();
        token.register(&holder, files);
        *state.token.lock() = Some(token);
        lockspace.inner().watch_file_systems();
        let guard = Arc::downgrade(&state);
        let on_loss: OnLoss = Arc::new(move |reason| {
            if let Some(state) = guard.upgrade() {
                state.lose(reason);
            }
        });
        for lease in &state.leases {
            lease.keep(&on_loss);
        }
        Ok(state)
    }

    fn new(
        leases: Unstarted,
        unprotected: Vec<Locked>,
        lockspace: Option<Lockspace>,
        wishes: Wishes,
    ) -> Result<Self, AcquireError> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| AcquireErrorKind::EventFd {
                error: errno.into(),
            })?;
        Ok(Self {
            lost: AtomicBool::new(false),
            is_fenced: wishes.action.is_fenced(),
            terminates: wishes.action.terminates(),
            pending: Mutex::new(Pending {
                on_lost: wishes.on_lost.into_iter().map(once).collect(),
                action: wishes.action.callback().map(once),
                on_owner_end: wishes.on_owner_end,
                ..Pending::default()
            }),
            event,
            leases: leases.started(),
            unprotected,
            lockspace,
            token: Mutex::new(None),
            owner: wishes.owner,
            given_back: Mutex::new(false),
            pid: std::process::id(),
        })
    }

    /// What is locked, for the log.
    fn locks(&self) -> Vec<String> {
        let leases = self.leases.iter().map(Lease::describe);
        leases.collect()
    }

    pub(super) fn is_held(&self) -> bool {
        !self.lost.load(Ordering::Acquire) && self.lockspace.as_ref().is_none_or(Lockspace::is_held)
    }

    pub(super) fn reason(&self) -> Option<LossReason> {
        let known = self.pending.lock().reason.clone();
        known.or_else(|| self.lockspace.as_ref().and_then(Lockspace::loss))
    }

    pub(super) fn next_event(&self) -> Option<LockEvent> {
        let mut pending = self.pending.lock();
        let event = pending.events.pop_front();
        if pending.events.is_empty() && pending.reason.is_none() {
            // Under the lock: an event that comes right after makes it readable again.
            let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
        }
        event
    }

    /// Only this guard's locks are lost, not all of the lockspace's.
    pub(super) fn lose(&self, reason: &LossReason) {
        if let Some(token) = &*self.token.lock() {
            token.lose(reason);
        }
    }

    pub(super) fn on_lost(self: &Arc<Self>, callback: OnLost) {
        self.pending.lock().on_lost.push(callback);
        if let (true, Some(lockspace)) = (self.lost.load(Ordering::Acquire), &self.lockspace) {
            let holder: Arc<dyn Holder> = Arc::<Self>::clone(self);
            lockspace.inner().shared.holders.act_again(&holder);
        }
    }

    /// The holder may not run from now on, for reasons of its own.
    pub(super) fn end(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Whether this is the copy of a guard in a forked child. The locks are the parent's.
    pub(super) fn is_copy(&self) -> bool {
        self.pid != std::process::id()
    }

    /// The holder has stopped: nobody notifies it of anything any more, or kills it. Then gives back what
    /// is held. Whoever comes second waits until that is done, and has no error to report.
    pub(super) fn give_back(&self, leaving: Leaving) -> Result<(), ReleaseError> {
        let mut given_back = self.given_back.lock();
        if std::mem::replace(&mut *given_back, true) {
            return Ok(());
        }
        let mut pending = self.pending.lock();
        let unheard = pending.take_on_lost();
        let unended = std::mem::take(&mut pending.on_owner_end);
        drop(pending);
        drop((unheard, unended));
        self.give_back_leases(leaving)
    }

    /// Only while `given_back` is locked, once.
    fn give_back_leases(&self, leaving: Leaving) -> Result<(), ReleaseError> {
        let token = self.token.lock().take();
        drop(token);
        let mut result = Ok(());
        for lease in self.leases.iter().rev() {
            let released = lease.release(leaving);
            if result.is_ok() {
                result = released;
            } else if let Err(error) = released {
                tracing::warn!(%error, "a release failed");
            }
        }
        result
    }

    fn tell(&self, pending: &mut Pending, event: LockEvent) {
        // A warning that nobody has taken is out of date now.
        let is_same =
            |old: &LockEvent| std::mem::discriminant(old) == std::mem::discriminant(&event);
        pending.events.retain(|old| !is_same(old));
        pending.events.push_back(event);
        // Cannot block: a counter that is full would be readable already.
        let _ = rustix::io::write(&self.event, bytemuck::bytes_of(&1_u64));
    }
}

/// Runs a callback to its end. One that panics keeps no other from being run; what it panicked with was printed
/// by the panic hook.
fn run(what: &'static str, of: &GuardState, callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!(
            callback = what,
            locks = ?of.locks(),
            "a callback has panicked: what it was to do for a lost lock or an ended owner is not done"
        );
    }
}

impl Holder for GuardState {
    fn notice(&self, notice: Notice) {
        let event = match notice {
            Notice::Warned { missed, left } => LockEvent::Warned {
                missed_renewals: missed,
                left,
            },
            Notice::Renewed => LockEvent::Renewed,
            Notice::Watchdog { in_force } => LockEvent::Watchdog { in_force },
        };
        self.tell(&mut self.pending.lock(), event);
    }

    fn mark_lost(&self, reason: &LossReason) -> bool {
        let mut pending = self.pending.lock();
        if pending.reason.is_none() {
            pending.reason = Some(reason.clone());
            self.tell(&mut pending, LockEvent::Lost(reason.clone()));
        }
        drop(pending);
        self.lost.store(true, Ordering::Release);
        if let Some(owner) = &self.owner
            && self.terminates
        {
            // What is said of it may hang with whatever it is written to: it comes second.
            if signal(owner, Signal::TERM) {
                tracing::error!(
                    pid = owner.pid(),
                    locks = ?self.locks(),
                    %reason,
                    "the owner of lost locks was sent SIGTERM"
                );
            }
        }
        // A callback that comes after this sees the mark of the loss, and asks for itself.
        let pending = self.pending.lock();
        pending.is_to_act() && (!pending.on_lost.is_empty() || pending.action.is_some())
    }

    fn act(&self) {
        let mut pending = self.pending.lock();
        let Some(reason) = pending.reason.clone().filter(|_| pending.is_to_act()) else {
            return;
        };
        let callbacks = pending.take_on_lost();
        drop(pending);
        for callback in callbacks {
            run("on_lost", self, || callback(&reason));
        }
    }

    fn victim(&self) -> Victim {
        match self.owner {
            _ if !self.is_fenced => Victim::Nobody,
            Some(_) => Victim::OtherProcess,
            None => Victim::ThisProcess,
        }
    }

    fn kill(&self) {
        if let Some(owner) = &self.owner {
            if !owner.has_ended() && signal(owner, Signal::KILL) {
                tracing::error!(
                    pid = owner.pid(),
                    locks = ?self.locks(),
                    "the owner of lost locks has not stopped and was sent SIGKILL"
                );
            }
            return;
        }
        tracing::error!(
            locks = ?self.locks(),
            "this process has not stopped though its locks are lost: it is killed"
        );
        if let Err(error) = kill_process(getpid(), Signal::KILL) {
            tracing::error!(%error, "this process cannot be killed");
        }
        // Still here: process 1 of a PID namespace, which no signal from inside can kill. It can
        // end itself.
        std::process::abort();
    }
}

impl OwnerEnd for GuardState {
    fn owner_ended(&self) {
        let Some(owner) = &self.owner else {
            return;
        };
        // Whoever releases the guard meanwhile waits until nothing of the owner is left.
        let mut given_back = self.given_back.lock();
        if std::mem::replace(&mut *given_back, true) {
            return;
        }
        let loss = self.lockspace.as_ref().and_then(Lockspace::loss);
        let mut pending = self.pending.lock();
        let (mut unheard, mut is_to_act) = (Vec::new(), false);
        if pending.reason.is_none() {
            // A loss of the lockspace that came first has its actions run; the owner's end alone has none.
            is_to_act = loss.is_some();
            if !is_to_act {
                unheard = pending.take_on_lost();
            }
            let reason = loss.unwrap_or(LossReason::OwnerEnded);
            pending.reason = Some(reason.clone());
            self.tell(&mut pending, LockEvent::Lost(reason));
        }
        let on_owner_end = std::mem::take(&mut pending.on_owner_end);
        drop(pending);
        drop(unheard);
        self.lost.store(true, Ordering::Release);
        for callback in on_owner_end {
            run("on_owner_end", self, || {
                callback.call(&LossReason::OwnerEnded);
            });
        }
        match self.give_back_leases(Leaving::Used) {
            Ok(()) => tracing::info!(
                pid = owner.pid(),
                "the owner has ended: its locks are given back"
            ),
            Err(error) => {
                tracing::warn!(pid = owner.pid(), %error, "the owner has ended, and a release failed");
            }
        }
        drop(given_back);
        if is_to_act {
            self.act();
        }
    }
}

/// Whether it was sent, or there was nobody left for it.
fn signal(owner: &OwnerProcess, signal: Signal) -> bool {
    let sent = owner.send(signal);
    if let Err(error) = &sent {
        tracing::error!(pid = owner.pid(), %error, "the owner of lost locks cannot be sent a signal: IT MAY GO ON TO WRITE; end it by hand, as its own user or root");
    }
    sent.is_ok()
}

#[cfg(test)]
mod tests;
