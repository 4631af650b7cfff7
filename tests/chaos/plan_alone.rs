//! Five machines of ours, F = 2 s: whoever is silent for 11 s is dead.

use super::control::State;
use super::machine::{Kind, Next};
use super::plan::{
    Chance, LEASES, LOCKSPACE, Long, Move, Part, Plan, When, delayed, failing, held, kill,
    some_pause, some_time, stop,
};
use disklease_fixtures::fuse_storage::gate::Target;

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
                kill(When::Keeping, Next::RENAMED),
                Move::Calm(1000),
                stop(When::Keeping, Part::All, past),
            ],
            harsh,
        ),
        plan(
            Kind::Ours,
            vec![
                Move::Calm(6000),
                stop(When::Keeping, Part::All, Long::UntilReset),
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
                Move::Calm(1000),
                Move::LateAnswer { millis: 4500 },
            ],
            harsh,
        ),
        // Never away for long, so that somebody is there who has watched the others.
        plan(
            Kind::OursBare,
            vec![
                Move::Calm(9000),
                stop(When::Keeping, Part::All, Long::Millis(3000)),
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
        _ => some_pause(chance, 2500),
    }
}

fn harsh(chance: &mut Chance) -> Move {
    let past = Long::PastExpiry(chance.between(100, 1200));
    let lasting = chance.one_of(&[past, past, Long::UntilReset]);
    match chance.between(0, 99) {
        0..30 => some_pause(chance, 2500),
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
        95..96 => delayed(chance),
        96..98 => Move::LateAnswer {
            millis: chance.between(500, 5000),
        },
        _ => Move::KillInWrite {
            lands_after: chance.between(100, 6000),
            next: chance.one_of(&[Next::SAME, Next::NEW]),
        },
    }
}
