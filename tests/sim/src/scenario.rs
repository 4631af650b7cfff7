//! What a random run is made of: hosts, their clocks, the storage's faults, and what befalls whom
//! when. All drawn before it begins.

use std::time::Duration;

use super::choice::{Chooser, On, Stream};
use super::clock::TrueTime;
use super::disk::{CutOff, Faults, SlowAt};
use super::operators::{Act, SECTORS};

/// What a run is mostly about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Hosts that have joined ballot for a lease, over storage that is late, fails and times out.
    Ballots,
    /// A host uses a lease for long; something befalls it; another waits for its death.
    Takeover,
    /// Hosts join, crash, come back, stand still, are cut off, leave.
    Rejoins,
    /// Hosts that were given one host id by mistake, or that come back under another name.
    Ids,
    /// As one of the others, with a record that is damaged at some time.
    Damage,
    /// Guests are suspended and resumed, and move from host to host.
    Moves,
    /// Guests that do not stop when their lease is lost, and no watchdog.
    Fences,
    /// Two hosts of one id, mostly clones with one name and one clock, that claim it at the same time over
    /// storage whose writes fail, time out and land late.
    Twins,
    /// Operators initialise leases anew, put them back to what they were, or write something else in their
    /// place, also while they are held.
    Operators,
    /// Operators put back host ids' sectors to what they were, also while their hosts are at work, and another host
    /// wants such an id.
    PutBack,
    /// Processes stand still between the read of a deadline and a write, with guests and without, and another
    /// host is to have their id.
    Frozen,
}

impl Profile {
    pub const ALL: [Self; 11] = [
        Self::Ballots,
        Self::Takeover,
        Self::Rejoins,
        Self::Ids,
        Self::Damage,
        Self::Moves,
        Self::Fences,
        Self::Twins,
        Self::Operators,
        Self::PutBack,
        Self::Frozen,
    ];

    /// The profile of a seed.
    pub fn of(seed: u64) -> Self {
        match seed % 32 {
            0..=11 => Self::Ballots,
            12 => Self::PutBack,
            13 => Self::Frozen,
            14 | 15 => Self::Twins,
            16 => Self::Fences,
            17 => Self::Operators,
            18 | 19 => Self::Moves,
            20..=23 => Self::Takeover,
            24..=27 => Self::Rejoins,
            28 | 29 => Self::Ids,
            _ => Self::Damage,
        }
    }

    /// The profile of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = Self::ALL.into_iter();
        all.into_iter()
            .find(|profile| format!("{profile:?}") == name)
    }
}

/// When a host fault falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    At(TrueTime),
    /// Right after the host begins its nth I/O of a kind, from 1, after `from`; or a little later.
    Io {
        from: TrueTime,
        at: SlowAt,
        nth: u64,
        delay: Duration,
    },
    /// Right before the host's nth write of a kind, from 1, after `from`: it has inspected the deadline.
    Call {
        from: TrueTime,
        at: SlowAt,
        nth: u64,
    },
    /// When the host has something to clean up on a lease for the first time after `from`.
    Cleanup {
        from: TrueTime,
    },
}

/// Something that befalls a host, a disk or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// The process is killed. Its I/O goes on. It is started again after a while, or never.
    Kill {
        restart: Option<Duration>,
        renamed: bool,
    },
    /// The machine is reset: of its writes under way each lands at once or never.
    Reset {
        restart: Option<Duration>,
        renamed: bool,
    },
    /// The process stands still for a while. Its I/O goes on.
    Stop { lasts: Duration },
    /// The host reaches no storage for a while.
    CutOff { lasts: Duration, how: CutOff },
    /// A disk is out of reach for all hosts for a while.
    Outage {
        disk: usize,
        lasts: Duration,
        how: CutOff,
    },
    /// The host leaves the lockspace, and joins it again.
    Leave,
    /// One bit of a record on a disk, below the record's checksum, turns over.
    Flip { disk: usize, pick: u64, bit: u64 },
    /// An operator does something to a lease.
    Operator { lease: usize, act: Act },
    /// An operator takes a copy of the lockspace.
    CopyLockspace,
    /// An operator writes the last copy back, or what was there at first: the sector of this host id, or all.
    PutLockspaceBack { host: Option<u64> },
}

