//! What a holder is notified of, when it is killed, and when the deadman timer would do it. N is 10 s and F is 60 s:
//! warned at 60 s, lost at 80 s, killed from 120 s on, the deadman at 121 s.

use std::sync::Arc;
use std::time::Duration;

use disklease::__sim::host::{
    Holder, HolderRegistry, Notice, ProcessTimer, Registration, Upkeep, Victim, serve_holders,
};
use disklease::__sim::world::{OsError, Timestamp};
use disklease::LossReason;
use parking_lot::Mutex;

use disklease_sim::rig::secs;
use disklease_sim::{First, Member, Rig, Sim, Task};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Warned(Duration),
    Renewed,
    Lost,
    Killed,
}

/// A holder that writes down what it is notified of.
struct Fake {
    told: Mutex<Vec<Told>>,
    victim: Victim,
}

impl Holder for Fake {
    fn notice(&self, notice: Notice) {
        self.told.lock().push(match notice {
            Notice::Warned { left, .. } => Told::Warned(left),
            Notice::Renewed => Told::Renewed,
            Notice::Watchdog { .. } => panic!("there is none"),
        });
    }

    fn mark_lost(&self, _: &LossReason) -> bool {
        self.told.lock().push(Told::Lost);
        false
    }

    fn act(&self) {}

    fn victim(&self) -> Victim {
        self.victim
    }

    fn kill(&self) {
        self.told.lock().push(Told::Killed);
    }
}

/// A timer that can be inspected.
#[derive(Clone, Default)]
struct Timer(Arc<Mutex<Option<Timestamp>>>);

impl ProcessTimer for Timer {
    fn set(&self, at: Option<Timestamp>) -> Result<(), OsError> {
        *self.0.lock() = at;
        Ok(())
    }
}

/// What a lockspace does of it.
struct Care(Arc<HolderRegistry>, Mutex<bool>);

impl Upkeep for Care {
    fn renewed(&self, renewed_at: Timestamp, _: Duration) {
        self.0.renewed(renewed_at);
        if std::mem::take(&mut *self.1.lock()) {
            self.0.notice(Notice::Renewed);
        }
    }

    fn missed(&self, _: u32) {}

    fn lost(&self, _: &LossReason, _: Timestamp) {}

    fn warned(&self, missed: u32, left: Duration) {
        *self.1.lock() = true;
        self.0.notice(Notice::Warned { missed, left });
    }
}

struct Escalation {
    rig: Rig,
    member: Member,
    holders: Arc<HolderRegistry>,
    timer: Timer,
    _kept: Task<()>,
}

impl Escalation {
    fn new() -> Self {
        let rig = Rig::new(Sim::new(First), 3);
        let (_, world) = rig.add_host();
        let member = rig.join_on(&world, rig.claimant(1, "me", 10));
        let timer = Timer::default();
        let delta = member.delta.borrow().clone();
        let timing = member.membership.timing();
        let deadman: Box<dyn ProcessTimer> = Box::new(timer.clone());
        let holders = HolderRegistry::new(timing, delta.renewed_at(), Some(deadman));
        let (me, kept) = (member.clone(), Arc::clone(&holders));
        let kept = rig.sim.spawn(member.host, async move {
            let mut delta = delta;
            let care = Care(Arc::clone(&kept), Mutex::new(false));
            serve_holders(&me.world, &me.membership, &mut delta, &kept, &care).await;
        });
        Self {
            rig,
            member,
            holders,
            timer,
            _kept: kept,
        }
    }

    fn holder(&self, is_fenced: bool) -> (Arc<Fake>, Registration) {
        self.register(if is_fenced {
            Victim::ThisProcess
        } else {
            Victim::Nobody
        })
    }

    fn register(&self, victim: Victim) -> (Arc<Fake>, Registration) {
        let fake = Arc::new(Fake {
            told: Mutex::default(),
            victim,
        });
        let holder: Arc<dyn Holder> = Arc::<Fake>::clone(&fake);
        let now = self.member.now();
        (fake, self.holders.register(&holder, now))
    }

    /// Hangs all I/O right after a good renewal, and gives the instant at which that was started.
    fn hang_after_renewal(&self) -> Timestamp {
        self.rig.sim.run_for(secs(45));
        self.rig.sim.hang_io(self.member.host);
        let deadline = self.member.membership.expiry().deadline().unwrap();
        deadline.before(secs(80))
    }

    fn run_to(&self, at: Timestamp) {
        self.rig.sim.run_for(at.since(self.member.now()));
    }

    /// All that `holder` is notified of from now to `at` and a moment, but nothing of it a moment before.
    #[track_caller]
    fn is_told_at(&self, holder: &Fake, at: Timestamp, told: &[Told]) {
        self.run_to(at.before(Duration::from_millis(1)));
        assert_eq!(*holder.told.lock(), [], "before {at:?}");
        self.run_to(at + Duration::from_millis(1));
        assert_eq!(std::mem::take(&mut *holder.told.lock()), told, "at {at:?}");
    }
}

