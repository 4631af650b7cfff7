//! Holders that go on writing when their leases are lost, and what stops them: the library's own ladder, and the
//! deadman timer that the kernel keeps for a process that stands still.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use disklease::__sim::delta_lease::{DeltaLease, Membership};
use disklease::__sim::lockspace::{
    Holder, HolderBoard, Notice, ProcessTimer, Subscription, Upkeep,
};
use disklease::__sim::world::{OsError, Timestamp, World};
use disklease::LossReason;
use parking_lot::Mutex;

use super::disk::SimDisk;
use super::machine::Host;

/// How often the kernel of a simulated machine looks at its timers. Whoever is killed is late by that at most.
const TICK: Duration = Duration::from_millis(50);

/// The holders of one life of a host, and what is to become of its process.
pub struct Fences {
    pub board: Arc<HolderBoard>,
    process: Process,
}

/// A process as the kernel sees it.
#[derive(Clone, Default)]
struct Process(Arc<Mutex<Fate>>);

#[derive(Default)]
struct Fate {
    deadman: Option<Timestamp>,
    is_killed: bool,
}

impl ProcessTimer for Process {
    fn set(&self, at: Option<Timestamp>) -> Result<(), OsError> {
        self.0.lock().deadman = at;
        Ok(())
    }
}

impl Holder for Process {
    fn notice(&self, _: Notice) {}
    fn mark_lost(&self, _: &LossReason) {}
    fn has_actions(&self) -> bool {
        false
    }
    fn act(&self) {}
    fn is_fenced(&self) -> bool {
        true
    }
    fn is_foreign(&self) -> bool {
        false
    }
    fn kill(&self) {
        self.0.lock().is_killed = true;
    }
}

/// What a lockspace does when it hears of its renewals.
pub struct Care<'a> {
    pub host: &'a Host,
    pub board: &'a HolderBoard,
}

impl Upkeep for Care<'_> {
    fn renewed(&self, renewed_at: Timestamp, _: Duration) {
        self.board.renewed(renewed_at);
    }
    fn missed(&self, _: u32) {}
    fn warned(&self, _: u32, _: Duration) {}
    fn lost(&self, _: Timestamp) {
        self.host.has_lost("its holders are to stop");
    }
}

impl Fences {
    /// A holder that is to be stopped until what this gives is dropped.
    pub fn hold(&self, now: Timestamp) -> (Arc<dyn Holder>, Subscription) {
        let holder: Arc<dyn Holder> = Arc::new(self.process.clone());
        let subscription = self.board.subscribe(&holder, Vec::new(), now);
        (holder, subscription)
    }
}

impl Host {
    /// The fences of the life that begins with `delta`. The kernel's part is not the process's: it goes on while that
    /// stands still.
    pub fn fence(
        self: &Rc<Self>,
        membership: &Membership<SimDisk>,
        delta: &DeltaLease,
    ) -> Rc<Fences> {
        let process = Process::default();
        let timer: Box<dyn ProcessTimer> = Box::new(process.clone());
        let board = HolderBoard::new(membership.timing(), delta.renewed_at(), Some(timer));
        let (me, fate, life) = (Rc::clone(self), process.clone(), self.life());
        let (hardware, sim) = (self.field.hardware.clone(), self.field.sim.clone());
        let clock = sim.core.borrow().hosts[self.world.host.0].clock;
        self.field.sim.spawn(hardware.host, async move {
            while me.life() == life {
                let (deadman, is_killed) = {
                    let fate = fate.0.lock();
                    (fate.deadman, fate.is_killed)
                };
                let has_fired = |at: Timestamp| sim.now() >= clock.reaches(at.as_nanos());
                if is_killed || deadman.is_some_and(has_fired) {
                    me.field.referee.count(|tally| tally.fenced += 1);
                    me.kill(Some(Duration::from_millis(500)), false);
                    return;
                }
                hardware.sleep(TICK).await;
            }
        });
        Rc::new(Fences { board, process })
    }
}
