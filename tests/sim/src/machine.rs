//! A host as it is in production: it joins, renews, reconciles its pending cleanups, runs guests under leases,
//! loses them, leaves, is killed and comes back.
//!
//! All that decides anything is the library's code. What stands here is what the library leaves to
//! others: the guests, the restarts, the process lock, the watchdog.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use disklease::__sim::delta_lease::{
    self, Claimant, DeltaLease, EarlierIncarnation, HostTable, LockspaceArea, Membership,
};
use disklease::__sim::host::{
    LeaseTable, OnLoss, ProcessTimer, Reservation, claim_with_timer, keep_renewed, reconcile,
    reread_held, run_on, serve_holders,
};
use disklease::__sim::paxos_lease::{
    self, AcquireError, GiveBackError, HeldLease, Holding, LeaseArea, LeaseIoError, LeftBehind,
    Patience,
};
use disklease::__sim::world::{Timestamp, World};
use disklease::format::{Generation, HolderNote, HostName, Incarnation, LeaseVersion};
use disklease::timing::Timing;
use disklease::{CancelToken, LossReason};
use futures_util::future::{Either, join, join_all, select};
use futures_util::{FutureExt, pin_mut};

use super::checker::{Checker, Life, offset_of};
use super::clock::TrueTime;
use super::disk::{Sectors, SimDisk};
use super::fences::{Care, Fences, Process};
use super::io::IoKind;
use super::moves::{Ending, Image, Stream};
use super::rig::{host_id, incarnation, secs, timing};
use super::scenario::{Scenario, Setup};
use super::sched::{HostIx, Sim};
use super::script::Pending;
use super::world::SimWorld;

/// The pause before each try when the host faults have ended, at most.
const QUIET_PAUSE_MILLIS: u64 = 600;

/// What all hosts of a run have in common.
pub struct Field {
    pub sim: Sim,
    pub scenario: Scenario,
    pub space: LockspaceArea<SimDisk>,
    pub leases: Vec<LeaseArea<SimDisk>>,
    pub guests: SimDisk,
    pub checker: Checker,
    /// What never stands still: watchdogs, and whoever restarts processes. Its clock is true.
    pub hardware: SimWorld,
    /// The guest of each lease that is on its way to another host, if it is.
    pub streams: RefCell<Vec<Option<Stream>>>,
    /// What operators have taken a copy of, for each lease.
    pub copies: RefCell<Vec<Sectors>>,
    /// What operators have taken a copy of, of the lockspace.
    pub lockspace_copy: RefCell<Sectors>,
    /// Whether something else lies in place of each lease.
    pub is_foreign: RefCell<Vec<bool>>,
    /// Hosts that have got all they wanted.
    pub finished: Cell<usize>,
}

/// One host.
pub struct Host {
    pub field: Rc<Field>,
    pub world: SimWorld,
    pub setup: Setup,
    pub timing: Timing,
    /// Rises with each restart under another name.
    name: Cell<u32>,
    /// Rises with each reset of the machine.
    boot: Cell<u8>,
    /// Joins started so far.
    joins: Cell<u64>,
    /// The last of them, as the file of the process lock has it.
    recorded: Cell<Option<Incarnation>>,
    /// It is to leave the lockspace when its guests allow.
    leaving: Cell<bool>,
    turns_left: RefCell<Vec<u64>>,
    /// Whether each lease was had after the host faults were over.
    had_last: RefCell<Vec<bool>>,
    /// The suspended guest of each lease, if there is one.
    pub suspended: RefCell<Vec<Option<Image>>>,
    /// Of the present life, where holders are stopped that do not stop.
    fences: RefCell<Option<Rc<Fences>>>,
    /// How often it came to have something to clean up on a lease.
    pub cleanups: Cell<u64>,
    /// Nobody will start it again.
    pub gone: Cell<bool>,
    is_finished: Cell<bool>,
}

type Table = Arc<LeaseTable<SimDisk, usize>>;

impl Field {
    fn now(&self) -> TrueTime {
        self.sim.now()
    }

    pub fn is_quiet(&self) -> bool {
        self.now() >= self.scenario.quiet_at
    }
}

