//! The simulated disk.
//!
//! # What it may do wrong
//!
//! * **Latency.** Each I/O takes from [`Faults::latency_min`] to [`Faults::latency_max`]. A write
//!   lands, and a read looks, at some instant between its beginning and its end.
//! * **Read errors and write errors.** A read that fails gives nothing. A write that fails has
//!   landed or not, half of the time each; nothing of it comes later.
//! * **Time-outs.** A read that takes too long gives nothing. A write that takes too long lands
//!   before its caller is notified of the time-out, or later by up to [`Faults::late_max`], or never.
//!   When it lands late, it lands over whatever *other* hosts have written since. It never lands
//!   over a newer write of its own host: the `World` begins none before it has ended. (That is
//!   rule F2 of the hosts' own making, not a kindness of the disk.)
//! * **Torn reads.** A read of several sectors may inspect some of them earlier than at others.
//! * **Never: a torn sector.** A sector holds the old bytes or the new ones. Nor is a write that
//!   was reported as done ever lost, nor does a read that begins after a write landed miss it.
//! * **Outages.** A disk can be out of reach for all hosts, or all disks for one host, for a while:
//!   I/O that is started meanwhile fails at once, or stands still until the end of the outage and then
//!   happens, late, or is lost.
//! * **Hung I/O, crashed hosts.** See `script`: all I/O of a host can be made to stand still, and a
//!   host can be stopped for good at any step, with each of its writes under way landing or not.

use std::time::Duration;

use super::choice::Chooser;
use super::clock::nanos;

/// The smallest unit that is kept. Sectors are one or eight of them.
const CHUNK: usize = 512;

/// A disk of the simulation, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimDisk(pub usize);

/// The bytes of a disk. What was never written is zero.
#[derive(Clone, Debug, Default)]
pub struct Sectors {
    pub len: u64,
    /// By number, in order: what was ever written. Few, so that a copy of the disk costs little.
    chunks: Vec<(u64, [u8; CHUNK])>,
}

impl Sectors {
    pub fn new(len: u64) -> Self {
        Self {
            len,
            chunks: Vec::new(),
        }
    }

    /// Fills `into`, which is zeroed, with what stands at `offset`.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        assert!(offset.is_multiple_of(CHUNK as u64) && into.len().is_multiple_of(CHUNK));
        let first = offset / CHUNK as u64;
        let last = first + (into.len() / CHUNK) as u64;
        let from = self.chunks.partition_point(|&(at, _)| at < first);
        for (at, chunk) in self.chunks[from..].iter().take_while(|&&(at, _)| at < last) {
            let start = usize::try_from(at - first).unwrap() * CHUNK;
            into[start..start + CHUNK].copy_from_slice(chunk);
        }
    }

    /// Turns one bit over, of one of the records that were written, in the part that the record's
    /// checksum covers. Gives the byte.
    pub fn flip(&mut self, pick: u64, bit: u64, is_lease: bool) -> u64 {
        let (at, chunk) = {
            let n = pick as usize % self.chunks.len();
            &mut self.chunks[n]
        };
        let covered = if is_lease && *at >= 2 { 48 } else { 168 };
        let bit = bit % (covered * 8);
        chunk[(bit / 8) as usize] ^= 1 << (bit % 8);
        *at * CHUNK as u64 + bit / 8
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset.is_multiple_of(CHUNK as u64) && bytes.len().is_multiple_of(CHUNK));
        for (at, bytes) in (offset / CHUNK as u64..).zip(bytes.chunks_exact(CHUNK)) {
            match self.chunks.binary_search_by_key(&at, |&(at, _)| at) {
                Ok(found) => self.chunks[found].1.copy_from_slice(bytes),
                Err(_) if bytes == [0; CHUNK] => {}
                Err(place) => self.chunks.insert(place, (at, bytes.try_into().unwrap())),
            }
        }
    }
}

/// How often things go wrong, in a thousand, and how long they take. Nothing ever by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub latency_min: Duration,
    pub latency_max: Duration,
    /// Reads that fail.
    pub read_error: u64,
    /// Reads that time out.
    pub read_timeout: u64,
    /// Writes that fail.
    pub write_error: u64,
    /// Writes that time out.
    pub write_timeout: u64,
    /// Up to this long after its time limit a write that timed out may land.
    pub late_max: Duration,
    /// Reads of several sectors that inspect two instants.
    pub torn_read: u64,
    /// I/O that takes much longer than the rest, and how long that takes at most.
    pub slow: u64,
    pub slow_max: Duration,
    /// Which I/O that may befall.
    pub slow_at: SlowAt,
}

/// Some of all I/O. Disk 0 has the lockspace, the others leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowAt {
    #[default]
    Everything,
    Reads,
    LockspaceWrites,
    LeaderWrites,
    BlockWrites,
}

