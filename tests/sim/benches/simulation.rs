//! How many schedules the simulator plays in a second, on one core.
//!
//! `cargo bench -p disklease-sim`. Each profile by itself, and all as the test
//! `simulation` mixes them: a schedule is one run of two or three whole hosts, some hundred steps.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use disklease_sim::scenario::Profile;
use disklease_sim::trial::run_seed;

/// Schedules in one measured piece of work.
const SCHEDULES: u64 = 320;

fn schedules(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedules");
    group
        .throughput(Throughput::Elements(SCHEDULES))
        .sample_size(10);
    let profiles = Profile::ALL.into_iter().map(Some).chain([None]);
    for profile in profiles {
        let name = profile.map_or_else(|| "mixed".to_owned(), |profile| format!("{profile:?}"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for seed in 0..SCHEDULES {
                    let profile = profile.unwrap_or_else(|| Profile::of(seed));
                    let verdict = run_seed(profile, seed);
                    assert_eq!(verdict.broken, None, "seed {seed} of {profile:?}");
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, schedules);
criterion_main!(benches);