impl Host {
    pub fn new(field: &Rc<Field>, host: HostIx, setup: Setup) -> Rc<Self> {
        let leases = field.leases.len();
        Rc::new(Self {
            field: Rc::clone(field),
            world: SimWorld::new(&field.sim, host),
            setup,
            timing: timing(setup.n, field.scenario.f),
            name: Cell::new(0),
            boot: Cell::new(setup.machine * 32),
            joins: Cell::new(0),
            recorded: Cell::new(None),
            leaving: Cell::new(false),
            turns_left: RefCell::new(vec![field.scenario.turns; leases]),
            had_last: RefCell::new(vec![false; leases]),
            suspended: RefCell::new(vec![None; leases]),
            fences: RefCell::new(None),
            cleanups: Cell::new(0),
            gone: Cell::new(false),
            is_finished: Cell::new(false),
        })
    }

    fn ix(&self) -> HostIx {
        self.world.host
    }

    pub fn life(&self) -> Life {
        let core = self.field.sim.core.borrow();
        (self.ix(), core.hosts[self.ix().0].life)
    }

    pub fn note(&self, text: impl FnOnce() -> String) {
        self.field.sim.note(Some(self.ix()), text);
    }

    /// Whether any I/O of this host, or of this incarnation of it alone, has not ended.
    fn has_io(&self, of_life: Option<u64>, wanted: impl Fn(IoKind) -> bool) -> bool {
        let core = self.field.sim.core.borrow();
        core.ios.values().any(|io| {
            io.host == self.ix()
                && of_life.is_none_or(|life| io.life == life)
                && !io.ended
                && !io.queued
                && wanted(io.kind)
        })
    }

    pub fn start(self: &Rc<Self>, joined: Option<DeltaLease>) {
        if let Some(lease) = &joined {
            self.recorded.set(Some(lease.incarnation()));
        }
        let me = Rc::clone(self);
        let starts_after = self.setup.starts_after;
        self.field.sim.spawn(self.ix(), async move {
            if me.life().1 == 0 {
                me.world.sleep(starts_after).await;
            }
            me.live(joined).await;
        });
    }

    /// No two joins of a run have the same.
    fn new_incarnation(&self) -> Incarnation {
        let joins = self.joins.replace(self.joins.get() + 1);
        incarnation(self.ix().0 as u64 | joins << 8)
    }

    fn claimant(&self) -> Claimant {
        let names = ["alpha", "beta", "gamma", "delta"];
        let own = usize::from(self.setup.name) - 1;
        let name = format!("{}-{}", names[own], self.name.get());
        let incarnation = self.new_incarnation();
        // What a process lock proves: nothing of an earlier incarnation runs, nor is any I/O of it left.
        let earlier = self.recorded.replace(Some(incarnation));
        let is_over = !self.has_io(None, |_| true);
        Claimant {
            host_id: host_id(self.setup.host_id),
            host_name: HostName::new(&name).unwrap(),
            timing: self.timing,
            pid: 1,
            boot_id: [self.boot.get(); 16],
            incarnation,
            process_token: self.setup.process_token,
            earlier_incarnation: earlier
                .filter(|_| is_over)
                .map_or(EarlierIncarnation::MayRun, EarlierIncarnation::ProvenEnded),
        }
    }

    /// One process, from its start to its end.
    async fn live(self: Rc<Self>, joined: Option<DeltaLease>) {
        let (field, world) = (&self.field, &self.world);
        let has_timer = field.scenario.stubborn || field.scenario.freezes;
        let process = has_timer.then(|| self.kept_by_kernel());
        let mut joined = joined.map(|delta| {
            let table = HostTable::new(
                field.space.geometry,
                field.space.name,
                self.timing.fire_timeout(),
                Some(delta.host_id()),
            );
            (delta, table)
        });
        loop {
            let (mut delta, table) = match joined.take() {
                Some(joined) => joined,
                None => {
                    // A process enters no new incarnation while I/O of its last one is under way.
                    while self.has_io(Some(self.life().1), |_| true) {
                        world.sleep(Duration::from_millis(100)).await;
                    }
                    self.note(|| "joins".to_owned());
                    let claimant = self.claimant();
                    let timer = process
                        .as_ref()
                        .map(|process| -> &dyn ProcessTimer { process });
                    field.checker.claims(self.life(), self.setup.host_id);
                    let claim = claim_with_timer(world, &field.space, &claimant, &|_| {}, timer);
                    let claimed = claim.await.expect("the timer can be set");
                    field.checker.has_claimed(self.life());
                    match claimed {
                        Ok(joined) => joined,
                        Err(error) => {
                            self.end_of_io(self.timing.io()).await;
                            if let Some(timer) = timer {
                                timer.set(None).unwrap();
                            }
                            self.note(|| format!("did not join: {error}"));
                            field.checker.count(|tally| tally.failed_joins += 1);
                            let pause = 1000 + world.random(3000);
                            world.sleep(Duration::from_millis(pause)).await;
                            continue;
                        }
                    }
                }
            };
            field.checker.count(|tally| tally.joins += 1);
            let membership = Rc::new(Membership::new(field.space.clone(), &delta, table));
            self.note(|| {
                let generation = membership.generation().get();
                format!("is host {}, generation {generation}", self.setup.host_id)
            });
            self.leaving.set(false);
            field.checker.joins(self.life(), &membership);
            self.watch(&membership);
            self.run_guests(&membership, &mut delta, process.clone())
                .await;
            self.leave(&membership, &delta).await;
            if self.has_all() {
                self.finish();
                return;
            }
            world.sleep(Duration::from_millis(world.random(500))).await;
        }
    }

