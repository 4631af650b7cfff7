//! Members that hold nothing, and processes that are about to be one, which stand still: they are dead before anybody
//! may have their host id, for they would write over its next owner. Whoever runs is not killed for nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use disklease::lockspace::{JoinProgress, Lockspace, LossReason};
use disklease::{LeaseDirectory, LockManager as _, PaxosManager};
use rustix::process::{Signal, kill_process};

use super::holder::{is_dead, pid_of};
use super::place::{ALL_OVER, F, LOST, Place};
use disklease_fixtures::fuse_storage::Mount;
use disklease_fixtures::fuse_storage::gate::{Fault, Mode, Target};
use disklease_fixtures::host::{
    AT_ONCE, Child, SOON, child_role, disks, host_id, lockspace_in, options, say, scratch,
    wait_for_parent, wait_until,
};

/// A child's side; does nothing in the test run itself.
#[test]
fn entry() {
    let Some((role, dir)) = child_role() else {
        return;
    };
    let words: Vec<&str> = role.split(' ').collect();
    let [host, fire, leases, how] = words[..] else {
        panic!("{role}");
    };
    let options = options(&dir, &format!("host{host}"))
        .fire_timeout(Duration::from_secs(fire.parse().unwrap()))
        .on_progress(|progress| match progress {
            JoinProgress::Confirming { .. } => say("confirms"),
            JoinProgress::WaitingForOwner { .. } => say("waits"),
            _ => {}
        });
    let path = dir.join(leases).join("__LIBVIRT__DISKS__");
    let lockspace = options.join(path, host_id(host.parse().unwrap())).unwrap();
    say("joined");
    if how == "unset" {
        return lose_timer(&lockspace);
    }
    if how == "crammed" {
        return leave_without_threads(&lockspace, &dir);
    }
    wait_for_parent();
    if how == "late" {
        // Until little is left of what it may still do.
        while lockspace.held_for() > Duration::from_millis(200) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let begun = Instant::now();
    let left = lockspace.leave();
    say(&format!("left {} {left:?}", begun.elapsed().as_millis()));
    wait_for_parent();
    // What kills it by mistake has the time for it.
    std::thread::sleep(Duration::from_secs(2));
}

/// The kernel refuses its timer a new time, as under a filter.
fn lose_timer(lockspace: &Lockspace) {
    assert!(lockspace.guarantee().deadman);
    // SAFETY: the only timer of this process is the deadman's, and the kernel counts from 0. The next call for it
    // fails, which is what this is for.
    #[allow(unsafe_code)]
    let deleted = unsafe { libc::timer_delete(std::ptr::null_mut()) };
    assert_eq!(deleted, 0);
    let loss = wait_until("the loss", SOON, || lockspace.loss());
    assert!(matches!(loss, LossReason::DeadmanUnset(_)), "{loss}");
    assert!(!lockspace.is_held() && !lockspace.guarantee().deadman);
    say(&loss.to_string());
}

/// No thread is available for a callback that blocks: it blocks the thread that runs the callbacks.
fn leave_without_threads(lockspace: &Lockspace, dir: &Path) {
    let leases = LeaseDirectory::new(dir.join("leases"));
    let manager = PaxosManager::new(lockspace.clone(), leases).unwrap();
    let request = disks(&["/disk/1"]).on_lost(|_| {
        say("blocks");
        std::thread::sleep(Duration::from_secs(600));
    });
    let guard = manager.acquire(request).unwrap();
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is a live local; the other call takes numbers. It goes for all threads of this process, and
    // makes the limit hold.
    #[allow(unsafe_code, clippy::multiple_unsafe_ops_per_block)]
    let set = unsafe {
        [
            libc::setrlimit(libc::RLIMIT_NPROC, &raw const none),
            libc::setresuid(65533, 65533, 65533),
        ]
    };
    assert_eq!(set, [0; 2]);
    let refused = std::thread::Builder::new().spawn(|| {});
    assert!(refused.is_err());
    say("held");
    wait_for_parent();
    drop(guard);
    drop(manager);
    let begun = Instant::now();
    let left = lockspace.clone().leave();
    say(&format!("left {} {left:?}", begun.elapsed().as_millis()));
}

fn start(dir: &Path, host: u64, fire: Duration, leases: &str, how: &str) -> Child {
    let role = format!("{host} {} {leases} {how}", fire.as_secs());
    Child::start("fencing::frozen::entry", &role, dir)
}

fn hear(child: &Child, word: &str) {
    assert_eq!(child.hear(SOON), word);
}

/// Stops it, and gives how long after that it was dead.
fn freeze(child: &Child) -> Duration {
    kill_process(pid_of(child), Signal::STOP).unwrap();
    let stopped = Instant::now();
    wait_until("its death", SOON, || {
        is_dead(child).then(|| stopped.elapsed())
    })
}

#[test]
fn a_member_that_stands_still_without_a_lock_is_dead_before_others_have_its_id() {
    let place = Place::new(&[], false);
    let member = start(place.of_holders(), 1, F, "leases", "idle");
    hear(&member, "confirms");
    hear(&member, "joined");
    let renewed = place.next_renewal(1);
    let lived = freeze(&member);
    let since = renewed.elapsed();
    println!("measured: dead {lived:?} after it was stopped, {since:?} after its renewal");
    assert!(since < ALL_OVER, "{since:?}");
    // A pause that costs nobody anything is not punished.
    assert!(since > LOST, "{since:?}");
}

#[test]
fn whoever_stands_still_in_its_claim_is_dead_before_others_have_the_id() {
    let place = &Place::new(&[], false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let claimant = start(place.of_holders(), 1, F, "leases", "idle");
            hear(&claimant, "confirms");
            let lived = freeze(&claimant);
            println!("measured: dead {lived:?} after it was stopped in its claim");
            assert!(lived < ALL_OVER, "{lived:?}");
        });
        scope.spawn(move || {
            let mut owner = start(place.of_holders(), 2, F, "leases", "idle");
            hear(&owner, "confirms");
            hear(&owner, "joined");
            owner.kill();
            // Under another name it has to wait for its own earlier incarnation.
            let dir = place.of_holders().join("other");
            std::fs::create_dir(&dir).unwrap();
            let claimant = start(&dir, 2, F, "../leases", "idle");
            hear(&claimant, "waits");
            let lived = freeze(&claimant);
            println!("measured: dead {lived:?} after it was stopped while it waited");
            assert!(lived < ALL_OVER, "{lived:?}");
        });
    });
}

