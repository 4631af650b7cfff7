//! What a guard and those who tell it of a loss have in common.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::event::EventfdFlags;
use rustix::process::{Signal, getpid, kill_process};

use super::super::error::{AcquireError, ReleaseError};
use super::super::failure::{Deed, FailureAction};
use super::super::lease::{Lease, Leaving, Unstarted};
use super::super::request::{OnLost, OnOwnerEnd};
use super::Locked;
use crate::fence::OwnerProcess;
use crate::host::{Holder, LossReason, Notice, OnLoss, Victim};
use crate::lockspace::{HolderToken, Lockspace, NotProtected, OwnerEnd};
use crate::world::OsError;

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
pub(super) struct Core {
    lost: AtomicBool,
    state: Mutex<State>,
    event: OwnedFd,
    /// In the order in which they were taken; given back in the reverse order.
    leases: Vec<Lease>,
    unprotected: Vec<Locked>,
    /// `None` where nothing protects the locks.
    protection: Option<Protection>,
    /// `None`: this process.
    owner: Option<Arc<OwnerProcess>>,
    is_fenced: bool,
    terminates: bool,
    giving: Mutex<Giving>,
    given: Condvar,
    pid: u32,
}

/// How far the giving back has come. Not locked while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Giving {
    NotYet,
    UnderWay,
    Done,
}

struct GivenBack<'a>(&'a Core);

impl Drop for GivenBack<'_> {
    fn drop(&mut self) {
        *self.0.giving.lock() = Giving::Done;
        self.0.given.notify_all();
    }
}

#[derive(Default)]
struct State {
    reason: Option<LossReason>,
    events: VecDeque<LockEvent>,
    callbacks: Vec<OnLost>,
    deed: Option<Deed>,
    on_owner_end: Vec<OnOwnerEnd>,
}

/// What the leases of a guard depend on.
struct Protection {
    /// Dropped when the holder says that it has stopped.
    token: Mutex<Option<HolderToken>>,
    lockspace: Lockspace,
}

/// What is to be done for a guard beside locking.
pub(in crate::manager) struct Wishes {
    pub(in crate::manager) on_lost: Vec<OnLost>,
    pub(in crate::manager) action: FailureAction,
    pub(in crate::manager) on_owner_end: Vec<OnOwnerEnd>,
    pub(in crate::manager) owner: Option<Arc<OwnerProcess>>,
}

impl Core {
    pub(super) fn unprotected(
        locked: Vec<Locked>,
        wishes: Wishes,
    ) -> Result<Arc<Self>, AcquireError> {
        let leases = Unstarted::default();
        Ok(Arc::new(Self::new(leases, locked, None, wishes)?))
    }

    pub(super) fn over(
        lockspace: &Lockspace,
        leases: Unstarted,
        wishes: Wishes,
    ) -> Result<Arc<Self>, AcquireError> {
        let shared = &lockspace.inner().shared;
        let token = HolderToken::new(shared, wishes.action.is_fenced());
        let token = token.map_err(|error| match error {
            NotProtected::Lost => AcquireError::LockspaceLost {
                reason: lockspace.loss(),
            },
            NotProtected::Watchdog(error) => AcquireError::Unprotected { error },
        })?;
        let protection = Protection {
            token: Mutex::new(Some(token)),
            lockspace: lockspace.clone(),
        };
        let core = Arc::new(Self::new(leases, Vec::new(), Some(protection), wishes)?);
        let holder: Arc<dyn Holder> = Arc::<Self>::clone(&core);
        let files = core.leases.iter().map(Lease::file).collect();
        if let Some(protection) = &core.protection
            && let Some(token) = &mut *protection.token.lock()
        {
            token.register(&holder, files);
        }
        lockspace.inner().watch_file_systems();
        let guard = Arc::downgrade(&core);
        let on_loss: OnLoss = Arc::new(move |reason| {
            if let Some(core) = guard.upgrade() {
                core.lose(reason);
            }
        });
        for lease in &core.leases {
            lease.keep(&on_loss);
        }
        Ok(core)
    }

