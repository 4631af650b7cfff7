//! One random run, from its numbers to its verdict.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use disklease::__sim::delta_lease::{
    self, Claimant, DeltaLease, EarlierIncarnation, LockspaceArea,
};
use disklease::__sim::paxos_lease::{LeaseArea, LeaseShape};
use disklease::__sim::world::{Timestamp, World};
use disklease::format::{
    Geometry, HostName, LockspaceName, ResourceName, lease_image, lockspace_image,
};

use super::checker::{Checker, Tally};
use super::choice::{Chooser, Drawn, First, Recorded, Seeded, Told};
use super::clock::HostClock;
use super::disk::{Faults, Sectors, SimDisk};
use super::machine::{Field, Host};
use super::operators::operate;
use super::put_back::put_back;
use super::rig::{host_id, incarnation, timing};
use super::scenario::{HostFault, Profile, Scenario, When};
use super::sched::Sim;
use super::timeline;
use super::world::SimWorld;

/// Small sectors, and few of them: scans and looks are cheap.
const GEOMETRY: Geometry = Geometry::S512_A1M;
/// Host ids in use.
const HOSTS: u16 = 3;
/// More events than any run needs: what takes more goes round in circles.
const STEPS_MAX: u64 = 400_000;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What was broken, if anything.
    pub broken: Option<String>,
    pub tally: Tally,
    /// How many events it took.
    pub steps: u64,
    /// The history, if it was asked for.
    pub history: Option<String>,
}

/// Runs that begin with all hosts joined start from here.
pub struct Joined {
    /// N of each host, and F.
    ns: [u64; HOSTS as usize],
    f: u64,
    disk: Sectors,
    hosts: Vec<(DeltaLease, u64)>,
}

thread_local! {
    static JOINED: std::cell::RefCell<Vec<Rc<Joined>>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn names() -> (LockspaceName, ResourceName) {
    (
        LockspaceName::new("LS").unwrap(),
        ResourceName::new("disk").unwrap(),
    )
}

fn lockspace_disk(n: u64) -> Sectors {
    let image = lockspace_image(GEOMETRY, &names().0, n as u16, None);
    first_sectors(&image, usize::from(HOSTS))
}

pub fn lease_disk() -> Sectors {
    let (space, resource) = names();
    let image = lease_image(GEOMETRY, &space, &resource, HOSTS);
    first_sectors(&image, usize::from(HOSTS) + 2)
}

fn first_sectors(image: &[u8], count: usize) -> Sectors {
    let mut sectors = Sectors::new(image.len() as u64);
    sectors.write(0, &image[..count * GEOMETRY.sector_size()]);
    sectors
}

fn space_on(disk: SimDisk) -> LockspaceArea<SimDisk> {
    LockspaceArea {
        disk,
        offset: 0,
        geometry: GEOMETRY,
        name: names().0,
        scanned_hosts: HOSTS,
    }
}

fn clock_of(host: usize) -> HostClock {
    // Clocks that have nothing to do with each other.
    HostClock {
        starts_at: 1_000_000_000 + host as u64 * 77_777_777_777,
        secs_ahead: host as u64 * 1000,
        ppm_fast: 0,
    }
}

impl Joined {
    fn of(ns: [u64; HOSTS as usize], f: u64) -> Rc<Self> {
        JOINED.with_borrow_mut(|made| {
            if let Some(found) = made.iter().find(|joined| (joined.ns, joined.f) == (ns, f)) {
                return Rc::clone(found);
            }
            let new = Rc::new(Self::make(ns, f));
            made.push(Rc::clone(&new));
            new
        })
    }

    fn make(ns: [u64; HOSTS as usize], f: u64) -> Self {
        let sim = Sim::without_log(First);
        let space = space_on(sim.add_disk(lockspace_disk(ns[0])));
        let claims: Vec<_> = (0..usize::from(HOSTS))
            .map(|host| {
                let ix = sim.add_host(clock_of(host));
                let world = SimWorld::new(&sim, ix);
                let claimant = Claimant {
                    host_id: host_id(host as u64 + 1),
                    host_name: HostName::new(&format!("{}-0", ["alpha", "beta", "gamma"][host]))
                        .unwrap(),
                    timing: timing(ns[host], f),
                    pid: 1,
                    boot_id: [(host as u8 + 1) * 32; 16],
                    incarnation: incarnation(u64::MAX - host as u64),
                    process_token: 99,
                    earlier_incarnation: EarlierIncarnation::MayRun,
                };
                let space = space.clone();
                sim.spawn(ix, async move {
                    let delta = delta_lease::claim(&world, &space, &claimant, &|_| {})
                        .await
                        .unwrap();
                    (delta, world.now().as_nanos())
                })
            })
            .collect();
        let hosts = claims.iter().map(|claim| sim.run(claim)).collect();
        let disk = sim.core.borrow().disks[0].clone();
        sim.end();
        Self { ns, f, disk, hosts }
    }
}

/// Runs the scenario of `profile` that `chooser` draws.
fn run(profile: Profile, mut chooser: Box<dyn Chooser>, with_log: bool) -> Verdict {
    let scenario = Scenario::draw(profile, &mut *chooser);
    let sim = if with_log {
        Sim::new_boxed(chooser)
    } else {
        Sim::without_log_boxed(chooser)
    };
    sim.note(None, || format!("{profile:?}: {scenario:#?}"));
    let outcome = catch_unwind(AssertUnwindSafe(|| play(&sim, scenario)));
    let (broken, tally, steps) = match outcome {
        Ok(played) => played,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            let text = text.unwrap_or_default();
            (Some(format!("panic: {text}")), Tally::default(), 0)
        }
    };
    let history = with_log.then(|| timeline::text(&sim));
    if catch_unwind(AssertUnwindSafe(|| sim.end())).is_err() {
        // What panicked once may do so again while it is dropped; the verdict stands.
    }
    Verdict {
        broken,
        tally,
        steps,
        history,
    }
}