/// A host, as it is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub host_id: u64,
    /// N, in seconds.
    pub n: u64,
    /// Which machine it runs on: those of one machine have the boot in common.
    pub machine: u8,
    /// Which host's name it has.
    pub name: u8,
    /// Which host's clock it has.
    pub clock: u8,
    /// What stands for its life lock.
    pub process_token: u32,
    /// Parts in a million by which its clock is too fast.
    pub ppm_fast: i64,
    /// When it is started. Only one that is started at once may have joined before.
    pub starts_after: Duration,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub hosts: Vec<Setup>,
    pub leases: usize,
    /// What the lockspace was formatted with as N, in seconds.
    pub formatted_n: u64,
    /// F, in seconds.
    pub f: u64,
    /// All hosts have joined when the run begins.
    pub joined: bool,
    /// A host that neither renews nor stops is reset 8N + F after its last good renewal.
    pub fenced: bool,
    pub faults: Faults,
    /// How often each host takes each lease, at most, before the host faults have ended.
    pub turns: u64,
    pub pause_max: Duration,
    pub hold_max: Duration,
    pub guest_write_max: Duration,
    /// Guests are suspended and resumed, and handed over.
    pub moves: bool,
    /// Some guests go on writing when their lease is lost, until their process is killed.
    pub stubborn: bool,
    /// A process that stands still is killed by its timer, and nobody but the one who has a host id writes its sector.
    pub freezes: bool,
    /// All leave a note with their leases, as all disklease hosts do.
    pub all_noted: bool,
    /// What befalls which host, and when.
    pub host_faults: Vec<(When, usize, HostFault)>,
    /// From now on nothing goes wrong any more.
    pub quiet_at: TrueTime,
    /// Whether everybody must get the lease after that.
    pub all_get_it: bool,
    /// This host alone, instead, while the others stay joined and want nothing.
    pub taker: Option<usize>,
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

struct Draw<'a>(On<'a>);

impl Draw<'_> {
    fn below(&mut self, n: u64) -> u64 {
        self.0.draw(n)
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// One in `n`.
    fn rarely(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        millis(from + self.below(to - from + 1))
    }
}

impl Scenario {
    pub fn draw(profile: Profile, chooser: &mut dyn Chooser) -> Self {
        let mut draw = Draw(On(chooser, Stream::RUN));
        match profile {
            Profile::Ballots => Self::ballots(&mut draw),
            Profile::Takeover => Self::takeover(&mut draw),
            Profile::Rejoins => Self::rejoins(&mut draw),
            Profile::Ids => Self::ids(&mut draw),
            Profile::Damage => Self::damage(&mut draw),
            Profile::Moves => Self::moves(&mut draw),
            Profile::Fences => Self::fences(&mut draw),
            Profile::Twins => Self::twins(&mut draw),
            Profile::Operators => Self::operators(&mut draw),
            Profile::PutBack => Self::put_back(&mut draw),
            Profile::Frozen => Self::frozen(&mut draw),
        }
    }

    fn hosts(draw: &mut Draw<'_>, count: u64, ns: &[u64], f: u64) -> Vec<Setup> {
        // The margin of a takeover is a second at least: clocks may differ by as much of the wait.
        let longest = ns.iter().max().copied().unwrap_or(1);
        let most = i64::try_from(1_000_000 / (2 * (8 * longest + f + 1))).unwrap();
        let drifts = draw.rarely(2);
        (1..=count)
            .map(|id| Setup {
                host_id: id,
                n: draw.one_of(ns),
                machine: id as u8,
                name: id as u8,
                clock: id as u8,
                process_token: 99,
                ppm_fast: if drifts {
                    draw.one_of(&[0, most, -most])
                } else {
                    0
                },
                starts_after: Duration::ZERO,
            })
            .collect()
    }

