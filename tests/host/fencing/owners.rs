//! Locks that belong to another process.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use disklease::{
    Access, AcquireErrorKind, LockManager as _, LockRequest, LossReason, Owner,
    die_with_this_thread,
};
use rustix::process::{Pid, Signal, getppid, kill_process};

use super::holder::{disk, hear_until, start};
use super::place::{ALL_OVER, KILLED, LOST, Place};
use disklease_fixtures::host::{AT_ONCE, Child, SOON, child_role, disks, wait_until};

/// The process that the disk is held for, once it is and that runs.
fn owner_of(holder: &Child) -> Pid {
    let (mut pid, mut runs) = (None, false);
    while pid.is_none() || !runs {
        let word = holder.hear(SOON);
        if word == "runs" {
            runs = true;
        } else {
            let number = word.strip_prefix("held for ").unwrap().parse().unwrap();
            pid = Pid::from_raw(number);
        }
    }
    pid.unwrap()
}

/// Also where nobody has waited for it yet.
fn has_ended(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn what_a_process_held_is_free_as_soon_as_it_is_killed() {
    let place = Place::new(&[disk(1)], false);
    let mut holder = start(place.of_holders(), 1, false, "owner");
    let owner = owner_of(&holder);
    let error = place.observer().acquire(disks(&[&disk(1)])).unwrap_err();
    assert!(error.is_held(), "{error}");
    let killed = Instant::now();
    kill_process(owner, Signal::KILL).unwrap();
    let guard = wait_until("the lock", SOON, || {
        place.observer().acquire(disks(&[&disk(1)])).ok()
    });
    let took = killed.elapsed();
    println!("measured: free {took:?} after the owner was killed");
    assert!(took < AT_ONCE, "{took:?}");
    guard.release().unwrap();
    // Its manager lives, and has nothing left to give back.
    assert!(holder.ended_well());
}

#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs FUSE")]
fn an_owner_is_asked_to_end_when_its_lock_is_lost_and_killed_when_it_does_not() {
    let place = Place::new(&[disk(1)], true);
    let mut holder = start(place.of_holders(), 1, true, "owner");
    let owner = owner_of(&holder);
    let renewed = place.next_renewal(1);
    place.hang();
    let (asked, _) = hear_until(&holder, "asked");
    let asked = asked.duration_since(renewed);
    let gone = wait_until("the end of the owner", SOON, || {
        has_ended(owner).then(|| renewed.elapsed())
    });
    println!("measured: asked at {asked:?}, gone at {gone:?}");
    let late = Duration::from_secs(1);
    assert!(asked > LOST - late && asked < LOST + late, "{asked:?}");
    assert!(gone > KILLED - late && gone < ALL_OVER, "{gone:?}");
    // Its manager is spared: it holds nothing any more.
    std::thread::sleep((ALL_OVER + late).saturating_sub(renewed.elapsed()));
    place.heal();
    assert!(holder.ended_well());
}

#[test]
fn a_manager_that_is_killed_takes_what_it_started_along() {
    let place = Place::new(&[disk(1)], false);
    let mut holder = start(place.of_holders(), 1, false, "owner");
    let owner = owner_of(&holder);
    holder.kill();
    wait_until("the end of the owner", SOON, || {
        has_ended(owner).then_some(())
    });
}

#[test]
fn a_guard_whose_owner_has_ended_does_not_say_held() {
    let place = Place::new(&[disk(1)], false);
    // Should the test fail, nobody waits for it: it has no pipe of ours, and not long to live.
    let mut owner = Command::new("sleep");
    let owner = owner.arg("60").stdout(Stdio::null()).stderr(Stdio::null());
    let mut owner = owner.spawn().unwrap();
    let request = LockRequest::new(Owner::process("guest-1", owner.id()));
    let request = request.disk(disk(1), Access::Exclusive);
    let guard = place.observer().acquire(request).unwrap();
    assert!(guard.is_held());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let loss = wait_until("the loss", SOON, || guard.loss());
    assert_eq!(loss, LossReason::OwnerEnded);
    wait_until("its mark", SOON, || (!guard.is_held()).then_some(()));
    // The lockspace, and so its clock, is as good as ever.
    assert!(place.observer().lockspace().is_held());
}

/// Runs `work` as the user 65534, without privileges.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let apart = move || {
        // SAFETY: numbers only. By the system call itself, which is for this thread alone.
        #[allow(unsafe_code)]
        let set = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(set, 0);
        work()
    };
    std::thread::scope(|scope| scope.spawn(apart).join().unwrap())
}

