//! What is done to each machine, and in which order: all of it follows from the seed.

use super::control::State;
use super::machine::{Kind, Next};
use super::storage::gate::{Fault, Mode, Target};
use disklease::libvirt::LOCKSPACE_NAME;

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

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.between(0, all.len() as u64 - 1) as usize]
    }
}

/// The moment for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Now,
    /// When a guest is at that, if one is soon.
    At(State),
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
    /// The disks of its first life. All lives after the `moves` use all disks, those before these.
    pub(crate) first_disks: Vec<usize>,
    pub(crate) later_disks: Vec<usize>,
    /// In this order, before anything by chance.
    pub(crate) moves: Vec<Move>,
    /// By chance, for ever.
    pub(crate) then: fn(&mut Chance) -> Move,
}

const LOCKSPACE: Target = Target::Only(LOCKSPACE_NAME);
const LEASES: Target = Target::AllBut(LOCKSPACE_NAME);

/// Writes to leases hang.
pub(crate) const HELD_WRITES: Fault = fault(LEASES, false, true, Mode::Hold);

const fn fault(target: Target, reads: bool, writes: bool, mode: Mode) -> Fault {
    Fault {
        target,
        reads,
        writes,
        mode,
    }
}

const fn held(target: Target, reads: bool, writes: bool, long: Long, lands: bool) -> Move {
    Move::Storage {
        fault: fault(target, reads, writes, Mode::Hold),
        long,
        lands,
    }
}

const fn failing(target: Target, reads: bool, writes: bool, millis: u64) -> Move {
    Move::Storage {
        fault: fault(target, reads, writes, Mode::Fail),
        long: Long::Millis(millis),
        lands: true,
    }
}

const fn stop(when: When, part: Part, long: Long) -> Move {
    Move::Stop { when, part, long }
}

const fn kill(when: When, next: Next) -> Move {
    Move::Kill { when, next }
}

const HOLDING: When = When::At(State::Holding);

fn some_time(chance: &mut Chance) -> When {
    chance.one_of(&[
        When::Now,
        HOLDING,
        When::At(State::Acquiring),
        When::At(State::Releasing),
    ])
}

fn some_pause(chance: &mut Chance) -> Move {
    Move::Calm(chance.between(200, 2500))
}

fn delayed(chance: &mut Chance) -> Move {
    let by = std::time::Duration::from_millis(chance.between(50, 800));
    Move::Storage {
        fault: fault(Target::All, true, true, Mode::Delay(by)),
        long: Long::Millis(chance.between(1000, 6000)),
        lands: true,
    }
}

/// Five machines of ours, F = 2 s: whoever is silent for 11 s is dead.
pub(crate) mod alone {
    use super::*;

    pub(crate) const DISKS: usize = 4;

    pub(crate) fn plans() -> Vec<Plan> {
        let all = || (0..DISKS).collect::<Vec<_>>();
        let plan = |kind, moves, then| Plan {
            kind,
            first_disks: all(),
            later_disks: all(),
            moves,
            then,
        };
        let past = Long::PastExpiry(600);
        vec![
            plan(
                Kind::Ours,
                vec![
                    Move::Calm(4000),
                    Move::Park { millis: 14_500 },
                    Move::Calm(1000),
                    held(LOCKSPACE, true, true, Long::UntilReset, false),
                ],
                harsh,
            ),
            plan(
                Kind::Ours,
                vec![
                    Move::Calm(500),
                    kill(HOLDING, Next::RENAMED),
                    Move::Calm(1000),
                    stop(HOLDING, Part::All, past),
                ],
                harsh,
            ),
            plan(
                Kind::Ours,
                vec![
                    Move::Calm(6000),
                    stop(HOLDING, Part::All, Long::UntilReset),
                    Move::Calm(1000),
                    held(LEASES, false, true, Long::Millis(3000), true),
                    Move::Calm(1000),
                    Move::KillInWrite {
                        lands_after: 3000,
                        next: Next::NEW,
                    },
                ],
                harsh,
            ),
            plan(
                Kind::Ours,
                vec![
                    Move::Calm(3000),
                    held(LOCKSPACE, false, true, past, true),
                    Move::Calm(1000),
                    failing(LEASES, true, true, 2000),
                    Move::Calm(1000),
                    kill(When::At(State::Acquiring), Next::NEW),
                ],
                harsh,
            ),
            // Never away for long, so that somebody is there who has watched the others.
            plan(
                Kind::OursBare,
                vec![
                    Move::Calm(9000),
                    stop(HOLDING, Part::All, Long::Millis(3000)),
                    Move::Calm(12_000),
                    kill(When::Now, Next::SAME),
                ],
                gentle,
            ),
        ]
    }