    pub fn finish(&self) {
        if !self.is_finished.replace(true) {
            self.field.finished.set(self.field.finished.get() + 1);
        }
    }

    async fn run_guests(
        self: &Rc<Self>,
        membership: &Rc<Membership<SimDisk>>,
        delta: &mut DeltaLease,
        process: Option<Process>,
    ) {
        let table = Table::default();
        let fences = process.map(|process| Fences::new(membership, delta, process));
        self.fences.borrow_mut().clone_from(&fences);
        let background = async {
            let renewal = async {
                if let Some(fences) = &fences {
                    let holders = &*fences.holders;
                    let care = Care {
                        host: self,
                        holders,
                    };
                    serve_holders(&self.world, membership, delta, holders, &care).await;
                }
                let loss = keep_renewed(&self.world, membership, delta, &()).await;
                membership.expiry().lose();
                self.has_lost(&loss.reason);
            };
            let cleanups = reconcile(&self.world, membership, &table);
            let reread = reread_held(&self.world, membership, &table);
            join(renewal, join(cleanups, reread)).await;
        };
        let guests =
            (0..self.field.leases.len()).map(|lease| self.guest(membership, &table, lease));
        let guests = join_all(guests);
        pin_mut!(background, guests);
        // On one thread somebody comes first: not always the same.
        if self.world.random(2) == 0 {
            if let Either::Left(((), guests)) = select(background, guests).await {
                guests.await;
            }
        } else if let Either::Right(((), guests)) = select(guests.map(drop), background).await {
            guests.await;
        }
        if let Err(leases) = table.close() {
            self.field
                .checker
                .breach(|| format!("stuck: {leases} leases are still reserved at the end"));
        }
    }

    pub fn has_lost(&self, reason: &LossReason) {
        self.note(|| format!("has lost its leases: {reason}"));
        if self.field.scenario.freezes && matches!(reason, LossReason::HostIdLost(_)) {
            let host = self.ix();
            self.field.checker.breach(|| {
                format!("overwritten: {host}, which lives, has lost its host id: {reason}")
            });
        }
        self.field.checker.count(|tally| tally.losses += 1);
    }

    /// Leaves as a lockspace does.
    async fn leave(&self, membership: &Membership<SimDisk>, delta: &DeltaLease) {
        let world = &self.world;
        let life = self.life().1;
        self.end_of_io(membership.timing().io()).await;
        if !self.has_io(Some(life), |_| true) {
            let freed = delta_lease::release(world, membership, delta).await;
            self.note(|| format!("has left: {freed:?}"));
            self.field.checker.count(|tally| tally.leaves += 1);
        }
        membership.expiry().lose();
        let fences = self.fences.borrow_mut().take();
        if let Some(fences) = fences {
            fences.holders.announce(&LossReason::Left, world.now());
            if self.has_io(Some(life), |_| true) {
                run_on(world, membership.timing()).await;
            }
            fences.holders.end_writing();
        }
    }

    /// Waits for the I/O of this process to end, but not for longer than this.
    async fn end_of_io(&self, limit: Duration) {
        let (world, life) = (&self.world, self.life().1);
        let until = world.now() + limit;
        while self.has_io(Some(life), |_| true) && world.now() < until {
            world.sleep(Duration::from_millis(20)).await;
        }
    }

    fn has_all(&self) -> bool {
        self.had_last.borrow().iter().all(|&had| had)
    }