fn play(sim: &Sim, scenario: Scenario) -> (Option<String>, Tally, u64) {
    let joined = scenario.joined.then(|| {
        let mut ns = [1; HOSTS as usize];
        for (n, setup) in ns.iter_mut().zip(&scenario.hosts) {
            *n = setup.n;
        }
        Joined::of(ns, scenario.f)
    });
    let disk = match &joined {
        Some(joined) => joined.disk.clone(),
        None => lockspace_disk_cached(scenario.formatted_n),
    };
    let space = space_on(sim.add_disk(disk));
    let leases: Vec<_> = (0..scenario.leases)
        .map(|_| LeaseArea {
            disk: sim.add_disk(lease_disk_cached()),
            offset: 0,
            lockspace: names().0,
            resource: names().1,
            expected_shape: LeaseShape {
                geometry: GEOMETRY,
                num_hosts: HOSTS,
            },
        })
        .collect();
    let guests = sim.add_disk(Sectors::new(1 << 20));
    sim.set_faults(scenario.faults);
    let hosts: Vec<_> = scenario
        .hosts
        .iter()
        .enumerate()
        .map(|(host, setup)| {
            let mut clock = clock_of(usize::from(setup.clock) - 1);
            clock.ppm_fast = setup.ppm_fast;
            if let Some(joined) = &joined {
                clock.starts_at = joined.hosts[host].1;
            }
            sim.add_host(clock)
        })
        .collect();
    let hardware = sim.add_host(HostClock {
        starts_at: 0,
        secs_ahead: 0,
        ppm_fast: 0,
    });
    let slowest = scenario.hosts.iter().map(|host| host.n).max().unwrap();
    let field = Rc::new(Field {
        sim: sim.clone(),
        checker: Checker::new(sim, scenario.leases, guests, timing(slowest, scenario.f)),
        is_foreign: std::cell::RefCell::new(vec![false; scenario.leases]),
        copies: std::cell::RefCell::new(vec![lease_disk_cached(); scenario.leases]),
        lockspace_copy: std::cell::RefCell::new(lockspace_disk_cached(scenario.formatted_n)),
        hardware: SimWorld::new(sim, hardware),
        streams: std::cell::RefCell::new(vec![None; scenario.leases]),
        finished: Cell::new(0),
        space,
        leases,
        guests,
        scenario,
    });
    let hosts: Vec<_> = hosts
        .into_iter()
        .zip(&field.scenario.hosts)
        .map(|(ix, &setup)| Host::new(&field, ix, setup))
        .collect();
    for (ix, host) in hosts.iter().enumerate() {
        let joined = joined
            .as_ref()
            .filter(|_| host.setup.starts_after.is_zero());
        host.start(joined.map(|joined| joined.hosts[ix].0.clone()));
    }
    befall(&field, &hosts);
    let steps = drive(&field, &hosts);
    let mut tally = field.checker.tally.get();
    tally.late_writes = sim.core.borrow().landed_late;
    (field.checker.broken(), tally, steps)
}

