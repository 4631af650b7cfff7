//! Fifty holders that are stopped by SIGSTOP at any point of their lives, and fifty whose I/O all hangs: each is dead
//! before anybody else may have its disk, and nobody else has it before.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use disklease::{LockManager as _, WaitLimit};
use rustix::process::{Signal, kill_process};

use super::holder::{WROTE, disk, hear_until, is_dead, pid_of, start};
use super::place::{ALL_OVER, Place, patiently};
use disklease_fixtures::host::{Child, disks};

const CROWD: u64 = 50;

/// How long others may take to get the disk of one that was struck, on a busy machine.
const PATIENCE: Duration = ALL_OVER.saturating_mul(5);

/// What was seen of one holder.
struct Fate {
    host: u64,
    /// The last time it was seen to renew.
    renewed: Instant,
    /// The look before that.
    renewed_after: Instant,
    last_write: Instant,
    /// When its process was found dead.
    died: Option<Instant>,
    /// When its disk was had by another.
    taken: Instant,
}

/// Lets a crowd of holders live, does `harm` to each at an instant of its own, and sees what becomes of them.
fn strike(hangs: bool, harm: impl Fn(&Place, u64, &Child) + Sync) -> Vec<Fate> {
    let hosts = || 1..=CROWD;
    let paths: Vec<_> = hosts().map(disk).collect();
    let place = Place::new(&paths, hangs);
    let place = &place;
    let mut holders: Vec<_> = hosts()
        .map(|host| start(place.of_holders(), host, hangs, "writes"))
        .collect();
    for holder in &holders {
        hear_until(holder, "held");
    }
    let fates = thread::scope(|scope| {
        let harm = &harm;
        let watches: Vec<_> = hosts()
            .zip(&mut holders)
            .map(|(host, holder)| scope.spawn(move || fate_of(place, host, holder, harm)))
            .collect();
        watches
            .into_iter()
            .map(|watch| watch.join().unwrap())
            .collect()
    });
    if hangs {
        place.heal();
    }
    fates
}

fn fate_of(
    place: &Place,
    host: u64,
    holder: &mut Child,
    harm: impl Fn(&Place, u64, &Child) + Sync,
) -> Fate {
    let (tell_taken, taken) = channel();
    let observer = place.observer().clone();
    thread::spawn(move || {
        let request = || disks(&[&disk(host)]).wait(WaitLimit::For(PATIENCE));
        let _guard = patiently(|| observer.acquire(request()));
        // Who has failed meanwhile does not listen any more.
        let _ = tell_taken.send(Instant::now());
    });
    let struck = {
        // As far into its incarnation as chance has it.
        let of = Duration::from_millis(disklease_test_random(host) % 4_000);
        Instant::now() + of
    };
    let (mut last_write, mut is_struck, mut died) = (Instant::now(), false, None);
    loop {
        let now = Instant::now();
        if !is_struck && now >= struck {
            harm(place, host, holder);
            is_struck = true;
        }
        while let Some(word) = holder.try_hear(Duration::from_millis(5)) {
            if word == WROTE {
                last_write = Instant::now();
            }
        }
        if died.is_none() && is_dead(holder) {
            died = Some(Instant::now());
        }
        if let Ok(taken) = taken.try_recv() {
            // Whoever was only stopped would go on now.
            let _ = kill_process(pid_of(holder), Signal::CONT);
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end {
                if holder
                    .try_hear(Duration::from_millis(50))
                    .is_some_and(|word| word == WROTE)
                {
                    last_write = Instant::now();
                }
            }
            return Fate {
                host,
                renewed: place.renewed(host),
                renewed_after: place.renewed_after(host),
                last_write,
                died,
                taken,
            };
        }
        assert!(
            now < struck + PATIENCE,
            "nobody gets the disk of host {host}"
        );
    }
}

/// Another number for each host, the same in each run.
fn disklease_test_random(host: u64) -> u64 {
    let mixed = host.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

fn judge(what: &str, fates: &[Fate]) {
    let since = |of: &Fate, at: Instant| at.saturating_duration_since(of.renewed);
    let last = fates
        .iter()
        .map(|fate| since(fate, fate.last_write))
        .max()
        .unwrap();
    let first = fates
        .iter()
        .map(|fate| since(fate, fate.taken))
        .min()
        .unwrap();
    let dead = |fate: &Fate| since(fate, fate.died.expect("it is dead when its disk is taken"));
    let died = fates.iter().map(dead).max().unwrap();
    println!(
        "measured: {what}: {} holders, the last write {last:?} after a renewal, the last death {died:?}, the first takeover {first:?}",
        fates.len()
    );
    let mut all: Vec<_> = fates
        .iter()
        .map(|fate| {
            (
                since(fate, fate.taken),
                dead(fate),
                since(fate, fate.last_write),
                fate.host,
            )
        })
        .collect();
    all.sort();
    for (taken, dead, wrote, host) in all.into_iter().take(3) {
        println!("measured: host {host} wrote until {wrote:?}, dead {dead:?}, taken {taken:?}");
    }
    for fate in fates {
        let wrote = since(fate, fate.last_write);
        let taken = fate.taken.saturating_duration_since(fate.renewed_after);
        assert!(
            wrote < ALL_OVER,
            "{what}: host {} wrote {wrote:?} after its last renewal",
            fate.host
        );
        assert!(
            taken > ALL_OVER,
            "{what}: the disk of host {} was taken {taken:?} after its last renewal",
            fate.host
        );
        assert!(
            dead(fate) < ALL_OVER,
            "{what}: host {} died {:?} after its last renewal",
            fate.host,
            dead(fate)
        );
        assert!(
            fate.taken > fate.last_write,
            "{what}: host {} wrote after its disk was taken",
            fate.host
        );
    }
}

#[test]
fn fifty_that_are_stopped_are_dead_before_others_have_their_disks() {
    let fates = strike(false, |_, _, holder| {
        kill_process(pid_of(holder), Signal::STOP).unwrap();
    });
    judge("stopped", &fates);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn fifty_whose_io_all_hangs_are_dead_before_others_have_their_disks() {
    let fates = strike(true, |place, _, _| place.hang());
    judge("hung", &fates);
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn fifty_whose_io_hangs_and_that_are_stopped_are_dead_before_others_have_their_disks() {
    let fates = strike(true, |place, _, holder| {
        place.hang();
        kill_process(pid_of(holder), Signal::STOP).unwrap();
    });
    judge("hung and stopped", &fates);
}
