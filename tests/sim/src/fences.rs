//! Holders that go on writing when their leases are lost, and what stops them: the library's own escalation, and the
//! deadman timer that the kernel keeps for a process that stands still.
//!
//! Processes also stand still without a guest, between the read of a deadline and the call of the kernel: see
//! `SimWorld::until_call`.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use disklease::__sim::delta_lease::{DeltaLease, Membership};
use disklease::__sim::host::{
    Holder, HolderRegistry, Notice, ProcessTimer, Registration, Upkeep, Victim,
};
use disklease::__sim::world::{OsError, Timestamp, World};
use disklease::LossReason;
use futures_util::future::select;
use futures_util::pin_mut;
use parking_lot::Mutex;

use super::disk::SimDisk;
use super::machine::Host;

/// The holders of one incarnation of a host, and what is to become of its process.
pub struct Fences {
    pub holders: Arc<HolderRegistry>,
    process: Process,
}

/// A process as the kernel sees it.
#[derive(Clone, Default)]
pub struct Process(Arc<Mutex<Fate>>);

#[derive(Default)]
pub struct Fate {
    deadman: Option<Timestamp>,
    is_killed: bool,
    /// Something has changed since the kernel looked.
    is_new: bool,
    kernel: Option<Waker>,
}

impl Process {
    fn change(&self, change: impl FnOnce(&mut Fate)) {
        let mut fate = self.0.lock();
        change(&mut fate);
        fate.is_new = true;
        if let Some(kernel) = fate.kernel.take() {
            kernel.wake();
        }
    }

    async fn changed(&self) {
        poll_fn(|context| {
            let mut fate = self.0.lock();
            if std::mem::take(&mut fate.is_new) {
                return Poll::Ready(());
            }
            fate.kernel = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl ProcessTimer for Process {
    fn set(&self, at: Option<Timestamp>) -> Result<(), OsError> {
        self.change(|fate| fate.deadman = at);
        Ok(())
    }
}

impl Holder for Process {
    fn notice(&self, _: Notice) {}
    fn mark_lost(&self, _: &LossReason) -> bool {
        false
    }
    fn act(&self) {}
    fn victim(&self) -> Victim {
        Victim::ThisProcess
    }
    fn kill(&self) {
        self.change(|fate| fate.is_killed = true);
    }
}

/// What a lockspace does when it is notified of its renewals.
pub struct Care<'a> {
    pub host: &'a Host,
    pub holders: &'a HolderRegistry,
}

impl Upkeep for Care<'_> {
    fn renewed(&self, renewed_at: Timestamp, _: Duration) {
        self.holders.renewed(renewed_at);
    }
    fn missed(&self, _: u32) {}
    fn warned(&self, _: u32, _: Duration) {}
    fn lost(&self, found: &LossReason, _: Timestamp) {
        self.host.has_lost(found);
    }
}

impl Fences {
    /// The fences of the life that begins with `delta`.
    pub fn new(membership: &Membership<SimDisk>, delta: &DeltaLease, process: Process) -> Rc<Self> {
        let timer: Box<dyn ProcessTimer> = Box::new(process.clone());
        let holders = HolderRegistry::new(membership.timing(), delta.renewed_at(), Some(timer));
        Rc::new(Self { holders, process })
    }

    /// A holder that is to be stopped until what this gives is dropped.
    pub fn hold(&self, now: Timestamp) -> (Arc<dyn Holder>, Registration) {
        let holder: Arc<dyn Holder> = Arc::new(self.process.clone());
        let registration = self.holders.register(&holder, now);
        (holder, registration)
    }
}

impl Host {
    /// What the kernel keeps of a process, which is killed when its time has come. It goes on while that stands still.
    pub fn kept_by_kernel(self: &Rc<Self>) -> Process {
        let process = Process::default();
        let (me, fate, life) = (Rc::clone(self), process.clone(), self.life());
        let (hardware, sim) = (self.field.hardware.clone(), self.field.sim.clone());
        let clock = sim.core.borrow().hosts[self.world.host.0].clock;
        self.field.sim.spawn(hardware.host, async move {
            loop {
                let (deadman, is_killed) = {
                    let fate = fate.0.lock();
                    (fate.deadman, fate.is_killed)
                };
                let fires_at = deadman.map(|at| clock.reaches(at.as_nanos()));
                if me.life() != life {
                    return;
                }
                if is_killed || fires_at.is_some_and(|at| sim.now() >= at) {
                    me.field.checker.count(|tally| tally.fenced += 1);
                    me.kill(Some(Duration::from_millis(500)), false);
                    return;
                }
                let changed = fate.changed();
                match fires_at {
                    None => changed.await,
                    Some(at) => {
                        let fires = hardware.sleep_until(Timestamp::from_nanos(at.0));
                        pin_mut!(changed, fires);
                        select(changed, fires).await;
                    }
                }
            }
        });
        process
    }
}
