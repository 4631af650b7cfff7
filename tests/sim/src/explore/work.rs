//! What a host does with the lease: its script, cut into pieces of the library's code.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use disklease::__sim::delta_lease::{DeltaSectorErrorKind, Membership};
use disklease::__sim::paxos_lease::{
    self, AcquireError, AcquireFailure, GiveBackError, HeldLease, Holding, LeaseIoError,
    LeftBehind, Patience,
};
use disklease::CancelToken;
use disklease::format::{Generation, HolderNote, LeaseVersion};

use super::layout::{Layout, StepDisk, host_id};
use super::members::{Member, MemberId};
use super::port::{Asked, Port};

/// One piece. Between two pieces a host keeps nothing but what is in [`Root`].
#[allow(clippy::large_enum_variant, reason = "few are alive at a time")]
#[derive(Clone, Debug)]
pub enum Work {
    Acquire,
    /// The host holds the lease until the first write of this has landed.
    Release(HeldLease),
    Reconcile(LeftBehind),
    /// Nothing more: its script has ended.
    Rest,
    Dead,
}

/// All that a host knows at the beginning of a piece of work.
#[derive(Clone, Debug)]
pub struct Root {
    pub host: usize,
    pub member: MemberId,
    /// Nanoseconds of its clock.
    pub now: u64,
    /// The last timestamp that it gave out, 0 for none.
    pub timestamp: u64,
    /// Acquires that are left to it, this one included.
    pub left: u32,
    pub work: Work,
    /// What it is to reconcile when its acquires have failed, or have ended.
    pub pending: Option<LeftBehind>,
    /// It waits until no write of its own is in flight before it begins.
    pub waits: bool,
}

/// What is the same for all hosts of a world.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Hosts do not reconcile their pending cleanups before their next acquire, only after the last one.
    pub pending: bool,
    /// Hosts wait for an owner that may be dead.
    pub patient: bool,
    /// Two hosts are twins.
    pub twin: bool,
}

/// How a piece ended.
pub enum End {
    Acquired(Result<HeldLease, AcquireFailure>),
    Released(HeldLease, Result<(), GiveBackError>),
    Reconciled(LeftBehind, Result<(), GiveBackError>),
}

/// What the end of a piece means to the checker.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The version that is held from now on.
    pub holds: Option<u64>,
    /// An acquire came to its end without success.
    pub refused: bool,
    /// An error that no history may lead to, or success that none may.
    pub trouble: bool,
    pub text: String,
}

impl Told {
    /// This, and then more at once.
    pub fn and(mut self, more: &Self) -> Self {
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        self.text.push_str(&more.text);
        Self {
            holds: self.holds.or(more.holds),
            refused: self.refused | more.refused,
            trouble: self.trouble | more.trouble,
            text: self.text,
        }
    }
}

/// A piece under way.
pub struct Runner {
    pub port: Port,
    pub membership: Rc<Membership<StepDisk>>,
    /// What it waits for.
    pub asked: Option<Asked>,
    future: Pin<Box<dyn Future<Output = End>>>,
}

impl Runner {
    pub fn start(layout: Layout, manner: Manner, root: &Root, member: &Member) -> Self {
        let port = Port::new(layout, root.now);
        let membership = Rc::new(member.membership(layout));
        if root.timestamp != 0 {
            membership.unique_timestamp_secs(root.timestamp);
        }
        let (world, me, lease) = (port.clone(), membership.clone(), layout.lease_area());
        let future: Pin<Box<dyn Future<Output = End>>> = match root.work.clone() {
            Work::Acquire => Box::pin(async move {
                let holding = manner.holding();
                End::Acquired(paxos_lease::acquire(&world, &me, &lease, &holding).await)
            }),
            Work::Release(held) => Box::pin(async move {
                let released = paxos_lease::release(&world, &me, &lease, &held, None).await;
                End::Released(held, released)
            }),
            Work::Reconcile(pending) => Box::pin(async move {
                let cleaned_up = paxos_lease::retract(&world, &me, &lease, &pending).await;
                End::Reconciled(pending, cleaned_up.map(drop))
            }),
            Work::Rest | Work::Dead => unreachable!("nothing is run"),
        };
        Self {
            port,
            membership,
            asked: None,
            future,
        }
    }

    /// On to the next thing that it waits for, or to its end.
    pub fn poll(&mut self) -> Option<End> {
        let mut context = Context::from_waker(Waker::noop());
        match self.future.as_mut().poll(&mut context) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => {
                self.asked = self.port.take_asked();
                None
            }
        }
    }
}

impl Manner {
    fn holding(self) -> Holding {
        let (host, generation) = (host_id(0), Generation::new(0));
        let note = HolderNote::new(host, generation, LeaseVersion::new(0));
        Holding {
            patience: if self.patient {
                Patience::WaitForDeath { until: None }
            } else {
                Patience::Refuse
            },
            note: Some(note.with_guest_name("guest")),
            expected: None,
            cancel: CancelToken::new(),
        }
    }