    fn new(
        leases: Unstarted,
        unprotected: Vec<Locked>,
        protection: Option<Protection>,
        wishes: Wishes,
    ) -> Result<Self, AcquireError> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| AcquireError::EventFd {
                error: OsError(errno.raw_os_error()),
            })?;
        Ok(Self {
            lost: AtomicBool::new(false),
            is_fenced: wishes.action.is_fenced(),
            terminates: wishes.action.terminates(),
            state: Mutex::new(State {
                callbacks: wishes.on_lost,
                deed: wishes.action.into_deed(),
                on_owner_end: wishes.on_owner_end,
                ..State::default()
            }),
            event,
            leases: leases.started(),
            unprotected,
            protection,
            owner: wishes.owner,
            giving: Mutex::new(Giving::NotYet),
            given: Condvar::new(),
            pid: std::process::id(),
        })
    }

    pub(super) fn is_held(&self) -> bool {
        !self.lost.load(Ordering::Acquire)
            && self
                .protection
                .as_ref()
                .is_none_or(|protection| protection.lockspace.is_held())
    }

    pub(super) fn reason(&self) -> Option<LossReason> {
        let known = self.state.lock().reason.clone();
        known.or_else(|| self.lockspace().and_then(Lockspace::loss))
    }

    pub(super) const fn event(&self) -> &OwnedFd {
        &self.event
    }

    pub(super) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    pub(super) fn unprotected_locks(&self) -> &[Locked] {
        &self.unprotected
    }

    pub(super) fn next_event(&self) -> Option<LockEvent> {
        let mut state = self.state.lock();
        let event = state.events.pop_front();
        if state.events.is_empty() && state.reason.is_none() {
            // Under the lock: an event that comes right after makes it readable again.
            let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
        }
        event
    }

    /// Only this guard's locks are lost, not all of the lockspace's.
    pub(super) fn lose(&self, reason: &LossReason) {
        if let Some(protection) = &self.protection
            && let Some(token) = &*protection.token.lock()
        {
            token.lose(reason);
        }
    }

    pub(super) fn on_lost(self: &Arc<Self>, callback: OnLost) {
        self.state.lock().callbacks.push(callback);
        if let (true, Some(protection)) = (self.lost.load(Ordering::Acquire), &self.protection) {
            let holder: Arc<dyn Holder> = Arc::<Self>::clone(self);
            let holders = &protection.lockspace.inner().shared.holders;
            holders.act_again(&holder);
        }
    }

    /// The holder may not run from now on, for reasons of its own.
    pub(super) fn end(&self) {
        self.lost.store(true, Ordering::Release);
    }

    pub(super) fn lockspace(&self) -> Option<&Lockspace> {
        let protection = self.protection.as_ref()?;
        Some(&protection.lockspace)
    }

    /// Whether this is the copy of a guard in a forked child. The locks are the parent's.
    pub(super) fn is_copy(&self) -> bool {
        self.pid != std::process::id()
    }

    /// The holder has stopped: nobody tells it anything any more, or kills it. Then gives back what
    /// is held. Whoever comes second waits until that is done, and has no error to report.
    pub(super) fn give_back(&self, leaving: Leaving) -> Result<(), ReleaseError> {
        match self.claim_giving() {
            Some(_until_done) => {
                let mut state = self.state.lock();
                let unheard = (
                    std::mem::take(&mut state.callbacks),
                    state.deed.take(),
                    std::mem::take(&mut state.on_owner_end),
                );
                drop(state);
                drop(unheard);
                self.give_back_claimed(leaving)
            }
            None => Ok(()),
        }
    }

    /// For one alone; others wait until that one is done.
    fn claim_giving(&self) -> Option<GivenBack<'_>> {
        let mut giving = self.giving.lock();
        if *giving == Giving::NotYet {
            *giving = Giving::UnderWay;
            // Also should something panic: nobody is to wait for ever.
            return Some(GivenBack(self));
        }
        while *giving != Giving::Done {
            self.given.wait(&mut giving);
        }
        None
    }

    fn give_back_claimed(&self, leaving: Leaving) -> Result<(), ReleaseError> {
        if let Some(protection) = &self.protection {
            let token = protection.token.lock().take();
            drop(token);
        }
        let mut result = Ok(());
        for lease in self.leases.iter().rev() {
            let released = lease.release(leaving);
            if result.is_ok() {
                result = released;
            } else if let Err(error) = released {
                tracing::warn!(%error, "a lease was not given back");
            }
        }
        result
    }

    fn tell(&self, state: &mut State, event: LockEvent) {
        // A warning that nobody has heard is out of date now.
        let is_same =
            |old: &LockEvent| std::mem::discriminant(old) == std::mem::discriminant(&event);
        state.events.retain(|old| !is_same(old));
        state.events.push_back(event);
        // Cannot block: a counter that is full would be readable already.
        let _ = rustix::io::write(&self.event, bytemuck::bytes_of(&1_u64));
    }
}