    fn gentle(chance: &mut Chance) -> Move {
        match chance.between(0, 9) {
            0 => kill(some_time(chance), Next::SAME),
            1 => stop(
                some_time(chance),
                Part::All,
                Long::Millis(chance.between(20, 4000)),
            ),
            2 => Move::Park {
                millis: chance.between(100, 4000),
            },
            _ => some_pause(chance),
        }
    }

    fn harsh(chance: &mut Chance) -> Move {
        let past = Long::PastExpiry(chance.between(100, 1200));
        let lasting = chance.one_of(&[past, past, Long::UntilReset]);
        match chance.between(0, 99) {
            0..30 => some_pause(chance),
            30..48 => {
                let next = chance.one_of(&[Next::SAME, Next::NEW, Next::NEW, Next::RENAMED]);
                kill(some_time(chance), next)
            }
            48..58 => stop(
                some_time(chance),
                Part::All,
                Long::Millis(chance.between(20, 6000)),
            ),
            58..66 => stop(some_time(chance), Part::All, past),
            66..70 => stop(some_time(chance), Part::All, Long::UntilReset),
            70..76 => Move::Park {
                millis: chance.one_of(&[500, 4000, 9000, 12_500, 16_000]),
            },
            76..80 => held(LOCKSPACE, chance.between(0, 1) == 0, true, lasting, true),
            80..82 => held(LOCKSPACE, true, false, lasting, true),
            82..87 => held(
                LEASES,
                false,
                true,
                Long::Millis(chance.between(300, 7000)),
                true,
            ),
            87..90 => held(
                LEASES,
                true,
                true,
                Long::Millis(chance.between(300, 7000)),
                true,
            ),
            90..92 => held(Target::All, true, true, lasting, true),
            92..95 => failing(
                chance.one_of(&[LEASES, Target::All]),
                chance.between(0, 1) == 0,
                true,
                chance.between(100, 4000),
            ),
            95..97 => delayed(chance),
            _ => Move::KillInWrite {
                lands_after: chance.between(100, 6000),
                next: chance.one_of(&[Next::SAME, Next::NEW]),
            },
        }
    }
}

/// Two machines with sanlock and three of ours, F = 60 s: sanlock knows no other.
///
/// What is not done to sanlock, because its protocol does not survive it, whoever its peers are:
///
/// * No write of its to a lease lands late or fails (it then erases what others rely on, or finds itself named by
///   an old commit), so leases get delays below the io timeout only. Its lockspace may hang for any time.
/// * Nothing of it goes on once others may take over: it has no deadline of its own that its clients could ask for,
///   and runs without its watchdog here. The test's does what that would do.
/// * A daemon is never killed without its clients. One that comes back under the old name joins at once, and so
///   gives away all that its earlier life held, whether clients of that run or not.
///
/// A lease write of *ours* that lands late can hurt sanlock hosts too: a leader record of an old version misleads
/// them. So here those that are held are dropped. Among hosts of ours they land: see [`alone`].
pub(crate) mod mixed {
    use super::*;

    pub(crate) const DISKS: usize = 6;
    const EVERYBODY: &[usize] = &[0, 1, 2];
    /// Wanted by a sanlock machine, and by one of ours that is to take it over.
    const FROM_PEER: usize = 3;
    /// Wanted by one of ours, and by a sanlock machine that is to take it over.
    const FROM_OURS: usize = 4;
    /// Wanted by one of ours that will park, and by others.
    const PARKED: usize = 5;

    fn everybody_and(more: &[usize]) -> Vec<usize> {
        [EVERYBODY, more].concat()
    }