thread_local! {
    static FORMATTED: std::cell::RefCell<Vec<(u64, Sectors)>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Formatted disks by what they are for: 0 for a lease, else the io timeout of a lockspace.
fn formatted(which: u64, make: impl FnOnce() -> Sectors) -> Sectors {
    FORMATTED.with_borrow_mut(|made| {
        if let Some((_, found)) = made.iter().find(|&&(n, _)| n == which) {
            return found.clone();
        }
        let new = make();
        made.push((which, new.clone()));
        new
    })
}

fn lockspace_disk_cached(n: u64) -> Sectors {
    formatted(n, || lockspace_disk(n))
}

fn lease_disk_cached() -> Sectors {
    formatted(0, lease_disk)
}

/// Starts all that is to befall the hosts, and the end of it.
fn befall(field: &Rc<Field>, hosts: &[Rc<Host>]) {
    let hardware = &field.hardware;
    for &(at, victim, host_fault) in &field.scenario.host_faults {
        let (field, host, world) = (
            Rc::clone(field),
            Rc::clone(&hosts[victim]),
            hardware.clone(),
        );
        field.sim.clone().spawn(hardware.host, async move {
            match at {
                When::At(at) => world.sleep_until(Timestamp::from_nanos(at.0)).await,
                When::Io {
                    from,
                    at,
                    nth,
                    delay,
                } => {
                    world.sleep_until(Timestamp::from_nanos(from.0)).await;
                    world.until_io(host.world.host, at, nth).await;
                    world.sleep(delay).await;
                }
                When::Call { from, at, nth } => {
                    world.sleep_until(Timestamp::from_nanos(from.0)).await;
                    world.until_call(host.world.host, at, nth).await;
                }
                When::Cleanup { from } => {
                    world.sleep_until(Timestamp::from_nanos(from.0)).await;
                    let cleanups = host.cleanups.get();
                    while host.cleanups.get() == cleanups && !field.is_quiet() {
                        world.sleep(Duration::from_millis(200)).await;
                    }
                }
            }
            if field.is_quiet() {
                return;
            }
            strike(&field, &host, host_fault);
        });
    }
    let (field, world) = (Rc::clone(field), hardware.clone());
    field.sim.clone().spawn(hardware.host, async move {
        let quiet_at = field.scenario.quiet_at;
        world.sleep_until(Timestamp::from_nanos(quiet_at.0)).await;
        field
            .sim
            .note(None, || "from now on nothing goes wrong".to_owned());
        let kind = Faults::latency(Duration::ZERO, Duration::from_millis(2));
        field.sim.set_faults(kind);
    });
}

fn strike(field: &Rc<Field>, host: &Rc<Host>, host_fault: HostFault) {
    if let HostFault::Operator { lease, act } = host_fault {
        return operate(field, lease, act);
    }
    if host_fault == HostFault::CopyLockspace {
        let copy = field.sim.core.borrow().disks[field.space.disk.0].clone();
        field.lockspace_copy.replace(copy);
        return;
    }
    if let HostFault::PutLockspaceBack { host } = host_fault {
        return put_back(field, host);
    }
    if host.gone.get() {
        return;
    }
    let sim = &field.sim;
    let until = |lasts| sim.now().after(lasts);
    match host_fault {
        HostFault::Kill { restart, renamed } => host.kill(restart, renamed),
        HostFault::Reset { restart, renamed } => host.reset(restart, renamed),
        HostFault::Stop { lasts } => host.stop(lasts),
        HostFault::CutOff { lasts, how } => {
            sim.note(Some(host.world.host), || {
                format!("reaches no storage for {lasts:?}: I/O {how:?}")
            });
            let until = until(lasts);
            sim.core.borrow_mut().hosts[host.world.host.0].cut_off = Some((until, how));
        }
        HostFault::Outage { disk, lasts, how } => {
            sim.note(None, || {
                format!("disk {disk} is out of reach for {lasts:?}: I/O {how:?}")
            });
            let until = until(lasts);
            sim.core.borrow_mut().outages[disk] = Some((until, how));
        }
        HostFault::Leave => host.leave_soon(),
        HostFault::Flip { disk, pick, bit } => {
            let flipped = sim.core.borrow_mut().disks[disk].flip(pick, bit, disk != 0);
            sim.note(None, || {
                format!("disk {disk}: a bit turns over at {flipped:?}")
            });
            field.checker.count(|tally| tally.flips += 1);
        }
        HostFault::Operator { .. }
        | HostFault::CopyLockspace
        | HostFault::PutLockspaceBack { .. } => {}
    }
}

/// Lets everything happen until all are content or something is broken.
fn drive(field: &Field, hosts: &[Rc<Host>]) -> u64 {
    let scenario = &field.scenario;
    let longest = hosts.iter().map(|host| host.timing.dead_after()).max();
    let dead_after = longest.unwrap_or_default();
    // Whoever is down when the host faults end may have to wait for its own old incarnation, then for another's;
    // and a process that stands still, for as long as it does.
    let patience = 3 * dead_after + Duration::from_secs(60);
    let limit = scenario.quiet_at.after(patience);
    for step in 0..STEPS_MAX {
        if field.checker.is_broken() || field.finished.get() == hosts.len() {
            return step;
        }
        let now = field.sim.now();
        if now > limit || !field.sim.step() {
            if scenario.all_get_it {
                field
                    .checker
                    .breach(|| format!("stuck: not everybody had the lease at {now:?}"));
            }
            return step;
        }
        field.checker.look(scenario.all_get_it || scenario.freezes);
        field.checker.look_at_wronged(field.space.disk);
        if !scenario.all_get_it && now > scenario.quiet_at.after(dead_after) {
            return step;
        }
    }
    field
        .checker
        .breach(|| format!("stuck: no end after {STEPS_MAX} steps"));
    STEPS_MAX
}

/// The run of a seed.
pub fn run_seed(profile: Profile, seed: u64) -> Verdict {
    run(profile, Box::new(Seeded::new(seed)), false)
}

/// The same, with all the numbers that it drew.
pub fn record_seed(profile: Profile, seed: u64) -> (Verdict, Drawn) {
    let (chooser, drawn) = Recorded::new(Seeded::new(seed));
    let verdict = run(profile, Box::new(chooser), false);
    let drawn = drawn.take();
    (verdict, drawn)
}

/// The run of these numbers.
pub fn run_drawn(profile: Profile, drawn: &Drawn, with_log: bool) -> Verdict {
    run(profile, Box::new(Told::new(drawn)), with_log)
}