#[test]
fn whoever_cannot_set_its_timer_has_no_lock() {
    let place = Place::new(&[], false);
    let mut member = start(place.of_holders(), 1, F, "leases", "unset");
    hear(&member, "confirms");
    hear(&member, "joined");
    let loss = member.hear(SOON);
    assert!(loss.contains("deadman timer"), "{loss}");
    assert!(member.ended_well());
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn whoever_has_no_thread_for_a_callback_that_blocks_can_leave() {
    let place = Place::new(&["/disk/1".to_owned()], false);
    let mut member = start(place.of_holders(), 1, F, "leases", "crammed");
    hear(&member, "confirms");
    hear(&member, "joined");
    hear(&member, "held");
    std::fs::remove_file(place.of_holders().join("leases/__LIBVIRT__DISKS__")).unwrap();
    hear(&member, "blocks");
    member.let_go();
    let left = member.hear(SOON);
    println!("measured: {left}");
    let took = left.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(Duration::from_millis(took) < AT_ONCE, "{left}");
    member.kill();
}

/// Storage that hangs for one host alone, from when the test says so.
struct Hanging {
    mount: Mount,
    dir: tempfile::TempDir,
}

impl Hanging {
    fn new() -> Self {
        let dir = scratch();
        let leases = dir.path().join("leases");
        std::fs::create_dir(&leases).unwrap();
        lockspace_in(&leases);
        let mount = Mount::new(&leases, &dir.path().join("seen"), |_| {});
        Self { mount, dir }
    }

    fn hang(&self) {
        self.mount.gate().set(Fault {
            target: Target::All,
            reads: true,
            writes: true,
            mode: Mode::Hold,
        });
    }
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn a_member_that_runs_lives_though_it_has_no_storage() {
    let storage = Hanging::new();
    let mut member = start(storage.dir.path(), 1, F, "seen", "idle");
    hear(&member, "confirms");
    hear(&member, "joined");
    storage.hang();
    std::thread::sleep(ALL_OVER + Duration::from_secs(3));
    assert!(!is_dead(&member));
    member.let_go();
    let left = member.hear(SOON);
    assert!(left.contains("IoInFlight"), "{left}");
    storage.mount.gate().drop_held();
    assert!(member.ended_well());
}

/// The last things that a process does, where there is little time for them.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn whoever_leaves_late_is_not_killed_for_it() {
    std::thread::scope(|scope| {
        for fire in [1, 4] {
            scope.spawn(move || {
                let storage = Hanging::new();
                let fire = Duration::from_secs(fire);
                let mut member = start(storage.dir.path(), 1, fire, "seen", "late");
                hear(&member, "confirms");
                hear(&member, "joined");
                storage.hang();
                member.let_go();
                let left = member.hear(SOON);
                println!("measured: {left}");
                let took = left.split(' ').nth(1).unwrap().parse().unwrap();
                assert!(Duration::from_millis(took) < AT_ONCE, "{left}");
                storage.mount.gate().drop_held();
                assert!(member.ended_well());
            });
        }
    });
}
