//! What a random run is made of: hosts, their clocks, the storage's faults, and what befalls whom
//! when. All drawn before it begins.

use std::time::Duration;

use super::choice::{Chooser, On, Stream};
use super::clock::TrueTime;
use super::disk::{CutOff, Faults};

/// What a run is mostly about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Hosts that have joined ballot for a lease, over storage that is late, fails and times out.
    Ballots,
    /// Hosts join, crash, come back, stand still, are cut off, leave; leases are taken over.
    Lives,
    /// Hosts that were given one host id by mistake, or that come back under another name.
    Ids,
    /// As the first two, with a record that is damaged at some time.
    Damage,
}

impl Profile {
    pub const ALL: [Self; 4] = [Self::Ballots, Self::Lives, Self::Ids, Self::Damage];

    /// The profile of a seed: the first two have the lion's share.
    pub fn of(seed: u64) -> Self {
        match seed % 16 {
            0..=8 => Self::Ballots,
            9..=12 => Self::Lives,
            13 | 14 => Self::Ids,
            _ => Self::Damage,
        }
    }
}

/// Something that befalls a host, a disk or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
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
}

/// A host, as it is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub host_id: u64,
    /// Which machine it runs on: those of one machine have the boot in common.
    pub machine: u8,
    /// Parts in a million by which its clock is too fast.
    pub ppm_fast: i64,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub hosts: Vec<Setup>,
    pub leases: usize,
    /// N and F, in seconds.
    pub n: u64,
    pub f: u64,
    /// All hosts have joined when the run begins.
    pub joined: bool,
    /// A host that neither renews nor stops is reset 8N + F after its last good renewal.
    pub fenced: bool,
    pub faults: Faults,
    /// How often each host takes each lease, at most, before the blows are over.
    pub turns: u64,
    pub pause_max: Duration,
    pub hold_max: Duration,
    pub guest_write_max: Duration,
    /// What befalls which host at what time.
    pub blows: Vec<(TrueTime, usize, Blow)>,
    /// From now on nothing goes wrong any more.
    pub quiet_at: TrueTime,
    /// Whether everybody must get the lease after that.
    pub all_get_it: bool,
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
            Profile::Lives => Self::lives(&mut draw),
            Profile::Ids => Self::ids(&mut draw),
            Profile::Damage => Self::damage(&mut draw),
        }
    }

    fn hosts(draw: &mut Draw<'_>, count: u64, n: u64, f: u64) -> Vec<Setup> {
        // The margin of a takeover is a second at least: clocks may differ by as much of the wait.
        let wait = 8 * n + f;
        let most = i64::try_from(1_000_000 / (2 * (wait + 1))).unwrap();
        let drifts = draw.rarely(2);
        (1..=count)
            .map(|id| Setup {
                host_id: id,
                machine: id as u8,
                ppm_fast: if drifts {
                    draw.one_of(&[0, most, -most])
                } else {
                    0
                },
            })
            .collect()
    }

    /// From no faults at all to storage that is hardly of any use; latencies of all orders.
    fn faults(draw: &mut Draw<'_>, latencies: &[u64], slow: &[u64], late_max: u64) -> Faults {
        let badness = draw.one_of(&[0, 0, 0, 20, 100]);
        let slow_share = draw.one_of(&[0, 0, 60, 250]);
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
        }
    }

    fn ballots(draw: &mut Draw<'_>) -> Self {
        let (n, f) = (10, draw.one_of(&[60, 5]));
        let count = 2 + draw.one_of(&[0, 0, 1]);
        let mut hosts = Self::hosts(draw, count, n, f);
        for host in &mut hosts {
            host.ppm_fast = 0;
        }
        let faults = Self::faults(
            draw,
            &[1, 5, 50, 1000],
            &[20, 200, 2000, 9000, 16_000],
            4000,
        );
        let busy = faults.latency_max.max(millis(20));
        Self {
            hosts,
            leases: 1,
            n,
            f,
            joined: true,
            fenced: true,
            faults,
            turns: 1 + draw.below(4),
            pause_max: draw.one_of(&[busy, busy * 4, millis(2000)]),
            hold_max: draw.one_of(&[millis(1), busy, millis(1000)]),
            guest_write_max: millis(20),
            blows: Vec::new(),
            quiet_at: TrueTime(0).after(draw.one_of(&[millis(2000), millis(8000), millis(15_000)])),
            all_get_it: true,
        }
    }

    fn lives(draw: &mut Draw<'_>) -> Self {
        let (n, f) = (1, draw.one_of(&[1, 2, 4]));
        let count = 2 + draw.one_of(&[0, 0, 0, 1]);
        let hosts = Self::hosts(draw, count, n, f);
        let fenced = draw.below(2) == 0;
        // Without a fence nothing ends a write that hangs: it must not hang for longer than F.
        let late_max = if fenced { 12_000 } else { f * 1000 - 500 };
        let mut faults = Self::faults(draw, &[1, 20, 100], &[100, 800, late_max], late_max);
        if draw.below(2) == 0 {
            faults.slow = 0;
        }
        let leases = 1 + draw.one_of(&[0, 0, 0, 1]) as usize;
        let ends = draw.one_of(&[4000, 14_000, 25_000]);
        let mut blows = Vec::new();
        for _ in 0..draw.one_of(&[1, 1, 2, 3, 5]) {
            let at = TrueTime(0).after(draw.millis(1, ends));
            let victim = draw.below(count) as usize;
            blows.push((at, victim, Self::blow(draw, f, fenced, leases)));
        }
        blows.sort_by_key(|&(at, _, _)| at);
        Self {
            hosts,
            leases,
            n,
            f,
            joined: draw.below(4) != 3,
            fenced,
            faults,
            turns: 1 + draw.below(3),
            pause_max: draw.one_of(&[millis(20), millis(500), millis(3000)]),
            hold_max: draw.one_of(&[millis(20), millis(3000), millis(20_000)]),
            guest_write_max: draw.one_of(&[millis(1), millis(300), millis(f * 1000 - 100)]),
            blows,
            quiet_at: TrueTime(0).after(millis(ends)),
            all_get_it: true,
        }
    }

    fn blow(draw: &mut Draw<'_>, f: u64, fenced: bool, leases: usize) -> Blow {
        let restart = match draw.below(4) {
            0 => None,
            1 => Some(millis(1)),
            _ => Some(draw.millis(1, 12_000)),
        };
        let renamed = draw.rarely(3);
        // As long as one may expect, just short of the end, or longer than anyone waits.
        let lasts = match draw.below(4) {
            0 => draw.millis(1, 2500),
            1 => draw.millis(2000, 8000),
            2 => draw.millis(7500, 8000 + f * 1000 + 500),
            _ => draw.millis(8000 + f * 1000, 14_000 + f * 1000),
        };
        // What stands still in an outage lands at its end; see `late_max`.
        let outage = if fenced {
            lasts
        } else {
            lasts.min(millis(f * 1000 - 500))
        };
        let how = if draw.below(2) == 0 {
            CutOff::Fails
        } else {
            CutOff::Hangs
        };
        let outage = if how == CutOff::Fails { lasts } else { outage };
        match draw.below(9) {
            0 | 1 => Blow::Kill { restart, renamed },
            2 => Blow::Reset { restart, renamed },
            3 | 4 => Blow::Stop { lasts },
            5 | 6 => Blow::CutOff { lasts: outage, how },
            7 => Blow::Outage {
                disk: draw.below(1 + leases as u64) as usize,
                lasts: outage,
                how,
            },
            _ => Blow::Leave,
        }
    }

    fn ids(draw: &mut Draw<'_>) -> Self {
        let mut scenario = Self::lives(draw);
        // Two hosts with one id; now and then on what looks like one machine.
        scenario.hosts.truncate(2);
        scenario.hosts.push(Setup {
            host_id: 2,
            machine: draw.one_of(&[3, 3, 2]),
            ppm_fast: 0,
        });
        scenario.joined = false;
        scenario.all_get_it = false;
        scenario.quiet_at = TrueTime(0).after(millis(24_000));
        let count = scenario.hosts.len() as u64;
        for (_, victim, _) in &mut scenario.blows {
            *victim = draw.below(count) as usize;
        }
        scenario
    }

    fn damage(draw: &mut Draw<'_>) -> Self {
        let mut scenario = if draw.below(2) == 0 {
            Self::ballots(draw)
        } else {
            Self::lives(draw)
        };
        let at = TrueTime(draw.below(scenario.quiet_at.0));
        let blow = Blow::Flip {
            disk: draw.below(1 + scenario.leases as u64) as usize,
            pick: draw.below(1 << 16),
            bit: draw.below(1 << 16),
        };
        scenario.blows.push((at, 0, blow));
        scenario.blows.sort_by_key(|&(at, _, _)| at);
        scenario.all_get_it = false;
        scenario
    }
}