    /// From no faults at all to storage that is hardly of any use; latencies of all orders.
    fn faults(draw: &mut Draw<'_>, latencies: &[u64], slow: &[u64], late_max: u64) -> Faults {
        let badness = draw.one_of(&[0, 0, 0, 20, 100]);
        let slow_share = draw.one_of(&[0, 0, 60, 250, 500]);
        let slow_at = draw.one_of(&[
            SlowAt::Everything,
            SlowAt::LeaderWrites,
            SlowAt::BlockWrites,
            SlowAt::LockspaceWrites,
            SlowAt::Reads,
        ]);
        Faults {
            latency_min: Duration::ZERO,
            latency_max: millis(draw.one_of(latencies)),
            read_error: draw.below(badness / 2 + 1),
            read_timeout: draw.below(badness / 4 + 1),
            write_error: draw.below(badness + 1),
            write_timeout: draw.below(badness + 1),
            late_max: millis(late_max),
            torn_read: draw.one_of(&[0, 300]),
            slow: slow_share,
            slow_max: millis(draw.one_of(slow)),
            slow_at,
        }
    }

    fn ballots(draw: &mut Draw<'_>) -> Self {
        let f = draw.one_of(&[60, 5]);
        let count = 2 + draw.one_of(&[0, 0, 1]);
        let mut hosts = Self::hosts(draw, count, &[10], f);
        for host in &mut hosts {
            host.ppm_fast = 0;
        }
        let latencies = [1, 5, 50, 1000];
        let faults = Self::faults(draw, &latencies, &[20, 200, 2000, 9000, 16_000], 4000);
        let mut taker = None;
        if draw.below(2) == 0 {
            // Nothing that is released or given up may need just the host that did so to become free.
            taker = Some(draw.below(count) as usize);
        }
        let busy = faults.latency_max.max(millis(20));
        Self {
            hosts,
            leases: 1,
            formatted_n: 10,
            f,
            joined: true,
            fenced: true,
            faults,
            turns: 1 + draw.below(4),
            pause_max: draw.one_of(&[busy, busy * 4, millis(2000)]),
            hold_max: draw.one_of(&[millis(1), busy, millis(1000)]),
            guest_write_max: millis(20),
            moves: false,
            stubborn: false,
            freezes: false,
            all_noted: false,
            host_faults: Vec::new(),
            quiet_at: TrueTime(0).after(draw.one_of(&[millis(2000), millis(8000), millis(15_000)])),
            all_get_it: true,
            taker,
        }
    }

    /// With a fence, what hangs is ended by it. Without one it must not hang for longer than F.
    fn late_max(fenced: bool, f: u64) -> u64 {
        if fenced { 12_000 } else { f * 1000 - 500 }
    }

    fn takeover(draw: &mut Draw<'_>) -> Self {
        let f = draw.one_of(&[1, 1, 2, 4]);
        let count = 2 + draw.one_of(&[0, 0, 0, 1]);
        let ns = draw.one_of(&[&[1][..], &[2][..], &[3][..], &[3, 1][..]]);
        let mut hosts = Self::hosts(draw, count, ns, f);
        if hosts.iter().any(|host| host.ppm_fast != 0) && draw.below(2) == 0 {
            // The worst that clocks may be: the owner's slow, the others' fast.
            let most = hosts.iter().map(|host| host.ppm_fast.abs()).max();
            let most = most.unwrap_or(0);
            for (n, host) in hosts.iter_mut().enumerate() {
                host.ppm_fast = if n == 0 { -most } else { most };
            }
        }
        let fenced = draw.below(2) == 0;
        let late_max = Self::late_max(fenced, f);
        let n = 1000 * hosts[1].n;
        let slow = [100, n - 100, late_max, (8 * n - 100).min(late_max)];
        let faults = Self::faults(draw, &[1, 20], &slow, late_max);
        let lost_at = 8000 * hosts[0].n;
        let mut host_faults = Vec::new();
        for _ in 0..draw.one_of(&[1, 1, 2]) {
            let at = Self::when(draw, 500, 8000);
            host_faults.push((at, 0, Self::host_fault(draw, lost_at, f, fenced, 1)));
        }
        let hanging = if fenced { 20_000 } else { f * 1000 - 100 };
        Self {
            hosts,
            leases: 1,
            formatted_n: 1,
            f,
            joined: draw.rarely(4),
            fenced,
            faults,
            turns: 4,
            pause_max: millis(500),
            hold_max: draw.one_of(&[millis(20_000), millis(20_000), millis(2000)]),
            guest_write_max: draw.one_of(&[millis(hanging), millis(300), millis(f * 1000 - 100)]),
            moves: false,
            stubborn: false,
            freezes: false,
            all_noted: false,
            host_faults,
            quiet_at: TrueTime(0).after(millis(lost_at + draw.one_of(&[8000, 14_000]))),
            all_get_it: true,
            taker: None,
        }
    }

