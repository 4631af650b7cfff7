//! Two machines with sanlock and three of ours, F = 60 s: sanlock knows no other.
//!
//! What is not done to sanlock, because its protocol does not survive it, whoever its peers are:
//!
//! * No write of its to a lease lands late or fails (it then erases what others rely on, or finds itself named by
//!   an old commit), so leases get delays below the io timeout only. Its lockspace may hang for any time.
//! * Nothing of it goes on once others may take over: it has no deadline of its own that its clients could ask for,
//!   and runs without its watchdog here. The test's does what that would do.
//! * A daemon is never killed without its clients. One that comes back under the old name joins at once, and so
//!   gives away all that its earlier incarnation held, whether clients of that run or not.
//!
//! A lease write of *ours* that lands late can hurt sanlock hosts too: a leader record of an old version misleads
//! them. So here those that are held are dropped. Among hosts of ours they land: see `plan_alone.rs`.

use super::control::State;
use super::machine::{Kind, Next};
use super::plan::{
    Chance, LEASES, LOCKSPACE, Long, Move, Part, Plan, When, delayed, failing, held, kill,
    some_pause, some_time, stop,
};
use disklease_fixtures::fuse_storage::gate::Target;

pub(crate) const DISKS: usize = 8;
/// Pauses, in ms at most: a lease of a dead owner is out of use for more than a minute, and some must be left.
const PAUSE: u64 = 12_000;
const EVERYBODY: &[usize] = &[0, 1, 2, 6, 7];
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
                kill(When::Keeping, Next::NEW),
                Move::Calm(2000),
                stop(When::Keeping, Part::All, Long::UntilReset),
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
                kill(When::Keeping, Next::NEW),
                Move::Calm(1000),
                stop(When::Keeping, Part::All, past),
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
        0..45 => some_pause(chance, PAUSE),
        45..55 => {
            let next = chance.one_of(&[Next::NEW, Next::NEW, Next::NEW, Next::SAME]);
            kill(some_time(chance), next)
        }
        55..67 => stop(
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
        0..45 => some_pause(chance, PAUSE),
        45..54 => {
            let next = chance.one_of(&[Next::NEW, Next::NEW, Next::SAME, Next::SAME]);
            kill(some_time(chance), next)
        }
        54..62 => Move::KillClient,
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