#[test]
fn each_step_comes_at_its_time_and_the_killing_goes_on() {
    let escalation = Escalation::new();
    let (holder, _registered) = escalation.holder(true);
    let renewed = escalation.hang_after_renewal();
    let warned = Told::Warned(secs(20));
    escalation.is_told_at(&holder, renewed + secs(60), &[warned]);
    escalation.is_told_at(&holder, renewed + secs(80), &[Told::Lost]);
    for at in [120, 121, 122, 123] {
        escalation.is_told_at(&holder, renewed + secs(at), &[Told::Killed]);
    }
}

#[test]
fn a_warning_is_taken_back_by_a_good_renewal() {
    let escalation = Escalation::new();
    let (holder, _registered) = escalation.holder(true);
    let renewed = escalation.hang_after_renewal();
    escalation.is_told_at(&holder, renewed + secs(60), &[Told::Warned(secs(20))]);
    escalation.rig.sim.unhang_io(escalation.member.host);
    escalation.run_to(renewed + secs(79));
    assert_eq!(std::mem::take(&mut *holder.told.lock()), [Told::Renewed]);
    escalation.run_to(renewed + secs(400));
    assert_eq!(*holder.told.lock(), []);
}

#[test]
fn a_holder_that_says_it_has_stopped_is_told_and_done_nothing_more() {
    let escalation = Escalation::new();
    let (holder, registered) = escalation.holder(true);
    let renewed = escalation.hang_after_renewal();
    escalation.run_to(renewed + secs(119));
    holder.told.lock().clear();
    drop(registered);
    escalation.run_to(renewed + secs(200));
    assert_eq!(*holder.told.lock(), []);
}

#[test]
fn one_whose_loss_is_ignored_is_told_and_not_killed() {
    let escalation = Escalation::new();
    let (holder, _registered) = escalation.holder(false);
    let renewed = escalation.hang_after_renewal();
    escalation.run_to(renewed + secs(79));
    holder.told.lock().clear();
    assert_eq!(*escalation.timer.0.lock(), Some(renewed + secs(130)));
    escalation.run_to(renewed + secs(83));
    assert_eq!(*escalation.timer.0.lock(), None);
    escalation.run_to(renewed + secs(300));
    assert_eq!(*holder.told.lock(), [Told::Lost]);
}

#[test]
fn one_whose_loss_is_ignored_is_not_killed_with_others() {
    let escalation = Escalation::new();
    let (ignores, _registered) = escalation.holder(false);
    let (holder, _also) = escalation.holder(true);
    let renewed = escalation.hang_after_renewal();
    escalation.run_to(renewed + secs(119));
    holder.told.lock().clear();
    escalation.is_told_at(&holder, renewed + secs(120), &[Told::Killed]);
    escalation.run_to(renewed + secs(125));
    assert_eq!(*ignores.told.lock(), [Told::Warned(secs(20)), Told::Lost]);
}

/// Of all at once, as when the lockspace was removed: a renewal that was good just before does not put it off.
#[test]
fn a_loss_of_all_that_is_not_the_clocks_moves_the_deadman() {
    let escalation = Escalation::new();
    let (_holder, _registered) = escalation.holder(true);
    escalation.rig.sim.run_for(secs(45));
    let noticed = escalation.member.now();
    escalation
        .holders
        .announce(&LossReason::LockspaceReplaced, noticed);
    assert_eq!(*escalation.timer.0.lock(), Some(noticed + secs(41)));
}

/// A process that stood still has used up its grace.
#[test]
fn the_grace_counts_from_the_deadline_however_late_the_loss_is_noticed() {
    let escalation = Escalation::new();
    let (holder, _registered) = escalation.holder(true);
    let renewed = escalation.hang_after_renewal();
    escalation.rig.sim.pause(escalation.member.host, true);
    escalation.run_to(renewed + secs(115));
    escalation.rig.sim.pause(escalation.member.host, false);
    escalation.run_to(renewed + secs(119));
    assert_eq!(holder.told.lock().last(), Some(&Told::Lost));
    holder.told.lock().clear();
    escalation.is_told_at(&holder, renewed + secs(120), &[Told::Killed]);
}

/// One lease that was taken or replaced is a loss of its holder's alone.
#[test]
fn a_loss_that_is_not_the_clocks_has_its_grace_from_its_notice() {
    let escalation = Escalation::new();
    let (holder, registered) = escalation.holder(true);
    let (other, _registered) = escalation.holder(true);
    escalation.rig.sim.run_for(secs(45));
    let noticed = escalation.member.now();
    registered.lose(&LossReason::LeaseReplaced, noticed);
    registered.lose(&LossReason::LeaseReplaced, noticed + secs(5));
    assert_eq!(std::mem::take(&mut *holder.told.lock()), [Told::Lost]);
    // Before the killing, with all to spare: by a timer that the renewals do not move.
    assert_eq!(*escalation.timer.0.lock(), Some(noticed + secs(41)));
    escalation.is_told_at(&holder, noticed + secs(40), &[Told::Killed]);
    assert_eq!(*escalation.timer.0.lock(), Some(noticed + secs(41)));
    drop(registered);
    escalation.run_to(noticed + secs(300));
    assert_eq!((holder.told.lock().len(), other.told.lock().len()), (0, 0));
}