    fn rejoins(draw: &mut Draw<'_>) -> Self {
        let f = draw.one_of(&[1, 2, 4]);
        let count = 2 + draw.one_of(&[0, 0, 0, 1]);
        let ns = draw.one_of(&[&[1][..], &[2][..], &[3][..], &[3, 1][..]]);
        let hosts = Self::hosts(draw, count, ns, f);
        let fenced = draw.below(2) == 0;
        let late_max = Self::late_max(fenced, f);
        let n = 1000 * hosts[1].n;
        let mut faults = Self::faults(draw, &[1, 20, 100], &[100, n - 100, late_max], late_max);
        if draw.below(2) == 0 {
            faults.slow = 0;
        }
        let leases = draw.one_of(&[1, 1, 1, 2]);
        let ends = draw.one_of(&[4000, 14_000, 14 * n]);
        let mut host_faults = Vec::new();
        for _ in 0..draw.one_of(&[1, 1, 2, 3, 5]) {
            let at = Self::when(draw, 1, ends);
            let victim = draw.below(count) as usize;
            let lost_at = 8000 * hosts[victim].n;
            host_faults.push((
                at,
                victim,
                Self::host_fault(draw, lost_at, f, fenced, leases),
            ));
        }
        Self {
            hosts,
            leases,
            formatted_n: draw.one_of(&[1, 1, 3, 10]),
            f,
            joined: draw.below(4) != 3,
            fenced,
            faults,
            turns: 1 + draw.below(3),
            pause_max: draw.one_of(&[millis(20), millis(500), millis(3000)]),
            hold_max: draw.one_of(&[millis(20), millis(3000), millis(20_000)]),
            guest_write_max: draw.one_of(&[millis(1), millis(300), millis(f * 1000 - 100)]),
            moves: false,
            stubborn: false,
            freezes: false,
            all_noted: false,
            host_faults,
            quiet_at: TrueTime(0).after(millis(ends)),
            all_get_it: true,
            taker: None,
        }
    }

    fn when(draw: &mut Draw<'_>, from: u64, to: u64) -> When {
        let at = TrueTime(0).after(draw.millis(from, to));
        if draw.below(2) == 0 {
            return When::At(at);
        }
        When::Io {
            from: at,
            at: draw.one_of(&[
                SlowAt::LockspaceWrites,
                SlowAt::LeaderWrites,
                SlowAt::BlockWrites,
                SlowAt::Everything,
                SlowAt::Reads,
            ]),
            nth: 1 + draw.below(3),
            delay: draw.one_of(&[Duration::ZERO, millis(1), millis(30)]),
        }
    }