impl State {
    /// Whether a loss is to have something done. What is found lost after the owner's end, while its
    /// locks are given back, is nobody's any more; what was lost before is told though the owner ended
    /// by that.
    fn is_to_act(&self) -> bool {
        self.reason != Some(LossReason::OwnerEnded)
    }
}

impl Holder for Core {
    fn notice(&self, notice: Notice) {
        let event = match notice {
            Notice::Warned { missed, left } => LockEvent::Warned {
                missed_renewals: missed,
                left,
            },
            Notice::Renewed => LockEvent::Renewed,
            Notice::Watchdog { in_force } => LockEvent::Watchdog { in_force },
        };
        self.tell(&mut self.state.lock(), event);
    }

    fn mark_lost(&self, reason: &LossReason) -> bool {
        let mut state = self.state.lock();
        if state.reason.is_none() {
            state.reason = Some(reason.clone());
            self.tell(&mut state, LockEvent::Lost(reason.clone()));
        }
        drop(state);
        self.lost.store(true, Ordering::Release);
        if let Some(owner) = &self.owner
            && self.terminates
        {
            // What is said of it may hang with whatever it is written to: it comes second.
            if signal(owner, Signal::TERM) {
                tracing::error!(pid = owner.pid(), %reason, "the owner of lost locks was sent SIGTERM");
            }
        }
        // A callback that comes after this sees the mark of the loss, and asks for itself.
        let state = self.state.lock();
        state.is_to_act() && (!state.callbacks.is_empty() || state.deed.is_some())
    }

    fn act(&self) {
        let (reason, callbacks, deed) = {
            let mut state = self.state.lock();
            let Some(reason) = state.reason.clone().filter(|_| state.is_to_act()) else {
                return;
            };
            (
                reason,
                std::mem::take(&mut state.callbacks),
                state.deed.take(),
            )
        };
        let each = |run: Box<dyn FnOnce() + '_>| {
            // The others, and those of other guards, are run all the same. What it panicked with was
            // told by the panic hook.
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                tracing::error!("a callback for the loss of a lock has panicked");
            }
        };
        for callback in callbacks {
            each(Box::new(|| callback(&reason)));
        }
        if let Some(deed) = deed {
            each(Box::new(|| deed.do_it(&reason)));
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
                    "the owner of lost locks has not stopped and was sent SIGKILL"
                );
            }
            return;
        }
        tracing::error!("this process has not stopped though its locks are lost: it is killed");
        if let Err(error) = kill_process(getpid(), Signal::KILL) {
            tracing::error!(%error, "this process cannot be killed");
        }
        // Still here: process 1 of a PID namespace, which no signal from inside can kill. It can
        // end itself.
        std::process::abort();
    }
}

impl OwnerEnd for Core {
    fn owner_ended(&self) {
        let Some(owner) = &self.owner else {
            return;
        };
        // Whoever releases the guard meanwhile waits until nothing of the owner is left.
        let Some(_until_done) = self.claim_giving() else {
            return;
        };
        let loss = self.lockspace().and_then(Lockspace::loss);
        let loss = loss.unwrap_or(LossReason::OwnerEnded);
        let mut state = self.state.lock();
        let unheard = state.reason.is_none().then(|| {
            state.reason = Some(loss.clone());
            self.tell(&mut state, LockEvent::Lost(loss));
            (std::mem::take(&mut state.callbacks), state.deed.take())
        });
        let hooks = std::mem::take(&mut state.on_owner_end);
        drop(state);
        drop(unheard);
        self.lost.store(true, Ordering::Release);
        for hook in hooks {
            if catch_unwind(AssertUnwindSafe(hook)).is_err() {
                tracing::error!("a callback for the end of an owner has panicked");
            }
        }
        match self.give_back_claimed(Leaving::Used) {
            Ok(()) => tracing::info!(
                pid = owner.pid(),
                "the owner has ended: its locks are given back"
            ),
            Err(error) => {
                tracing::warn!(pid = owner.pid(), %error, "the owner has ended, and a lock of it was not given back");
            }
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