    pub(crate) fn plans() -> Vec<Plan> {
        let past = Long::PastExpiry(4000);
        let plan = |kind, first_disks, later_disks, moves, then| Plan {
            kind,
            first_disks,
            later_disks,
            moves,
            then,
        };
        let short = |millis| stop(When::Now, Part::All, Long::Millis(millis));
        vec![
            plan(
                Kind::Peer,
                vec![FROM_PEER],
                everybody_and(&[PARKED]),
                vec![
                    Move::Calm(2000),
                    kill(HOLDING, Next::NEW),
                    Move::Calm(2000),
                    stop(HOLDING, Part::All, Long::UntilReset),
                    Move::Calm(1000),
                    held(LOCKSPACE, true, true, past, true),
                ],
                peer,
            ),
            // It must not join anew before it has taken over: it would begin to wait from the start.
            plan(
                Kind::Peer,
                everybody_and(&[FROM_OURS]),
                everybody_and(&[FROM_OURS]),
                vec![
                    Move::Calm(3000),
                    stop(When::Now, Part::Daemon, Long::Millis(3000)),
                    Move::Calm(3000),
                    Move::KillClient,
                    short(3000),
                    Move::Calm(70_000),
                    stop(When::Now, Part::Daemon, past),
                ],
                peer,
            ),
            plan(
                Kind::Ours,
                vec![FROM_OURS],
                everybody_and(&[]),
                vec![
                    Move::Calm(2000),
                    kill(HOLDING, Next::NEW),
                    Move::Calm(1000),
                    stop(HOLDING, Part::All, past),
                    Move::Calm(1000),
                    held(LEASES, false, true, Long::Millis(3000), false),
                    Move::Calm(1000),
                    held(LOCKSPACE, true, true, past, true),
                ],
                ours,
            ),
            plan(
                Kind::Ours,
                vec![PARKED],
                everybody_and(&[PARKED]),
                vec![Move::Calm(5000), Move::Park { millis: 75_000 }],
                ours,
            ),
            // As above: it takes over from sanlock.
            plan(
                Kind::Ours,
                everybody_and(&[FROM_PEER, PARKED]),
                everybody_and(&[FROM_PEER, PARKED]),
                vec![
                    Move::Calm(4000),
                    short(3000),
                    failing(LEASES, true, true, 1500),
                    Move::Calm(5000),
                    short(4000),
                    Move::Calm(65_000),
                    kill(When::At(State::Acquiring), Next::NEW),
                ],
                ours,
            ),
        ]
    }

    fn ours(chance: &mut Chance) -> Move {
        let past = Long::PastExpiry(chance.between(100, 20_000));
        match chance.between(0, 99) {
            0..35 => some_pause(chance),
            35..52 => {
                let next = chance.one_of(&[Next::NEW, Next::NEW, Next::NEW, Next::SAME]);
                kill(some_time(chance), next)
            }
            52..67 => stop(
                some_time(chance),
                Part::All,
                Long::Millis(chance.between(20, 6000)),
            ),
            67..73 => stop(some_time(chance), Part::All, past),
            73..74 => stop(some_time(chance), Part::All, Long::UntilReset),
            74..79 => Move::Park {
                millis: chance.one_of(&[500, 4000, 9000, 30_000, 72_000]),
            },
            79..85 => held(LOCKSPACE, chance.between(0, 1) == 0, true, past, true),
            85..90 => held(
                LEASES,
                true,
                true,
                Long::Millis(chance.between(300, 5000)),
                false,
            ),
            90..95 => failing(
                Target::All,
                chance.between(0, 1) == 0,
                true,
                chance.between(100, 4000),
            ),
            _ => delayed(chance),
        }
    }

    fn peer(chance: &mut Chance) -> Move {
        let past = Long::PastExpiry(chance.between(1000, 20_000));
        match chance.between(0, 99) {
            0..35 => some_pause(chance),
            35..50 => {
                let next = chance.one_of(&[Next::NEW, Next::NEW, Next::SAME, Next::SAME]);
                kill(some_time(chance), next)
            }
            50..62 => Move::KillClient,
            62..72 => stop(
                some_time(chance),
                Part::All,
                Long::Millis(chance.between(20, 6000)),
            ),
            72..80 => stop(
                some_time(chance),
                Part::Daemon,
                Long::Millis(chance.between(20, 6000)),
            ),
            80..84 => stop(some_time(chance), Part::Daemon, past),
            84..87 => stop(some_time(chance), Part::All, past),
            87..88 => stop(some_time(chance), Part::All, Long::UntilReset),
            88..94 => held(LOCKSPACE, chance.between(0, 1) == 0, true, past, true),
            _ => delayed(chance),
        }
    }
}
