//! What a host does with the lease: its script, cut into pieces of the library's code.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use disklease::__sim::delta_lease::Membership;
use disklease::__sim::paxos_lease::{
    self, AcquireError, AcquireFailure, Debt, HeldLease, Holding, LeaseIoError, Patience,
    ReleaseError, RetractError,
};
use disklease::format::{Generation, HolderNote, LeaseVersion};

use super::layout::{Layout, StepDisk};
use super::members::{Member, MemberId};
use super::port::Port;

/// One piece. Between two pieces a host keeps nothing but what is in [`Root`].
#[derive(Clone, Debug)]
pub enum Work {
    Acquire,
    /// The host holds the lease until the first write of this has landed.
    Release(HeldLease),
    Settle(Debt),
    /// Nothing more: its script is over.
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
    /// The last stamp that it gave out, 0 for none.
    pub stamp: u64,
    /// Acquires that are left to it, this one included.
    pub left: u32,
    pub work: Work,
    /// What it is to settle when its acquires have failed, or are over.
    pub debt: Option<Debt>,
    /// It waits until no write of its own is in flight before it begins.
    pub waits: bool,
}

/// What is the same for all hosts of a world.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Hosts do not settle their debts before their next acquire, only after the last one.
    pub owing: bool,
    /// Hosts wait for an owner that may be dead.
    pub patient: bool,
}

/// How a piece ended.
pub enum End {
    Acquired(Result<HeldLease, AcquireFailure>),
    Released(HeldLease, Result<(), ReleaseError>),
    Settled(Debt, Result<(), RetractError>),
}

/// What the end of a piece means to the judge.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The version that is held from now on.
    pub holds: Option<u64>,
    /// An acquire came to its end without success.
    pub refused: bool,
    /// An error that no history may lead to.
    pub trouble: bool,
    pub text: String,
}

/// A piece under way.
pub struct Runner {
    pub port: Port,
    pub membership: Rc<Membership<StepDisk>>,
    future: Pin<Box<dyn Future<Output = End>>>,
}

impl Runner {
    pub fn start(layout: Layout, manner: Manner, root: &Root, member: &Member) -> Self {
        let port = Port::new(layout, root.now);
        let membership = Rc::new(member.membership(layout));
        if root.stamp != 0 {
            membership.unique_stamp_secs(root.stamp);
        }
        let patience = if manner.patient {
            Patience::WaitForDeath { until: None }
        } else {
            Patience::Refuse
        };
        let (world, me, lease) = (port.clone(), membership.clone(), layout.lease_area());
        let future: Pin<Box<dyn Future<Output = End>>> = match root.work.clone() {
            Work::Acquire => Box::pin(async move {
                let note = HolderNote::new(me.host_id(), Generation::new(0), LeaseVersion::new(0));
                let holding = Holding {
                    patience,
                    note: Some(note.with_guest_name("guest")),
                    expected_version: None,
                };
                End::Acquired(paxos_lease::acquire(&world, &me, &lease, &holding).await)
            }),
            Work::Release(held) => Box::pin(async move {
                let released = paxos_lease::release(&world, &me, &lease, &held).await;
                End::Released(held, released)
            }),
            Work::Settle(debt) => Box::pin(async move {
                let settled = paxos_lease::retract(&world, &me, &lease, &debt).await;
                End::Settled(debt, settled)
            }),
            Work::Rest | Work::Dead => unreachable!("nothing is run"),
        };
        Self {
            port,
            membership,
            future,
        }
    }

    pub fn poll(&mut self) -> Option<End> {
        let mut context = Context::from_waker(Waker::noop());
        match self.future.as_mut().poll(&mut context) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => None,
        }
    }

    /// The last stamp that was given out, 0 for none.
    pub fn last_stamp(&self) -> u64 {
        self.membership.last_stamp_secs()
    }
}

impl Root {
    /// The work that comes after a piece that ended so, and what that end means.
    pub fn after(
        &self,
        manner: Manner,
        end: End,
        member: MemberId,
        now: u64,
        stamp: u64,
    ) -> (Self, Told) {
        let next = |work, left| Self {
            host: self.host,
            member,
            now,
            stamp,
            left,
            work,
            debt: None,
            waits: false,
        };
        let over = |debt: Option<Debt>| match (self.left.saturating_sub(1), debt) {
            (0, Some(debt)) => next(Work::Settle(debt), self.left),
            (_, Some(debt)) if !manner.owing => next(Work::Settle(debt), self.left),
            (0, None) => next(Work::Rest, 0),
            (left, debt) => Self {
                debt,
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
                told.trouble = !may_be_refused_with(&failure.error);
                let in_flight = failure.error == AcquireError::WriteInFlight;
                if in_flight && failure.debt.is_none() {
                    // Nothing was tried: it tries again when that has changed.
                    Self {
                        waits: true,
                        debt: self.debt.clone(),
                        ..next(Work::Acquire, self.left)
                    }
                } else {
                    told.refused = true;
                    // The later debt is of the block that stands there now.
                    over(failure.debt.or_else(|| self.debt.clone()))
                }
            }
            End::Released(_, Ok(())) => {
                told.text = "released".to_owned();
                over(None)
            }
            End::Released(held, Err(error)) => {
                told.text = format!("release: {error}");
                match error {
                    ReleaseError::Lease(LeaseIoError::Read { .. } | LeaseIoError::Write { .. }) => {
                        over(Some(Debt::of_release(&held)))
                    }
                    // Once the mark is on the disk others may take the lease before the leader is read.
                    ReleaseError::NotOurs { version, writer }
                        if version > held.version() && writer != self.host as u64 + 1 =>
                    {
                        over(None)
                    }
                    _ => {
                        told.trouble = true;
                        over(None)
                    }
                }
            }
            End::Settled(_, Ok(())) => {
                told.text = "debt settled".to_owned();
                over(None)
            }
            End::Settled(debt, Err(error)) => {
                told.text = format!("debt not settled: {error}");
                told.trouble = matches!(
                    error,
                    RetractError::LockspaceLost | RetractError::Lease(LeaseIoError::Format { .. })
                );
                Self {
                    waits: true,
                    ..next(Work::Settle(debt), self.left)
                }
            }
        };
        (root, told)
    }
}

fn may_be_refused_with(error: &AcquireError) -> bool {
    matches!(
        error,
        AcquireError::Held(_)
            | AcquireError::WriteInFlight
            | AcquireError::Lease(LeaseIoError::Read { .. } | LeaseIoError::Write { .. })
            | AcquireError::OwnerUnreadable {
                error: disklease::__sim::delta_lease::DeltaSectorError::Read { .. },
                ..
            }
    )
}

impl Work {
    pub fn is_rest(&self) -> bool {
        matches!(self, Self::Rest)
    }
}