/// Nobody could stop it when its locks are lost.
#[test]
#[cfg_attr(not(feature = "__machine"), ignore = "needs root")]
fn an_owner_that_may_not_be_signalled_is_refused_or_told_of() {
    let place = Place::new(&[disk(1)], false);
    // Should the test fail, nobody waits for it: it has no pipe of ours, and not long to live.
    let mut owner = Command::new("sleep");
    let owner = owner.arg("60").stdout(Stdio::null()).stderr(Stdio::null());
    let mut owner = owner.spawn().unwrap();
    let pid = owner.id();
    let request = || {
        let request = LockRequest::new(Owner::process("guest-1", pid));
        request.disk(disk(1), Access::Exclusive)
    };
    let error = as_nobody(|| place.observer().acquire(request()).unwrap_err());
    assert!(
        matches!(error.kind(), AcquireErrorKind::OwnerOutOfReach { .. }),
        "{error}"
    );
    let guard = place.observer().acquire(request()).unwrap();
    let guarantee = || place.observer().lockspace().guarantee();
    assert_eq!(guarantee().unreachable_owners, 0);
    let seen = as_nobody(guarantee);
    assert_eq!((seen.foreign_owners, seen.unreachable_owners), (1, 1));
    assert!(
        seen.to_string().contains("1 OF THEM OUT OF REACH"),
        "{seen}"
    );
    guard.release().unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
}

/// A child's side; does nothing in the test run itself.
#[test]
fn orphaned_before_it_is_tied() {
    let Some((_, dir)) = child_role() else {
        return;
    };
    let mut command = Command::new("sh");
    let script = format!("echo ran > {}; exec sleep 1000", dir.join("ran").display());
    command.args(["-c", &script]).stdin(Stdio::null());
    let me = rustix::process::getpid();
    let waits = move || {
        // It waits for the death of who starts it. Nothing here allocates or locks.
        while getppid() == Some(me) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    };
    // SAFETY: system calls only, between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(waits)
    };
    println!("\nchild says: starts");
    let _ = die_with_this_thread(&mut command).spawn();
}

/// The kernel tells nobody of a death that was before it was asked to.
#[test]
fn a_child_whose_parent_died_before_it_was_tied_does_not_run() {
    let dir = disklease_fixtures::host::scratch();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fencing::owners::orphaned_before_it_is_tied",
            "--nocapture",
        ])
        .env("DISKLEASE_TEST_ROLE", "orphaned")
        .env("DISKLEASE_TEST_DIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // The child finds nobody whom it could tell that it does not run.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = parent.stdout.take().unwrap();
    let of = format!("/proc/{0}/task/{0}/children", parent.id());
    let children = move || {
        let tasks = of.trim_end_matches("/children").rsplit_once('/').unwrap().0;
        let all = std::fs::read_dir(tasks).ok()?;
        let lists = all
            .flatten()
            .map(|task| std::fs::read_to_string(task.path().join("children")));
        let text: String = lists.map_while(Result::ok).collect();
        text.split_whitespace()
            .next()?
            .parse()
            .ok()
            .and_then(Pid::from_raw)
    };
    let child = wait_until("the child", SOON, children);
    parent.kill().unwrap();
    parent.wait().unwrap();
    // Its copy of the pipe goes with it, or with what it has become.
    let end = wait_until("what becomes of it", SOON, || {
        let ended = has_ended(child);
        let ran = dir.path().join("ran").exists();
        (ran || ended).then_some(ran)
    });
    let _ = kill_process(child, Signal::KILL);
    let _ = stdout.read(&mut [0; 4096]);
    assert!(!end, "it runs, and nobody will end it");
}
