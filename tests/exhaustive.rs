//! x

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::items_after_statements,
    clippy::redundant_closure_for_method_calls,
    clippy::result_large_err,
    clippy::semicolon_if_nothing_returned,
    clippy::single_match_else,
    clippy::struct_excessive_bools,
    clippy::type_complexity,
    clippy::unchecked_time_subtraction,
    clippy::wrong_self_convention,
    clippy::unwrap_used,
    dead_code,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "a test; and each test uses only some of the harness"
)]

mod explore;

use explore::{Limits, Report, Stuck, WorldSpec, explore as run};

fn check(spec: WorldSpec) {
    let report = run(&spec, Limits::default());
    eprintln!("{report}");
    if let Some(history) = &report.violation {
        panic!("{}: {history}", report.world);
    }
    assert!(report.complete, "{report}");
}

#[test]
fn two_hosts_acquire_once() {
    check(WorldSpec::new(&[1, 1]));
}
#[test]
fn two_hosts_acquire_22() {
    check(WorldSpec::new(&[2, 2]));
}
#[test]
fn by_env() {
    let Ok(text) = std::env::var("W") else { return };
    let mut parts = text.split(',');
    let acq: Vec<u32> = parts
        .next()
        .unwrap()
        .chars()
        .map(|c| c.to_digit(10).unwrap())
        .collect();
    let mut spec = WorldSpec::new(&acq).may_be_stuck(Stuck::ForGood);
    for p in parts {
        let (k, v) = p.split_at(1);
        let v: u8 = v.parse().unwrap_or(1);
        spec = match k {
            "b" => spec.ballots(v),
            "d" => spec.deaths(v),
            "r" => spec.rejoins(v),
            "l" => spec.late(v),
            "f" => spec.failures(v),
            "t" => spec.torn_reads(),
            "w" => spec.owing(),
            "p" => spec.patient(),
            "o" => spec.only(explore::Kind::ALL[v as usize]),
            "s" => spec.may_be_stuck(Stuck::ALL[v as usize]),
            _ => panic!(),
        };
    }
    let _switched;
    if let Ok(names) = std::env::var("M") {
        use disklease::__sim::probe::{Mutation, Mutations};
        let m = match &names[..] {
            "SANLOCK" => Mutations::SANLOCK,
            "I" => Mutations::RULE_I,
            "C" => Mutations::RULE_C,
            "N" => Mutations::RULE_N,
            "L" => Mutations::RULE_L,
            "P" => Mutations::RULE_P,
            names => Mutations::of(
                &names
                    .split(',')
                    .map(|n| n.parse::<Mutation>().unwrap())
                    .collect::<Vec<_>>(),
            ),
        };
        _switched = m.switch();
    }
    check(spec);
}