#[test]
fn whoever_comes_after_the_loss_is_told_at_once() {
    let escalation = Escalation::new();
    let renewed = escalation.hang_after_renewal();
    escalation.run_to(renewed + secs(81));
    let (holder, _registered) = escalation.holder(true);
    assert_eq!(std::mem::take(&mut *holder.told.lock()), [Told::Lost]);
}

/// For a little after the killing where there are holders, and well before anybody may take over in any case, counted
/// from the last good renewal.
#[test]
fn the_deadman_is_armed_sooner_while_there_are_holders_and_moved_by_renewals() {
    let escalation = Escalation::new();
    let armed_for = || *escalation.timer.0.lock();
    let after_renewal = |after| {
        let deadline = escalation.member.membership.expiry().deadline().unwrap();
        Some(deadline.before(secs(80)) + secs(after))
    };
    let by_deadline = || after_renewal(121);
    let of_member = || after_renewal(130);
    assert_eq!(armed_for(), of_member());
    escalation.rig.sim.run_for(secs(50));
    assert_eq!(armed_for(), of_member());
    let (_first, first) = escalation.holder(true);
    assert_eq!(armed_for(), by_deadline());
    let (_second, second) = escalation.holder(true);
    for _ in 0..5 {
        escalation.rig.sim.run_for(secs(25));
        assert_eq!(armed_for(), by_deadline());
    }
    drop(first);
    assert_eq!(armed_for(), by_deadline());
    drop(second);
    assert_eq!(armed_for(), of_member());
    let (_third, _registered) = escalation.holder(true);
    let renewed = escalation.hang_after_renewal();
    escalation.run_to(renewed + secs(119));
    assert_eq!(armed_for(), Some(renewed + secs(121)));
}

/// It would write over its successor when it went on. One that runs knows when it has nothing to write any more.
#[test]
fn a_member_without_holders_is_killed_if_it_stands_still_and_not_if_it_runs() {
    let escalation = Escalation::new();
    let armed_for = || *escalation.timer.0.lock();
    let renewed = escalation.hang_after_renewal();
    escalation.rig.sim.pause(escalation.member.host, true);
    escalation.run_to(renewed + secs(90));
    assert_eq!(armed_for(), Some(renewed + secs(130)));
    escalation.rig.sim.pause(escalation.member.host, false);
    for _ in 0..3 {
        // Goes on for too short a time for what was on its way to the kernel to be there.
        escalation.run_to(escalation.member.now() + Duration::from_millis(10));
        assert_eq!(armed_for(), Some(renewed + secs(130)));
        escalation.rig.sim.pause(escalation.member.host, true);
        escalation.run_to(escalation.member.now() + secs(10));
        escalation.rig.sim.pause(escalation.member.host, false);
    }
    escalation.run_to(escalation.member.now() + secs(3));
    assert_eq!(armed_for(), None);
}

/// A manager is given more time than its guest's process, which may take some to end.
#[test]
fn the_deadman_of_a_manager_fires_half_way_to_the_end() {
    let escalation = Escalation::new();
    let (_guest, registered) = escalation.register(Victim::OtherProcess);
    let renewed = escalation.hang_after_renewal();
    let armed_for = || *escalation.timer.0.lock();
    assert_eq!(armed_for(), Some(renewed + secs(130)));
    escalation.run_to(renewed + secs(125));
    assert_eq!(armed_for(), Some(renewed + secs(130)));
    let (_own, _registered) = escalation.holder(true);
    assert_eq!(armed_for(), Some(renewed + secs(121)));
    drop(registered);
}

/// One that is killed again and again does not hold up the killing of another.
#[test]
fn each_holder_is_killed_at_its_own_time() {
    let escalation = Escalation::new();
    let (first, registered_first) = escalation.holder(true);
    let (second, registered_second) = escalation.holder(true);
    escalation.rig.sim.run_for(secs(45));
    let noticed = escalation.member.now();
    registered_first.lose(&LossReason::LeaseReplaced, noticed);
    escalation.run_to(noticed + Duration::from_millis(500));
    registered_second.lose(
        &LossReason::LeaseReplaced,
        noticed + Duration::from_millis(500),
    );
    for holder in [&first, &second] {
        holder.told.lock().clear();
    }
    escalation.is_told_at(&first, noticed + secs(40), &[Told::Killed]);
    let then = noticed + Duration::from_millis(40_500);
    escalation.is_told_at(&second, then, &[Told::Killed]);
    escalation.is_told_at(&first, noticed + secs(41), &[Told::Killed]);
}
