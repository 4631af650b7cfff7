//! What is done to each machine, and in which order: all of it follows from the seed.

use super::control::State;
use super::machine::{Kind, Next};
use disklease::libvirt::LOCKSPACE_NAME;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};

/// Numbers from one seed (splitmix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut mixed = Self(seed ^ number.wrapping_mul(0xA24B_AED4_963E_E407));
        Self(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.between(0, all.len() as u64 - 1) as usize]
    }
}

/// The moment for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Now,
    /// When a guest is at that, if one is soon.
    At(State),
    /// When a guest holds, for certain: it is made to keep what it gets.
    Keeping,
}

/// How long something lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Long {
    /// So many ms.
    Millis(u64),
    /// Until the machine has given no sign of life for 8N and so many ms more.
    PastExpiry(u64),
    /// Until the watchdog resets the machine.
    UntilReset,
}

/// What of a sanlock machine is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    /// Its clients run on.
    Daemon,
}

/// One thing that is done to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Nothing, for so many ms.
    Calm(u64),
    /// SIGKILL, and it comes back.
    Kill { when: When, next: Next },
    /// SIGKILL while the storage holds a write to a lease; the write lands so many ms later.
    KillInWrite { lands_after: u64, next: Next },
    /// SIGKILL for one client of a sanlock daemon.
    KillClient,
    /// SIGSTOP, and, unless it was reset, SIGCONT.
    Stop { when: When, part: Part, long: Long },
    /// A process of ours stops itself right before it asks whether it holds.
    Park { millis: u64 },
    /// The storage answers to a renewal so many ms after it has done it, and does nothing from then on, until past the
    /// expiry: which counts from when the renewal was done, not from when that was reported.
    LateAnswer { millis: u64 },
    /// The storage has a fault. What it held is done at the end, or dropped.
    Storage {
        fault: Fault,
        long: Long,
        lands: bool,
    },
}

/// A machine: what it is, and what is done to it.
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// The disks that its first incarnation uses.
    pub(crate) first_disks: Vec<usize>,
    /// Those of lives that begin while the `moves` are made. All lives after that use all disks.
    pub(crate) later_disks: Vec<usize>,
    /// In this order, before anything by chance.
    pub(crate) moves: Vec<Move>,
    /// By chance, for ever.
    pub(crate) then: fn(&mut Chance) -> Move,
}

pub(crate) const LOCKSPACE: Target = Target::Only(LOCKSPACE_NAME);
pub(crate) const LEASES: Target = Target::AllBut(LOCKSPACE_NAME);

/// Writes to leases hang.
pub(crate) const HELD_WRITES: Fault = fault(LEASES, false, true, Mode::Hold);

/// Renewals are done and not answered.
pub(crate) const HELD_ANSWERS: Fault = fault(LOCKSPACE, false, true, Mode::HoldAnswer);

/// The lockspace hangs.
pub(crate) const HELD_LOCKSPACE: Fault = fault(LOCKSPACE, true, true, Mode::Hold);

const fn fault(target: Target, reads: bool, writes: bool, mode: Mode) -> Fault {
    Fault {
        target,
        reads,
        writes,
        mode,
    }
}

/// I/O hangs.
pub(crate) const fn held(
    target: Target,
    reads: bool,
    writes: bool,
    long: Long,
    lands: bool,
) -> Move {
    Move::Storage {
        fault: fault(target, reads, writes, Mode::Hold),
        long,
        lands,
    }
}

/// I/O fails, and is not done.
pub(crate) const fn failing(target: Target, reads: bool, writes: bool, millis: u64) -> Move {
    Move::Storage {
        fault: fault(target, reads, writes, Mode::Fail),
        long: Long::Millis(millis),
        lands: true,
    }
}

pub(crate) const fn stop(when: When, part: Part, long: Long) -> Move {
    Move::Stop { when, part, long }
}

pub(crate) const fn kill(when: When, next: Next) -> Move {
    Move::Kill { when, next }
}

pub(crate) fn some_time(chance: &mut Chance) -> When {
    chance.one_of(&[
        When::Now,
        When::At(State::Holding),
        When::At(State::Acquiring),
        When::At(State::Releasing),
    ])
}

pub(crate) fn some_pause(chance: &mut Chance, up_to: u64) -> Move {
    Move::Calm(chance.between(200, up_to))
}

/// All I/O is slow, but within the io timeout.
pub(crate) fn delayed(chance: &mut Chance) -> Move {
    let by = std::time::Duration::from_millis(chance.between(50, 800));
    Move::Storage {
        fault: fault(Target::All, true, true, Mode::Delay(by)),
        long: Long::Millis(chance.between(1000, 6000)),
        lands: true,
    }
}
