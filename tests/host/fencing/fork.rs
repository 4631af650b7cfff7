//! A forked child has copies of all that its parent holds, and none of the threads behind it.

use std::time::Duration;

use disklease::LockManager as _;
use rustix::process::{WaitOptions, waitpid};

use super::holder::disk;
use super::place::{Place, join};
use disklease_fixtures::host::{Child, SOON, child_role, disks, say, wait_for_parent, wait_until};

/// A child's side; does nothing in the test run itself.
#[test]
fn entry() {
    let Some((role, dir)) = child_role() else {
        return;
    };
    assert_eq!(role, "forks");
    let manager = join(&dir.join("leases"), &dir, 1, "host1");
    let guard = manager.acquire(disks(&[&disk(1)])).unwrap();
    // SAFETY: the child calls nothing but the drops that are to do nothing, and ends without any clean-up.
    #[allow(unsafe_code)]
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        // Nothing is left, whatever there is: it is the parent's.
        let left = manager.lockspace().clone().leave();
        drop(guard);
        drop(manager);
        // SAFETY: it ends the process, and nothing of it is used any more.
        #[allow(unsafe_code)]
        unsafe {
            libc::_exit(if left.is_ok() { 7 } else { 8 })
        };
    }
    let pid = rustix::process::Pid::from_raw(forked).unwrap();
    let status = wait_until("the end of the child", SOON, || {
        let ended = waitpid(Some(pid), WaitOptions::NOHANG).unwrap();
        ended.map(|(_, status)| status)
    });
    assert_eq!(
        status.exit_status(),
        Some(7),
        "the child hangs or panics in its drops"
    );
    assert!(guard.is_held());
    guard.verify().unwrap();
    say("forked");
    wait_for_parent();
    // All of it still works.
    guard.release().unwrap();
    manager.lockspace().clone().leave().unwrap();
    say("left");
}

#[test]
fn a_forked_child_gives_nothing_back_that_its_parent_holds() {
    let place = Place::new(&[disk(1)], false);
    let mut parent = Child::start("fencing::fork::entry", "forks", place.of_holders());
    assert_eq!(parent.hear(SOON), "forked");
    std::thread::sleep(Duration::from_secs(3));
    let error = place.observer().acquire(disks(&[&disk(1)])).unwrap_err();
    assert!(error.is_held(), "{error}");
    parent.let_go();
    assert_eq!(parent.hear(SOON), "left");
    assert!(parent.ended_well());
    place
        .observer()
        .acquire(disks(&[&disk(1)]))
        .unwrap()
        .release()
        .unwrap();
}