    /// `lost_at`: 8N of the victim, in milliseconds.
    fn host_fault(
        draw: &mut Draw<'_>,
        lost_at: u64,
        f: u64,
        fenced: bool,
        leases: usize,
    ) -> HostFault {
        let restart = match draw.below(4) {
            0 => None,
            1 => Some(millis(1)),
            _ => Some(draw.millis(1, lost_at + 4000)),
        };
        let renamed = draw.rarely(3);
        // As long as one may expect, just short of the end, or longer than anyone waits.
        let lasts = match draw.below(4) {
            0 => draw.millis(1, 2500),
            1 => draw.millis(2000, lost_at),
            2 => draw.millis(lost_at - 500, lost_at + f * 1000 + 500),
            _ => draw.millis(lost_at + f * 1000, lost_at + f * 1000 + 6000),
        };
        // What stands still in an outage lands at its end; see `late_max`.
        let how = if draw.below(2) == 0 {
            CutOff::Fails
        } else {
            CutOff::Hangs
        };
        let outage = if fenced || how == CutOff::Fails {
            lasts
        } else {
            lasts.min(millis(f * 1000 - 500))
        };
        match draw.below(9) {
            0 | 1 => HostFault::Kill { restart, renamed },
            2 => HostFault::Reset { restart, renamed },
            3 | 4 => HostFault::Stop { lasts },
            5 | 6 => HostFault::CutOff { lasts: outage, how },
            7 => HostFault::Outage {
                disk: draw.below(1 + leases as u64) as usize,
                lasts: outage,
                how,
            },
            _ => HostFault::Leave,
        }
    }

    fn ids(draw: &mut Draw<'_>) -> Self {
        let mut scenario = Self::rejoins(draw);
        // Two hosts with one id; now and then on what looks like one machine.
        scenario.hosts.truncate(2);
        scenario.hosts.push(Setup {
            host_id: 2,
            n: scenario.hosts[1].n.max(draw.one_of(&[1, 1, 2])),
            machine: 3,
            name: 3,
            clock: 3,
            process_token: 99,
            ppm_fast: 0,
            starts_after: Duration::ZERO,
        });
        match draw.below(4) {
            0 => scenario.hosts[2].machine = 2,
            1 => scenario.hosts[2].name = 2,
            _ => {}
        }
        // All join at once, or one comes by after the other.
        scenario.joined = false;
        scenario.all_get_it = false;
        scenario.quiet_at = TrueTime(0).after(millis(20_000 + 2000 * scenario.hosts[1].n));
        scenario.turns = 6;
        let count = scenario.hosts.len() as u64;
        for (_, victim, _) in &mut scenario.host_faults {
            *victim = draw.below(count) as usize;
        }
        scenario
    }

    fn twins(draw: &mut Draw<'_>) -> Self {
        let mut scenario = Self::ids(draw);
        let original = scenario.hosts[1];
        if draw.below(4) != 0 {
            // A clone, down to its drift: on the same machine with a runtime directory of its own, or another
            // machine, or one that was cloned with its memory, and so with boot and life lock.
            let (machine, process_token) = draw.one_of(&[(2, 100), (3, 100), (2, 99)]);
            scenario.hosts[2] = Setup {
                machine,
                process_token,
                ..original
            };
        }
        let late_max = Self::late_max(scenario.fenced, scenario.f).min(4000);
        let bad = draw.one_of(&[0, 50, 200]);
        scenario.faults = Faults {
            latency_max: millis(draw.one_of(&[0, 20, 300])),
            write_error: draw.below(bad + 1),
            write_timeout: draw.below(bad + 1),
            late_max: millis(late_max),
            slow: draw.one_of(&[0, 100, 400]),
            slow_max: millis(draw.one_of(&[1000, 2500, late_max])),
            slow_at: SlowAt::LockspaceWrites,
            ..scenario.faults
        };
        scenario.hold_max = draw.one_of(&[millis(500), millis(5000), millis(20_000)]);
        scenario
    }

    fn moves(draw: &mut Draw<'_>) -> Self {
        let mut scenario = match draw.below(3) {
            0 => Self::rejoins(draw),
            1 => Self::takeover(draw),
            _ => Self::ballots(draw),
        };
        scenario.moves = true;
        scenario.turns = 3 + draw.below(6);
        scenario.taker = None;
        scenario
    }