    fn may_refuse_with(self, error: &AcquireError) -> bool {
        match error {
            AcquireError::Held(_) | AcquireError::WriteInFlight => true,
            AcquireError::HeldByTwin { .. } => self.twin,
            AcquireError::Lease(error) => is_io(*error),
            AcquireError::OwnerUnreadable { error, .. } => {
                matches!(error.kind(), DeltaSectorErrorKind::Read(_))
            }
            _ => false,
        }
    }
}

impl Root {
    /// A host that has just joined.
    pub fn first(host: usize, member: MemberId, now: u64, left: u32) -> Self {
        Self {
            host,
            member,
            now,
            timestamp: 0,
            left,
            work: Work::Acquire,
            pending: None,
            waits: false,
        }
    }

    pub fn dead(host: usize, member: MemberId, left: u32) -> Self {
        Self {
            work: Work::Dead,
            ..Self::first(host, member, 0, left)
        }
    }

    /// The work that comes after a piece that ended so, and what that end means. `self` is the root of
    /// that piece, but for what has changed since.
    pub fn after(&self, manner: Manner, end: End) -> (Self, Told) {
        let next = |work, left| Self {
            left,
            work,
            pending: None,
            waits: false,
            ..self.clone()
        };
        // An acquire has ended, with its release if there was one.
        let over = |pending: Option<LeftBehind>| match (self.left.saturating_sub(1), pending) {
            (0, Some(pending)) => next(Work::Reconcile(pending), self.left),
            (_, Some(pending)) if !manner.pending => next(Work::Reconcile(pending), self.left),
            (0, None) => next(Work::Rest, 0),
            (left, pending) => Self {
                pending,
                ..next(Work::Acquire, left)
            },
        };
        let mut told = Told::default();
        let root = match end {
            End::Acquired(Ok(held)) => {
                told.holds = Some(held.version().get());
                told.text = format!("HOLDS version {}", held.version().get());
                next(Work::Release(held), self.left)
            }
            End::Acquired(Err(failure)) => {
                told.text = format!("acquire: {}", failure.error);
                told.trouble = !manner.may_refuse_with(&failure.error);
                if failure.error == AcquireError::WriteInFlight && failure.pending.is_none() {
                    // Nothing was tried: it tries again when that has changed.
                    Self {
                        waits: true,
                        pending: self.pending.clone(),
                        ..next(Work::Acquire, self.left)
                    }
                } else {
                    told.refused = true;
                    // The later pending cleanup is of the block that stands there now.
                    over(failure.pending.or_else(|| self.pending.clone()))
                }
            }
            End::Released(_, Ok(())) => {
                told.text.push_str("released");
                over(None)
            }
            End::Released(held, Err(error)) => {
                told.text = format!("release: {error}");
                told.trouble = !self.may_be_released_with(manner, &held, error);
                let is_pending = matches!(error, GiveBackError::Lease(_));
                over(is_pending.then(|| LeftBehind::of_release(&held)))
            }
            End::Reconciled(_, Ok(())) => {
                told.text.push_str("reconciled");
                over(None)
            }
            End::Reconciled(pending, Err(error)) => {
                told.text = format!("not reconciled: {error}");
                told.trouble = match error {
                    GiveBackError::Lease(error) => !is_io(error),
                    error => error != GiveBackError::WriteInFlight,
                };
                Self {
                    waits: true,
                    ..next(Work::Reconcile(pending), self.left)
                }
            }
        };
        (root, told)
    }

    /// The same for a host whose own leases are lost: it must find that out before it writes, and
    /// does nothing more in this incarnation.
    pub fn after_loss(&self, end: End) -> (Self, Told) {
        let mut told = Told::default();
        match end {
            End::Acquired(Ok(held)) => {
                told.trouble = true;
                let version = held.version().get();
                told.text =
                    format!("believes to hold version {version}, though its leases are lost");
            }
            End::Acquired(Err(failure)) => told.text = format!("acquire: {}", failure.error),
            End::Released(_, released) => told.text = format!("release: {released:?}"),
            End::Reconciled(_, cleaned_up) => told.text = format!("reconciled: {cleaned_up:?}"),
        }
        let left = self.left.saturating_sub(1);
        (Self::dead(self.host, self.member, left), told)
    }

    /// Whether a host that did nothing wrong, and that nobody else harmed, may see this error.
    fn may_be_released_with(&self, manner: Manner, held: &HeldLease, error: GiveBackError) -> bool {
        match error {
            GiveBackError::Lease(error) => is_io(error),
            // Its twin's hand looks like its own: that one frees what it had, whoever has it since.
            GiveBackError::NotOurs { .. } if manner.twin => true,
            // Once the mark is on the disk others may take the lease before the leader is read.
            GiveBackError::NotOurs { version, writer } => {
                version > held.version() && writer != u64::from(host_id(self.host))
            }
            _ => false,
        }
    }
}

/// An error of the storage, not of what it holds.
fn is_io(error: LeaseIoError) -> bool {
    matches!(
        error,
        LeaseIoError::Read { .. } | LeaseIoError::Write { .. }
    )
}