impl SlowAt {
    pub fn hits(self, is_read: bool, disk: SimDisk, offset: u64) -> bool {
        match self {
            Self::Everything => true,
            Self::Reads => is_read,
            Self::LockspaceWrites => !is_read && disk.0 == 0,
            Self::LeaderWrites => !is_read && disk.0 != 0 && offset == 0,
            Self::BlockWrites => !is_read && disk.0 != 0 && offset != 0,
        }
    }
}

/// What becomes of I/O that is started while storage cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// It fails at once.
    Fails,
    /// It stands still until the storage is there again; then it happens, late, or is lost.
    Hangs,
}

/// What becomes of one I/O, as times after its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// When it lands or looks, if it does.
    pub effect: Option<Duration>,
    /// When a torn read inspects its first part, and how many chunks that part has.
    pub early_part: Option<(Duration, usize)>,
    /// When the storage answers. From then on nothing more happens.
    pub end: Duration,
    /// Whether it answers with an error.
    pub fails: bool,
}

impl Plan {
    /// It happens at once.
    pub const PROMPT: Self = Self {
        effect: Some(Duration::ZERO),
        early_part: None,
        end: Duration::ZERO,
        fails: false,
    };
}

impl Faults {
    /// As they are for one I/O.
    pub fn for_io(&self, is_read: bool, disk: SimDisk, offset: u64) -> Self {
        let slow = if self.slow_at.hits(is_read, disk, offset) {
            self.slow
        } else {
            0
        };
        Self { slow, ..*self }
    }

    /// Some latency and nothing else.
    pub fn latency(min: Duration, max: Duration) -> Self {
        Self {
            latency_min: min,
            latency_max: max,
            ..Self::default()
        }
    }

    fn happens(chooser: &mut dyn Chooser, in_a_thousand: u64) -> bool {
        in_a_thousand != 0 && chooser.draw(1000) < in_a_thousand
    }

    fn between(chooser: &mut dyn Chooser, from: Duration, to: Duration) -> Duration {
        from + Duration::from_nanos(chooser.draw(nanos(to.saturating_sub(from))))
    }

    fn latency_drawn(&self, chooser: &mut dyn Chooser) -> Duration {
        let max = if Self::happens(chooser, self.slow) {
            self.slow_max
        } else {
            self.latency_max
        };
        Self::between(chooser, self.latency_min, max)
    }

    /// At the end, half of the time; or earlier.
    fn effect_drawn(chooser: &mut dyn Chooser, end: Duration) -> Duration {
        if chooser.draw(2) == 0 {
            end
        } else {
            Self::between(chooser, Duration::ZERO, end)
        }
    }

    /// For I/O that is started `remaining` before the storage is there again.
    pub fn plan_cut_off(
        &self,
        chooser: &mut dyn Chooser,
        how: CutOff,
        remaining: Duration,
    ) -> Plan {
        let latency = Self::between(chooser, self.latency_min, self.latency_max);
        match how {
            CutOff::Fails => Plan {
                effect: None,
                end: latency,
                fails: true,
                ..Plan::PROMPT
            },
            CutOff::Hangs => {
                let end = remaining + latency;
                let happens = chooser.draw(4) != 0;
                Plan {
                    effect: happens.then_some(end),
                    end,
                    fails: !happens,
                    ..Plan::PROMPT
                }
            }
        }
    }

    pub fn plan_read(&self, chooser: &mut dyn Chooser, chunks: usize, timeout: Duration) -> Plan {
        let end = self.latency_drawn(chooser);
        let effect = Self::effect_drawn(chooser, end);
        let torn = chunks > 1 && Self::happens(chooser, self.torn_read);
        let early_part = torn.then(|| {
            let cut = 1 + chooser.draw(chunks as u64 - 1) as usize;
            (Self::between(chooser, Duration::ZERO, effect), cut)
        });
        if Self::happens(chooser, self.read_timeout) {
            let end = timeout + Duration::from_secs(1);
            return Plan {
                effect: None,
                early_part: None,
                end,
                fails: true,
            };
        }
        let fails = Self::happens(chooser, self.read_error);
        Plan {
            effect: Some(effect),
            early_part,
            end,
            fails,
        }
    }

    pub fn plan_write(&self, chooser: &mut dyn Chooser, timeout: Duration) -> Plan {
        let early_part = None;
        let end = self.latency_drawn(chooser);
        let effect = Self::effect_drawn(chooser, end);
        if Self::happens(chooser, self.write_timeout) {
            let end = timeout + Self::between(chooser, Duration::from_millis(1), self.late_max);
            let effect = match chooser.draw(4) {
                0 => None,
                1 => Some(effect),
                _ => Some(end),
            };
            return Plan {
                effect,
                early_part,
                end,
                fails: effect.is_none(),
            };
        }
        let fails = Self::happens(chooser, self.write_error);
        let lands = !fails || chooser.draw(2) == 0;
        Plan {
            effect: lands.then_some(effect),
            early_part,
            end,
            fails,
        }
    }
}