    fn fences(draw: &mut Draw<'_>) -> Self {
        let mut scenario = loop {
            let drawn = match draw.below(2) {
                0 => Self::rejoins(draw),
                _ => Self::takeover(draw),
            };
            // A watchdog would end what the others have missed.
            if !drawn.fenced {
                break drawn;
            }
        };
        scenario.stubborn = true;
        // What the kernel has already when the process is killed is ended by nobody.
        scenario.guest_write_max = millis(100);
        scenario
    }

    fn frozen(draw: &mut Draw<'_>) -> Self {
        let mut scenario = Self::rejoins(draw);
        scenario.freezes = true;
        scenario.fenced = false;
        scenario.hosts.truncate(2);
        let victim = scenario.hosts[1];
        // Another machine that is given the id, and comes when the first one has claimed it.
        scenario.hosts.push(Setup {
            machine: 3,
            name: 3,
            clock: 3,
            starts_after: draw.millis(1000, 4000),
            ..victim
        });
        scenario.all_get_it = false;
        // What was started in time comes in time: that no write lands late is what it is all about.
        scenario.faults = Faults::latency(Duration::ZERO, millis(draw.one_of(&[1, 20, 100])));
        scenario.formatted_n = draw.one_of(&[1, 10]);
        scenario.turns = 3 + draw.below(6);
        scenario.guest_write_max = millis(100);
        let dead_after = 8000 * victim.n + 1000 * scenario.f + 1000;
        // Where the sector has a long N a claim takes long, and is renewed meanwhile.
        let at = draw.one_of(&[
            SlowAt::LockspaceWrites,
            SlowAt::BlockWrites,
            SlowAt::LeaderWrites,
        ]);
        let call = When::Call {
            from: TrueTime(0).after(draw.millis(900, 8000)),
            at,
            nth: 1 + draw.below(4),
        };
        // Just past its deadline, or for so long that the other one may be at work.
        let lost_at = 8000 * victim.n;
        let lasts = match draw.below(4) {
            0 => draw.millis(lost_at - 500, dead_after),
            _ => draw.millis(dead_after, dead_after + 10_000 + 2000 * victim.n),
        };
        scenario.host_faults = vec![(call, 1, HostFault::Stop { lasts })];
        let quiet_at = millis(dead_after + 32_000);
        scenario.quiet_at = TrueTime(0).after(quiet_at);
        scenario
    }

    /// Operators put sectors of the lockspace back. Meanwhile a second host wants the id of a host that, mostly,
    /// reaches no storage.
    fn put_back(draw: &mut Draw<'_>) -> Self {
        let mut scenario = Self::rejoins(draw);
        scenario.all_noted = true;
        scenario.all_get_it = false;
        scenario.hosts.truncate(2);
        for host in &mut scenario.hosts {
            host.ppm_fast = 0;
        }
        let original = scenario.hosts[1];
        let (name, clock, process_token) = draw.one_of(&[(3, 3, 99), (3, 3, 99), (2, 2, 100)]);
        scenario.hosts.push(Setup {
            machine: 3,
            name,
            clock,
            process_token,
            starts_after: draw.millis(1000, 4000),
            ..original
        });
        let faults = scenario.faults;
        scenario.faults = match draw.below(2) {
            0 => Faults::latency(Duration::ZERO, millis(draw.one_of(&[1, 20, 100]))),
            _ => Faults {
                read_error: 0,
                read_timeout: 0,
                slow: 0,
                ..faults
            },
        };
        scenario.turns = 3 + draw.below(6);
        scenario.hold_max = draw.one_of(&[millis(3000), millis(20_000)]);
        scenario.guest_write_max = millis(100);
        scenario.host_faults.retain(|(_, _, host_fault)| {
            matches!(
                host_fault,
                HostFault::Kill { .. } | HostFault::Reset { .. } | HostFault::Leave
            )
        });
        let at = |at: Duration| When::At(TrueTime(0).after(at));
        if draw.below(2) == 0 {
            // A generation more.
            scenario
                .host_faults
                .push((at(draw.millis(500, 3000)), 1, HostFault::Leave));
        }
        let acts = draw.millis(3000, 12_000 + 3000 * original.n);
        if draw.below(2) == 0 {
            let copied = acts.saturating_sub(draw.millis(1, 8000));
            scenario
                .host_faults
                .push((at(copied), 0, HostFault::CopyLockspace));
        }
        if draw.below(4) != 0 {
            let begins = acts.saturating_sub(draw.millis(1, 2000 * original.n));
            let lasts = draw.millis(2000 * original.n, 9000 * original.n);
            let how = CutOff::Fails;
            scenario
                .host_faults
                .push((at(begins), 1, HostFault::CutOff { lasts, how }));
        }
        let host = draw.one_of(&[None, Some(1), Some(2), Some(2)]);
        scenario
            .host_faults
            .push((at(acts), 0, HostFault::PutLockspaceBack { host }));
        scenario.quiet_at = TrueTime(0).after(acts + millis(12_000 + 10_000 * original.n));
        scenario
    }