    /// Whether its guests want this lease at this instant; else how long they are content.
    fn wants(&self, lease: usize) -> Result<(), Duration> {
        let quiet_at = self.field.scenario.quiet_at;
        let now = self.field.now();
        if now >= quiet_at {
            return match self.field.scenario.taker {
                Some(taker) if taker != self.ix().0 => {
                    if self.field.finished.get() > 0 {
                        self.had_last.borrow_mut()[lease] = true;
                    }
                    Err(Duration::from_secs(1))
                }
                _ => Ok(()),
            };
        }
        let mut turns = self.turns_left.borrow_mut();
        match turns[lease].checked_sub(1) {
            Some(left) => {
                turns[lease] = left;
                Ok(())
            }
            // Not all at one instant.
            None => Err(quiet_at.since(now) + Duration::from_millis(self.world.random(300))),
        }
    }

    /// Takes a lease, uses it, gives it back: until all are content, or the lockspace is lost.
    async fn guest(
        self: &Rc<Self>,
        membership: &Rc<Membership<SimDisk>>,
        table: &Table,
        lease: usize,
    ) {
        let (field, world) = (&self.field, &self.world);
        let scenario = &field.scenario;
        let millis = |of: Duration| u64::try_from(of.as_millis()).unwrap();
        let is_held = || membership.expiry().is_held(world.now());
        while is_held() && !self.leaving.get() && !self.had_last.borrow()[lease] {
            if let Err(content) = self.wants(lease) {
                // Its ears are open to what happens meanwhile.
                world.sleep(content.min(Duration::from_secs(3))).await;
                continue;
            }
            // After the host faults everybody is in a hurry.
            let most = if field.is_quiet() {
                QUIET_PAUSE_MILLIS
            } else {
                millis(scenario.pause_max)
            };
            world.sleep(Duration::from_millis(world.random(most))).await;
            let area = &field.leases[lease];
            let Ok(reservation) = table.reserve(lease, area.resource) else {
                world.sleep(Duration::from_millis(200)).await;
                continue;
            };
            let image = self.arrival(lease);
            let mut holding = self.holding(membership);
            holding.expected = image.map(|image| image.expected);
            field.checker.begins_acquire(lease, self.life());
            let work = field.checker.begins(lease);
            let mut failure = match paxos_lease::acquire(world, membership, area, &holding).await {
                Ok(held) => {
                    let is_fresh = work.is_fresh();
                    drop(work);
                    let mut reservation = Some(reservation);
                    let arrived = self.arrives(membership, lease, &held, image, &mut reservation);
                    if arrived.await {
                        self.hold(membership, lease, held, reservation, is_fresh)
                            .await;
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            self.refused(&failure.error);
            if let Some(image) = image {
                self.did_not_arrive(lease, image, &failure.error);
                holding.expected = None;
            }
            if let Some(pending) = failure.pending.take_if(|_| world.random(4) == 0) {
                // What an acquire left half-way need not be reconciled for the next to be right.
                match paxos_lease::acquire(world, membership, area, &holding).await {
                    Ok(held) => {
                        let is_fresh = work.is_fresh();
                        drop(work);
                        let reservation = Some(reservation);
                        self.hold(membership, lease, held, reservation, is_fresh)
                            .await;
                        continue;
                    }
                    Err(again) => {
                        self.refused(&again.error);
                        failure.pending = again.pending.or(Some(pending));
                    }
                }
            }
            drop(work);
            match (failure.pending, failure.cleaned_up) {
                (Some(pending), _) => {
                    self.counts_cleanup();
                    reservation.clean_up(area.clone(), pending);
                }
                (None, Some(cleaned_up)) => reservation.observe(area.clone(), cleaned_up),
                (None, None) => {}
            }
            if matches!(
                failure.error,
                AcquireError::Lease(LeaseIoError::Format { .. })
            ) {
                // Nothing mends a damaged record but whoever writes it next.
                world.sleep(Duration::from_secs(2)).await;
            }
        }
    }

    fn counts_cleanup(&self) {
        self.cleanups.set(self.cleanups.get() + 1);
        self.field.checker.count(|tally| tally.cleanups += 1);
    }

    fn refused(&self, error: &AcquireError) {
        self.note(|| format!("does not get the lease: {error}"));
        self.field.checker.count(|tally| tally.refusals += 1);
    }

    fn holding(&self, membership: &Membership<SimDisk>) -> Holding {
        let now = self.world.now();
        let patience = match self.world.random(if self.field.is_quiet() { 5 } else { 4 }) {
            0 | 1 => Patience::Refuse,
            2 => Patience::WaitForDeath {
                until: Some(now + secs(3)),
            },
            _ => Patience::WaitForDeath { until: None },
        };
        // sanlock hosts leave none.
        let is_noted = self.field.scenario.all_noted || self.world.random(3) != 0;
        let note = is_noted.then(|| {
            let version = LeaseVersion::new(0);
            HolderNote::new(membership.host_id(), Generation::new(0), version)
        });
        Holding {
            patience,
            note,
            expected: None,
            cancel: CancelToken::new(),
        }
    }

    async fn hold(
        &self,
        membership: &Rc<Membership<SimDisk>>,
        lease: usize,
        held: HeldLease,
        mut reservation: Option<Reservation<SimDisk, usize>>,
        is_fresh: bool,
    ) {
        let (field, world, life) = (&self.field, &self.world, self.life());
        let scenario = &field.scenario;
        let lost = Arc::new(AtomicBool::new(false));
        let is_held = || !lost.load(Ordering::Relaxed) && membership.expiry().is_held(world.now());
        let nanos = |of: Duration| u64::try_from(of.as_nanos()).unwrap();
        if !is_held() {
            return;
        }
        let area = &field.leases[lease];
        if let Some(reservation) = &mut reservation {
            let told = Arc::clone(&lost);
            let on_loss: OnLoss = Arc::new(move |_| told.store(true, Ordering::Relaxed));
            reservation.hold(area.clone(), held.clone(), on_loss);
        }
        let version = held.version().get();
        self.note(|| format!("holds the lease, version {version}"));
        let quiet = field.is_quiet();
        let checker = &field.checker;
        checker.acquired(lease, life, version, membership, &lost, is_fresh);
        if quiet {
            self.had_last.borrow_mut()[lease] = true;
        }
        let most = if quiet {
            Duration::from_millis(5)
        } else {
            scenario.hold_max
        };
        let until = world.now() + Duration::from_nanos(world.random(nanos(most) + 1));
        let ending = self.ending();
        let mut offer = None;
        let fences = self.fences.borrow().clone();
        let registered = fences.map(|fences| fences.hold(world.now()));
        // Its guest does not hear that the lease is lost, or does not stop for it.
        let stubborn = scenario.stubborn && !quiet && world.random(2) == 0;
        while is_held() || stubborn {
            if ending == Ending::HandOver && offer.is_none() {
                offer = Some(self.offer(membership, lease, version));
            }
            field.checker.writes(lease, life, version);
            let takes = match world.random(3) {
                _ if field.is_quiet() => Duration::from_millis(1),
                0 => Duration::from_millis(1),
                1 => Duration::from_nanos(world.random(nanos(scenario.guest_write_max) + 1)),
                _ => scenario.guest_write_max,
            };
            world.write_for(field.guests, offset_of(lease), takes).await;
            if (world.now() >= until || self.leaving.get()) && is_held() {
                break;
            }
            let rest = nanos(most) / 16 + 1_000_000;
            world.sleep(Duration::from_nanos(world.random(rest))).await;
        }
        if let (Some(offer), true) = (offer, is_held()) {
            let handed_over = self.hand_over(membership, lease, &held, offer, &mut reservation);
            if handed_over.await {
                return;
            }
            for _ in 0..world.random(4) {
                if is_held() {
                    field.checker.writes(lease, life, version);
                    let takes = Duration::from_millis(1 + world.random(200));
                    world.write_for(field.guests, offset_of(lease), takes).await;
                }
            }
        }
        if !is_held() {
            self.ask_again(membership, is_held).await;
            self.keep(membership, lease, version);
        } else if ending == Ending::Suspend {
            self.keep(membership, lease, version);
        }
        field.checker.gives_up(lease, life);
        drop(registered);
        if let Some(reservation) = &reservation {
            reservation.give_back();
        }
        let _work = field.checker.begins(lease);
        let released = paxos_lease::release(world, membership, area, &held, None).await;
        self.note(|| format!("has released the lease: {released:?}"));
        if let Err(GiveBackError::Lease(_)) = released {
            self.counts_cleanup();
            if let Some(reservation) = reservation {
                reservation.clean_up(area.clone(), LeftBehind::of_release(&held));
            }
        }
    }

    /// A guard that was lost is asked again, while its guest is being stopped.
    async fn ask_again(&self, _: &Membership<SimDisk>, is_held: impl Fn() -> bool) {
        for _ in 0..2 {
            let pause = Duration::from_millis(self.world.random(2500));
            self.world.sleep(pause).await;
            if is_held() {
                self.field
                    .checker
                    .breach(|| "loss taken back: a guard that said lost says held".to_owned());
            }
        }
    }

    /// The watchdog of one incarnation: whoever neither renews nor stops is reset 8N + F after the last
    /// good renewal.
    fn watch(self: &Rc<Self>, membership: &Rc<Membership<SimDisk>>) {
        if !self.field.scenario.fenced {
            return;
        }
        let (me, membership) = (Rc::clone(self), Rc::clone(membership));
        let life = self.life();
        let hardware = self.field.hardware.clone();
        let sim = self.field.sim.clone();
        let fires_after = membership.timing().fire_timeout().as_duration();
        let clock = sim.core.borrow().hosts[self.ix().0].clock;
        let mut good_until = membership.expiry().deadline().unwrap_or_default();
        self.field.sim.spawn(hardware.host, async move {
            loop {
                let fires_at = clock.reaches((good_until + fires_after).as_nanos());
                let looks = membership.timing().renewal_interval();
                let next = fires_at.min(sim.now().after(looks));
                hardware.sleep_until(Timestamp::from_nanos(next.0)).await;
                if let Some(later) = membership.expiry().deadline() {
                    good_until = good_until.max(later);
                }
                if sim.now() >= clock.reaches((good_until + fires_after).as_nanos()) {
                    me.fire(life);
                    return;
                }
                if me.life() != life && !me.has_io(Some(life.1), |kind| kind == IoKind::Write) {
                    return;
                }
            }
        });
    }

    fn fire(self: &Rc<Self>, life: Life) {
        let writes = self.has_io(Some(life.1), |kind| kind == IoKind::Write);
        if self.life() == life && (writes || self.field.checker.guards_of(life) > 0) {
            self.note(|| "is reset by its watchdog".to_owned());
            self.reset(Some(Duration::from_millis(500)), false);
        } else if writes {
            // The process was killed before; what it left to the kernel ends here.
            self.field
                .sim
                .end_writes(self.ix(), Some(life.1), Pending::Either);
        }
    }

    /// Kills the process. Its I/O goes on.
    pub fn kill(self: &Rc<Self>, restart: Option<Duration>, renamed: bool) {
        self.note(|| "is killed".to_owned());
        self.field.checker.count(|tally| tally.kills += 1);
        self.end(Pending::GoOn, restart, renamed);
    }

    /// Resets the machine.
    pub fn reset(self: &Rc<Self>, restart: Option<Duration>, renamed: bool) {
        self.note(|| "is reset".to_owned());
        self.field.checker.count(|tally| tally.resets += 1);
        self.boot.set(self.boot.get() + 1);
        self.end(Pending::Either, restart, renamed);
    }

    fn end(self: &Rc<Self>, pending: Pending, restart: Option<Duration>, renamed: bool) {
        let sim = &self.field.sim;
        sim.crash(self.ix(), pending);
        sim.pause(self.ix(), false);
        self.leaving.set(false);
        let life = self.life();
        if renamed {
            self.name.set(self.name.get() + 1);
        }
        let Some(after) = restart else {
            self.gone.set(true);
            self.finish();
            return;
        };
        let me = Rc::clone(self);
        let hardware = self.field.hardware.clone();
        sim.spawn(hardware.host, async move {
            hardware.sleep(after).await;
            if me.life() == life {
                me.note(|| "is started again".to_owned());
                me.start(None);
            }
        });
    }

    /// Stops the process, and lets it go on later if it lives then.
    pub fn stop(self: &Rc<Self>, lasts: Duration) {
        self.note(|| format!("stands still for {lasts:?}"));
        self.field.checker.count(|tally| tally.stops += 1);
        let sim = self.field.sim.clone();
        sim.pause(self.ix(), true);
        let (me, life) = (Rc::clone(self), self.life());
        let hardware = self.field.hardware.clone();
        sim.clone().spawn(hardware.host, async move {
            hardware.sleep(lasts).await;
            if me.life() == life {
                me.note(|| "goes on".to_owned());
                sim.pause(me.ix(), false);
            }
        });
    }

    pub fn leave_soon(&self) {
        self.note(|| "is to leave".to_owned());
        self.leaving.set(true);
    }
}