    fn operators(draw: &mut Draw<'_>) -> Self {
        let mut scenario = Self::rejoins(draw);
        scenario.leases = 2;
        for host in &mut scenario.hosts {
            host.ppm_fast = 0;
        }
        // Of what cannot be read nothing can be found out: reads are good and prompt.
        let writes = [
            SlowAt::LeaderWrites,
            SlowAt::BlockWrites,
            SlowAt::LockspaceWrites,
        ];
        scenario.faults = Faults {
            read_error: 0,
            read_timeout: 0,
            slow_at: draw.one_of(&writes),
            ..scenario.faults
        };
        scenario.host_faults.retain(|(_, _, host_fault)| {
            matches!(
                host_fault,
                HostFault::Kill { .. } | HostFault::Reset { .. } | HostFault::Leave
            )
        });
        scenario.hold_max = draw.one_of(&[millis(500), millis(3000), millis(20_000)]);
        scenario.guest_write_max = millis(100);
        scenario.turns = 2 + draw.below(4);
        let ends = scenario.quiet_at.0 / 1_000_000;
        for _ in 0..draw.one_of(&[1, 1, 2, 3]) {
            let lease = draw.below(2) as usize;
            let at = match draw.below(4) {
                0 => When::Cleanup {
                    from: TrueTime(0).after(draw.millis(1, ends)),
                },
                _ => Self::when(draw, 1, ends),
            };
            let act = match draw.below(6) {
                0 | 1 => Act::Initialise,
                2 => Act::Overwrite {
                    lasts: draw.millis(1, 12_000),
                },
                n => {
                    let copied = When::At(TrueTime(0).after(draw.millis(1, ends)));
                    let act = Act::Copy;
                    scenario
                        .host_faults
                        .push((copied, 0, HostFault::Operator { lease, act }));
                    let sector = draw.below(SECTORS as u64);
                    Act::PutBack {
                        sector: (n == 5).then_some(sector),
                    }
                }
            };
            let victim = draw.below(scenario.hosts.len() as u64) as usize;
            scenario
                .host_faults
                .push((at, victim, HostFault::Operator { lease, act }));
        }
        scenario
    }

    fn damage(draw: &mut Draw<'_>) -> Self {
        let mut scenario = match draw.below(3) {
            0 => Self::ballots(draw),
            1 => Self::takeover(draw),
            _ => Self::rejoins(draw),
        };
        let at = TrueTime(draw.below(scenario.quiet_at.0));
        let host_fault = HostFault::Flip {
            disk: draw.below(1 + scenario.leases as u64) as usize,
            pick: draw.below(1 << 16),
            bit: draw.below(1 << 16),
        };
        scenario.host_faults.push((When::At(at), 0, host_fault));
        scenario.taker = None;
        scenario.all_get_it = false;
        scenario
    }
}
